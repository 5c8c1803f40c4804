"""What several pages draw or show: one visual language, units on every axis, colour-blind safe.

``style`` sets fonts, sizes and colours. ``spectrogram`` draws log-mels, ``sound`` makes players,
cards and tables for notebooks and resynthesises spectrograms, ``intervals`` draws means and
differences with whiskers, ``roc`` ROC curves. What one page alone draws stands in that page.
"""

from asdlib.plots.batches import drift, plot_drift
from asdlib.plots.calibration import (
    calibration_table,
    calibration_verdict,
    corpus_table,
    plot_calibration,
)
from asdlib.plots.cards import listening_cards
from asdlib.plots.conditions import plot_conditions
from asdlib.plots.covariances import compare_covariances, plot_shares, share_curves
from asdlib.plots.differences import plot_differences, plot_premise, plot_systems
from asdlib.plots.intervals import draw_whiskers, plot_effects, save_figure
from asdlib.plots.learning import (
    batch_of,
    loss_landmarks,
    pair_counts,
    plot_pairs,
    plot_temperature,
)
from asdlib.plots.machines import describe_machine, hear_machine, machine_ranges, plot_bands
from asdlib.plots.networks import (
    band_importance,
    compare_backends,
    encoder_table,
    plot_band_importance,
    plot_embeddings,
    plot_similarities,
    trained_system,
    untrained,
)
from asdlib.plots.results import (
    plot_ablation,
    plot_comparison,
    plot_domains,
    plot_roc,
    plot_scores,
    plot_training,
)
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
from asdlib.plots.spectrogram import STANDARDISED, draw_log_mel, plot_log_mels, unit_of
from asdlib.plots.spectrograms import (
    plot_augmentation_steps,
    plot_examples,
    plot_front_ends,
    plot_view_difference,
    plot_views,
    preset_table,
)
from asdlib.plots.steps import (
    hear_crops,
    hear_mixing,
    make_block,
    mixing_levels,
    plot_crop_sizes,
    plot_crops,
    plot_mixing_spectra,
    plot_pre_norm,
    zoomed_share,
)
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
    "band_importance",
    "batch_of",
    "calibration_table",
    "calibration_verdict",
    "colour_of",
    "compare_backends",
    "compare_covariances",
    "corpus_table",
    "describe_machine",
    "draw_log_mel",
    "draw_roc",
    "draw_whiskers",
    "drift",
    "encoder_table",
    "explore_threshold",
    "front_end_of",
    "glue",
    "hear_crops",
    "hear_machine",
    "hear_mixing",
    "listen",
    "listening_cards",
    "log_mel_to_audio",
    "loss_landmarks",
    "machine_ranges",
    "make_block",
    "marker_of",
    "mixing_levels",
    "pair_counts",
    "plot_ablation",
    "plot_augmentation_steps",
    "plot_band_importance",
    "plot_bands",
    "plot_calibration",
    "plot_comparison",
    "plot_conditions",
    "plot_crop_sizes",
    "plot_crops",
    "plot_differences",
    "plot_domains",
    "plot_drift",
    "plot_effects",
    "plot_embeddings",
    "plot_examples",
    "plot_front_ends",
    "plot_log_mels",
    "plot_mixing_spectra",
    "plot_pairs",
    "plot_pre_norm",
    "plot_premise",
    "plot_roc",
    "plot_scores",
    "plot_shares",
    "plot_similarities",
    "plot_systems",
    "plot_temperature",
    "plot_training",
    "plot_view_difference",
    "plot_views",
    "preset_table",
    "save_figure",
    "say",
    "share_curves",
    "show_cards",
    "show_html",
    "table",
    "trained_system",
    "unit_of",
    "untrained",
    "zoomed_share",
]
