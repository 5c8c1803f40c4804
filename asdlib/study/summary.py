"""An ablation in short: means over seeds, paired differences to ``full``, and words for them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdlib.evaluation import t_interval
from asdlib.features import FeatureStore
from asdlib.files import write_text
from asdlib.study.ablation import FULL
from asdlib.study.config import code_version
from asdlib.study.provenance import describe_environment
from asdlib.study.verdicts import describe_difference, paired_difference

METRICS = ("auc", "pauc", "auc_source", "auc_target")


def summarise(table: pd.DataFrame, *, reference: str = FULL) -> pd.DataFrame:
    """Compare every variant with a reference, for each machine and on average.

    Parameters
    ----------
    table
        Tidy table of `asdlib.study.ablation.ablate`.
    reference
        Variant that the others are compared with; seeds are paired.

    Returns
    -------
    ``group, variant, changes, machine, metric, seeds, mean, low, high`` (percent), then
    ``difference, difference_low, difference_high`` in percentage points with its 95 % Student-t
    interval over seeds, and ``verdict`` in words. The reference has no difference. A mean over
    machines has the machine ``Average``.
    """
    averages = table[table["section"] == "Average"]
    rows = []
    for metric in (name for name in METRICS if name in table):
        for machine, part in averages.groupby("machine", sort=False):
            alike = part.assign(machine="Average")
            for (group, variant, changes), own in part.groupby(
                ["group", "variant", "changes"], sort=False
            ):
                values = 100 * own[metric].dropna().to_numpy()
                if not len(values):
                    continue
                row = [group, variant, changes, machine, metric, len(values), *t_interval(values)]
                difference = (np.nan, np.nan, np.nan)
                if variant != reference:
                    difference = paired_difference(alike, str(variant), reference, metric)
                told = "" if np.isnan(difference[0]) else describe_difference(difference)
                rows.append([*row, *difference, told])
    columns = ["group", "variant", "changes", "machine", "metric", "seeds", "mean", "low", "high"]
    columns += ["difference", "difference_low", "difference_high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def write_provenance(path: Path, stores: Mapping[str, FeatureStore], **told: Any) -> None:
    """Write ``provenance.json``: what was asked for, stores, code version, machine, time."""
    content = {
        **told,
        "stores": {
            name: {
                "name": store.path.absolute().name,
                "fingerprint": store.fingerprint,
                "clips": len(store),
                "front_end": store.front_end,
            }
            for name, store in stores.items()
        },
        "code_version": code_version(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(),
    }
    write_text(path, json.dumps(content, indent=2) + "\n")
