"""What the study of conditions found: the effect of each step, where it is shown, in words.

The effect of a step is AUC with all steps minus AUC without it, paired over seeds; a positive one
says that the step helps. See `asdlib.study.conditions` for what is varied.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdlib.errors import DataError
from asdlib.evaluation import t_interval
from asdlib.study.conditions import BASE, CONDITIONS, FULL, STEPS
from asdlib.study.verdicts import signed


class Level(NamedTuple):
    """One place to look: rows of the table, the metric, and the level that it is compared with."""

    question: str
    level: str
    condition: str
    band: str
    machine: str
    metric: str
    against: str


def levels_of(table: pd.DataFrame) -> list[Level]:
    """List the places that a table can be asked about, question by question."""
    base = table[table["condition"] == BASE]
    mean = "Average"
    machines = [m for m in base["machine"].unique() if m != mean]
    found = [Level("all machines", BASE, BASE, "natural", mean, "auc", "")]
    found += [Level("machine", m, BASE, "natural", m, "auc", "") for m in machines]
    found += [
        Level("band of the fault", band, BASE, band, mean, "auc", "high" if band == "low" else "")
        for band in ("low", "mid", "high")
    ]
    found += [
        Level("domain", where, "two domains", "natural", mean, f"auc_{where}", against)
        for where, against in (("source", ""), ("target", "source"))
    ]
    found += [
        Level("training clips", "all", BASE, "natural", mean, "auc", ""),
        Level(
            "training clips", "a quarter", "a quarter of the clips", "natural", mean, "auc", "all"
        ),
        Level("classes", "an ID each", BASE, "natural", mean, "auc", ""),
        Level(
            "classes", "a type each", "a class a machine type", "natural", mean, "auc", "an ID each"
        ),
    ]
    return found


def effects_of(table: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Tell what each step does at each place, and how that differs between places.

    Parameters
    ----------
    table
        Of `study_conditions`.
    confidence
        Of the Student-t intervals over seeds.

    Returns
    -------
    ``question, level, against, step, seeds, effect, low, high, shown`` in percentage points. Where
    ``against`` is not empty the row is a difference of effects between two levels of a question.
    ``shown`` says that the interval leaves out zero.

    Raises
    ------
    DataError
        If a level has not the same seeds with and without a step.
    """
    rows: list[tuple[Any, ...]] = []
    known: dict[tuple[str, str, str], pd.Series] = {}
    levels = levels_of(table)
    for level in levels:
        for step in STEPS:
            gain = _gain(table, level, step)
            known[level.question, level.level, step] = gain
            rows.append(_row(level.question, level.level, "", step, gain, confidence))
    for level in (one for one in levels if one.against):
        for step in STEPS:
            gain = known[level.question, level.level, step]
            other = known[level.question, level.against, step]
            rows.append(
                _row(level.question, level.level, level.against, step, gain - other, confidence)
            )
    columns = ["question", "level", "against", "step", "seeds", "effect", "low", "high", "shown"]
    return pd.DataFrame(rows, columns=columns)


def _gain(table: pd.DataFrame, level: Level, step: str) -> pd.Series:
    """AUC with all steps minus AUC without `step` in percentage points, by seed."""
    chosen = table[
        (table["condition"] == level.condition)
        & (table["band"] == level.band)
        & (table["machine"] == level.machine)
    ]
    with_it, without = (
        100 * chosen[chosen["without"] == name].set_index("seed")[level.metric]
        for name in (FULL, step)
    )
    if not len(with_it) or sorted(with_it.index) != sorted(without.index):
        raise DataError(
            f"{level.question} '{level.level}': seeds {sorted(with_it.index)} with all steps, "
            f"{sorted(without.index)} without {step}; expected the same, at least one; run the "
            "study again"
        )
    gain: pd.Series = with_it - without
    return gain


def _row(
    question: str, level: str, against: str, step: str, gain: pd.Series, confidence: float
) -> tuple[Any, ...]:
    mean, low, high = t_interval(gain.to_numpy(), confidence)
    shown = bool(low > 0 or high < 0) and bool(np.isfinite(low))
    return question, level, against, step, len(gain), mean, low, high, shown


def conditions_verdict(found: pd.DataFrame) -> str:
    """Say, as Markdown, where a step is shown to help or to hurt, by rule.

    Parameters
    ----------
    found
        Of `effects_of`.
    """
    places = found[found["against"] == ""].drop_duplicates(["step", "effect", "low", "high"])
    contrasts = found[found["against"] != ""]
    lines = []
    for step in STEPS:
        own = places[(places["step"] == step) & places["shown"]]
        helps, hurts = own[own["effect"] > 0], own[own["effect"] < 0]
        told = [
            f"shown to {word}: {_listed(part)}"
            for word, part in (("help", helps), ("hurt", hurts))
            if len(part)
        ]
        lines.append(f"- **{step}** {'; '.join(told) or 'is not shown to do anything anywhere'}.")
    for row in contrasts[contrasts["shown"]].to_dict("records"):
        more = "more" if row["effect"] > 0 else "less"
        lines.append(
            f"- {row['question'].capitalize()}: **{row['step']}** does {more} for "
            f"*{row['level']}* than for *{row['against']}*: {_figures(row)}."
        )
    block = contrasts[(contrasts["step"] == list(STEPS)[-1]) & (contrasts["level"] == "low")]
    for row in block.to_dict("records"):
        words = "that is not shown either way"
        if row["shown"]:
            words = "it is" if row["effect"] > 0 else "it is shown to be **the other way round**"
        lines.append(
            "- The premise would have the block do more for faults heard low than for those heard "
            f"high. Here {words}: {_figures(row)}."
        )
    everything = pd.concat([places, contrasts])
    shown, all_ = int(everything["shown"].sum()), len(everything)
    lines.append(
        f"- {shown} of {all_} comparisons are shown; {0.05 * all_:.0f} would be by chance alone."
    )
    return "\n".join(lines)


def _listed(part: pd.DataFrame) -> str:
    return ", ".join(
        f"{row['question']} *{row['level']}* ({_figures(row)})" for row in part.to_dict("records")
    )


def _figures(row: Mapping[Any, Any]) -> str:
    return f"{signed(row['effect'])} [{signed(row['low'])}, {signed(row['high'])}]"


def full_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Give AUC with all steps for each machine, a column a condition: mean ± half interval in %."""
    full = table[table["without"] == FULL]
    cells: dict[str, dict[str, str]] = {}
    for name, condition in CONDITIONS.items():
        for band in condition.bands:
            column = name if band == "natural" else f"faults {band}"
            part = full[(full["condition"] == name) & (full["band"] == band)]
            cells[column] = {
                str(machine): _percent(100 * own["auc"].to_numpy())
                for machine, own in part.groupby("machine")
            }
    wide = pd.DataFrame(cells).fillna("–")
    last = wide.index == "Average"
    ordered = pd.concat([wide[~last].sort_index(), wide[last]])
    return ordered.rename_axis("machine").reset_index()


def contrast_rows(found: pd.DataFrame) -> pd.DataFrame:
    """Give the differences of effects in points, a row a step; ✓ where it is shown."""
    rows = found[found["against"] != ""]
    told = rows.assign(
        pair=[f"{a} − {b}" for a, b in zip(rows["level"], rows["against"], strict=True)],
        text=[_figures(row) + (" ✓" if row["shown"] else "") for row in rows.to_dict("records")],
    )
    wide = told.pivot_table(index="step", columns="pair", values="text", aggfunc="first")
    wide = wide.loc[list(STEPS), list(dict.fromkeys(told["pair"]))]
    return wide.rename_axis(columns=None).reset_index()


def made_by_words(made_by: Mapping[str, Any]) -> str:
    """Say, as Markdown, how large a kept study was and which command makes it."""
    spec = made_by["spec"]
    return (
        f"Measured on **synthetic** recordings: {spec['n_train']} training clips of "
        f"{spec['seconds']:g} s an ID, {spec['n_test']} normal and as many anomalous test clips, "
        f"{spec['epochs']} epochs, {spec['seeds']} seeds. Made on {made_by['finished'][:10]} by\n\n"
        "```text\nasd conditions --out FOLDER\n```"
    )


def _percent(values: NDArray[np.float64]) -> str:
    mean, low, high = t_interval(values)
    return (
        f"{mean:.0f}"
        if np.isnan(low)
        else f"{mean:.0f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{(high - low) / 2:.0f}"
    )


def read_conditions(folder: str | Path) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Read what ``asd conditions --out FOLDER`` wrote: the table and what it was made by.

    Raises
    ------
    DataError
        If there is none, or it lacks a column.
    """
    again = f"make it by asd conditions --out {folder}"
    file = Path(folder) / "conditions.csv"
    try:
        table = pd.read_csv(file)
        made_by = json.loads(file.with_name("provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"study '{file}' cannot be read ({reason}); {again}") from error
    needed: Sequence[str] = ("condition", "band", "without", "seed", "machine", "auc")
    missing = [column for column in needed if column not in table]
    if missing:
        raise DataError(f"study '{file}' lacks {', '.join(missing)}; {again}")
    return table, dict(made_by)
