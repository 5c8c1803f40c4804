"""What the kept results say about one question each, in words, by rule.

"Shown" means that a 95 % interval leaves out zero; of many such statements some are by chance. If
what a question asks for is not kept, the answer says so.
"""

from collections.abc import Sequence

import pandas as pd

from asdlib.study.committed import Kept
from asdlib.study.report import overall_rows
from asdlib.study.verdicts import describe_difference, signed

_METRICS = {"auc": "AUC", "pauc": "pAUC"}


def clips_words(kept: Kept, system: str, *references: str) -> str:
    """Say how a system differs from others over clips, as a Markdown list.

    Parameters
    ----------
    kept
        Results whose paired tests are read: bootstrap over clips of the mean over seeds.
    system, references
        Names of the systems.
    """
    if kept.paired is None:
        return "No paired tests are kept: `asd compare --against` makes them."
    overall = kept.paired[kept.paired["machine"] == "Average"]
    lines = []
    for reference in references:
        told = []
        for metric, name in _METRICS.items():
            for one, other, sign in ((system, reference, 1), (reference, system, -1)):
                rows = overall[
                    (overall["system"] == one)
                    & (overall["reference"] == other)
                    & (overall["metric"] == metric)
                ]
                if len(rows):
                    row = rows.iloc[0]
                    low, high = sorted(100 * sign * float(row[key]) for key in ("low", "high"))
                    difference = (100 * sign * float(row["difference"]), low, high)
                    told.append(f"{name} {describe_difference(difference)}")
                    break
        words = "; ".join(told) or "no paired test is kept"
        lines.append(f"- **{system}** against {reference}: {words}.")
    return "\n".join(lines)


def variants_words(kept: Kept, *variants: str) -> str:
    """Say how variants of the ablation differ from the full system, as a Markdown list."""
    if kept.summary is None:
        return "No ablation is kept: `asd ablate` makes it."
    overall = kept.summary[kept.summary["machine"] == "Average"]
    lines = []
    for variant in variants:
        rows = overall[overall["variant"] == variant]
        told = [
            f"{name} {rows[rows['metric'] == metric]['verdict'].iloc[0]}"
            for metric, name in _METRICS.items()
            if (rows["metric"] == metric).any()
        ]
        lines.append(f"- **{variant}**: {'; '.join(told) or 'not kept'}.")
    return "\n".join(lines)


def spread_words(kept: Kept, *systems: str) -> str:
    """Say how far apart the seeds of systems lie, as a Markdown list."""
    rows = overall_rows(kept.systems)
    lines = []
    for system in systems:
        own = 100 * rows[rows["system"] == system]["auc"]
        if own.empty:
            lines.append(f"- **{system}**: not kept.")
            continue
        if len(own) == 1:
            lines.append(f"- **{system}**: one seed, AUC {own.iloc[0]:.1f}.")
            continue
        lines.append(
            f"- **{system}**: {len(own)} seeds, AUC from {own.min():.1f} to {own.max():.1f}: "
            f"{own.max() - own.min():.1f} points apart."
        )
    return "\n".join(lines)


def contrasts_words(found: pd.DataFrame, level: str, steps: Sequence[str]) -> str:
    """Say whether steps do more at a level than where it is compared with, as a Markdown list.

    Parameters
    ----------
    found
        Of `asdlib.study.effects.effects_of`.
    level
        Such as ``low``, a band.
    steps
        Names of steps.
    """
    lines = []
    for step in steps:
        rows = found[(found["level"] == level) & (found["step"] == step) & (found["against"] != "")]
        for row in rows.to_dict("records"):
            words = "not shown to do more or less"
            if row["shown"]:
                words = f"shown to do {'more' if row['effect'] > 0 else 'less'}"
            figures = f"{signed(row['effect'])} [{signed(row['low'])}, {signed(row['high'])}]"
            lines.append(
                f"- **{step}**: {words} for *{row['level']}* than for *{row['against']}*: "
                f"{figures} points of AUC."
            )
    return "\n".join(lines) or f"- Nothing is kept about '{level}'."
