"""Held-out scores of normal training clips, and the thresholds and decisions that they allow.

The training clips of each section and domain are divided into folds; each fold is scored by a
system that was fitted on the others. The contrastive system keeps its network, which has seen all
folds, and fits only its back-end again, so that its held-out scores are still a little low.

The threshold of a section is a quantile of a gamma distribution fitted to its held-out scores; the
official baselines fit it to the scores of the very clips that the model was trained on, which are
too low. One threshold serves both domains, as the domain of a test clip is not known.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from asdlib.errors import RunError, ScoreError
from asdlib.evaluation import evaluate, label_scores, read_score_folder, write_score_folder
from asdlib.features import FeatureStore, Rows
from asdlib.files import check_named, is_taken, write_text
from asdlib.study.config import system_class
from asdlib.study.result import RunResult, all_files, load_run, write_table
from asdlib.study.run import training_rows
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
            threshold = gamma_threshold(part["anomaly_score"].to_numpy(), quantile)
        except RunError as error:
            raise RunError(f"{machine} {section}: {error}") from None
        rows.append((machine, section, len(part), threshold))
    return pd.DataFrame(rows, columns=[*_SECTION, "clips", "threshold"])


def _check_quantile(quantile: float) -> None:
    if not 0 < quantile < 1:
        raise RunError(f"quantile {quantile:g} is not allowed, expected between 0 and 1")


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
