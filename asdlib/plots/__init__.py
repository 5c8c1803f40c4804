"""Every figure of the book: one visual language, units on every axis, colour-blind safe.

``style`` sets fonts, sizes and colours; ``spectrograms`` draws what goes in, ``results`` what comes
out; ``media`` makes players and tables for notebooks.
"""

from asdlib.plots.machines import describe_machine, hear_machine, machine_ranges, plot_bands
from asdlib.plots.media import listen, preset_table, say, table
from asdlib.plots.results import (
    plot_ablation,
    plot_comparison,
    plot_domains,
    plot_roc,
    plot_scores,
    plot_training,
)
from asdlib.plots.spectrograms import (
    plot_augmentation_steps,
    plot_examples,
    plot_front_ends,
    plot_view_difference,
    plot_views,
)
from asdlib.plots.style import apply_style

apply_style()

__all__ = [
    "apply_style",
    "describe_machine",
    "hear_machine",
    "listen",
    "machine_ranges",
    "plot_ablation",
    "plot_augmentation_steps",
    "plot_bands",
    "plot_comparison",
    "plot_domains",
    "plot_examples",
    "plot_front_ends",
    "plot_roc",
    "plot_scores",
    "plot_training",
    "plot_view_difference",
    "plot_views",
    "preset_table",
    "say",
    "table",
]
