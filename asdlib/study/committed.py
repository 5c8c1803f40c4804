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
from asdlib.study.comparison import in_percent
from asdlib.study.verdicts import describe_difference, paired_difference, signed

COMPARED = ("systems.csv", "comparison.csv", "provenance.json")
TRIED, TRIED_SCORING = "tried.csv", "tried_scoring.csv"
TOLD = ("data", "split", "training_data", "selection")
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
    scoring
        Back-ends of the levels that were compared before the default was settled, likewise.
    """

    systems: pd.DataFrame
    comparison: pd.DataFrame
    paired: pd.DataFrame | None
    ablation: pd.DataFrame | None
    summary: pd.DataFrame | None
    provenance: Mapping[str, Mapping[str, Any]]
    exploration: pd.DataFrame | None = None
    scoring: pd.DataFrame | None = None

    def measured(self) -> pd.DataFrame:
        """Rows of the comparison that were measured here."""
        return self.comparison[self.comparison["origin"] == "measured"]

    def shown(self, origin: str) -> pd.DataFrame:
        """Give the comparison for readers: percent, intervals in brackets, what each row is.

        Parameters
        ----------
        origin
            ``measured`` or ``published``. What all measured rows share is left out, see `shared`.
        """
        rows = self.comparison[self.comparison["origin"] == origin]
        text = in_percent(rows)
        metrics = [name for name in ("auc", "pauc", "mauc") if _has(rows, name)]
        common = self._common() if origin == "measured" else {}
        told = [name for name in TOLD if name not in common]
        told += ["source"] if origin == "published" else []
        over = ["interval"] if _has(rows, "interval") else []
        shown = text[["system", *metrics, "seeds", *over, *told]]
        return shown.rename(columns={"interval": "interval over", "training_data": "training data"})

    def shared(self) -> str:
        """Say what all measured rows have in common: data, split, training data, selection."""
        told = [f"{name.replace('_', ' ')}: {value}" for name, value in self._common().items()]
        return "All measured rows share: " + "; ".join(told) + "."

    def _common(self) -> dict[str, str]:
        rows = self.measured()
        return {name: str(rows[name].iloc[0]) for name in TOLD if rows[name].nunique() == 1}

    def sections(self) -> pd.DataFrame:
        """Mean AUC / pAUC of every system over seeds, in percent, a column for each section."""
        rows = self.systems[self.systems["section"] != "Average"]
        means = rows.groupby(["system", "machine", "section"], sort=False)[["auc", "pauc"]].mean()
        pairs = (100 * means).reset_index()
        pairs["text"] = [
            f"{a:.1f} / {p:.1f}" for a, p in zip(pairs["auc"], pairs["pauc"], strict=True)
        ]
        pairs["place"] = pairs["machine"] + " " + pairs["section"]
        wide = pairs.pivot_table(
            index="system", columns="place", values="text", aggfunc="first", sort=False
        )
        return wide.rename_axis(columns=None).reset_index()

    def paired_rows(self) -> pd.DataFrame | None:
        """Give the paired tests for readers, see `paired_table`; None if none are kept."""
        return None if self.paired is None else paired_table(self.paired)

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

    def tried_scoring(self) -> pd.DataFrame | None:
        """Give AUC / pAUC of the back-ends of the levels in percent; None if none are kept."""
        if self.scoring is None:
            return None
        shown = self.scoring[["spectrum", "feature_map", "encoder"]].fillna("–")
        for name, suffix in (("mean over seeds", ""), ("seeds fused", "_fused")):
            auc, pauc = (100 * self.scoring[f"{metric}{suffix}"] for metric in ("auc", "pauc"))
            shown[name] = [f"{a:.1f} / {p:.1f}" for a, p in zip(auc, pauc, strict=True)]
        return shown.rename(columns={"feature_map": "feature map", "encoder": "embedding"})

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
        *(_read(folder / n) if (folder / n).is_file() else None for n in (TRIED, TRIED_SCORING)),
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


def _has(rows: pd.DataFrame, name: str) -> bool:
    """Whether a column is there and holds something."""
    return name in rows and bool(rows[name].notna().any())


def paired_table(paired: pd.DataFrame) -> pd.DataFrame:
    """Give every system against each reference, over all machines, on the same clips.

    Returns
    -------
    ``system, against``, then for AUC and pAUC the difference in points with its interval, and
    whether it is shown. Of two rows that say the same the other way round, the first is kept.
    """
    rows = paired[(paired["machine"] == "Average") & paired["metric"].isin(["auc", "pauc"])]
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows.to_dict("records"):
        pair = (str(row["system"]), str(row["reference"]))
        if pair[::-1] in found:
            continue
        mean, low, high = (signed(100 * row[key]) for key in ("difference", "low", "high"))
        name = {"auc": "AUC", "pauc": "pAUC"}[str(row["metric"])]
        told = found.setdefault(pair, {"system": pair[0], "against": pair[1]})
        told[f"{name} (points)"] = f"{mean} [{low}, {high}]"
        told[f"{name} differs"] = "shown" if row["low"] > 0 or row["high"] < 0 else "not shown"
    return pd.DataFrame(list(found.values()))


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
