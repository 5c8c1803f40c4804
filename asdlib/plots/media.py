"""Players, tables and sentences for notebooks, with numbers that come from results."""

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from asdlib.errors import DataError
from asdlib.features import FrontEnd


def listen(recordings: dict[str, str | Path]) -> Any:
    """Show audio players in a row, each with its name.

    Parameters
    ----------
    recordings
        Name → WAV file.

    Raises
    ------
    DataError
        If a file does not exist.
    """
    from IPython.display import HTML

    if not recordings:
        return HTML("<p><em>This profile starts from features: there is nothing to hear.</em></p>")
    players = []
    for name, path in recordings.items():
        if not Path(path).is_file():
            raise DataError(f"no recording at '{path}'; run the data notebook first")
        data = base64.b64encode(Path(path).read_bytes()).decode()
        label = html.escape(name)
        players.append(
            '<figure style="display:inline-block;margin:0.3em 1em 0.6em 0">'
            f"<figcaption>{label}</figcaption>"
            f'<audio controls preload="metadata" aria-label="{label}" '
            f'src="data:audio/wav;base64,{data}"></audio></figure>'
        )
    return HTML("".join(players))


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
