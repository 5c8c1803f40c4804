"""Players, tables and sentences for notebooks, with numbers that come from results."""

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from asdlib.errors import DataError
from asdlib.features import FrontEnd


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
    players = []
    for name, recording in recordings.items():
        data = base64.b64encode(_wav_bytes(recording, rate)).decode()
        label = html.escape(name)
        players.append(
            '<figure style="display:inline-block;margin:0.3em 1em 0.6em 0">'
            f"<figcaption>{label}</figcaption>"
            f'<audio controls preload="metadata" aria-label="{label}" '
            f'src="data:audio/wav;base64,{data}"></audio></figure>'
        )
    return HTML("".join(players))


def _wav_bytes(recording: str | Path | np.ndarray, rate: int) -> bytes:
    if isinstance(recording, np.ndarray):
        buffer = io.BytesIO()
        soundfile.write(buffer, recording, rate, format="WAV", subtype="PCM_16")
        return buffer.getvalue()
    if not Path(recording).is_file():
        raise DataError(f"no recording at '{recording}'; run the data notebook first")
    return Path(recording).read_bytes()


def table(data: pd.DataFrame, *, digits: int = 1) -> Any:
    """Show a table without its index, numbers rounded, metrics between 0 and 1 as they stand."""
    from IPython.display import HTML

    text = data.to_html(
        index=False,
        border=0,
        classes="table",
        justify="left",
        float_format=lambda value: f"{value:.{digits}f}",
        na_rep="–",
    )
    return HTML(f'<div style="overflow-x:auto">{text}</div>')


def say(text: str) -> Any:
    """Show a sentence, written with numbers that the notebook has computed, as Markdown."""
    from IPython.display import Markdown

    return Markdown(text)


def preset_table(presets: Mapping[str, FrontEnd]) -> pd.DataFrame:
    """One row a parameter, one column a preset."""
    columns = {name: front_end.describe() for name, front_end in presets.items()}
    table = pd.DataFrame(columns).astype(str)
    return table.rename_axis("parameter").reset_index()
