"""Held-out scores of normal training clips, and what they allow: decisions, and fusion of runs.

The training clips of each section and domain are divided into folds; each fold is scored by a
system that was fitted on the others. The contrastive system keeps its network, which has seen all
folds, and fits only its back-end again, so that its held-out scores are still a little low.

The threshold of a section is a quantile of a gamma distribution fitted to its held-out scores; the
official baselines fit it to the scores of the very clips that the model was trained on, which are
too low. One threshold serves both domains, as the domain of a test clip is not known.

To fuse runs, several systems or several seeds of one, the scores of each are brought to mean 0 and
deviation 1 over its held-out scores of the section, then averaged. Neither test scores nor labels
enter. The result is the folder of a run, with held-out scores of its own: it can be evaluated,
compared, decided upon and fused again.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from asdlib.errors import ConfigError, RunError, ScoreError
from asdlib.evaluation import evaluate, label_scores, read_score_folder, write_score_folder
from asdlib.features import FeatureStore, Rows
from asdlib.files import read_json, reading, write_text
from asdlib.study.comparison import label_of
from asdlib.study.config import system_class
from asdlib.study.result import (
    Member,
    RunResult,
    Seconds,
    all_files,
    load_run,
    write_table,
)
from asdlib.study.run import find_or_make, training_rows, write_run
from asdlib.system import System, section_keys

HELD_OUT, FOLDS, DECISIONS = "held_out.csv", "held_out.json", "decisions.json"
_SECTION = ["machine", "section"]
_CLIP = [*_SECTION, "clip"]
COLUMNS = [*_CLIP, "domain", "anomaly_score"]


def held_out(
    run: RunResult, train: str | Path | None = None, *, folds: int | None = None
) -> pd.DataFrame:
    """Return the held-out training scores of a finished run; computed once, kept in its folder.

    The scores that are there are taken, unless they are of another number of `folds` (by default
    five) than the one asked for; then the store `train`, which the run was trained on, is needed.

    Returns
    -------
    DataFrame
        ``machine, section, clip, domain, anomaly_score``, one row for each normal training clip.

    Raises
    ------
    RunError
        If the scores are damaged, or not there and no store is given; if `train` is another store.
    """
    path, record = run.path / HELD_OUT, run.record
    store = None if train is None else FeatureStore.open(train)
    if store is not None and store.fingerprint != record.config.train_fingerprint:
        raise RunError(
            f"'{run.path}' was not trained on '{train}' ({store.fingerprint[:12]}, expected "
            f"{record.config.train_fingerprint[:12]}); name the store that it was trained on"
        )
    if path.is_file() and folds in (None, _folds_of(run)):
        return _read(path, record.train.clips)
    if record.members is not None:
        raise RunError(
            f"'{run.path}' is fused from other runs, its held-out scores come from theirs; fuse "
            "the runs again"
        )
    if store is None:
        raise RunError(
            f"'{run.path}' holds no scores of held-out training clips ({HELD_OUT}); name the store "
            "that it was trained on (--train STORE), or run it with --held-out 5"
        )
    folds = folds or 5
    rows = training_rows(store, record.config.machines)
    detector = system_class(record.config.system).load(run.path / "model")
    try:
        scores = _scores_of_folds(detector, rows, folds)
    except RunError as error:
        raise RunError(f"held-out scores of {folds} folds cannot be made: {error}") from None
    # Should it be cut between the two, the scores count as made with an unknown number.
    (run.path / FOLDS).unlink(missing_ok=True)
    written = write_held_out(rows.manifest.assign(anomaly_score=scores), run.path)
    write_text(run.path / FOLDS, json.dumps({"folds": folds, "seed": 0}) + "\n")
    return written


def _folds_of(run: RunResult) -> Any:
    with suppress(RunError, OSError):
        return read_json(run.path / FOLDS, RunError, "delete it").get("folds")


def write_held_out(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write ``held_out.csv`` into the folder of a run, sorted by clip; return what was written."""
    ordered = table[COLUMNS].sort_values(_CLIP, ignore_index=True)
    write_table(ordered, folder / HELD_OUT)
    return ordered


def _read(path: Path, clips: int) -> pd.DataFrame:
    types: dict[Any, Any] = {**dict.fromkeys(COLUMNS, str), "anomaly_score": np.float64}
    with reading(path, RunError, "delete it and name the training store (--train STORE)"):
        table: pd.DataFrame = pd.read_csv(
            path, dtype=types, keep_default_na=False, float_precision="round_trip"
        )
        if list(table) != COLUMNS or not np.isfinite(table["anomaly_score"]).all():
            raise ValueError(f"columns or scores are not {', '.join(COLUMNS)} with finite scores")
        different = len(table.drop_duplicates(_CLIP))
        if not len(table) == different == clips:
            raise ValueError(f"{different} clips in {len(table)} lines, expected {clips}")
    return table


def _scores_of_folds(detector: System[Any], rows: Rows, folds: int) -> np.ndarray:
    """Score each clip with a system fitted on the other folds, shape (N,)."""
    from asdlib.method.backends import divide, held_out_scores
    from asdlib.method.contrastive import Contrastive

    keys = section_keys(rows.manifest)
    domains = rows.manifest["domain"].to_numpy(dtype=object)
    if isinstance(detector, Contrastive):
        x = detector.embed(rows)
        return held_out_scores(detector.backend_, x, keys, domains, folds=folds)
    fold = divide(keys, domains, folds=folds)
    scores = np.empty(len(rows))
    for number in np.unique(fold):
        held = fold == number
        other = type(detector)(seed=detector.seed, **detector.params.model_dump())
        scores[held] = other.fit(rows.select(~held)).score(rows.select(held))
    return scores


class Decisions(NamedTuple):
    """Thresholds and figures of a run's decisions."""

    thresholds: pd.DataFrame
    """``machine, section, clips`` (held-out normal ones), ``threshold`` in units of the score."""
    metrics: pd.DataFrame
    """Precision, recall and F1 of each section; empty if the clips carry no labels."""


def thresholds(normal: pd.DataFrame, quantile: float) -> pd.DataFrame:
    """Return the threshold of each section from its `held_out` scores: ``Decisions.thresholds``.

    Raises a `RunError` as `asdlib.baselines.gamma_threshold` does.
    """
    from asdlib.baselines import gamma_threshold

    rows = []
    for (machine, section), part in normal.groupby(_SECTION):
        try:
            threshold = gamma_threshold(np.sort(part["anomaly_score"]), quantile)
        except RunError as error:
            raise RunError(f"{machine} {section}: {error}") from None
        rows.append((machine, section, len(part), threshold))
    return pd.DataFrame(rows, columns=[*_SECTION, "clips", "threshold"])


def decide_run(
    run: str | Path, *, quantile: float = 0.9, train: str | Path | None = None
) -> Decisions:
    """Set thresholds from normal clips only; write decisions into the run, and evaluate them.

    `quantile` is the share of normal clips to lie below the threshold; for `train` see `held_out`.

    Raises
    ------
    RunError
        If score files are missing, held-out scores are lacking or of another store, or those of a
        section give no gamma distribution.
    """
    if not 0 < quantile < 1:  # before any fold is fitted
        raise RunError(f"quantile {quantile} is not allowed, expected between 0 and 1")
    result = load_run(run)
    folder, year = result.path, result.record.year
    limits = thresholds(held_out(result, train), quantile)
    scores = read_score_folder(folder, year)
    lacking = sorted(set(section_keys(scores)) - set(section_keys(limits)))
    if lacking:
        raise RunError(
            f"'{folder / HELD_OUT}' has no clips of {lacking[0]}; delete it and name the training "
            "store (--train STORE)"
        )
    scores = scores.merge(limits, on=_SECTION)
    scores["decision"] = (scores["anomaly_score"] > scores["threshold"]).astype("int64")
    metrics = None
    with suppress(ScoreError):  # clips of an evaluation set carry no label
        metrics = evaluate(label_scores(scores, year), year).decisions
    record = {
        "run": result.record.key,
        "quantile": quantile,
        "rule": "quantile of a gamma distribution fitted to held-out scores of normal clips",
        "thresholds": limits.to_dict("records"),
    }
    with all_files(folder, replace=True) as files:
        write_score_folder(scores, files, year, "decision_result")
        write_text(files / DECISIONS, json.dumps(record, indent=2) + "\n")
    return Decisions(limits, pd.DataFrame() if metrics is None else metrics)


def fuse(
    runs: Sequence[str | Path], out: str | Path, *, train: str | Path | None = None
) -> RunResult:
    """Fuse the scores of runs on the same test clips, with equal weights.

    For `train` see `held_out`.

    Raises
    ------
    ConfigError
        If there are fewer than two runs, or the same twice.
    RunError
        If the runs do not score the same clips, or were not trained on the same ones.
    """
    members = [load_run(run) for run in runs]
    records = [member.record for member in members]
    keys = [record.key for record in records]
    if len(members) < 2:
        raise ConfigError(f"{len(members)} run to fuse, expected at least two; name another run")
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise ConfigError(f"'{members[number].path}' is there twice; name each run once")
    years = {record.year for record in records}
    if len(years) > 1:
        raise RunError(f"runs of the years {sorted(years)} cannot be fused; give runs of one year")
    year = years.pop()
    tests = [read_score_folder(member.path, year) for member in members]
    trains = [held_out(member, train) for member in members]
    for what, tables in (("score", tests), ("are trained on", trains)):
        for member, table in zip(members, tables, strict=True):
            if not table[_CLIP].equals(tables[0][_CLIP]):
                raise RunError(
                    f"'{member.path}' and '{members[0].path}' {what} other clips; only runs on the "
                    "same clips can be fused"
                )
    labels = [label_of(record.config) for record in records]
    counts = {label: labels.count(label) for label in labels}
    parts = [label if n == 1 else f"{n} × {label}" for label, n in counts.items()]
    config = records[0].config.model_copy(
        update={
            "system": f"fusion of {' + '.join(parts)}",
            "params": {"members": labels, "weights": [1.0] * len(members)},
            # One that is not random has the seed 0; what varies are the others.
            "seed": max(record.config.seed for record in records),
            "network_of": None,
        }
    )
    content = config.model_dump(mode="json", exclude={"network_of"})
    key = hashlib.sha256(json.dumps([content, keys], sort_keys=True).encode()).hexdigest()

    def make(folder: Path) -> None:
        scores = fuse_scores(tests, trains)
        try:
            scores = label_scores(scores, year)
        except ScoreError:
            # Clips of an evaluation set carry no label: scores without metrics, as for any run.
            scores = scores.assign(label="", domain="")
        write_held_out(fuse_scores(trains, trains), folder)
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
                    weight=1.0,
                )
                for member, label in zip(members, labels, strict=True)
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


def fuse_scores(tables: Sequence[pd.DataFrame], trains: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Compute the mean of the standardised scores of several systems.

    `tables` hold scores of the same clips and `trains` held-out scores of the same normal training
    clips, one table for each system; mean and deviation of a section in `trains` give the scale.
    Returns the first of `tables` with the fused scores.
    """
    fused = np.zeros(len(tables[0]))
    for number, (table, train) in enumerate(zip(tables, trains, strict=True), 1):
        normal = train.groupby(_SECTION)["anomaly_score"]
        scale = normal.agg(mean="mean", different="nunique").assign(deviation=normal.std(ddof=0))
        of_clip = table[_SECTION].join(scale, on=_SECTION)
        few = of_clip[~(of_clip["different"] > 1)]
        if len(few):
            raise RunError(
                f"fewer than two different training scores of run {number} in section "
                f"'{'/'.join(few.iloc[0][_SECTION])}' give no scale; leave this run out"
            )
        fused += (table["anomaly_score"] - of_clip["mean"]) / of_clip["deviation"]
    return tables[0].assign(anomaly_score=fused / len(tables))
