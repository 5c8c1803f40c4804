"""Results that are kept with the code, as ``asd compare`` and ``asd ablate`` wrote them.

``results/<name>/`` holds what ``asd compare --out`` writes; ``results/<name>/ablation/`` what ``asd
ablate --out`` writes. Every number that the book tells of these recordings is read from there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from asdlib.errors import RunError
from asdlib.study.text import in_percent
from asdlib.study.verdicts import describe_difference, paired_difference, signed

COMPARED = ("systems.csv", "comparison.csv", "provenance.json")
TRIED = "tried.csv"
ABLATED = ("ablation.csv", "summary.csv", "provenance.json")


def results_folder(name: str) -> Path:
    """Give ``results/<name>`` of the project around the current folder, or of the current one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "_toc.yml").is_file():
            return folder / "results" / name
    return here / "results" / name


@dataclass(frozen=True)
class Kept:
    """Results of one set of recordings.

    Attributes
    ----------
    systems, comparison, paired
        Of ``asd compare``: every figure of every run; a row for each system; tests against the
        first one (None if there were none).
    ablation, summary
        Of ``asd ablate``; None if no ablation is kept.
    provenance
        ``provenance.json`` of both, by ``compare`` and ``ablate``.
    exploration
        Single trainings that came before the defaults were settled; None if none are kept.
    """

    systems: pd.DataFrame
    comparison: pd.DataFrame
    paired: pd.DataFrame | None
    ablation: pd.DataFrame | None
    summary: pd.DataFrame | None
    provenance: Mapping[str, Mapping[str, Any]]
    exploration: pd.DataFrame | None = None

    def measured(self) -> pd.DataFrame:
        """Rows of the comparison that were measured here."""
        return self.comparison[self.comparison["origin"] == "measured"]

    def shown(self) -> pd.DataFrame:
        """Give the comparison for readers: percent, intervals in brackets, what each row is."""
        text = in_percent(self.comparison)
        metrics = [name for name in ("auc", "pauc", "mauc") if name in text]
        told = ["data", "split", "training_data", "selection", "source"]
        return text[["system", "origin", *metrics, "seeds", *told]]

    def sections(self) -> pd.DataFrame:
        """Mean AUC and pAUC of every system and section over seeds, in percent."""
        rows = self.systems[self.systems["section"] != "Average"]
        means = rows.groupby(["system", "machine", "section"], sort=False)[["auc", "pauc"]].mean()
        return (100 * means).reset_index()

    def paired_words(self) -> str:
        """Say how every system compares with the first one, see `paired_verdict`."""
        if self.paired is None:
            return "No paired tests are kept: `asd compare … --paired` makes them."
        return paired_verdict(self.paired)

    def seeds_words(self, system: str, reference: str) -> str:
        """Say how two systems differ over the seeds that both were trained with."""
        table = self.systems.rename(columns={"system": "variant"})
        if not {system, reference} <= set(table["variant"]):
            return f"'{system}' or '{reference}' is not among the kept results."
        auc, pauc = (
            describe_difference(paired_difference(table, system, reference, metric))
            for metric in ("auc", "pauc")
        )
        return f"**{system}** against {reference}, paired over seeds: AUC {auc}; pAUC {pauc}."

    def variants(self, *groups: str) -> pd.DataFrame:
        """Give the summary of some groups of the ablation, all without `groups`; may be empty."""
        if self.summary is None:
            return pd.DataFrame()
        return self.summary[self.summary["group"].isin(groups)] if groups else self.summary

    def ablation_words(self, *groups: str) -> str:
        """Say what the ablation shows, see `ablation_verdict`; `groups` as in `variants`."""
        chosen = self.variants(*groups)
        if chosen.empty:
            return "No such ablation is kept: `asd ablate` makes it."
        return ablation_verdict(chosen)

    def tried(self) -> pd.DataFrame | None:
        """Give the exploration in percent; None if none is kept."""
        if self.exploration is None:
            return None
        shown = self.exploration[["recipe", "seed"]].copy()
        for name in ("encoder_training_bn", "encoder", "feature_map_knn", "encoder_and_spectrum"):
            auc, pauc = (100 * self.exploration[f"{metric}_{name}"] for metric in ("auc", "pauc"))
            shown[name.replace("_", " ").replace("bn", "batch norm")] = [
                f"{a:.1f} / {p:.1f}" for a, p in zip(auc, pauc, strict=True)
            ]
        return shown

    def origin(self) -> str:
        """Say what was measured, with which code and when."""
        told = self.provenance["compare"]
        lines = [
            f"{len(told['runs'])} runs of {self.measured()['system'].nunique()} systems, put "
            f"together on {told['finished'][:10]}. Data: {told['data'] or 'as the rows say'}."
        ]
        if "ablate" in self.provenance:
            made = self.provenance["ablate"]
            assert self.ablation is not None
            runs = len(self.ablation.drop_duplicates(["variant", "seed"]))
            settings = ", ".join(f"{k}={v}" for k, v in made["params"].items()) or "the defaults"
            lines.append(
                f"The ablation: {runs} runs, {made['seeds']} seeds a variant, parameters: "
                f"{settings}; {len(made['failures'])} runs failed."
            )
        return "\n\n".join(lines)


NOTHING_KEPT = (
    "**No results of these recordings are kept here yet.** `asd compare RUN… --out` and `asd "
    "ablate --out` write them; the rest of this page is empty until then."
)


def find_kept(folder: str | Path) -> Kept | None:
    """Read kept results; None if `folder` does not exist, an error if it is incomplete."""
    return load_kept(folder) if Path(folder).is_dir() else None


def load_kept(folder: str | Path) -> Kept:
    """Read kept results.

    Raises
    ------
    RunError
        If there are none.
    """
    folder = Path(folder)
    _check(folder, COMPARED)
    provenance = {"compare": json.loads((folder / "provenance.json").read_text(encoding="utf-8"))}
    paired = folder / "paired.csv"
    ablation = summary = None
    if (folder / "ablation").is_dir():
        _check(folder / "ablation", ABLATED)
        provenance["ablate"] = json.loads(
            (folder / "ablation" / "provenance.json").read_text(encoding="utf-8")
        )
        ablation = _read(folder / "ablation" / "ablation.csv")
        summary = _read(folder / "ablation" / "summary.csv")
    return Kept(
        _read(folder / "systems.csv"),
        _read(folder / "comparison.csv"),
        _read(paired) if paired.is_file() else None,
        ablation,
        summary,
        provenance,
        _read(folder / TRIED) if (folder / TRIED).is_file() else None,
    )


def _read(path: Path) -> pd.DataFrame:
    text: Any = dict.fromkeys(("machine", "section", "system", "changes"), str)
    table: pd.DataFrame = pd.read_csv(path, dtype=text, float_precision="round_trip")
    return table


def _check(folder: Path, names: tuple[str, ...]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise RunError(
            f"'{folder}' lacks {', '.join(missing)}; asd compare … --out and asd ablate … --out "
            "write them"
        )


def paired_verdict(paired: pd.DataFrame) -> str:
    """Markdown list: every system against the first, over all machines, on the same clips."""
    rows = paired[(paired["machine"] == "Average") & paired["metric"].isin(["auc", "pauc"])]
    lines = []
    for (system, reference), part in rows.groupby(["system", "reference"], sort=False):
        told = []
        for row in part.to_dict("records"):
            shown = row["low"] > 0 or row["high"] < 0
            mean, low, high = (signed(100 * row[key]) for key in ("difference", "low", "high"))
            name = {"auc": "AUC", "pauc": "pAUC"}[str(row["metric"])]
            word = "shown" if shown else "not shown to differ"
            told.append(f"{name} {mean} [{low}, {high}] points, {word}")
        lines.append(f"- **{system}** against {reference}: {'; '.join(told)}.")
    return "\n".join(lines)


def ablation_verdict(summary: pd.DataFrame) -> str:
    """Say what an ablation shows: which variants are shown to differ, and how many are by chance.

    With 95 % intervals, about one comparison in twenty is called shown where nothing differs.
    """
    chosen = summary[(summary["machine"] == "Average") & summary["difference_low"].notna()]
    if chosen.empty:
        return "A single seed: there are no intervals, and nothing is shown."
    lines = []
    for metric, name in (("auc", "AUC"), ("pauc", "pAUC")):
        part = chosen[chosen["metric"] == metric]
        for word, kept in (
            ("better than", part[part["difference_low"] > 0]),
            ("worse than", part[part["difference_high"] < 0]),
        ):
            names = [
                f"{variant} ({signed(difference)})"
                for variant, difference in zip(kept["variant"], kept["difference"], strict=True)
            ]
            lines.append(f"- {name}, shown to be {word} full: {', '.join(names) or 'none'}.")
        unknown = len(part) - ((part["difference_low"] > 0) | (part["difference_high"] < 0)).sum()
        lines.append(f"- {name}, not shown to differ from full: {unknown} of {len(part)} variants.")
    lines.append(
        f"\nOf {len(chosen)} comparisons, about {0.05 * len(chosen):.0f} would be called shown by "
        "chance alone if nothing differed: read a lone finding as a hint."
    )
    return "\n".join(lines)
