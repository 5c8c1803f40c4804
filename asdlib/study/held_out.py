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
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from asdlib.errors import ConfigError, RunError, ScoreError
from asdlib.evaluation import evaluate, label_scores, read_score_folder, write_score_folder
from asdlib.features import FeatureStore, Rows
from asdlib.files import check_named, is_taken, write_text
from asdlib.study.comparison import check_label, label_of
from asdlib.study.config import RunConfig, system_class
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
COLUMNS = [*_SECTION, "clip", "domain", "anomaly_score"]


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
        If the scores are damaged, or not there and no store is given or another one.
    """
    path = run.path / HELD_OUT
    if path.is_file() and folds in (None, _said(run.path / FOLDS, "folds")):
        return _read(path, run.record.train.clips)
    if run.record.members is not None:
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
    folds = folds or 5
    rows = training_rows(_training_store(run, train), run.record.config.machines)
    detector = system_class(run.record.config.system).load(run.path / "model")
    scores = _scores_of_folds(detector, rows, folds)
    # Should it be cut between the two, the scores count as made with an unknown number.
    (run.path / FOLDS).unlink(missing_ok=True)
    written = write_held_out(rows.manifest.assign(anomaly_score=scores), run.path)
    write_text(run.path / FOLDS, json.dumps({"folds": folds, "seed": 0}) + "\n")
    return written


def check_folds(detector: System[Any], rows: Rows, folds: int) -> None:
    """Refuse a number of folds that leaves a section too few clips, before a long training.

    A fit on the section that keeps fewest, the network untrained, shows it in a second.
    """
    from asdlib.method.backends import divide

    keys = section_keys(rows.manifest)
    fold = divide(keys, rows.manifest["domain"].to_numpy(dtype=object), folds=folds)
    kept = [(keys == key) & (fold != number) for key in set(keys) for number in set(fold)]
    few = rows.select(min(kept, key=np.count_nonzero))
    try:
        if not len(few):
            raise RunError("a section has a single training clip")
        if detector.name in ("contrastive", "statistics"):
            params = detector.params.model_dump()
            untrained = {"epochs": 0} if "epochs" in params else {}
            type(detector)(seed=detector.seed, **params | untrained).fit(few)
    except RunError as error:
        raise RunError(f"held-out scores of {folds} folds cannot be made: {error}") from None


def write_held_out(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write ``held_out.csv`` into the folder of a run, sorted by clip; return what was written."""
    ordered = table[COLUMNS].sort_values(COLUMNS[:3], ignore_index=True)
    write_table(ordered, folder / HELD_OUT)
    return ordered


def _said(file: Path, key: str) -> Any:
    """Return what a JSON file beside a run says, None if it does not."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _read(path: Path, clips: int) -> pd.DataFrame:
    types: dict[Any, Any] = {**dict.fromkeys(COLUMNS, str), "anomaly_score": np.float64}
    try:
        table: pd.DataFrame = pd.read_csv(
            path, dtype=types, keep_default_na=False, float_precision="round_trip"
        )
        if list(table) != COLUMNS or not np.isfinite(table["anomaly_score"]).all():
            raise ValueError(f"columns or scores are not {', '.join(COLUMNS)} with finite scores")
        different = len(table.drop_duplicates(COLUMNS[:3]))
        if not len(table) == different == clips:
            raise ValueError(f"{different} clips in {len(table)} lines, expected {clips}")
    except PermissionError as error:
        raise RunError(
            f"'{path}' cannot be read ({error.strerror}); check its permissions"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"'{path}' is damaged ({reason}); delete it and name the training store (--train STORE)"
        ) from error
    return table


def _training_store(run: RunResult, train: str | Path) -> FeatureStore:
    store = FeatureStore.open(train)
    expected = run.record.config.train_fingerprint
    if store.fingerprint != expected:
        raise RunError(
            f"'{run.path}' was not trained on '{train}' ({store.fingerprint[:12]}, expected "
            f"{expected[:12]}); name the store that it was trained on"
        )
    return store


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
    path: Path
    """Folder of the decision files."""


def thresholds(normal: pd.DataFrame, quantile: float) -> pd.DataFrame:
    """Return the threshold of each section from its `held_out` scores: ``Decisions.thresholds``.

    Raises
    ------
    RunError
        If `quantile` is not between 0 and 1, or the scores give no gamma distribution.
    """
    from asdlib.baselines import gamma_threshold

    _check_quantile(quantile)
    rows = []
    for (machine, section), part in normal.groupby(_SECTION):
        try:
            threshold = gamma_threshold(np.sort(part["anomaly_score"]), quantile)
        except RunError as error:
            raise RunError(f"{machine} {section}: {error}") from None
        rows.append((machine, section, len(part), threshold))
    return pd.DataFrame(rows, columns=[*_SECTION, "clips", "threshold"])


def _check_quantile(quantile: float) -> None:
    if not 0 < quantile < 1:
        raise RunError(f"quantile {quantile} is not allowed, expected between 0 and 1")


def decide_run(
    run: str | Path,
    *,
    quantile: float = 0.9,
    out: str | Path | None = None,
    train: str | Path | None = None,
    folds: int | None = None,
) -> Decisions:
    """Set thresholds from normal clips only, write the official decision files, evaluate them.

    `quantile` is the share of normal clips to lie below the threshold. Another folder `out` than
    that of the run gets the score files, too, so that it can be evaluated. For `train` and `folds`
    see `held_out`.

    Raises
    ------
    RunError
        If score files are missing, held-out scores are lacking or of another store, or those of a
        section give no gamma distribution.
    """
    result = load_run(run)
    folder = Path(out) if out is not None else result.path
    year = result.record.year
    _check_quantile(quantile)
    check_named(folder)
    elsewhere = folder.resolve() != result.path.resolve()
    if elsewhere and is_taken(folder):
        asked = {"run": result.record.key, "quantile": quantile}
        if any(_said(folder / DECISIONS, key) != value for key, value in asked.items()):
            raise RunError(
                f"'{folder}' holds something else than decisions of this run and quantile; choose "
                "another --out or remove it"
            )
    if train is not None:
        _training_store(result, train)
    limits = thresholds(held_out(result, train, folds=folds), quantile)
    scores = read_score_folder(result.path, year)
    lacking = sorted(set(section_keys(scores)) - set(section_keys(limits)))
    if lacking:
        raise RunError(
            f"'{result.path / HELD_OUT}' has no clips of {lacking[0]}; delete it and name the "
            "training store (--train STORE)"
        )
    scores = scores.merge(limits, on=_SECTION)
    scores["decision"] = (scores["anomaly_score"] > scores["threshold"]).astype("int64")
    try:
        metrics = evaluate(label_scores(scores, year), year).decisions
    except ScoreError:
        metrics = None
    record = {
        "run": result.record.key,
        "quantile": quantile,
        "rule": "quantile of a gamma distribution fitted to held-out scores of normal clips",
        "thresholds": limits.to_dict("records"),
    }
    with all_files(folder, replace=True) as files:
        if elsewhere:
            write_score_folder(scores, files, year)
        write_score_folder(scores, files, year, "decision_result")
        write_text(files / DECISIONS, json.dumps(record, indent=2) + "\n")
    return Decisions(limits, pd.DataFrame() if metrics is None else metrics, folder)


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
    `folds` see `held_out`.

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
    config = _fused_config([record.config for record in records], labels, shares, name)
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


def _fused_config(
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
