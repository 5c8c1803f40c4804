"""Players, tables and sentences for notebooks, with numbers that come from results."""

import base64
import html
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile
from matplotlib.figure import Figure
from PIL import Image

from asdlib.errors import DataError
from asdlib.features import FrontEnd
from asdlib.plots.style import unit_name

CARDS = (
    "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(15rem,100%),1fr));"
    "gap:0.8rem;margin:0.6rem 0"
)
CARD = "margin:0;max-width:22rem;min-width:0"
"""Inline, so that cards lie side by side in a notebook as well, where no style sheet is."""


def listen(recordings: Mapping[str, str | Path | np.ndarray], *, rate: int = 16000) -> Any:
    """Show audio players in a row, each with its name.

    Parameters
    ----------
    recordings
        Name → WAV file, or samples (S,) within −1 … 1.
    rate
        Sample rate of the samples in Hz.

    Raises
    ------
    DataError
        If a file does not exist.
    """
    from IPython.display import HTML

    if not recordings:
        return HTML("<p><em>This profile starts from features: there is nothing to hear.</em></p>")
    players = [
        f'<figure class="asd-card" style="{CARD}"><figcaption>{html.escape(name)}</figcaption>'
        f"{player(recording, name, rate=rate)}</figure>"
        for name, recording in recordings.items()
    ]
    return HTML(f'<div class="asd-cards" style="{CARDS}">{"".join(players)}</div>')


def player(recording: str | Path | np.ndarray, name: str, *, rate: int = 16000) -> str:
    """Write an audio player as HTML; the sound is in it, without loss, as FLAC.

    Raises
    ------
    DataError
        If a file does not exist.
    """
    if isinstance(recording, np.ndarray):
        samples = recording
    elif Path(recording).is_file():
        samples, rate = soundfile.read(recording, dtype="float32")
    else:
        raise DataError(f"no recording at '{recording}'; run the data notebook first")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<audio controls preload="metadata" aria-label="{html.escape(name)}" '
        f'style="width:100%" src="data:audio/flac;base64,{data}"></audio>'
    )


def picture(figure: Figure, alt: str) -> str:
    """Write a figure as an HTML image at twice its size, and close it."""
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
    """Show a table without its index: numbers rounded, metrics under the names that prose uses."""
    from IPython.display import HTML

    def number(value: float) -> str:
        return f"{value:.{digits}f}".replace("-", "−")

    text = data.rename(columns=shown_name).to_html(
        index=False, border=0, classes="table", justify="left", float_format=number, na_rep="–"
    )
    # What scrolls has to be reached by the keyboard as well.
    region = 'tabindex="0" role="region" aria-label="Table"'
    return HTML(f'<div style="overflow-x:auto" {region}>{text}</div>')


METRICS = {"auc": "AUC", "pauc": "pAUC", "mauc": "mAUC"}


def shown_name(column: Any) -> str:
    """Name of a column for readers: ``auc_source (%)`` becomes ``AUC source (%)``."""
    metric, *rest = re.split(r"(?=[_ ])", str(column), maxsplit=1)
    if metric not in METRICS:
        return str(column)
    return METRICS[metric] + "".join(rest).replace("_", " ")


def show_html(text: str) -> Any:
    """Show HTML."""
    from IPython.display import HTML

    return HTML(text)


def say(text: str) -> Any:
    """Show a sentence, written with numbers that the notebook has computed, as Markdown."""
    from IPython.display import Markdown

    return Markdown(text)


def glue(**values: Any) -> None:
    """Keep values under a name, so that prose takes its numbers from them.

    A text cell shows them as ``{glue:text}`name:.1f``` when the book is rendered. Where no
    book can be rendered, because myst-nb is not installed, nothing happens.
    """
    try:
        from myst_nb import glue as keep
    except ImportError:
        return
    for name, value in values.items():
        # A number of NumPy's would be written as np.float64(…), which no format can read.
        keep(name, value.item() if isinstance(value, np.generic) else value, display=False)


def preset_table(presets: Mapping[str, FrontEnd]) -> pd.DataFrame:
    """One row a parameter, one column a preset; what a preset does not know is empty."""
    columns = {name: front_end.describe() for name, front_end in presets.items()}
    table = pd.DataFrame(columns).map(_parameter_text)
    return table.rename_axis("parameter").reset_index()


def _parameter_text(value: Any) -> str:
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1 else f"{value:g}"
    return "–" if value is None else unit_name(value)
