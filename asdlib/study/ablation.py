"""The declared experiments: variants of the contrastive system, each compared with ``full``.

The *ablation* changes one thing at a time, on any pair of stores. The *conditions* take the steps
of the block out in turn, on synthetic machines: the corpus as it is, with faults heard in one band
only, a quarter of its training clips, coarser classes, two domains. There the embedding alone
scores, as the default sum over levels contains the mean spectrum, which no step can change.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from asdlib.errors import ConfigError
from asdlib.features import FeatureStore
from asdlib.study.config import make_system, merge
from asdlib.study.experiment import Done, Variant, experiment
from asdlib.study.report import adjusted, describe_difference, over_seeds, paired_differences
from asdlib.study.stores import from_recordings, half_bins, synthetic_store

FULL = "full"
METRICS = ("auc", "pauc", "auc_source", "auc_target")


def _steps(**steps: Any) -> dict[str, Any]:
    return {"augmentation": steps}


def _scored(embedding: str, backend: str) -> dict[str, Any]:
    return {"embedding": embedding, "backend": backend}


_BACKENDS = (
    *("mahalanobis", "pooled_mahalanobis", "selective_mahalanobis", "knn"),
    *("local_density_knn", "class_mean", "gaussian_mixture"),
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
        "contrast and sub-cluster AdaCos": {"classifier": "sub_cluster_adacos"},
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
"""The variants by name, ``full`` first; those with another front end are in `FRONT_ENDS`."""

FRONT_ENDS = {"half as many mel bins": "half-bins", "byola front end": "byola"}
"""Variants whose stores are derived: from the store itself, or from the recordings by a preset."""

GROUPS: tuple[str, ...] = (
    *("steps", "mixing", "front-ends", "losses", "encoders", "back-ends", "embeddings"),
    *("segments", "data", "classes"),
)


def ablate(
    train: str | Path,
    test: str | Path,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    groups: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    wav: str | Path | None = None,
    processes: int | None = None,
    failures: list[str] | None = None,
    on_done: Done | None = None,
) -> pd.DataFrame:
    """Run the ablation; what is there already is not computed again.

    Parameters
    ----------
    train, test, seeds, processes, failures, on_done
        See `asdlib.study.experiment.experiment`.
    out
        Folder for derived stores (``stores``) and runs (``runs``).
    groups
        Some of `GROUPS`, by default all.
    params
        Parameters of all variants, ``full`` included, that differ from the system's defaults.
    wav
        Folder of the recordings; without it, front ends that need them are left out.

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
        if group == "front-ends":
            chosen |= _with_other_front_ends(train, test, Path(out) / "stores", base, wav)
        for name, variant in ABLATION.items():
            if variant.columns["group"] != group:
                continue
            merged = merge(base, variant.params)
            same = make_system("contrastive", merged).params == full
            if same and name != FULL and variant.share == 1:
                continue
            share = {} if variant.share == 1 else {"training_share": variant.share}
            columns = _columns(group, {**variant.params, **share})
            chosen[name] = replace(variant, params=merged, columns=columns)
    table = experiment(
        chosen,
        out,
        train=train,
        test=test,
        seeds=seeds,
        processes=processes,
        failures=failures,
        on_done=on_done,
    )
    table.insert(2, "changes", table.pop("changes"))
    return table.assign(run=[Path(run).name for run in table["run"]])


def _columns(group: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {"group": group, "changes": json.dumps(changes, sort_keys=True)}


def _with_other_front_ends(
    train: str | Path,
    test: str | Path,
    folder: Path,
    base: Mapping[str, Any],
    wav: str | Path | None,
) -> dict[str, Variant]:
    """Derive the stores of other front ends; a crop is as long in seconds as with the store's."""
    stores = [FeatureStore.open(train), FeatureStore.open(test)]
    variants = {}
    for name, front_end in FRONT_ENDS.items():
        if front_end == "half-bins":
            made = [half_bins(store, folder) for store in stores]
        elif wav is None:
            continue
        else:
            made = 2 * [from_recordings(stores, Path(wav), front_end, folder)]
        params = dict(base)
        old, new = (store.front_end.get("hop_length") for store in (stores[0], made[0]))
        if old and new and old != new:
            frames = make_system("contrastive", base).params.model_dump()["crop_frames"]
            scaled = [round(n * old / new) for n in np.atleast_1d(frames)]
            params["crop_frames"] = scaled if np.ndim(frames) else scaled[0]
        columns = _columns("front-ends", {"front_end": front_end})
        variants[name] = Variant(params=params, train=made[0], test=made[1], columns=columns)
    return variants


EMBEDDING_ALONE = {"embedding": "encoder", "backend": "mahalanobis"}

STEPS: dict[str, dict[str, Any]] = {
    "pre-norm": {"pre_norm": False},
    "mixup": {"mixup": False},
    "RRC": {"rrc": False},
    "post-norm": {"post_norm": False},
    "all but pre-norm": {"mixup": False, "rrc": False, "post_norm": False},
}
"""Parameters of the augmentation without a step."""


class Condition(NamedTuple):
    """What differs from the corpus as it is; ``bands`` are those of the faults, a test set each."""

    layout: Literal["dcase2020", "dcase2022"] = "dcase2020"
    bands: tuple[str, ...] = ("natural",)
    share: float = 1.0
    changes: Mapping[str, Any] = {}


CONDITIONS: dict[str, Condition] = {
    "as it is": Condition(bands=("natural", "low", "mid", "high")),
    "a quarter of the clips": Condition(share=0.25),
    "a class a machine type": Condition(changes={"classes": "machine"}),
    "two domains": Condition(layout="dcase2022"),
}


class ConditionsSpec(BaseModel, frozen=True, extra="forbid"):
    """Size of the study."""

    machines: Mapping[str, tuple[str, ...] | None] = Field(
        default={"dcase2020": None, "dcase2022": None},
        description="machine types of each layout, None for its six",
    )
    n_sections: int = Field(3, ge=2, le=100, description="sections of each machine type")
    n_train: int = Field(48, ge=8, le=10_000, description="normal training clips of a section")
    n_test: int = Field(20, ge=2, le=10_000, description="normal test clips of a section")
    target_share: float = Field(0.125, gt=0, lt=0.5, description="target clips of two domains")
    seconds: float = Field(4.0, gt=0, le=600, description="length of a clip in s")
    seeds: int = Field(5, ge=1, le=1000, description="seeds of every training, from 0")
    epochs: int = Field(6, ge=1, le=100_000, description="passes over all training clips")
    params: Mapping[str, Any] = Field({}, description="other parameters of the contrastive system")


def study_conditions(
    spec: ConditionsSpec,
    root: str | Path,
    *,
    processes: int | None = None,
    on_done: Done | None = None,
) -> pd.DataFrame:
    """Train and score without each step under every condition; what is there is not done again.

    Recordings, stores and runs lie below `root`.

    Returns
    -------
    One row a machine, and one for their mean (``Average``): ``condition, band, without`` (the step
    that was left out, or ``full``), ``seed, machine, auc, pauc`` and, with two domains,
    ``auc_source, auc_target``; shares of 1.
    """
    make_system("contrastive", spec.params)  # what is not valid is refused before recordings
    variants: dict[str, Variant] = {}
    for name, condition in CONDITIONS.items():
        variants |= _variants(name, condition, spec, Path(root), processes)
    seeds = range(spec.seeds)
    table = experiment(variants, root, seeds=seeds, processes=processes, on_done=on_done)
    table = table[table["section"] == "Average"]
    # Within a condition, all runs of a seed stand together.
    order = table["condition"].map(list(CONDITIONS).index)
    table = table.assign(order=order).sort_values(["order", "seed"], kind="stable")
    columns = [name for name in METRICS if name in table]
    table = table[["condition", "band", "without", "seed", "machine", *columns]]
    return table.reset_index(drop=True)


def _variants(
    name: str, condition: Condition, spec: ConditionsSpec, root: Path, processes: int | None
) -> dict[str, Variant]:
    def store(part: str, n_train: int, n_test: int, **more: Any) -> Any:
        corpus = spec.model_dump(include={"n_sections", "seconds", "target_share"}) | {
            "layout": condition.layout,
            "machines": spec.machines.get(condition.layout),
            "n_train": n_train,
            "n_test_normal": n_test,
            "n_test_anomaly": n_test,
        }
        return synthetic_store(root, f"{condition.layout}-{part}", corpus | more, processes)

    # The half of a corpus that is not used is as small as it may be.
    tests = {band: store(band, 2, spec.n_test, band=band) for band in condition.bands}
    train = store("train", spec.n_train, 2 if condition.layout == "dcase2022" else 1)
    base = merge({**spec.params, **EMBEDDING_ALONE, "epochs": spec.epochs}, condition.changes)
    return {
        f"{name}, faults {band}, without {without}": Variant(
            params=merge(base, {"augmentation": steps} if steps else {}),
            train=train,
            test=test,
            share=condition.share,
            columns={"condition": name, "band": band, "without": without},
        )
        for without, steps in {FULL: {}, **STEPS}.items()
        for band, test in tests.items()
    }


def summarise(
    table: pd.DataFrame, by: Sequence[str] = ("changes",), within: Sequence[str] = ()
) -> pd.DataFrame:
    """Compare every variant with ``full``, for each machine and on average.

    Parameters
    ----------
    table
        From `ablate` or `study_conditions`, with the columns ``group`` and ``variant``.
    by, within
        More columns that name a row, and those within which variants are compared.

    Returns
    -------
    ``group, variant``, columns `by`, ``machine, metric, seeds, mean, low, high`` (percent), then
    ``difference, difference_low, difference_high`` in percentage points, paired over seeds,
    ``p_value, p_holm, p_bh`` and ``verdict`` in words. ``full`` has no difference. The mean over
    machines is named ``Average``; the comparisons of a machine, and those of the mean, are adjusted
    together.
    """
    table = table[table["section"] == "Average"] if "section" in table else table
    table = pd.concat([part for _, part in table.groupby("machine", sort=False)])
    rows, places = ["group", "variant", *by, "machine"], [*within, "machine"]
    bounds = {"low": "difference_low", "high": "difference_high"}
    parts = []
    for metric in (name for name in METRICS if name in table):
        gains = paired_differences(table, FULL, metric, by=places)
        gains = gains.drop(columns=["seeds", "p_holm", "p_bh", "shown"])
        means = over_seeds(table, rows, metric)
        part = means.merge(gains.rename(columns=bounds), how="left", on=[*places, "variant"])
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


def summarise_conditions(table: pd.DataFrame) -> pd.DataFrame:
    """Compare the block without a step with the ``full`` one, under each condition and band."""
    group = table["condition"] + ", faults " + table["band"]
    variant = ("without " + table["without"]).replace(f"without {FULL}", FULL)
    table = table.assign(group=group, variant=variant)
    return summarise(table, by=(), within=("group",))
