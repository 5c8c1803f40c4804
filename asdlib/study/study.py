"""The study as the notebooks see it: recordings, stores, runs and tables of one profile.

Everything is made on first use and kept below ``<workspace>/<profile>``, so that each notebook
runs alone and the second one finds what the first one made::

    recordings/<year>  →  stores/<year>  →  runs/<system>-<key>
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from filelock import FileLock

from asdlib.errors import ConfigError
from asdlib.features import PRESETS, FeatureStore, FrontEnd
from asdlib.study.ablation import ABLATION
from asdlib.study.config import make_system
from asdlib.study.paths import default_workspace, lock_file
from asdlib.study.premise import PREMISE, study_premise
from asdlib.study.profiles import Profile, get_profile, merge
from asdlib.study.result import RunResult
from asdlib.study.run import execute, plan
from asdlib.study.sweep import Job, sweep, variants_over_seeds


class Study:
    """One profile in one workspace.

    Parameters
    ----------
    profile
        Name of the profile: ``smoke``, ``classroom``, ``toycar``, ``dcase2020``, ``dcase2022``.
    workspace
        Folder for everything that is made; by default ``build/study`` of the project.
    store
        A feature store of real recordings; needed by the profile ``toycar``.
    data_root
        Folder of the downloaded recordings; needed by ``dcase2020`` and ``dcase2022``.
    processes
        Runs at a time; by default one a core, or one on a GPU.

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
        self.profile: Profile = get_profile(profile)
        self.root = (Path(workspace) if workspace else default_workspace()) / profile
        self.processes = processes
        self._store = Path(store) if store else None
        self._data_root = Path(data_root) if data_root else None
        if self.profile.source == "store" and self._store is None:
            raise ConfigError(
                f"profile '{profile}' needs a feature store of real recordings: give store=PATH "
                "(asd study --store PATH); asd features builds one"
            )
        if self.profile.source == "download" and self._data_root is None:
            raise ConfigError(
                f"profile '{profile}' needs the downloaded recordings: give data_root=PATH "
                f"(asd study --data-root PATH); asd download {profile} fetches them"
            )

    @property
    def year(self) -> int:
        """The first layout that the profile has."""
        return self.profile.years[0]

    def has(self, year: int) -> bool:
        """Whether the profile has recordings in the layout of this year."""
        return year in self.profile.years

    def recordings(self, year: int | None = None) -> Path:
        """Folder of WAV files in the official layout of a year.

        Raises
        ------
        ConfigError
            If the profile has no recordings of this year, or none at all.
        """
        year = self._check_year(year)
        if self.profile.source == "store":
            raise ConfigError(
                f"profile '{self.profile.name}' starts from features and has no recordings"
            )
        if self.profile.source == "download":
            assert self._data_root is not None
            return self._data_root
        from asdlib.data.synthetic import SPECS, write_corpus

        out = self.root / "recordings" / str(year)
        spec = SPECS[self.profile.name].model_copy(update={"layout": f"dcase{year}"})
        with FileLock(lock_file(out)):
            write_corpus(spec, out, jobs=self.processes)
        return out

    def listening_examples(self, machine: str, year: int | None = None) -> dict[str, Path]:
        """Give a normal and an anomalous test recording of a machine; none without recordings."""
        if self.profile.source == "store":
            return {}
        root = self.recordings(year)
        manifest = self.store(year).manifest
        test = manifest[(manifest["machine"] == machine) & (manifest["split"] == "test")]
        examples = {}
        for label in ("normal", "anomaly"):
            rows = test[test["label"] == label]
            if len(rows):
                first = rows.iloc[0]
                examples[f"{machine} {first['section']}, {label}"] = root / first["path"]
        return examples

    def store(self, year: int | None = None) -> FeatureStore:
        """Feature store of a year's recordings."""
        year = self._check_year(year)
        if self._store is not None:
            return FeatureStore.open(self._store)
        from asdlib.features.build import build_store

        preset = "dcase2022" if year == 2022 else self.profile.preset
        out = self.root / "stores" / str(year)
        out.parent.mkdir(parents=True, exist_ok=True)
        recordings = self.recordings(year)
        # Notebooks that run at the same time wait for the one that builds.
        with FileLock(lock_file(out)):
            return build_store(recordings, out, preset=preset, jobs=self.processes)

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
        return execute(planned, self._runs / f"{system}-{planned.config.key[:16]}", wait=True)

    def compare(
        self,
        systems: Mapping[str, Mapping[str, Any]] | Sequence[str],
        *,
        year: int | None = None,
        seeds: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Run several systems over the profile's seeds; see `asdlib.study.sweep.sweep`.

        Parameters
        ----------
        systems
            Names, or names with the parameters that differ from the profile's.
        year
            Layout.
        seeds
            By default the profile's; a system without randomness is run once.
        """
        wanted = systems if isinstance(systems, Mapping) else {name: {} for name in systems}
        store = self.store(year).path
        jobs = [
            Job(name, name, store, store, seed, self.params_of(name, changes))
            for name, changes in wanted.items()
            for seed in ((0,) if name == "statistics" else seeds or self.profile.seeds)
        ]
        return sweep(jobs, self._runs, processes=self.processes)

    def ablate(
        self,
        variants: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        year: int | None = None,
    ) -> pd.DataFrame:
        """Run the contrastive system with parts of it changed, see `ABLATION`."""
        store = self.store(year).path
        params = self.params_of("contrastive", self.profile.ablation_params)
        template = Job(
            "full",
            "contrastive",
            store,
            store,
            params=params,
            machines=self.profile.ablation_machines,
        )
        jobs = variants_over_seeds(
            {name: merge(params, changes) for name, changes in (variants or ABLATION).items()},
            self.profile.ablation_seeds,
            template,
        )
        return sweep(jobs, self._runs, processes=self.processes)

    def compare_domains(self) -> pd.DataFrame:
        """Run all systems on the layout of 2022; the contrastive one also across domains.

        Raises
        ------
        ConfigError
            If the profile has no recordings with two domains.
        """
        year = self._check_year(2022)
        store = self.store(year).path
        variants: dict[str, tuple[str, dict[str, Any]]] = {
            "statistics": ("statistics", {}),
            "autoencoder": ("autoencoder", {}),
            "contrastive": ("contrastive", {"cross_domain": False}),
            "cross-domain": ("contrastive", {"cross_domain": True}),
        }
        jobs = [
            Job(name, system, store, store, seed, self.params_of(system, changes))
            for name, (system, changes) in variants.items()
            for seed in ((0,) if system == "statistics" else self.profile.domain_seeds)
        ]
        return sweep(jobs, self._runs, processes=self.processes)

    def premise(self) -> pd.DataFrame:
        """Run the premise study, always on synthetic machines; see `asdlib.study.premise`."""
        spec = PREMISE.get(self.profile.name, PREMISE["classroom"])
        return study_premise(spec, self.root / "premise", processes=self.processes)

    def front_end_examples(self) -> dict[str, tuple[np.ndarray, FrontEnd]]:
        """One test recording under every preset; under the store's own without recordings."""
        from asdlib.features.logmel import LogMel

        store = self.store()
        rows = store.rows(split="test")
        row = rows.manifest.iloc[0]
        if self.profile.source == "store":
            told = {k: v for k, v in store.front_end.items() if k in FrontEnd.model_fields}
            clip = next(rows.batches(1))[1][0]
            return {"the store's own": (clip, FrontEnd(**told))}
        samples, _ = soundfile.read(self.recordings() / row["path"], dtype="float32")
        waveform = torch.from_numpy(samples)[None]
        return {
            name: (LogMel(front_end)(waveform)[0].numpy(), front_end)
            for name, front_end in PRESETS.items()
        }

    @property
    def crop_frames(self) -> int:
        """Frames of a training crop on this profile; of the longest where they have several."""
        params = make_system("contrastive", self.params_of("contrastive")).params
        frames = params.model_dump()["crop_frames"]
        return int(frames if isinstance(frames, int) else max(frames))

    def params_of(self, system: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Parameters of a system on this profile, with `changes` on top."""
        return self.profile.params_of(system, changes)

    def save_table(self, table: pd.DataFrame, name: str) -> Path:
        """Keep a table as ``results/<name>.csv`` and give its path."""
        path = self.root / "results" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        table.to_csv(temporary, index=False)
        temporary.replace(path)
        return path

    @property
    def _runs(self) -> Path:
        return self.root / "runs"

    def _check_year(self, year: int | None) -> int:
        year = year or self.year
        if not self.has(year):
            years = ", ".join(str(known) for known in self.profile.years)
            raise ConfigError(
                f"profile '{self.profile.name}' has no recordings of {year} (has: {years})"
            )
        return year
