"""The ablation: variants of the contrastive system that change one thing each, against ``full``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdlib.errors import ConfigError
from asdlib.study.config import make_system, merge
from asdlib.study.experiment import Done, Variant, experiment
from asdlib.study.report import adjusted, describe_difference, over_seeds, paired_differences

FULL = "full"
METRICS = ("auc", "pauc", "auc_source", "auc_target", "omega")


def _steps(**steps: Any) -> dict[str, Any]:
    return {"augmentation": steps}


def _scored(embedding: str, backend: str) -> dict[str, Any]:
    return {"embedding": embedding, "backend": backend}


_BACKENDS = (
    *("mahalanobis", "pooled_mahalanobis", "selective_mahalanobis", "knn"),
    *("local_density_knn", "class_mean"),
)

_TABLE: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "reference": {FULL: {}},
    # "only …" and "none" keep pre-norm: without it nothing is standardised, which "no pre-norm" and
    # "none, not even pre-norm" show on their own.
    "steps": {
        "no pre-norm": _steps(pre_norm=False),
        "no mixup": _steps(mixup=False),
        "no RRC": _steps(rrc=False),
        "no post-norm": _steps(post_norm=False),
        "only mixup": _steps(rrc=False, post_norm=False),
        "only RRC": _steps(mixup=False, post_norm=False),
        "only post-norm": _steps(mixup=False, rrc=False),
        "none": _steps(mixup=False, rrc=False, post_norm=False),
        "none, not even pre-norm": _steps(pre_norm=False, mixup=False, rrc=False, post_norm=False),
    },
    "mixing": {
        f"mixing above {hz / 1000:g} kHz": _steps(mixing="high", cutoff_hz=hz)
        for hz in (500.0, 1000.0, 2000.0, 4000.0)
    },
    "losses": {
        "contrast alone": {"classifier": "none"},
        "contrast of views only (NT-Xent)": {"loss": "nt_xent"},
        "contrast and ArcFace": {"classifier": "arcface"},
        "ArcFace alone": {"classifier": "arcface", "contrast_weight": 0.0},
        "no training at all": {"epochs": 0},
    },
    "encoders": {"encoder: mobilefacenet": {"encoder": "mobilefacenet"}},
    "back-ends": {f"encoder, {name}": _scored("encoder", name) for name in _BACKENDS},
    "embeddings": {
        f"{embedding.replace('_', ' ')}, {backend}": _scored(embedding, backend)
        for embedding, backends in (
            ("spectrum", ("mahalanobis", "pooled_mahalanobis", "knn")),
            ("feature_map", ("mahalanobis", "knn")),
            ("projection", ("mahalanobis", "knn")),
        )
        for backend in backends
    }
    | {"all levels": _scored("levels", "level_sum")},
    "segments": {
        "sliding window at test": {"segment": "sliding"},
        "each view a crop of its own": {"crops": "different"},
        "batch norm of training crops": {"batch_norm": "training"},
    },
    "data": {"half of the training clips": {}, "a quarter of the training clips": {}},
    "classes": {"a class is a machine type": {"classes": "machine"}},
}
_SHARES = {"half of the training clips": 0.5, "a quarter of the training clips": 0.25}

ABLATION: dict[str, Variant] = {
    name: Variant(params=params, share=_SHARES.get(name, 1.0), columns={"group": group})
    for group, variants in _TABLE.items()
    for name, params in variants.items()
}
"""The variants by name, ``full`` first."""

GROUPS: tuple[str, ...] = (
    *("steps", "mixing", "losses", "encoders", "back-ends", "embeddings", "segments", "data"),
    "classes",
)


def ablate(
    train: str | Path,
    test: str | Path,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    groups: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    year: int | None = None,
    processes: int | None = None,
    failures: list[str] | None = None,
    on_done: Done | None = None,
) -> pd.DataFrame:
    """Run the ablation; what is there already is not computed again.

    Parameters
    ----------
    train, test, seeds, year, processes, failures, on_done
        See `asdlib.study.experiment.experiment`.
    out
        Folder for derived stores (``stores``) and runs (``runs``).
    groups
        Some of `GROUPS`, by default all.
    params
        Parameters of all variants, ``full`` included, that differ from the system's defaults.

    Returns
    -------
    ``group, variant, changes`` (JSON), then the columns of an experiment; ``run`` is the name of
    the run's folder. A variant that changes nothing is left out.

    Raises
    ------
    ConfigError
        If a parameter or a group is not known; before the first run.
    """
    for name in groups or ():
        if name not in GROUPS:
            raise ConfigError(f"unknown group '{name}' (known: {', '.join(GROUPS)})")
    base = dict(params or {})
    full = make_system("contrastive", base).params
    chosen: dict[str, Variant] = {}
    for group in ("reference", *(g for g in GROUPS if g in (groups or GROUPS))):
        for name, variant in ABLATION.items():
            if variant.columns["group"] != group:
                continue
            merged = merge(base, variant.params)
            same = make_system("contrastive", merged).params == full
            if same and name != FULL and variant.share == 1:
                continue
            share = {} if variant.share == 1 else {"training_share": variant.share}
            changes = json.dumps({**variant.params, **share}, sort_keys=True)
            columns = {"group": group, "changes": changes}
            chosen[name] = replace(variant, params=merged, columns=columns)
    table = experiment(
        chosen,
        out,
        train=train,
        test=test,
        seeds=seeds,
        year=year,
        processes=processes,
        failures=failures,
        on_done=on_done,
    )
    table.insert(2, "changes", table.pop("changes"))
    return table.assign(run=[Path(run).name for run in table["run"]])


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Compare every variant of a table from `ablate` with ``full``, by machine and on average.

    Returns
    -------
    ``group, variant, changes, machine, metric, seeds, mean, low, high`` (percent), then
    ``difference, difference_low, difference_high`` in percentage points, paired over seeds,
    ``p_value, p_holm, p_bh`` and ``verdict`` in words. ``full`` has no difference. The mean over
    machines is named ``Average``; the comparisons of a machine, and those of the mean, are adjusted
    together.
    """
    table = table[table["section"] == "Average"]
    table = pd.concat([part for _, part in table.groupby("machine", sort=False)])
    rows = ["group", "variant", "changes", "machine"]
    bounds = {"low": "difference_low", "high": "difference_high"}
    parts = []
    for metric in (name for name in METRICS if name in table):
        gains = paired_differences(table, FULL, metric, by=["machine"])
        gains = gains.drop(columns=["seeds", "p_holm", "p_bh", "shown"])
        means = over_seeds(table, rows, metric)
        part = means.merge(gains.rename(columns=bounds), how="left", on=["machine", "variant"])
        parts.append(part.assign(metric=metric))
    summary = pd.concat(parts, ignore_index=True)
    by_machine = summary.groupby("machine")["p_value"]
    summary = summary.join(pd.concat([adjusted(p_values) for _, p_values in by_machine]))
    differences = ["difference", *bounds.values()]
    summary["verdict"] = [
        "" if np.isnan(difference[0]) else describe_difference(*difference)
        for difference in summary[[*differences, "p_holm"]].to_numpy(dtype=float)
    ]
    columns = ["metric", "seeds", "mean", "low", "high", *differences]
    return summary[[*rows, *columns, "p_value", "p_holm", "p_bh", "verdict"]]
