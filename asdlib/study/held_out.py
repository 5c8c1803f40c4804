"""Held-out scores of normal training clips: the scale of a system's scores without any test clip.

Fusion needs them to bring systems to one scale, decisions to set a threshold. The training clips of
each section and domain are divided into folds; each fold is scored by a system that was fitted on
the others.

What is fitted again depends on the system. The contrastive system keeps its network and fits its
back-end again: seconds. The network has then seen all folds in training, so its held-out scores are
still a little low; training it again for each fold would cost as many trainings. Every other
system is fitted again as a whole: seconds for the statistics, as many trainings as folds for
networks.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd

from asdlib.errors import RunError
from asdlib.evaluation.scores import write_text_atomic
from asdlib.features import FeatureStore, Rows
from asdlib.study.config import system_class
from asdlib.study.result import RunResult
from asdlib.study.run import training_rows
from asdlib.system import System, section_keys

HELD_OUT, FOLDS_TOLD = "held_out.csv", "held_out.json"
DEFAULT_FOLDS = 5
COLUMNS = ["machine", "section", "clip", "domain", "anomaly_score"]


def held_out(
    run: RunResult, train: str | Path | None = None, *, folds: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """Give the held-out training scores of a finished run; computed once and kept in its folder.

    They are computed again if another number of folds is asked for than they were made with.

    Parameters
    ----------
    run
        The run.
    train
        Store that it was trained on; not looked at if the scores are there already.
    folds
        Number of parts; by default what is there, or five.
    seed
        Seed of the division.

    Returns
    -------
    ``machine, section, clip, domain, anomaly_score``, a row for each normal training clip.

    Raises
    ------
    RunError
        If the scores are damaged, or not there and no store is given or another one.
    """
    path = run.path / HELD_OUT
    if path.is_file() and folds in (None, _folds_told(path)):
        return _read(path)
    if "members" in run.record["config"]["params"]:
        raise RunError(
            f"'{run.path}' is fused from other runs, its held-out scores come from theirs; leave "
            "out --folds, or fuse the runs again"
        )
    if train is None and path.is_file():
        raise RunError(
            f"'{run.path}' has held-out scores of another number of folds than {folds}; name the "
            "store that it was trained on (--train STORE) to compute them again, or leave out "
            "--folds"
        )
    if train is None:
        raise RunError(
            f"'{run.path}' holds no scores of held-out training clips ({HELD_OUT}); name the store "
            "that it was trained on (--train STORE), or run it with --held-out 5"
        )
    folds = folds or DEFAULT_FOLDS
    store = check_training_store(run, train)
    config = run.record["config"]
    detector = system_class(config["system"]).load(run.path / "model")
    rows = training_rows(store, config["machines"])
    table = rows.manifest[COLUMNS[:-1]].assign(
        anomaly_score=scores_of_folds(detector, rows, folds=folds, seed=seed)
    )
    # Should it be cut between the two, the scores count as made with an unknown number.
    (run.path / FOLDS_TOLD).unlink(missing_ok=True)
    written = write_held_out(table, run.path)
    write_text_atomic(run.path / FOLDS_TOLD, json.dumps({"folds": folds, "seed": seed}) + "\n")
    return written


def _folds_told(path: Path) -> int | None:
    """Give the number of folds that scores were made with, None if nothing tells it."""
    try:
        told = json.loads(path.with_name(FOLDS_TOLD).read_text(encoding="utf-8"))
        return int(told["folds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(path: Path) -> pd.DataFrame:
    """Read ``held_out.csv``."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        scores = table["anomaly_score"].map(float)
        if list(table) != COLUMNS or not np.isfinite(scores).all():
            raise ValueError(f"columns or scores are not {', '.join(COLUMNS)} with finite scores")
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"'{path}' is damaged ({reason}); delete it and name the training store (--train STORE)"
        ) from error
    return table.assign(anomaly_score=scores)


def check_training_store(run: RunResult, train: str | Path) -> FeatureStore:
    """Open the store that a run was trained on.

    Raises
    ------
    RunError
        If it is another one.
    """
    store = FeatureStore.open(train)
    expected = str(run.record["config"].get("train_fingerprint"))
    if store.fingerprint != expected:
        raise RunError(
            f"'{run.path}' was not trained on '{train}' ({store.fingerprint[:12]}, expected "
            f"{expected[:12]}); name the store that it was trained on"
        )
    return store


def write_held_out(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write ``held_out.csv`` into a run's folder, sorted by clip; gives what was written."""
    ordered = table[COLUMNS].sort_values(["machine", "section", "clip"], ignore_index=True)
    write_text_atomic(folder / HELD_OUT, ordered.to_csv(index=False, lineterminator="\n"))
    return ordered


def scores_of_folds(
    detector: System[Any], rows: Rows, *, folds: int = DEFAULT_FOLDS, seed: int = 0
) -> np.ndarray:
    """Score each clip with a system fitted on the other folds, shape (N,)."""
    from asdlib.method.backend_base import Backend
    from asdlib.method.contrastive import Contrastive
    from asdlib.method.fusion import held_out_scores

    keys = section_keys(rows.manifest)
    domains = rows.manifest["domain"].to_numpy(dtype=object)
    if isinstance(detector, Contrastive):
        backend: Backend = detector.backend_
        return held_out_scores(backend, detector.embed(rows), keys, domains, folds=folds, seed=seed)
    positions = np.arange(len(rows), dtype=np.float64)[:, None]
    whole = cast(Backend, _WholeSystem(detector, rows))
    return held_out_scores(whole, positions, keys, domains, folds=folds, seed=seed)


class _WholeSystem:
    """A system in the shape of a back-end, so that both are divided alike.

    Its "embeddings" are positions in the training rows, shape (N, 1).
    """

    def __init__(self, detector: System[Any], rows: Rows) -> None:
        self.detector = detector
        self.rows = rows

    def params(self) -> dict[str, Any]:
        """Give what a copy is made of: a system of the same parameters that is not fitted."""
        params = self.detector.params.model_dump()
        made = type(self.detector)(seed=self.detector.seed, **params)
        return {"detector": made, "rows": self.rows}

    def fit(self, x: np.ndarray, sections: Sequence[str], domains: Sequence[str]) -> Self:
        self.detector.fit(self.rows.select(x[:, 0].astype(np.int64)))
        return self

    def score(self, x: np.ndarray, sections: Sequence[str]) -> np.ndarray:
        return self.detector.score(self.rows.select(x[:, 0].astype(np.int64)))
