"""Run an ablation: the variants of the declared table over seeds, on any pair of stores."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from asdlib.features import FeatureStore
from asdlib.study.ablation import FULL, Variant, choose
from asdlib.study.config import make_system
from asdlib.study.derived import from_recordings, half_bins, share_of_training
from asdlib.study.profiles import merge
from asdlib.study.sweep import Done, Job, sweep


@dataclass(frozen=True)
class Ablation:
    """Outcome of an ablation.

    Attributes
    ----------
    table
        Tidy: a row for each variant, seed, machine and section; see `ablate`.
    failures
        A line for each run that failed.
    """

    table: pd.DataFrame
    failures: tuple[str, ...]


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
    on_done: Done | None = None,
    on_start: Callable[[int], None] | None = None,
) -> Ablation:
    """Run the ablation; what is there already is not computed again.

    Parameters
    ----------
    train, test
        Stores, as for a run.
    out
        Folder for derived stores (``stores``) and runs (``runs``).
    seeds
        Seeds of every variant.
    groups
        Some of `GROUPS`, by default all.
    params
        Parameters of all variants, ``full`` included, that differ from the system's defaults.
    wav
        Folder of the recordings, for the front ends that need them.
    processes
        Runs at a time, see `asdlib.study.sweep.sweep`.
    on_done
        Called after every run.
    on_start
        Told the number of runs.

    Returns
    -------
    Ablation
        Its table has ``group, variant, changes`` (JSON), then the columns of a sweep. ``run`` is
        the name of the run's folder. A variant that changes nothing is left out.

    Raises
    ------
    ConfigError
        If a parameter or a group is not known; before the first run.
    RunError
        If all runs failed.
    """
    out = Path(out)
    base = dict(params or {})
    chosen = choose(groups, with_recordings=wav is not None)
    variants = {v.name: v for v in (Variant("reference", FULL), *_effective(chosen, base))}
    stores = _Stores(FeatureStore.open(train), FeatureStore.open(test), out / "stores", wav)
    jobs = [job for seed in seeds for job in _jobs(variants.values(), stores, base, seed)]
    if on_start:
        on_start(len(jobs))
    failures: list[str] = []
    table = sweep(jobs, out / "runs", processes=processes, failures=failures, on_done=on_done)
    table.insert(0, "group", [variants[name].group for name in table["variant"]])
    changes = [_described(variants[name]) for name in table["variant"]]
    table.insert(2, "changes", changes)
    table["run"] = [Path(run).name for run in table["run"]]
    order = {name: i for i, name in enumerate(variants)}
    table = table.sort_values(["variant", "seed"], key=_by(order), kind="stable", ignore_index=True)
    return Ablation(table, tuple(failures))


def _by(order: Mapping[str, int]) -> Callable[[pd.Series], pd.Series]:
    return lambda column: column.map(order) if column.name == "variant" else column


def _described(variant: Variant) -> str:
    told: dict[str, Any] = dict(variant.changes)
    if variant.front_end != "store":
        told["front_end"] = variant.front_end
    if variant.share != 1:
        told["training_share"] = variant.share
    return json.dumps(told, sort_keys=True)


def _effective(variants: Iterable[Variant], base: Mapping[str, Any]) -> list[Variant]:
    """Check all parameters; leave out variants that are ``full`` by another name."""
    full = make_system("contrastive", base).params
    return [
        variant
        for variant in variants
        if make_system("contrastive", merge(base, variant.changes)).params != full
        or variant.front_end != "store"
        or variant.share != 1
    ]


@dataclass(frozen=True)
class _Stores:
    """The stores of an ablation, and those derived from them."""

    train: FeatureStore
    test: FeatureStore
    folder: Path
    wav: str | Path | None

    def of(self, variant: Variant, seed: int) -> tuple[FeatureStore, FeatureStore]:
        if variant.front_end == "half-bins":
            return half_bins(self.train, self.folder), half_bins(self.test, self.folder)
        if variant.front_end != "store":
            assert self.wav is not None
            both = [self.train, self.test]
            made = from_recordings(both, Path(self.wav), variant.front_end, self.folder)
            return made, made
        if variant.share != 1:
            part = share_of_training(self.train, variant.share, seed, self.folder)
            return part, self.test
        return self.train, self.test


def _jobs(
    variants: Iterable[Variant], stores: _Stores, base: Mapping[str, Any], seed: int
) -> list[Job]:
    own = (stores.train.path, stores.test.path)
    full = Job(FULL, "contrastive", *own, seed=seed, params=base)
    jobs = []
    for variant in variants:
        train, test = stores.of(variant, seed)
        params = merge(base, variant.changes)
        if variant.share != 1:
            params["epochs"] = round(_of(base, "epochs") / variant.share)
        if train.front_end.get("hop_length") != stores.train.front_end.get("hop_length"):
            # A crop is as long in seconds as it is with the store's own front end.
            ratio = stores.train.front_end["hop_length"] / train.front_end["hop_length"]
            params["crop_frames"] = _scaled(_of(base, "crop_frames"), ratio)
        jobs.append(
            Job(
                variant.name,
                "contrastive",
                train.path,
                test.path,
                seed=seed,
                params=params,
                network_of=full if variant.shares_network and variant.name != FULL else None,
            )
        )
    return jobs


def _of(base: Mapping[str, Any], name: str) -> Any:
    return make_system("contrastive", base).params.model_dump()[name]


def _scaled(frames: Any, ratio: float) -> Any:
    return (
        [_scaled(n, ratio) for n in frames]
        if isinstance(frames, list | tuple)
        else round(frames * ratio)
    )
