"""Pictures of log-mel spectrograms: clips, front ends, the augmentation step by step.

Shapes: F mel bins, T frames, V views.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asdlib.features import FeatureStore, FrontEnd
from asdlib.plots.spectrogram import draw_log_mel
from asdlib.plots.style import (
    WIDTH,
    unit_name,
)


def plot_examples(store: FeatureStore, machines: Sequence[str] | None = None) -> Figure:
    """Draw a normal and an anomalous test clip of each machine type, same section, same scale."""
    manifest = store.manifest
    machines = list(machines or sorted(set(manifest["machine"])))
    figure, grid = plt.subplots(
        len(machines),
        2,
        figsize=(WIDTH, 1.0 + 1.45 * len(machines)),
        sharex="row",
        sharey=True,
        squeeze=False,
    )
    for machine, pair in zip(machines, grid, strict=True):
        _draw_pair(store, machine, pair)
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    figure.supylabel("frequency (kHz)", fontsize=10)
    return figure


def _draw_pair(store: FeatureStore, machine: str, pair: Sequence[Axes]) -> None:
    manifest = store.manifest
    test = manifest[(manifest["machine"] == machine) & (manifest["split"] == "test")]
    section = sorted(set(test.loc[test["label"] == "anomaly", "section"]) or set(test["section"]))[
        0
    ]
    test = test[test["section"] == section]
    rows = {label: test.index[test["label"] == label] for label in ("normal", "anomaly")}
    clips = {
        label: store.features[index[0], :, : store.frames[index[0]]].astype(np.float32)
        for label, index in rows.items()
        if len(index)
    }
    together = np.concatenate(list(clips.values()), axis=1)
    limits = float(np.percentile(together, 1)), float(np.percentile(together, 99.8))
    image = None
    for axes, (label, clip) in zip(pair, clips.items(), strict=False):
        image = draw_log_mel(
            axes,
            clip,
            store,
            limits=limits,
        )
        axes.set_title(f"{machine} {section}, {label}")
    if image is not None:
        bar = pair[0].figure.colorbar(image, ax=list(pair), pad=0.01, aspect=12)
        bar.set_label(unit_name(store.front_end.get("unit", "dB")))


def plot_front_ends(log_mels: Mapping[str, tuple[np.ndarray, Any]]) -> Figure:
    """Draw one clip under several front ends.

    Parameters
    ----------
    log_mels
        Name → spectrogram (F, T) and its `FrontEnd`.
    """
    figure, grid = plt.subplots(len(log_mels), 1, figsize=(WIDTH, 2.1 * len(log_mels)))
    for axes, (name, (log_mel, front_end)) in zip(
        np.atleast_1d(grid), log_mels.items(), strict=True
    ):
        image = draw_log_mel(
            axes,
            log_mel,
            front_end,
        )
        axes.set_title(f"{name}: {log_mel.shape[0]} mel bins × {log_mel.shape[1]} frames")
        axes.set_ylabel("frequency (kHz)")
        figure.colorbar(image, ax=axes, pad=0.01).set_label(unit_name(front_end.unit))
    axes.set_xlabel("time (s)")
    return figure


def preset_table(presets: Mapping[str, FrontEnd]) -> pd.DataFrame:
    """One row a parameter, one column a preset; what a preset does not know is empty."""
    columns = {name: front_end.describe() for name, front_end in presets.items()}
    table = pd.DataFrame(columns).map(_parameter_text)
    return table.rename_axis("parameter").reset_index()


def _parameter_text(value: Any) -> str:
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1 else f"{value:g}"
    return "–" if value is None else unit_name(value)
