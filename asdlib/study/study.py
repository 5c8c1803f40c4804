"""The study as the notebooks see it: recordings, stores, runs and tables of one profile.

Everything is made on first use and kept below ``<workspace>/<profile>``, so that each notebook
runs alone and the second one finds what the first one made::

    recordings/<year>  →  stores/<year>  →  runs/<system>-<key>
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from asdlib.errors import ConfigError
from asdlib.features import PRESETS, FeatureStore, FrontEnd
from asdlib.files import lock_file
from asdlib.study.ablation import ABLATION, FULL
from asdlib.study.config import make_system
from asdlib.study.experiment import Variant, as_variant, experiment
from asdlib.study.paths import default_workspace
from asdlib.study.premise import PREMISE, study_premise
from asdlib.study.profiles import Profile, get_profile, merge
from asdlib.study.result import RunResult
from asdlib.study.run import execute, plan
from asdlib.study.stores import synthetic_store

ABLATED = (
    *("no pre-norm", "no mixup", "no RRC", "no post-norm"),
    *("only mixup", "only RRC", "none", "mixing above 2 kHz"),
)
"""Variants of the ablation's chapter."""


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

    def experiment(
        self,
        variants: Mapping[str, Variant | Mapping[str, Any]],
        *,
        year: int | None = None,
        seeds: Sequence[int] | None = None,
        machines: Sequence[str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Run every variant over seeds on this profile; what is there is not computed again.

        Parameters
        ----------
        variants
            By name: a `Variant`, or changed parameters of the contrastive system. They are laid
            over the profile's parameters.
        year
            Layout of the recordings, by default the profile's first.
        seeds
            By default the profile's.
        machines
            Machine types to keep, by default all.
        params
            Changes of all variants, below their own.

        Returns
        -------
        The tidy table of `asdlib.study.experiment.experiment`.
        """
        told = {name: as_variant(variant) for name, variant in variants.items()}
        laid = {
            name: replace(
                variant, params=self.params_of(variant.system, merge(params or {}, variant.params))
            )
            for name, variant in told.items()
        }
        own = all(variant.train and variant.test for variant in told.values())
        return experiment(
            laid,
            self.root,
            train=None if own else self.store(year),
            seeds=seeds or self.profile.seeds,
            machines=machines,
            processes=self.processes,
        )

    def synthetic_store(self, name: str, **spec: Any) -> FeatureStore:
        """Store of synthetic machines made for one question, with the front end of 2020.

        Parameters
        ----------
        name
            Its name below the root of the study; the same name with other keywords is another
            store.
        spec
            Keywords of `asdlib.data.synthetic.SyntheticSpec`: ``machines, n_sections, n_train,
            n_test_normal, n_test_anomaly, seconds, band`` and more.

        Raises
        ------
        ConfigError
            If a keyword is not known or its value is not allowed.
        """
        text = json.dumps(spec, sort_keys=True, default=list)
        mark = hashlib.sha256(text.encode()).hexdigest()[:8]
        return synthetic_store(self.root, f"{name}-{mark}", spec, self.processes)

    def compare(self, systems: Sequence[str]) -> pd.DataFrame:
        """Run several systems over the profile's seeds."""
        return self.experiment({name: Variant(name) for name in systems})

    def ablate(self) -> pd.DataFrame:
        """Run the contrastive system with one step of the block changed at a time."""
        names = (FULL, *ABLATED)
        return self.experiment(
            {name: ABLATION[name].params for name in names},
            seeds=self.profile.ablation_seeds,
            machines=self.profile.ablation_machines,
            params=self.profile.ablation_params,
        )

    def compare_domains(self) -> pd.DataFrame:
        """Run all systems on the layout of 2022; the contrastive one also across domains.

        Raises
        ------
        ConfigError
            If the profile has no recordings with two domains.
        """
        variants = {
            "statistics": Variant("statistics"),
            "autoencoder": Variant("autoencoder"),
            "contrastive": Variant(params={"cross_domain": False}),
            "cross-domain": Variant(params={"cross_domain": True}),
        }
        return self.experiment(variants, year=2022, seeds=self.profile.domain_seeds)

    def premise(self) -> pd.DataFrame:
        """Run the premise study, always on synthetic machines; see `asdlib.study.premise`."""
        spec = PREMISE.get(self.profile.name, PREMISE["classroom"])
        return study_premise(spec, self.root / "premise", processes=self.processes)

    def front_end_examples(self) -> dict[str, tuple[np.ndarray, FrontEnd]]:
        """One test recording under every preset; under the store's own without recordings."""
        import soundfile
        import torch

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
