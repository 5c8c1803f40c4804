"""Sentences about results, with every number computed and no claim without an interval.

A difference is called shown only if the 95 % Student-t interval of the paired difference over
seeds leaves out zero; with a single seed nothing is called shown.
"""

import numpy as np
import pandas as pd

from asdlib.evaluation import t_interval
from asdlib.study.profiles import Profile
from asdlib.study.report import over_seeds, overall_rows

CAVEATS = {
    "synthetic": "These are synthetic machines: the statement holds for them and says nothing of "
    "real ones.",
    "real": "These are real recordings of this data set; other machines may differ.",
}


def paired_difference(
    table: pd.DataFrame, a: str, b: str, metric: str = "auc"
) -> tuple[float, float, float]:
    """Difference a − b of the overall means, paired over seeds, in percentage points.

    A variant with one run only, because nothing in it is random, is paired with every seed.

    Returns
    -------
    Mean, low and high of the 95 % interval; low and high are NaN with a single pair.
    """
    rows = overall_rows(table)
    left = rows[rows["variant"] == a].set_index("seed")[metric]
    right = rows[rows["variant"] == b].set_index("seed")[metric]
    if len(right) == 1:
        right = pd.Series(float(right.iloc[0]), index=left.index)
    elif len(left) == 1:
        left = pd.Series(float(left.iloc[0]), index=right.index)
    difference = 100 * (left - right).dropna().to_numpy()
    interval = t_interval(difference)
    return float(difference.mean()), interval.low, interval.high


def describe_difference(difference: tuple[float, float, float]) -> str:
    """Say a paired difference, its interval, and whether it is shown."""
    mean, low, high = difference
    if np.isnan(low):
        return f"{signed(mean)} points (one seed: no interval)"
    shown = low > 0 or high < 0
    word = "shown" if shown else "not shown to differ"
    return f"{signed(mean)} points [{signed(low)}, {signed(high)}], {word}"


def signed(value: float) -> str:
    """Write one digit with a sign: a true minus, and none before what rounds to zero."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def ablation_verdict(table: pd.DataFrame, *, kind: str, reference: str = "full") -> str:
    """Markdown list: every variant against the reference, in AUC and pAUC."""
    variants = [name for name in dict.fromkeys(table["variant"]) if name != reference]
    lines = []
    for name in variants:
        auc = describe_difference(paired_difference(table, name, reference, "auc"))
        pauc = describe_difference(paired_difference(table, name, reference, "pauc"))
        lines.append(f"- **{name}** against {reference}: AUC {auc}; pAUC {pauc}.")
    return "\n".join([*lines, "", CAVEATS[kind]])


def comparison_verdict(
    table: pd.DataFrame, *, kind: str, system: str = "contrastive", reference: str = "statistics"
) -> str:
    """Markdown: one system against all others."""
    summary = over_seeds(overall_rows(table), ["variant"], "auc").set_index("variant")["mean"]
    lines = [f"Mean AUC of {system}: **{summary[system]:.1f} %**."]
    for other in summary.index.drop(system):
        auc = describe_difference(paired_difference(table, system, other, "auc"))
        pauc = describe_difference(paired_difference(table, system, other, "pauc"))
        lines.append(f"Against {other}: AUC {auc}; pAUC {pauc}.")
    mean, _, high = paired_difference(table, system, reference, "auc")
    if mean < 0 and not np.isnan(high) and high < 0:
        lines.append(
            f"**The {reference} reference, which takes seconds, is better here.** On this data the "
            "encoder does not earn its training."
        )
    lines.append(CAVEATS[kind])
    return "\n\n".join(lines)


def domain_verdict(table: pd.DataFrame, *, profile: Profile) -> str:
    """Markdown: how AUC differs between the source and the target domain."""
    rows = overall_rows(table)
    lines = []
    for name in dict.fromkeys(rows["variant"]):
        part = rows[rows["variant"] == name]
        drop = 100 * (part["auc_source"] - part["auc_target"]).mean()
        lines.append(f"- **{name}**: AUC(source) − AUC(target) = {signed(drop)} points.")
    return "\n".join([*lines, "", CAVEATS[profile.kind]])


def premise_verdict(table: pd.DataFrame, *, reference: str = "none") -> str:
    """Markdown: in which bands each augmentation helps or hurts, and whether the band decides.

    The premise predicts that augmenting the high frequencies helps with faults at low frequencies
    more than with faults at high ones. The last lines test that, as the difference of both
    differences, paired over seeds.

    Parameters
    ----------
    table
        Of `asdlib.study.premise.study_premise`.
    reference
        Variant without augmentation.
    """
    variants = [name for name in dict.fromkeys(table["variant"]) if name != reference]
    learned = [
        name for name in variants if (table["variant"] == name).sum() and _seeds(table, name)
    ]
    bands = list(dict.fromkeys(table["band"]))
    lines, effects = [], []
    for name in learned:
        for band in bands:
            part = table[table["band"] == band]
            difference = paired_difference(part, name, reference)
            effect = _effect(difference)
            effects.append(effect)
            told = describe_difference(difference)
            said = "" if effect == _UNKNOWN else f": it {effect}"
            lines.append(f"- **{name}**, faults {band}: AUC {told}{said}.")
    counts = {word: effects.count(word) for word in dict.fromkeys(effects)}
    lines += ["", f"Of these {len(effects)}: {_listed(counts)}."]
    low, high = bands[0], bands[-1]
    lines += ["", f"Is the gain larger for {low} faults than for {high} ones?", ""]
    for name in learned:
        difference = _interaction(table, name, reference, (low, high))
        lines.append(f"- **{name}**: {describe_difference(difference)}.")
    return "\n".join([*lines, "", CAVEATS["synthetic"]])


_UNKNOWN = "not shown to differ"


def _seeds(table: pd.DataFrame, variant: str) -> bool:
    """Whether a variant has a run for every seed: the statistical reference has one for all."""
    return set(table.loc[table["variant"] == variant, "seed"]) == set(table["seed"])


def _effect(difference: tuple[float, float, float]) -> str:
    _, low, high = difference
    if low > 0:
        return "helps"
    return "hurts" if high < 0 else _UNKNOWN


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} × '{word}'" for word, n in counts.items())


def _interaction(
    table: pd.DataFrame, variant: str, reference: str, bands: tuple[str, str]
) -> tuple[float, float, float]:
    """Gain of a variant in the first band less its gain in the second, paired over seeds."""
    rows = overall_rows(table)
    auc = rows.pivot_table(index="seed", columns=["band", "variant"], values="auc")
    gains = [auc[band][variant] - auc[band][reference] for band in bands]
    difference = 100 * (gains[0] - gains[1]).dropna().to_numpy()
    interval = t_interval(difference)
    return float(difference.mean()), interval.low, interval.high
