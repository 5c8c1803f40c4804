"""Metrics of DCASE Task 2, 2020 to 2026, as pure functions; fractions from 0 to 1.

``y_true`` (N,) is 0 for a normal and 1 for an anomalous clip, ``score`` (N,) the anomaly score,
higher = more anomalous; N clips. A *score table* has one row per clip and the columns ``machine``,
``section``, ``domain`` ("source", "target" or "" for unknown), ``label`` ("normal" or "anomaly"),
``clip`` and ``anomaly_score``. A *section table* has one row per section: ``machine``, ``section``
and :func:`metric_columns`.

A metric is not defined where one of the two classes is missing. It is then NaN in a section table,
and :func:`section_metrics` names it in a notice. Means skip NaN; a mean of nothing is NaN. Bad
input raises :class:`~asdlib.errors.ScoreError`.

2020
    AUC and pAUC per machine ID, averaged over the IDs of a machine, then over machines. These two
    averages are the official figures; there is no single score.
2021
    AUC and pAUC within each domain. ``auc`` and ``pauc`` are the mean of both domains.
2022 to 2026
    ``auc_source`` sets the source normals against *all* anomalies of the section,
    ``auc_target`` the target normals. ``auc`` and ``pauc`` use all clips of the section.

Averages since 2021 are over all sections of all machines at once. Values below float eps are raised
to it before a harmonic mean, and so is a denominator of zero of precision, recall or F1, as in the
official code (Kota-Dohi/dcase2022_evaluator, commit de8719b).
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from asdlib.errors import ScoreError

Floats = NDArray[np.float64]
Mean = Literal["arithmetic", "harmonic"]

YEARS = tuple(range(2020, 2027))
MAX_FPR = 0.1
FLOOR = sys.float_info.epsilon
SCORE_COLUMNS = ("machine", "section", "domain", "label", "clip", "anomaly_score")
DOMAINS = ("source", "target")
MEANS: dict[Mean, str] = {"arithmetic": "Average", "harmonic": "Harmonic mean"}
"""Kind of mean → the name of its row."""


def check_year(year: int) -> int:
    """Return ``year``, or raise :class:`~asdlib.errors.ScoreError` if it has no metrics here."""
    if year not in YEARS:
        raise ScoreError(f"year {year!r} has no metrics (known: {YEARS[0]} to {YEARS[-1]})")
    return year


def metric_columns(year: int) -> tuple[str, ...]:
    """Return the metric columns of a section table of ``year``."""
    if check_year(year) == 2020:
        return ("auc", "pauc")
    split = ("auc", "pauc") if year == 2021 else ("auc",)
    return ("auc", "pauc", *(f"{name}_{domain}" for name in split for domain in DOMAINS))


def averaged_columns(column: str, year: int) -> list[str]:
    """Return the columns that enter the mean of ``column``.

    In 2021 each domain is a row of the official table, so both enter the mean of "auc" and "pauc".
    """
    split = year == 2021 and column in ("auc", "pauc")
    return [f"{column}_{domain}" for domain in DOMAINS] if split else [column]


def omega_columns(year: int) -> list[str]:
    """Return the columns that enter the official score of ``year``; 2020 has no such score."""
    if check_year(year) == 2020:
        raise ScoreError("omega is not defined for 2020; use the averages of auc and pauc")
    return ["auc_source", "auc_target", *averaged_columns("pauc", year)]


def validate(y_true: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    """Check ``y_true`` (N,) and ``score`` (N,) and return them as arrays."""
    s = np.asarray(score, dtype=np.float64)
    if np.ndim(y_true) != 1 or s.shape != np.shape(y_true):
        raise ScoreError(
            f"y_true has shape {np.shape(y_true)} and score {s.shape}; give one label and one "
            "score per clip"
        )
    unknown = [value for value in np.ravel(y_true).tolist() if value not in (0, 1)]
    if unknown:
        raise ScoreError(f"y_true holds {unknown[0]!r}; expected 0 (normal) or 1 (anomaly)")
    y = np.asarray(y_true).astype(np.int64)
    if not np.isfinite(s).all():
        row = int(np.flatnonzero(~np.isfinite(s))[0])
        raise ScoreError(f"score {row} is {s[row]}; expected finite numbers")
    if y.size == 0 or y.min() == y.max():
        found = "no clips" if y.size == 0 else ("only anomalies" if y[0] else "only normal clips")
        raise ScoreError(f"y_true holds {found}; AUC needs normal and anomalous clips")
    return y, s


def auc(y_true: ArrayLike, score: ArrayLike) -> float:
    """Compute the area under the ROC curve of labels and scores, both (N,).

    It is the probability that an anomaly scores higher than a normal clip; ties count one half.
    """
    return pauc(y_true, score, 1.0)


def pauc(y_true: ArrayLike, score: ArrayLike, max_fpr: float = MAX_FPR) -> float:
    """Compute the McClish-standardised partial AUC up to a false-positive rate of ``max_fpr``.

    It is 1 for a perfect ranking and 0.5 for chance; with a rate of 0.1 at least 0.4737. The
    un-standardised formula in the task papers is not what any published table uses.

    References
    ----------
    D. K. McClish, Medical Decision Making 9(3), 1989; scikit-learn ``roc_auc_score(max_fpr=…)``,
    as the official DCASE evaluators call it.
    """
    if not 0 < max_fpr <= 1:
        raise ScoreError(f"max_fpr {max_fpr!r} is out of range; expected 0 < max_fpr <= 1")
    y, s = validate(y_true, score)
    anomaly, normal = s[y == 1], np.sort(s[y == 0])
    first, last = (np.searchsorted(normal, anomaly, side) for side in ("left", "right"))
    return float(added_area(normal.size - last, last - first, normal.size, max_fpr).mean())


def added_area(above: NDArray[Any], beside: NDArray[Any], n: int, max_fpr: float) -> Floats:
    """Compute what each anomaly adds to the pAUC, or to the AUC if ``max_fpr`` is 1.

    The area below the ROC curve is the mean over anomalies of the part of it that each one adds,
    which depends on how many of the ``n`` normal clips score higher, and how many equally. The
    means equal scikit-learn's figures (tests: 1e-12), without the seconds that its import takes.
    """
    left, width = above / n, beside / n
    used = np.clip(max_fpr - left, 0.0, width)
    share = np.divide(used, width, out=np.zeros_like(width), where=width > 0)
    area: Floats = used * share / 2 + np.clip(max_fpr - left - width, 0.0, None)
    least = max_fpr**2 / 2
    return area if max_fpr == 1 else 0.5 * (1.0 + (area - least) / (max_fpr - least))


def validate_frame(df: pd.DataFrame) -> None:
    """Refuse a score table that lacks a column, or has a wrong value or one clip twice."""
    missing = [column for column in SCORE_COLUMNS if column not in df.columns]
    if missing:
        raise ScoreError(
            f"score table lacks the column '{missing[0]}' (needed: {', '.join(SCORE_COLUMNS)})"
        )
    if df.empty:
        raise ScoreError("score table has no rows; expected one row for each test clip")
    scores = pd.to_numeric(df["anomaly_score"], errors="coerce").to_numpy(dtype=np.float64)
    faults = {
        "label": (~df["label"].isin(("normal", "anomaly")), "known: 'normal', 'anomaly'"),
        "domain": (~df["domain"].isin((*DOMAINS, "")), "known: 'source', 'target', ''"),
        "anomaly_score": (~np.isfinite(scores), "expected a finite number"),
    }
    for column, (bad, expected) in faults.items():
        if bad.any():
            first = df.loc[bad].iloc[0]
            raise ScoreError(
                f"clip '{first['clip']}' of '{first['machine']}' has {column.replace('_', ' ')} "
                f"'{first[column]}' ({expected})"
            )
    twice = df.duplicated(["machine", "section", "clip"])
    if twice.any():
        first = df.loc[twice].iloc[0]
        raise ScoreError(
            f"clip '{first['clip']}' of '{first['machine']}' occurs twice in section "
            f"'{first['section']}'; give one score per clip"
        )


def labels_of(df: pd.DataFrame) -> NDArray[np.int64]:
    """Return the labels of a score table as ``y_true`` (N,)."""
    return np.asarray(df["label"] == "anomaly", dtype=np.int64)


def metric_clips(section: pd.DataFrame, year: int) -> dict[str, pd.DataFrame]:
    """Return the clips of one section that each metric of ``year`` uses.

    In 2021 ``auc`` and ``pauc`` are means of others and have no clips of their own.
    """
    if year == 2020:
        return {"auc": section, "pauc": section}
    within = {d: section["domain"] == d for d in DOMAINS}
    if year == 2021:
        return {f"{kind}_{d}": section[within[d]] for kind in ("auc", "pauc") for d in DOMAINS}
    anomaly = section["label"] == "anomaly"
    shared = {f"auc_{d}": section[within[d] | anomaly] for d in DOMAINS}
    return {"auc": section, "pauc": section, **shared}


def figure_of(clips: pd.DataFrame, max_fpr: float) -> Any:
    """Compute the pAUC of a score table, or the AUC if ``max_fpr`` is 1."""
    return pauc(labels_of(clips), clips["anomaly_score"], max_fpr)


def section_metrics(
    df: pd.DataFrame, year: int, figure: Callable[[pd.DataFrame, float], Any] = figure_of
) -> tuple[pd.DataFrame, list[str]]:
    """Compute the metrics of every section of a score table by the definitions of ``year``.

    Returns the section table, sorted, and one line for each metric that is not defined. The cells
    hold what ``figure`` returns for the clips of a metric.
    """
    columns = metric_columns(year)
    validate_frame(df)
    rows: list[dict[str, object]] = []
    notices: list[str] = []
    for (machine, section), group in df.groupby(["machine", "section"], sort=True):
        values: dict[str, Any] = dict.fromkeys(columns, float("nan"))
        for name, clips in metric_clips(group, year).items():
            n_anomaly = int(labels_of(clips).sum())
            if 0 < n_anomaly < len(clips):
                values[name] = figure(clips, MAX_FPR if name.startswith("pauc") else 1.0)
            else:
                notices.append(
                    f"{name} of {machine}/{section} is not defined: "
                    f"{len(clips) - n_anomaly} normal and {n_anomaly} anomalous clips"
                )
        if year == 2021:
            for kind in ("auc", "pauc"):
                values[kind] = (values[f"{kind}_source"] + values[f"{kind}_target"]) / 2
        rows.append({"machine": str(machine), "section": str(section), **values})
    return pd.DataFrame(rows, columns=["machine", "section", *columns]), notices


def decision_metrics(df: pd.DataFrame, year: int) -> pd.DataFrame:
    """Compute precision, recall and F1 of every section, from 2021 on for each domain.

    ``df`` is a score table with the column ``decision`` (0 or 1). Returns ``machine``, ``section``
    and columns like ``precision`` or ``precision_source``; NaN where a domain has no clips. Each
    domain is taken within itself: anomalies are not shared, unlike for the AUC since 2022.
    """
    suffixes = {"": ""} if year == 2020 else {domain: f"_{domain}" for domain in DOMAINS}
    rows: list[dict[str, object]] = []
    for (machine, section), group in df.groupby(["machine", "section"], sort=True):
        row: dict[str, object] = {"machine": str(machine), "section": str(section)}
        for domain, suffix in suffixes.items():
            part = group if year == 2020 else group.loc[group["domain"] == domain]
            if not part.empty:
                y, reported = labels_of(part), part["decision"].to_numpy()
                precision = (y * reported).sum() / max(reported.sum(), FLOOR)
                recall = (y * reported).sum() / max(y.sum(), FLOOR)
                f1 = 2.0 * precision * recall / max(precision + recall, FLOOR)
                row |= {f"precision{suffix}": precision, f"recall{suffix}": recall}
                row[f"f1{suffix}"] = f1
        rows.append(row)
    names = [
        name + suffix for name in ("precision", "recall", "f1") for suffix in suffixes.values()
    ]
    return pd.DataFrame(rows, columns=["machine", "section", *names])


def pooled(df: pd.DataFrame) -> pd.DataFrame:
    """Compute ``machine``, ``auc``, ``pauc`` over the clips of all sections of a machine together.

    Some papers (Noisy-ArcMix, OS-SCL) print these figures. They are not the official ones: they
    also depend on how the scores of different sections compare.
    """
    whole = df.assign(section="", clip=df["section"].astype(str) + "/" + df["clip"].astype(str))
    return section_metrics(whole, 2020)[0].drop(columns="section")


def _defined(values: Any) -> Floats:
    """Stack what is not NaN of a list or table, whose cells may be arrays of one shape."""
    cells = np.ravel(values.to_numpy()) if isinstance(values, pd.DataFrame) else list(values)
    rows = [np.asarray(cell, dtype=np.float64) for cell in cells]
    return np.array([row for row in rows if not np.isnan(row).all()])


def mean(values: Any, kind: Mean = "arithmetic") -> Any:
    """Compute the mean of a list or table, leaving out NaN; the cells may be arrays of one shape.

    For the harmonic mean each value is raised to at least eps.
    """
    rows = _defined(values)
    if not len(rows):
        return np.nan
    if kind == "arithmetic":
        return rows.mean(axis=0)
    return len(rows) / np.sum(1.0 / np.maximum(rows, FLOOR), axis=0)


def mean_metrics(sections: pd.DataFrame, year: int, kind: Mean = "arithmetic") -> dict[str, Any]:
    """Return the mean of each of :func:`metric_columns` over a section table.

    2020: over the IDs of each machine, then over machines. Later: over all rows alike. Both agree
    if all machines have the same number of sections.
    """
    columns = metric_columns(year)
    if year == 2020:
        machines = sections.groupby("machine", sort=True)
        return {n: mean([mean(values, kind) for _, values in machines[n]], kind) for n in columns}
    return {name: mean(sections[averaged_columns(name, year)], kind) for name in columns}


def with_means(
    sections: pd.DataFrame, year: int, kinds: Sequence[Mean] = ("arithmetic",)
) -> pd.DataFrame:
    """Add rows of means to a section table: of each machine after its sections, of all last."""
    rows: list[dict[Any, Any]] = []
    for machine, group in sections.groupby("machine", sort=True):
        rows += group.to_dict("records")
        for kind in kinds:
            means = mean_metrics(group, year, kind)
            rows.append({"machine": machine, "section": MEANS[kind], **means})
    for kind in kinds:
        means = mean_metrics(sections, year, kind)
        rows.append({"machine": MEANS[kind], "section": MEANS[kind], **means})
    return pd.DataFrame(rows, columns=list(sections.columns))


def omega(sections: pd.DataFrame, year: int = 2022) -> Any:
    """Compute the official score since 2021: a harmonic mean over machines and sections.

    2022 to 2026: of every AUC (source), AUC (target) and pAUC (2022: 7 × 3 × 3 = 63 numbers).
    2021: of every AUC and pAUC of both domains.
    """
    return mean(sections[omega_columns(year)], "harmonic")


def mauc(sections: pd.DataFrame) -> float:
    """Compute the lowest AUC among the sections of a machine, averaged over machines."""
    return float(mean(sections.groupby("machine")["auc"].min()))
