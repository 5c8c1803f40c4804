"""Pages about the synthetic machines: their equations, their faults, how they look and sound.

S samples, F mel bins, T frames.
"""

import inspect
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from asdlib.data.synthetic import CAUSES, MACHINES, SPECS, SyntheticSpec, render_clip
from asdlib.errors import ConfigError
from asdlib.features import PRESETS, LogMel
from asdlib.plots.sound import listen, say
from asdlib.plots.spectrogram import draw_log_mel
from asdlib.plots.style import WIDTH

_ONLY_2022 = ("ToyTrain", "bearing", "gearbox")


def describe_machine(machine: str) -> Any:
    """Show the equations of a machine model and the causes of its anomalies, as Markdown."""
    model = _model(machine)
    lines = [inspect.cleandoc(model.model.__doc__ or ""), "", "Anomalies of this machine:", ""]
    for name in model.causes:
        cause = CAUSES[name]
        low, high = (hz / 1000 for hz in cause.natural_hz)
        lines.append(f"- **{name}** ({low:g} … {high:g} kHz by nature): {cause.summary}.")
    return say("\n".join(lines).replace("``", "`"))


def machine_ranges(machine: str) -> pd.DataFrame:
    """Constants of an ID of a machine type and the ranges that they are drawn from."""
    model = _model(machine)
    rows = [(name, low, high) for name, (low, high) in model.ranges.items()]
    return pd.DataFrame(rows, columns=["constant", "from", "to"])


def plot_bands(machine: str, *, severity: float = 1.0, seconds: float = 4.0) -> Figure:
    """Draw one clip of a machine healthy, and with its first fault in each frequency band."""
    front_end = PRESETS["dcase2020"]
    clips = {"healthy": _clip(machine, None, severity, seconds)}
    for band in ("low", "mid", "high"):
        clips[f"{_model(machine).causes[0]}, {band}"] = _clip(machine, band, severity, seconds)
    transform = LogMel(front_end)
    figure, grid = plt.subplots(2, 2, figsize=(WIDTH, 4.2), sharex=True, sharey=True)
    pictures = {name: transform(torch.from_numpy(x)[None])[0].numpy() for name, x in clips.items()}
    values = np.concatenate(list(pictures.values()), axis=1)
    limits = float(np.percentile(values, 1)), float(np.percentile(values, 99.8))
    for axes, (name, picture) in zip(grid.flat, pictures.items(), strict=True):
        image = draw_log_mel(
            axes,
            picture,
            front_end,
            limits=limits,
        )
        axes.set_title(name)
    for axes in grid[1]:
        axes.set_xlabel("time (s)")
    figure.supylabel("frequency (kHz)", fontsize=10)
    figure.colorbar(image, ax=grid, pad=0.01, aspect=30).set_label("dB")
    return figure


def hear_machine(machine: str, *, severity: float = 1.0, seconds: float = 2.0) -> Any:
    """Show players of one clip, healthy and with each of the machine's faults."""
    players: dict[str, Any] = {"healthy": _clip(machine, None, severity, seconds)}
    for cause in _model(machine).causes:
        players[cause] = _clip(machine, "natural", severity, seconds, cause)
    return listen({f"{machine}, {name}": samples for name, samples in players.items()})


def _clip(
    machine: str, band: str | None, severity: float, seconds: float, cause: str | None = None
) -> np.ndarray:
    """One test clip of the first section, shape (S,); healthy if `band` is None."""
    spec = _spec(machine, seconds)
    section = spec.sections(machine)[0]
    if band is None:
        return render_clip(spec, machine, section, "test", "normal", 0)
    fault = cause or _model(machine).causes[0]
    return render_clip(
        spec, machine, section, "test", "normal", 0, cause=fault, severity=severity, band=band
    )


def _spec(machine: str, seconds: float) -> SyntheticSpec:
    changes: dict[str, Any] = {"seconds": seconds, "machines": (machine,)}
    if machine in _ONLY_2022:
        changes["layout"] = "dcase2022"
    return SPECS["classroom"].model_copy(update=changes)


def _model(machine: str) -> Any:
    if machine not in MACHINES:
        raise ConfigError(f"unknown synthetic machine '{machine}' (known: {', '.join(MACHINES)})")
    return MACHINES[machine]
