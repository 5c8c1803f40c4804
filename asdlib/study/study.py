"""The study as the notebooks see it: recordings, stores, runs and tables of one profile.

A profile fixes how much data and how much training, never what is compared: the same notebooks run
on all of them. Everything is made on first use and kept below ``<workspace>/<profile>``, so that
each notebook runs alone and the second one finds what the first one made::

    recordings/<year>  →  stores/<year>  →  runs/<system>-<key>
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from asdlib.data import index_folder, join_ground_truth, read_ground_truth
from asdlib.errors import ConfigError, StoreError
from asdlib.features import FeatureStore
from asdlib.files import lock_file, only_process
from asdlib.study.cluster import Scheduler
from asdlib.study.config import make_system, merge
from asdlib.study.experiment import Variant, experiment
from asdlib.study.result import RunResult, write_table
from asdlib.study.run import execute, plan
from asdlib.system import validate_params

if TYPE_CHECKING:
    from asdlib.data.synthetic import SyntheticSpec


SCHEDULER = "ASDLIB_SCHEDULER"
"""Environment variable: JSON of the notebooks' `Scheduler`, its address and needs.

A notebook runs in a kernel of its own and gets nothing from ``asd study`` but the parameters of its
page, which are about the study, and the environment.
"""


@dataclass(frozen=True)
class Profile:
    """One profile of the study."""

    name: str
    source: Literal["synthetic", "store", "download"]  # made here, a given store, or downloads
    years: tuple[int, ...] = (2020, 2022)  # layouts that it has
    seeds: tuple[int, ...] = (0, 1, 2)  # of every claim
    processes: int | None = None  # runs at a time, where nobody says how many
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by system

    @property
    def kind(self) -> str:
        """What its recordings are: "synthetic" or "real"."""
        return "synthetic" if self.source == "synthetic" else "real"


_PROFILES = (
    # Tests: every line runs, no number means anything.
    Profile(
        "smoke",
        "synthetic",
        seeds=(0, 1),
        processes=1,  # to start others takes longer than the runs
        params={
            "contrastive": {"epochs": 2, "crop_frames": 32, "batch_size": 16},
            "autoencoder": {"epochs": 2},
        },
    ),
    # The published book, teaching.
    Profile(
        "classroom",
        "synthetic",
        # As many steps, and as low a loss of validation, as 40 epochs of official batches.
        params={
            "contrastive": {"epochs": 10},
            "autoencoder": {"epochs": 12, "batch_size": 128},
        },
    ),
    # Real recordings of one machine type on a laptop.
    Profile("toycar", "store", years=(2020,), params={"autoencoder": {"epochs": 30}}),
    # The study proper, on a GPU; clips of 2020 have one domain.
    *(
        Profile(
            f"dcase{year}",
            "download",
            years=(year,),
            seeds=(0, 1, 2, 3, 4),
            params={"contrastive": {"epochs": 100, "cross_domain": year > 2020}},
        )
        for year in range(2020, 2027)
    ),
)
PROFILES: dict[str, Profile] = {profile.name: profile for profile in _PROFILES}


def get_profile(name: str) -> Profile:
    """Look a profile up; a ConfigError names the known ones."""
    if name not in PROFILES:
        raise ConfigError(f"unknown profile '{name}' (known: {', '.join(PROFILES)})")
    return PROFILES[name]


def project_folder() -> Path:
    """Return the folder of the project around the current one, else the current folder."""
    here = Path.cwd()
    return next((f for f in (here, *here.parents) if (f / "_toc.yml").is_file()), here)


class Study:
    """One profile in one workspace.

    Parameters
    ----------
    profile
        Name of the profile: ``smoke``, ``classroom``, ``toycar``, ``dcase2020`` to ``dcase2026``.
    workspace
        Folder for everything that is made; by default ``build/study`` of the project.
    store
        A feature store of real recordings; needed by the profile ``toycar``.
    data_root
        Folder of the downloaded recordings; needed by ``dcase2020`` to ``dcase2026``. Ground truth
        in it, as ``asd download`` places it, labels the evaluation set.
    processes
        Runs at a time; by default those of the profile, else one per core, or one on a GPU.

    Raises
    ------
    ConfigError
        If the profile is unknown or lacks what it needs.
    """

    def __init__(
        self,
        profile: str = "classroom",
        workspace: str | Path | None = None,
        *,
        store: str | Path | None = None,
        data_root: str | Path | None = None,
        processes: int | None = None,
    ) -> None:
        self.profile = get_profile(profile)
        self.root = Path(workspace or project_folder() / "build" / "study") / profile
        self.processes = processes or self.profile.processes
        name, given, maker = {
            "synthetic": ("", None, ""),
            "store": ("store", store, "asd features builds one"),
            "download": ("data_root", data_root, f"asd download {profile} fetches them"),
        }[self.profile.source]
        if name and not given:
            raise ConfigError(
                f"profile '{profile}' needs real recordings: give {name}=PATH (asd study "
                f"--{name.replace('_', '-')} PATH); {maker}"
            )
        self._given = Path(given or "")
        if not self._given.is_dir():
            raise ConfigError(f"{name} '{given}' is no folder; give one that exists")

    @property
    def year(self) -> int:
        """The first layout that the profile has."""
        return self.profile.years[0]

    def has(self, year: int) -> bool:
        """Whether the profile has recordings in the layout of this year."""
        return year in self.profile.years

    def recordings(self, year: int | None = None) -> Path:
        """Folder of WAV files in the official layout of a year, by default the first."""
        year = self._check_year(year)
        if self.profile.source == "store":
            raise ConfigError(
                f"profile '{self.profile.name}' starts from features and has no recordings"
            )
        if self.profile.source == "download":
            own = self._given / f"dcase{year}"  # beside other years
            return own if own.is_dir() else self._given
        from asdlib.data.synthetic import SPECS

        spec = SPECS[self.profile.name].model_copy(update={"layout": f"dcase{year}"})
        return self._corpus(str(year), spec)

    def store(self, year: int | None = None) -> FeatureStore:
        """Feature store of a year's recordings, by default the first year's."""
        year = self._check_year(year)
        if self.profile.source == "store":
            return FeatureStore.open(self._given)
        recordings, more = self.recordings(year), dict[str, Any]()
        if self.profile.source == "download":
            table, truth = index_folder(recordings, year=year), recordings / "ground_truth"
            if truth.is_dir():
                listed = truth / "eval_data_list.csv" if year == 2020 else truth
                table = join_ground_truth(table, read_ground_truth(listed))
            more = {"table": table, "channel": 0 if year == 2026 else None}  # the near microphone
        preset = "dcase2020" if year == 2020 else "dcase2022"
        return self._build(recordings, str(year), preset, **more)

    def synthetic_store(self, name: str, **spec: Any) -> FeatureStore:
        """Store of synthetic machines made for one question, with the front end of 2020.

        `spec` holds keywords of `asdlib.data.synthetic.SyntheticSpec`: ``machines, n_sections,
        n_train, n_test_normal, n_test_anomaly, seconds, band`` and more. The same name with other
        keywords is another store.
        """
        from asdlib.data.synthetic import SyntheticSpec

        text = json.dumps(spec, sort_keys=True, default=list)
        mark = hashlib.sha256(text.encode()).hexdigest()[:8]
        corpus = validate_params(SyntheticSpec, spec, "a synthetic store")
        name = f"{name}-{mark}"
        return self._build(self._corpus(name, corpus), name, "dcase2020")

    def _corpus(self, name: str, spec: "SyntheticSpec") -> Path:
        """Write a synthetic corpus, or find it; another process that makes it is waited for."""
        from asdlib.data.synthetic import write_corpus

        out = self.root / "recordings" / name
        with only_process(out, StoreError, lock=lock_file(out), wait=True):
            write_corpus(spec, out, jobs=self.processes)
        return out

    def _build(self, recordings: Path, name: str, preset: str, **more: Any) -> FeatureStore:
        """Compute the features of recordings, or find them, likewise."""
        from asdlib.features import build_store

        out = self.root / "stores" / name
        with only_process(out, StoreError, lock=lock_file(out), wait=True):
            return build_store(recordings, out, preset=preset, jobs=self.processes, **more)

    def run(
        self,
        system: str,
        *,
        year: int | None = None,
        seed: int = 0,
        params: Mapping[str, Any] | None = None,
    ) -> RunResult:
        """Train and score one system, or find the run of an earlier call."""
        store = self.store(year).path
        planned = plan(system, store, store, params=self.params_of(system, params), seed=seed)
        return execute(planned, self.root / "runs" / planned.name, wait=True)

    def experiment(
        self,
        variants: Mapping[str, Variant],
        *,
        year: int | None = None,
        seeds: Sequence[int] | None = None,
        machines: Sequence[str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Run every variant over seeds on this profile, see `asdlib.study.experiment.experiment`.

        Their parameters are laid over `params`, which only contrastive variants have, and these
        over the profile's; stores (of the layout of `year`) and seeds are the profile's, too.
        """
        chosen = {}
        for name, variant in variants.items():
            common = params or {} if variant.system == "contrastive" else {}
            own = self.params_of(variant.system, merge(common, variant.params))
            chosen[name] = replace(variant, params=own)
        scheduler = json.loads(os.environ.get(SCHEDULER, "[]"))
        with_stores = all(variant.train and variant.test for variant in chosen.values())
        return experiment(
            chosen,
            self.root,
            train=None if with_stores else self.store(year),
            seeds=seeds or self.profile.seeds,
            machines=machines,
            processes=self.processes,
            scheduler=Scheduler(*scheduler) if scheduler else None,
        )

    def params_of(self, system: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Parameters of a system on this profile, with `changes` on top."""
        return merge(self.profile.params.get(system, {}), changes or {})

    @property
    def crop_frames(self) -> int:
        """Frames of a training crop on this profile."""
        params = make_system("contrastive", self.params_of("contrastive")).params
        return int(params.crop_frames)

    def save_table(self, table: pd.DataFrame, name: str) -> Path:
        """Write a table as ``results/<name>.csv`` below the root and return its path."""
        path = self.root / "results" / f"{name}.csv"
        write_table(table, path)
        return path

    def _check_year(self, year: int | None) -> int:
        year = year or self.year
        if not self.has(year):
            years = ", ".join(str(known) for known in self.profile.years)
            raise ConfigError(
                f"profile '{self.profile.name}' has no recordings of {year} (has: {years})"
            )
        return year
