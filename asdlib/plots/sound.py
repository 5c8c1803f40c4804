"""What a notebook shows besides figures: sound, cards of a spectrogram with its sound, text.

A log-mel spectrogram keeps neither the phase nor the fine structure within a mel bin, so the sound
made from it is a likeness: pitch, rhythm and timbre are right, noise sounds a little watery. Two
spectrograms resynthesised in the same way can be compared by ear.

Shapes: F mel bins, K linear frequencies, T frames, S samples.
"""

import base64
import html
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile
import torch
from matplotlib.figure import Figure
from PIL import Image
from torchaudio.functional import griffinlim

from asdlib.features import FeatureStore, FrontEnd
from asdlib.features.logmel import mel_filters
from asdlib.plots.figures import common_limits, draw_log_mel, parameters_of, unit_of

# Inline, so that cards lie side by side in a notebook as well, where no style sheet is.
_CARDS = (
    "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(15rem,100%),1fr));"
    "gap:0.8rem;margin:0.6rem 0"
)
_CARD = "margin:0;max-width:22rem;min-width:0"
_CARD_SIZE = (3.3, 2.2)
_UPDATES = 60
_SMALLEST = 1e-12
_METRICS = {"auc": "AUC", "pauc": "pAUC", "mauc": "mAUC"}


def log_mel_to_audio(
    log_mel: np.ndarray,
    source: FeatureStore | FrontEnd,
    *,
    iterations: int = 32,
    peak: float | None = 0.7,
) -> np.ndarray:
    """Find samples whose log-mel spectrogram is close to the given one.

    Mel power is spread over linear frequencies by multiplicative updates, which keep it positive;
    the phase is estimated by the algorithm of Griffin and Lim from a phase of zero, so that equal
    input gives equal sound.

    Parameters
    ----------
    log_mel
        Log-mel spectrogram in the unit of the front end, shape (F, T).
    source
        Front end that made it, or a store of that front end.
    iterations
        Rounds of phase estimation.
    peak
        Largest absolute sample of the result; None keeps the level.

    Returns
    -------
    ndarray
        Samples within −1 … 1 if `peak` is given, shape (S,), float32.

    Notes
    -----
    D. Lee and H. Seung, "Algorithms for non-negative matrix factorization", NIPS 2000; D. Griffin
    and J. Lim, "Signal estimation from modified short-time Fourier transform", IEEE Trans. ASSP
    32(2), 1984.
    """
    front_end = parameters_of(source)
    values = torch.from_numpy(np.asarray(log_mel, dtype=np.float32))
    mel = values.exp() if front_end.unit == "neper" else torch.pow(10.0, values / 10.0)
    samples = griffinlim(
        _linear_power(mel, mel_filters(front_end)),
        window=torch.hann_window(front_end.n_fft),
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        win_length=front_end.n_fft,
        power=front_end.power,
        n_iter=iterations,
        momentum=0.99,
        length=None,
        rand_init=False,
    ).numpy()
    if peak is not None:
        samples = samples * (peak / max(float(np.abs(samples).max()), _SMALLEST))
    out: np.ndarray = samples.astype(np.float32)
    return out


def _linear_power(mel: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """Spread mel power (F, T) over linear frequencies (K, T) by filters (K, F)."""
    spread = filters @ mel
    linear: torch.Tensor = spread.clamp(min=_SMALLEST)
    gram = filters @ filters.T
    for _ in range(_UPDATES):
        linear = linear * spread / (gram @ linear).clamp(min=_SMALLEST)
    return linear


def player(recording: str | Path | np.ndarray, name: str, *, rate: int = 16000) -> str:
    """Write an audio player as HTML that contains the sound as lossless FLAC.

    `recording` is a WAV file, or samples (S,) within −1 … 1 at `rate` Hz; `name` is read aloud.
    """
    samples = recording
    if not isinstance(recording, np.ndarray):
        samples, rate = soundfile.read(recording, dtype="float32")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<audio controls preload="metadata" aria-label="{html.escape(name)}" '
        f'style="width:100%" src="data:audio/flac;base64,{data}"></audio>'
    )


def listen(recordings: Mapping[str, str | Path | np.ndarray]) -> Any:
    """Show audio players side by side, each with its name; see `player`."""
    if not recordings:
        return show_html("<p><em>This profile starts from features: nothing to hear.</em></p>")
    return _show_cards([_card(name, player(sound, name)) for name, sound in recordings.items()])


@dataclass(frozen=True)
class Card:
    """A spectrogram with its sound.

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
    sound: str | Path | np.ndarray | None = None
    note: str = ""


def show_cards(
    cards: Mapping[str, Card],
    source: FeatureStore | FrontEnd,
    *,
    unit: str | None = None,
    limits: tuple[float, float] | None = None,
) -> Any:
    """Show cards, by title, side by side on one colour scale.

    Axes and, by default, the unit of the colours are those of `source`, a feature store or a front
    end; the ends of the colour scale are by default those of all cards together.
    """
    limits = limits or common_limits([card.log_mel for card in cards.values()])
    parts = []
    for title, card in cards.items():
        figure, axes = plt.subplots(figsize=_CARD_SIZE)
        image = draw_log_mel(axes, card.log_mel, source, limits=limits)
        figure.colorbar(image, ax=axes, pad=0.02, aspect=14).set_label(unit or unit_of(source))
        alt = f"Log-mel spectrogram, {title}: time in seconds, frequency in kHz"
        content = picture(figure, alt)
        if card.sound is not None:
            content += player(card.sound, title)
        if card.note:
            note = html.escape(card.note)
            content += f"<details><summary>What is it?</summary>{note}</details>"
        parts.append(_card(title, content))
    return _show_cards(parts)


def _card(title: str, content: str) -> str:
    caption = f"<figcaption>{html.escape(title)}</figcaption>"
    return f'<figure class="asd-card" style="{_CARD}">{caption}{content}</figure>'


def _show_cards(parts: list[str]) -> Any:
    return show_html(f'<div class="asd-cards" style="{_CARDS}">{"".join(parts)}</div>')


def picture(figure: Figure, alt: str) -> str:
    """Write a figure as an HTML image at twice its resolution, and close it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=2 * figure.dpi)
    plt.close(figure)
    # 256 colours are all that a spectrogram has, and a third of the size.
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True
    )
    data = base64.b64encode(small.getvalue()).decode()
    width = round(figure.get_size_inches()[0] * figure.dpi)
    return (
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" width="{width}" '
        'style="max-width:100%;height:auto">'
    )


def table(data: pd.DataFrame, *, digits: int = 1) -> Any:
    """Show a table without its index: numbers rounded, metrics under the names of the text."""

    def number(value: float) -> str:
        return f"{value:.{digits}f}".replace("-", "−")

    text = data.rename(columns=_shown_name).to_html(
        index=False, border=0, classes="table", justify="left", float_format=number, na_rep="–"
    )
    # What scrolls has to be reached by the keyboard as well.
    region = 'tabindex="0" role="region" aria-label="Table"'
    return show_html(f'<div style="overflow-x:auto" {region}>{text}</div>')


def _shown_name(column: Any) -> str:
    """Return a column's name for readers: ``auc_source (%)`` becomes ``AUC source (%)``."""
    metric, *rest = re.split(r"(?=[_ ])", str(column), maxsplit=1)
    if metric not in _METRICS:
        return str(column)
    return _METRICS[metric] + "".join(rest).replace("_", " ")


def show_html(text: str) -> Any:
    """Show HTML."""
    from IPython.display import HTML

    return HTML(text)


def say(text: str) -> Any:
    """Show a sentence with numbers that the notebook has computed, as Markdown."""
    from IPython.display import Markdown

    return Markdown(text)


def glue(**values: Any) -> None:
    """Keep values under a name, so that the text takes its numbers from them.

    A text cell shows them as ``{glue:text}`name:.1f``` when the book is rendered. Without
    myst-nb, which renders it, nothing happens.
    """
    try:
        from myst_nb import glue as keep
    except ImportError:
        return
    for name, value in values.items():
        # A NumPy number would be written as np.float64(…), which no format can read.
        keep(name, value.item() if isinstance(value, np.generic) else value, display=False)
