"""Every figure of the book: one visual language, units on every axis, colour-blind safe.

``style`` sets fonts, sizes and colours; ``spectrograms`` draws what goes in, ``steps`` the
augmentation block, ``learning`` pairs and loss, ``networks`` what is trained, ``results`` what
comes out; ``media`` makes players and tables for notebooks, ``cards`` spectrograms with sound,
``resynthesis`` the sound of a spectrogram, ``threshold`` the figure whose threshold moves,
``calibration`` how hard the synthetic machines are, ``conditions`` where each step helps,
``covariances`` what the sections of a machine type share.
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
from asdlib.plots.differences import (
    plot_differences,
    plot_premise,
    plot_systems,
    save_figure,
)
from asdlib.plots.learning import (
    batch_of,
    loss_landmarks,
    pair_counts,
    plot_pairs,
    plot_temperature,
)
from asdlib.plots.machines import describe_machine, hear_machine, machine_ranges, plot_bands
from asdlib.plots.media import glue, listen, preset_table, say, table
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
from asdlib.plots.resynthesis import log_mel_to_audio
from asdlib.plots.spectrograms import (
    plot_augmentation_steps,
    plot_examples,
    plot_front_ends,
    plot_view_difference,
    plot_views,
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
from asdlib.plots.style import apply_style
from asdlib.plots.threshold import explore_threshold

apply_style()

__all__ = [
    "apply_style",
    "band_importance",
    "batch_of",
    "calibration_table",
    "calibration_verdict",
    "compare_backends",
    "compare_covariances",
    "corpus_table",
    "describe_machine",
    "drift",
    "encoder_table",
    "explore_threshold",
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
    "plot_embeddings",
    "plot_examples",
    "plot_front_ends",
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
    "table",
    "trained_system",
    "untrained",
    "zoomed_share",
]
