"""What several pages draw or show: one visual language, units on every axis, colour-blind safe.

``style`` sets fonts, sizes and colours. ``spectrogram`` draws log-mels, ``sound`` makes players,
cards and tables for notebooks and resynthesises spectrograms, ``intervals`` draws means and
differences with whiskers, ``roc`` ROC curves. What one page alone draws stands in that page.
"""

from asdlib.plots.calibration import (
    calibration_table,
    calibration_verdict,
    corpus_table,
    plot_calibration,
)
from asdlib.plots.cards import listening_cards
from asdlib.plots.conditions import plot_conditions
from asdlib.plots.differences import plot_differences, plot_premise, plot_systems
from asdlib.plots.intervals import draw_whiskers, plot_effects, save_figure
from asdlib.plots.machines import describe_machine, hear_machine, machine_ranges, plot_bands
from asdlib.plots.results import plot_ablation, plot_comparison, plot_domains, plot_roc
from asdlib.plots.roc import draw_roc
from asdlib.plots.sound import (
    Card,
    front_end_of,
    glue,
    listen,
    log_mel_to_audio,
    say,
    show_cards,
    show_html,
    table,
)
from asdlib.plots.spectrogram import (
    STANDARDISED,
    common_limits,
    draw_log_mel,
    mel_ticks,
    plot_log_mels,
    unit_of,
)
from asdlib.plots.spectrograms import plot_examples, plot_front_ends, preset_table
from asdlib.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LABEL_COLOURS,
    ORANGE,
    PALETTE,
    PURPLE,
    SKY,
    VERMILION,
    WIDTH,
    apply_style,
    colour_of,
    marker_of,
)
from asdlib.plots.threshold import explore_threshold

apply_style()

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "LABEL_COLOURS",
    "ORANGE",
    "PALETTE",
    "PURPLE",
    "SKY",
    "STANDARDISED",
    "VERMILION",
    "WIDTH",
    "Card",
    "apply_style",
    "calibration_table",
    "calibration_verdict",
    "colour_of",
    "common_limits",
    "corpus_table",
    "describe_machine",
    "draw_log_mel",
    "draw_roc",
    "draw_whiskers",
    "explore_threshold",
    "front_end_of",
    "glue",
    "hear_machine",
    "listen",
    "listening_cards",
    "log_mel_to_audio",
    "machine_ranges",
    "marker_of",
    "mel_ticks",
    "plot_ablation",
    "plot_bands",
    "plot_calibration",
    "plot_comparison",
    "plot_conditions",
    "plot_differences",
    "plot_domains",
    "plot_effects",
    "plot_examples",
    "plot_front_ends",
    "plot_log_mels",
    "plot_premise",
    "plot_roc",
    "plot_systems",
    "preset_table",
    "save_figure",
    "say",
    "show_cards",
    "show_html",
    "table",
    "unit_of",
]
