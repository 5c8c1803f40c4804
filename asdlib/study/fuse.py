"""Score fusion of finished runs: several systems, or several seeds of one, as one run.

Every run's scores are brought to mean 0 and deviation 1 over the held-out scores of the normal
training clips of the section, then averaged. Neither test scores nor labels enter. The result is
the folder of a run, with held-out scores of its own: it can be evaluated, compared, decided upon
and fused again.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from asdlib.errors import ConfigError, RunError, ScoreError
from asdlib.evaluation import label_scores, read_score_folder
from asdlib.study.comparison import check_label, label_of
from asdlib.study.config import RunConfig
from asdlib.study.held_out import held_out, write_held_out
from asdlib.study.result import Member, RunResult, Seconds, load_run
from asdlib.study.run import find_or_make, write_run
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
    """Fuse the scores of runs on the same test clips; equal weights by default.

    `name` is that of the fused system in tables, by default made of its members. For `train` and
    `folds` see `asdlib.study.held_out.held_out`.

    Raises
    ------
    ConfigError
        If there are fewer than two runs, the same twice, or not a weight for each.
    RunError
        If the runs do not score the same clips, or were not trained on the same ones.
    """
    members = [load_run(run) for run in runs]
    records = [member.record for member in members]
    keys = [record.key for record in records]
    shares = [1.0] * len(members) if weights is None else list(weights)
    if name is not None:
        check_label(name)
    if len(members) < 2:
        raise ConfigError(f"{len(members)} run to fuse, expected at least two; name another run")
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise ConfigError(f"'{members[number].path}' is there twice; name each run once")
    if len(shares) != len(members):
        raise ConfigError(f"{len(shares)} weights for {len(members)} runs; give one for each")
    years = {record.year for record in records}
    if len(years) > 1:
        raise RunError(f"runs of the years {sorted(years)} cannot be fused; give runs of one year")
    year = years.pop()
    tests = [read_score_folder(member.path, year) for member in members]
    trains = [held_out(member, train, folds=folds) for member in members]
    for what, tables in (("score", tests), ("are trained on", trains)):
        clips = [table[["machine", "section", "clip"]] for table in tables]
        for member, own in zip(members, clips, strict=True):
            if not own.equals(clips[0]):
                raise RunError(
                    f"'{member.path}' and '{members[0].path}' {what} other clips; only runs on the "
                    "same clips can be fused"
                )
    labels = [label_of(record.config) for record in records]
    config = _config([record.config for record in records], labels, shares, name)
    content = config.model_dump(mode="json", exclude={"network_of"})
    key = hashlib.sha256(json.dumps([content, keys], sort_keys=True).encode()).hexdigest()

    def make(folder: Path) -> None:
        scores = fuse_scores(tests, trains, shares)
        try:
            scores = label_scores(scores, year)
        except ScoreError:
            # Clips of an evaluation set carry no label: scores without metrics, as for any run.
            scores = scores.assign(label="", domain="")
        write_held_out(fuse_scores(trains, trains, shares), folder)
        write_run(
            folder,
            scores,
            key=key,
            config=config,
            members=tuple(
                Member(
                    run=member.path.absolute().name,
                    key=member.record.key,
                    system=label,
                    seed=member.record.config.seed,
                    weight=weight,
                )
                for member, label, weight in zip(members, labels, shares, strict=True)
            ),
            train=records[0].train,
            test=records[0].test,
            year=year,
            seconds=Seconds(
                fit=sum(record.seconds.fit for record in records),
                score=sum(record.seconds.score for record in records),
            ),
        )

    return find_or_make(Path(out), key, make)


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


def _config(
    configs: Sequence[RunConfig], labels: Sequence[str], shares: Sequence[float], name: str | None
) -> RunConfig:
    """Return the configuration of the fused run; that of all seeds of a fusion is the same."""
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
