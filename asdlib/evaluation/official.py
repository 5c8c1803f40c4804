"""The official ``result.csv`` of the baselines, in the forms of 2020, 2021 and 2022.

Forms: a machine line, a header, one row a section (2021: a domain and section), the means, an empty
line; from 2021 on the means over all machines follow. Sources: y-kawagu/dcase2020_task2_baseline
(commit ebfcc2a), y-kawagu/dcase2021_task2_baseline_ae (commit a54b4c2) and
Kota-Dohi/dcase2022_task2_baseline_ae (commit 8ab52e1), ``01_test.py``. The form of 2022 serves the
years after it too. Precision, recall and F1 stand there if there are decisions.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from asdlib.evaluation.decisions import decision_columns
from asdlib.evaluation.means import Kind, arithmetic_mean, harmonic_mean
from asdlib.evaluation.scores import csv_text, write_text_atomic
from asdlib.evaluation.tables import Evaluation

_HEADS = {"auc": "AUC", "pauc": "pAUC", "f1": "F1 score"}
_KINDS: tuple[Kind, ...] = ("arithmetic", "harmonic")


def _head(column: str) -> str:
    name, _, domain = column.partition("_")
    name = _HEADS.get(name, name)
    return f"{name} ({domain})" if domain else name


def _cells(values: list[float]) -> list[str]:
    return ["" if math.isnan(value) else repr(float(value)) for value in values]


def _mean(table: pd.DataFrame, columns: list[str], kind: Kind) -> list[str]:
    mean = arithmetic_mean if kind == "arithmetic" else harmonic_mean
    return _cells([mean(table[column].to_numpy(dtype=float)) for column in columns])


def _by_domain(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Turn columns like ``auc_source`` into one row for each domain (the form of 2021)."""
    parts = []
    for domain in ("source", "target"):
        renamed = {f"{column}_{domain}": column for column in columns}
        part = table[["machine", "section", *renamed]].rename(columns=renamed)
        part.insert(2, "domain", domain)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def result_rows(result: Evaluation) -> list[list[str]]:
    """Return the rows of the official ``result.csv``.

    Parameters
    ----------
    result : what :func:`asdlib.evaluation.tables.evaluate_folder` returned
    """
    table, keys = result.sections, ["section"]
    columns = ["auc", "pauc"] if result.year <= 2021 else ["auc_source", "auc_target", "pauc"]
    if result.decisions is not None and result.year != 2020:
        table = table.merge(result.decisions, on=["machine", "section"])
        if result.year == 2021:
            columns += ["precision", "recall", "f1"]
        else:
            columns += list(decision_columns(result.year))
    if result.year == 2021:
        table, keys = _by_domain(table, columns), ["section", "domain"]
    pad = [""] * (len(keys) - 1)
    heads = [_head(column) for column in columns]
    rows: list[list[str]] = []
    for machine, group in table.groupby("machine", sort=True):
        rows.append([str(machine)])
        rows.append([*(["id"] if result.year == 2020 else keys), *heads])
        for _, row in group.iterrows():
            rows.append([*row[keys].tolist(), *_cells(row[columns].astype(float).tolist())])
        if result.year == 2020:
            rows.append(["Average", *_mean(group, columns, "arithmetic")])
        else:
            rows += [[f"{kind} mean", *pad, *_mean(group, columns, kind)] for kind in _KINDS]
        rows.append([])
    if result.year != 2020:
        rows.append(["", *pad, *heads])
        over = "mean over all machine types, sections, and domains"
        rows += [[f"{kind} {over}", *pad, *_mean(table, columns, kind)] for kind in _KINDS]
        rows.append([])
    return rows


def write_result_csv(result: Evaluation, path: str | Path) -> Path:
    """Write the official ``result.csv``, under a temporary name first."""
    return write_text_atomic(path, csv_text(result_rows(result)))
