"""A normal and an anomalous clip of each machine, to eye and ear.

Shapes: F mel bins, T frames.
"""

from typing import Any

import numpy as np
import pandas as pd

from asdlib.data.synthetic import CAUSES, read_truth
from asdlib.features import FeatureStore
from asdlib.plots.sound import Card, log_mel_to_audio, say, show_cards
from asdlib.study import Study


def listening_cards(study: Study, machine: str) -> Any:
    """Show a normal and an anomalous test clip of a machine, to eye and ear.

    Of two layouts that have the machine the earlier one is taken; without any, a sentence says so.

    Where recordings are at hand they are played; a study that starts from features plays what
    `log_mel_to_audio` makes of them. Of synthetic anomalies the most severe one of the section is
    taken; what it is, is folded away below it.
    """
    years = [y for y in study.profile.years if machine in set(study.store(y).manifest["machine"])]
    if not years:
        return say(f"*The profile `{study.profile.name}` has no {machine}.*")
    year = years[0]
    store = study.store(year)
    manifest = store.manifest
    test = manifest[(manifest["machine"] == machine) & (manifest["split"] == "test")]
    anomalous = set(test.loc[test["label"] == "anomaly", "section"])
    test = test[test["section"] == sorted(anomalous or set(test["section"]))[0]]
    cards = {}
    for label in ("normal", "anomaly"):
        rows = test[test["label"] == label]
        if not len(rows):
            continue
        number, note = int(rows.index[0]), ""
        if label == "anomaly" and study.profile.source == "synthetic":
            number, note = _most_severe(study, year, rows)
        log_mel = whole_clip(store, number)
        if study.profile.source == "store":
            sound: Any = log_mel_to_audio(log_mel, store)
        else:
            sound = study.recordings(year) / rows.loc[number, "path"]
        cards[f"{machine} {rows.loc[number, 'section']}, {label}"] = Card(log_mel, sound, note)
    return show_cards(cards, store)


def whole_clip(store: FeatureStore, number: int) -> np.ndarray:
    """One clip of a store without padding, shape (F, T), float32."""
    clip: np.ndarray = store.features[number, :, : store.frames[number]].astype(np.float32)
    return clip


def _most_severe(study: Study, year: int, rows: pd.DataFrame) -> tuple[int, str]:
    """Give the number of the most severe anomaly of some rows, and what its generator knows."""
    truth = read_truth(study.recordings(year)).set_index("path").loc[rows["path"]]
    place = int(truth["severity"].to_numpy().argmax())
    told = truth.iloc[place]
    summary = CAUSES[told["cause"]].summary
    note = f"{told['cause']}: {summary}. Severity {told['severity']:.2f} of 1."
    return int(rows.index[place]), note
