"""Labels and domains for scores: from file names or from ground truth, always joined by name.

The official evaluators join by sorted order, so wrong names pass there in silence; here they are
errors. Ground truth is the authority where it has the clip; a file name that says otherwise is
refused.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from asdlib.data.ground_truth import (
    join_ground_truth,
    read_ground_truth_2020,
    read_ground_truth_2022,
)
from asdlib.data.naming import clip_key, parse_name
from asdlib.errors import DataError, ScoreError
from asdlib.evaluation.metrics import check_year


def _parsed(df: pd.DataFrame, year: int) -> pd.DataFrame:
    try:
        clips = [
            parse_name(clip, machine=machine, split="test", year=year)
            for machine, clip in zip(df["machine"], df["clip"], strict=True)
        ]
    except DataError as error:
        raise ScoreError(str(error)) from None
    out = df.copy()
    out["label"] = [clip.label for clip in clips]
    out["domain"] = [clip.domain for clip in clips]
    wrong = [c for c, s in zip(clips, df["section"], strict=True) if c.section != s]
    if wrong:
        raise ScoreError(
            f"clip '{wrong[0].clip}' of '{wrong[0].machine}' stands in another section than its "
            f"name says ('{wrong[0].section}'); correct the section"
        )
    return out


def read_truth(path: str | Path, year: int) -> pd.DataFrame:
    """Read ground truth: the list CSV for 2020, a folder like the official evaluator's later.

    Returns
    -------
    DataFrame
        ``machine``, ``section``, ``clip``, ``label`` and, from 2021 on, ``domain``.

    Raises
    ------
    ScoreError
        The path is not ground truth of ``year``.
    """
    try:
        if check_year(year) == 2020:
            truth = read_ground_truth_2020(path)
            truth["section"] = [
                parse_name(clip, machine=machine, split="test", year=2020).section
                for machine, clip in zip(truth["machine"], truth["clip"], strict=True)
            ]
        else:
            truth = read_ground_truth_2022(path)
    except DataError as error:
        raise ScoreError(f"ground truth of {year}: {error}") from None
    return truth


def label_scores(
    scores: pd.DataFrame, year: int, ground_truth: str | Path | pd.DataFrame | None = None
) -> pd.DataFrame:
    """Add the columns ``label`` and ``domain`` to scores.

    Parameters
    ----------
    scores : ``machine``, ``section``, ``clip``, ``anomaly_score`` or ``decision``
    year : 2020 to 2026
    ground_truth
        Path for :func:`read_truth`, or what it returned. None: the file names say all, as in the
        development set. Clips whose names hold a label need no ground truth.

    Returns
    -------
    DataFrame
        A copy with ``label`` and ``domain``.

    Raises
    ------
    ScoreError
        A name without a label and no ground truth for it; clips of a section that are in the
        scores but not in the ground truth or the reverse; a name that contradicts the truth.
    """
    out = _parsed(scores, check_year(year))
    if ground_truth is not None:
        if isinstance(ground_truth, pd.DataFrame):
            truth = ground_truth
        else:
            truth = read_truth(ground_truth, year)
        _check_names(out, truth)
        try:
            out = join_ground_truth(out, truth)
        except DataError as error:
            raise ScoreError(str(error)) from None
    bare = out.loc[out["label"] == ""]
    if not bare.empty:
        first = bare.iloc[0]
        raise ScoreError(
            f"clip '{first['clip']}' of '{first['machine']}' has no label in its name; "
            "give the ground truth of the evaluation set"
        )
    return out


def _check_names(named: pd.DataFrame, truth: pd.DataFrame) -> None:
    """Refuse names that say a label or domain other than the ground truth."""
    columns = [c for c in ("label", "domain") if c in truth.columns]
    left = named.assign(key=named["clip"].map(clip_key))
    right = truth.assign(key=truth["clip"].map(clip_key))[["machine", "key", *columns]]
    both = left.merge(right, on=["machine", "key"], suffixes=("", "_true"))
    for column in columns:
        clash = both.loc[(both[column] != "") & (both[column] != both[f"{column}_true"])]
        if not clash.empty:
            first = clash.iloc[0]
            raise ScoreError(
                f"clip '{first['clip']}' of '{first['machine']}' says {column} "
                f"'{first[column]}', the ground truth '{first[f'{column}_true']}'; "
                "give the ground truth of this set"
            )
