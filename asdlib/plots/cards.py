"""Cards: a spectrogram with the player of its sound below, side by side with others.

Shapes: F mel bins, T frames, S samples.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from asdlib.data.synthetic.anomalies import CAUSES
from asdlib.data.synthetic.corpus import TRUTH, read_truth
from asdlib.features import FeatureStore, FrontEnd
from asdlib.plots.media import CARD, CARDS, picture, player, say, show_html
from asdlib.plots.resynthesis import log_mel_to_audio
from asdlib.plots.spectrograms import draw_log_mel, frame_seconds
from asdlib.plots.style import unit_name
from asdlib.study import Study

SIZE = (3.3, 2.2)
"""Size of the picture of a card in inches."""


@dataclass(frozen=True)
class Card:
    """A spectrogram, what it sounds like, and what can be told about it.

    Attributes
    ----------
    log_mel
        What is drawn, shape (F, T).
    sound
        Samples (S,) or a WAV file; None for a card without a player.
    note
        A sentence that is folded away, for readers who want to guess first.
    """

    log_mel: np.ndarray
    sound: Any = None
    note: str = ""


def show_cards(
    cards: Mapping[str, Card],
    store: FeatureStore,
    *,
    unit: str | None = None,
    limits: tuple[float, float] | None = None,
) -> Any:
    """Show cards side by side, all on one colour scale.

    Parameters
    ----------
    cards
        Title → card.
    store
        Where the axes come from.
    unit
        Unit of the colours; by default that of the store.
    limits
        Ends of the colour scale; by default those of all cards together.
    """
    unit = unit or unit_name(store.front_end.get("unit", "dB"))
    values = np.concatenate([card.log_mel for card in cards.values()], axis=1)
    limits = limits or (float(np.percentile(values, 1)), float(np.percentile(values, 99.8)))
    parts = [_write(title, card, store, unit, limits) for title, card in cards.items()]
    return show_html(f'<div class="asd-cards" style="{CARDS}">{"".join(parts)}</div>')


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
            sound: Any = log_mel_to_audio(log_mel, front_end_of(store))
        else:
            sound = study.recordings(year) / rows.loc[number, "path"]
        cards[f"{machine} {rows.loc[number, 'section']}, {label}"] = Card(log_mel, sound, note)
    return show_cards(cards, store)


def front_end_of(store: FeatureStore) -> FrontEnd:
    """Front end of a store; what its description lacks has the default."""
    told = {k: v for k, v in store.front_end.items() if k in FrontEnd.model_fields}
    return FrontEnd(**told)


def whole_clip(store: FeatureStore, number: int) -> np.ndarray:
    """One clip of a store without padding, shape (F, T), float32."""
    clip: np.ndarray = store.features[number, :, : store.frames[number]].astype(np.float32)
    return clip


def _most_severe(study: Study, year: int, rows: pd.DataFrame) -> tuple[int, str]:
    """Give the number of the most severe anomaly of some rows, and what its generator knows."""
    truth = read_truth(study.recordings(year) / TRUTH).set_index("path").loc[rows["path"]]
    place = int(truth["severity"].to_numpy().argmax())
    told = truth.iloc[place]
    summary = CAUSES[told["cause"]].summary
    note = f"{told['cause']}: {summary}. Severity {told['severity']:.2f} of 1."
    return int(rows.index[place]), note


def _write(
    title: str, card: Card, store: FeatureStore, unit: str, limits: tuple[float, float]
) -> str:
    figure, axes = plt.subplots(figsize=SIZE)
    image = draw_log_mel(
        axes,
        card.log_mel,
        store.mel_frequencies(),
        seconds_a_frame=frame_seconds(store),
        limits=limits,
    )
    axes.set_xlabel("time (s)")
    axes.set_ylabel("frequency (kHz)")
    figure.colorbar(image, ax=axes, pad=0.02, aspect=14).set_label(unit)
    shown = picture(figure, f"Log-mel spectrogram, {title}: time in seconds, frequency in kHz")
    sound = "" if card.sound is None else player(card.sound, title)
    note = (
        f"<details><summary>What is it?</summary>{html.escape(card.note)}</details>"
        if card.note
        else ""
    )
    return (
        f'<figure class="asd-card" style="{CARD}"><figcaption>{html.escape(title)}</figcaption>'
        f"{shown}{sound}{note}</figure>"
    )
