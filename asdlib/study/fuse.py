"""Score fusion of finished runs: several systems, or several seeds of one, as one run.

Every run's scores are brought to mean 0 and deviation 1 over the held-out scores of the normal
training clips of the section, then averaged. Neither test scores nor labels enter. The result is
the folder of a run, with held-out scores of its own: it can be evaluated, compared, decided upon
and fused again.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from asdlib.errors import ConfigError, RunError, ScoreError
from asdlib.evaluation import label_scores, read_score_folder, write_score_folder
from asdlib.files import is_taken, lock_file, only_process
from asdlib.study.comparison import label_of
from asdlib.study.config import RunConfig
from asdlib.study.held_out import held_out, write_held_out
from asdlib.study.result import (
    Member,
    RunRecord,
    RunResult,
    Seconds,
    describe_environment,
    load_run,
)
from asdlib.study.run import evaluate_scores, reuse, run_folder
from asdlib.system import section_keys


def fuse(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    weights: Sequence[float] | None = None,
    name: str | None = None,
    train: str | Path | None = None,
    folds: int | None = None,
) -> RunResult:
    """Fuse the scores of runs on the same test clips.

    Parameters
    ----------
    runs
        Folders of finished runs.
    out
        Folder of the fused run, made by it.
    weights
        Weight of each run; equal by default.
    name
        Name of the system in tables; by default made of its members.
    train
        Store that the runs were trained on; needed where held-out scores are not there yet.
    folds
        Parts of the training clips for held-out scores, see `asdlib.study.held_out.held_out`.

    Raises
    ------
    ConfigError
        If there are fewer than two runs, the same twice, or not a weight for each.
    RunError
        If the runs do not score the same clips, or were not trained on the same ones.
    """
    members = [load_run(run) for run in runs]
    keys = [member.record.key for member in members]
    shares = [1.0] * len(members) if weights is None else list(weights)
    _check(members, keys, shares)
    year = members[0].record.year
    tests = [read_score_folder(member.path, year) for member in members]
    trains = [held_out(member, train, folds=folds) for member in members]
    _check_clips(members, tests, "score")
    _check_clips(members, trains, "are trained on")
    config = _config(members, shares, name)
    content = config.model_dump(mode="json", exclude={"network_of"})
    key = hashlib.sha256(json.dumps([content, keys], sort_keys=True).encode()).hexdigest()
    out = Path(out)
    with only_process(out, RunError, lock=lock_file(out)):
        if is_taken(out):
            return reuse(out, key)
        with run_folder(out) as folder:
            scores = fuse_scores(tests, trains, shares)
            write_score_folder(scores, folder, year)
            try:
                labelled = label_scores(scores, year)
            except ScoreError:
                # Clips of an evaluation set carry no label: scores without metrics, as for any run.
                labelled = scores.assign(label="", domain="")
            metrics, notices = evaluate_scores(labelled, year)
            metrics.to_csv(folder / "metrics.csv", index=False)
            write_held_out(fuse_scores(trains, trains, shares), folder)
            record = RunRecord(
                key=key,
                config=config,
                members=tuple(map(_member, members, shares)),
                train=members[0].record.train,
                test=members[0].record.test,
                year=year,
                notices=tuple(notices),
                seconds=Seconds(
                    fit=sum(member.record.seconds.fit for member in members),
                    score=sum(member.record.seconds.score for member in members),
                ),
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
                environment=describe_environment(),
            )
            record.write(folder)
    return RunResult(out, record, metrics, cached=False)


def fuse_scores(
    tables: Sequence[pd.DataFrame], trains: Sequence[pd.DataFrame], weights: Sequence[float]
) -> pd.DataFrame:
    """Compute the weighted mean of the standardised scores of several systems.

    `tables` hold scores of the same clips and `trains` held-out scores of the same normal training
    clips, one table for each system; mean and deviation of a section in `trains` give the scale.
    Returns the first of `tables` with the fused scores.
    """
    total = sum(weights)
    if min(weights) < 0 or total <= 0:
        raise ConfigError(f"weights are {list(weights)}, expected none below and one above 0")
    sections, of_training = section_keys(tables[0]), section_keys(trains[0])
    fused = np.zeros(len(sections))
    for number, (table, train, weight) in enumerate(zip(tables, trains, weights, strict=True), 1):
        scores, known = (t["anomaly_score"].to_numpy(dtype=np.float64) for t in (table, train))
        for section in sorted(set(sections)):
            rows, normal = sections == section, known[of_training == section]
            if len(normal) < 2 or not np.ptp(normal) > 0:
                raise RunError(
                    f"{len(normal)} training scores of run {number} in section '{section}' give "
                    "no scale, expected at least two different ones; leave this run out"
                )
            fused[rows] += weight / total * ((scores[rows] - normal.mean()) / normal.std())
    return tables[0].assign(anomaly_score=fused)


def _member(run: RunResult, weight: float) -> Member:
    return Member(
        run=run.path.absolute().name,
        key=run.record.key,
        system=label_of(run.record.config),
        seed=run.record.config.seed,
        weight=weight,
    )


def _config(members: Sequence[RunResult], shares: Sequence[float], name: str | None) -> RunConfig:
    """Return the configuration of the fused run; that of all seeds of a fusion is the same."""
    configs = [member.record.config for member in members]
    labels = [label_of(config) for config in configs]
    counts = {label: labels.count(label) for label in labels}
    parts = [label if n == 1 else f"{n} × {label}" for label, n in counts.items()]
    return configs[0].model_copy(
        update={
            "system": f"fusion of {' + '.join(parts)}" if name is None else name,
            "params": {"members": labels, "weights": list(shares)},
            # One that is not random has the seed 0; what varies are the others.
            "seed": max(config.seed for config in configs),
            "network_of": None,
        }
    )


def _check(members: Sequence[RunResult], keys: Sequence[str], shares: Sequence[float]) -> None:
    if len(members) < 2:
        raise ConfigError(f"{len(members)} run to fuse, expected at least two; name another run")
    if len(set(keys)) < len(keys):
        twice = next(i for i, key in enumerate(keys) if key in keys[:i])
        raise ConfigError(f"'{members[twice].path}' is there twice; name each run once")
    if len(shares) != len(members):
        raise ConfigError(f"{len(shares)} weights for {len(members)} runs; give one for each")
    years = {member.record.year for member in members}
    if len(years) > 1:
        raise RunError(f"runs of the years {sorted(years)} cannot be fused; give runs of one year")


def _check_clips(members: Sequence[RunResult], tables: Sequence[pd.DataFrame], what: str) -> None:
    clip = ["machine", "section", "clip"]
    for member, table in zip(members, tables, strict=True):
        if not table[clip].equals(tables[0][clip]):
            raise RunError(
                f"'{member.path}' and '{members[0].path}' {what} other clips; only runs on the "
                "same clips can be fused"
            )
