"""What several pages draw or show: one visual language, units on every axis, colour-blind safe.

``style`` sets fonts, sizes and colours. ``spectrogram`` draws log-mels, ``sound`` makes players,
cards and tables for notebooks and resynthesises spectrograms, ``intervals`` draws means and
differences with whiskers, ``roc`` ROC curves. What one page alone draws stands in that page.
"""

from asdlib.plots.intervals import draw_whiskers, plot_effects, save_figure
from asdlib.plots.roc import draw_roc
from asdlib.plots.sound import (
    Card,
    glue,
    listen,
    log_mel_to_audio,
    say,
    show_cards,
    show_html,
    table,
)
from asdlib.plots.spectrogram import STANDARDISED, draw_log_mel, mel_ticks, plot_log_mels, unit_of
from asdlib.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LABEL_COLOURS,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WIDTH,
    apply_style,
    colour_of,
)

apply_style()

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "LABEL_COLOURS",
    "ORANGE",
    "PURPLE",
    "SKY",
    "STANDARDISED",
    "VERMILION",
    "WIDTH",
    "Card",
    "apply_style",
    "colour_of",
    "draw_log_mel",
    "draw_roc",
    "draw_whiskers",
    "glue",
    "listen",
    "log_mel_to_audio",
    "mel_ticks",
    "plot_effects",
    "plot_log_mels",
    "save_figure",
    "say",
    "show_cards",
    "show_html",
    "table",
    "unit_of",
]
