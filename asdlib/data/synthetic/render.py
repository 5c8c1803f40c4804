"""One clip: from its place in the corpus to samples.

Every clip has its own random streams, keyed by (seed, machine, section, split, domain, label,
index). The fault is not part of the key: the same clip with another severity, band or SNR is the
same machine in the same room at the same moment.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asdlib.data.naming import Clip, format_name
from asdlib.data.synthetic.anomalies import BANDS, CAUSES, apply_fault
from asdlib.data.synthetic.domains import draw_conditions
from asdlib.data.synthetic.machine import OperatingPoint
from asdlib.data.synthetic.machines import MACHINES
from asdlib.data.synthetic.scene import Recording, record
from asdlib.data.synthetic.signals import RATE, generator
from asdlib.data.synthetic.spec import SyntheticSpec
from asdlib.errors import ConfigError

FULL_SCALE = 32767


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """A clip of the corpus and the truth about it.

    Attributes
    ----------
    clip : Clip
        The record, with the file name and the path relative to the corpus.
    cause : str
        Cause of the anomaly, ``""`` for a normal clip.
    severity : float
        0 for a normal clip.
    band : str
        Band of the anomaly, ``""`` for a normal clip.
    speed, load : float
        Operating point of the healthy machine.
    """

    clip: Clip
    cause: str
    severity: float
    band: str
    speed: float
    load: float


def clip_key(
    spec: SyntheticSpec,
    machine: str,
    section: str,
    split: str,
    label: str,
    index: int,
    domain: str,
) -> tuple[object, ...]:
    """Key of a clip's random streams."""
    return (spec.seed, spec.layout, machine, section, split, domain, label, index)


def plan_clip(
    spec: SyntheticSpec,
    machine: str,
    section: str,
    split: str,
    label: str,
    index: int,
    *,
    domain: str = "source",
) -> ClipPlan:
    """Draw what is true of a clip: its name, conditions, cause and severity.

    Raises
    ------
    ConfigError
        If the corpus has no such machine, section, split, label or domain.
    """
    domains = ("source",) if spec.layout == "dcase2020" else ("source", "target")
    allowed: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("machine", machine, spec.machine_names),
        ("section", section, spec.sections(machine) if machine in MACHINES else ()),
        ("split", split, ("train", "test")),
        ("label", label, ("normal",) if split == "train" else ("normal", "anomaly")),
        ("domain", domain, domains),
    )
    for what, value, known in allowed:
        if value not in known:
            raise ConfigError(
                f"{what} '{value}' is not in this synthetic corpus (known: {', '.join(known)})"
            )
    key = clip_key(spec, machine, section, split, label, index, domain)
    conditions = draw_conditions(
        generator(*key, "conditions"), spec.layout, machine, section, domain, spec.variation
    )
    cause, severity, band = "", 0.0, ""
    if label == "anomaly":
        causes = spec.causes_of(machine)
        cause = causes[index % len(causes)]
        severity = float(generator(*key, "severity").uniform(*spec.severity))
        band = spec.band
    clip = Clip(
        clip="",
        year=2020 if spec.layout == "dcase2020" else 2022,
        subset="development",
        split=split,
        machine=machine,
        section=section,
        domain=domain,
        label=label,
        index=index,
        attributes=conditions.attributes,
        path="",
    )
    return ClipPlan(_named(clip), cause, severity, band, conditions.speed, conditions.load)


def _named(clip: Clip) -> Clip:
    name = format_name(clip)
    return replace(clip, clip=name, path=f"{clip.machine}/{clip.split}/{name}")


def render_parts(
    spec: SyntheticSpec,
    machine: str,
    section: str,
    split: str,
    label: str,
    index: int,
    *,
    domain: str = "source",
    cause: str | None = None,
    severity: float | None = None,
    band: str | None = None,
) -> Recording:
    """Make one clip and keep the machine and the background apart; see `render_clip`."""
    plan = plan_clip(spec, machine, section, split, label, index, domain=domain)
    cause = plan.cause if cause is None else cause
    severity = plan.severity if severity is None else severity
    band = (plan.band or spec.band) if band is None else band
    if cause and cause not in CAUSES:
        raise ConfigError(f"unknown cause '{cause}' (known: {', '.join(CAUSES)})")
    if band not in (*BANDS, "natural"):
        raise ConfigError(f"unknown band '{band}' (known: natural, {', '.join(BANDS)})")
    if not 0 <= severity <= 1:
        raise ConfigError(f"severity {severity:g} is not within 0 … 1")
    key = clip_key(spec, machine, section, split, label, index, domain)
    n = round(spec.seconds * RATE)
    model = MACHINES[machine]
    identity = model.identity(section)
    conditions = draw_conditions(
        generator(*key, "conditions"), spec.layout, machine, section, domain, spec.variation
    )
    point = OperatingPoint(conditions.speed, conditions.load, spread_db=spec.variation)
    healthy = model.sound(identity, point, generator(*key, "machine"), n)
    sound = healthy.audio
    if cause and severity > 0:
        sound = apply_fault(model, identity, section, cause, severity, band, point, healthy, key)
    return record(
        sound,
        float(np.mean(healthy.audio**2)),
        machine,
        section,
        conditions,
        snr_db=spec.snr_db,
        variation=spec.variation,
        rng=generator(*key, "scene"),
    )


def render_clip(
    spec: SyntheticSpec,
    machine: str,
    section: str,
    split: str,
    label: str,
    index: int,
    *,
    domain: str = "source",
    cause: str | None = None,
    severity: float | None = None,
    band: str | None = None,
) -> NDArray[np.float32]:
    """Make the samples of one clip, exactly those of the corpus' file.

    Parameters
    ----------
    spec
        The corpus.
    machine, section, split, label, index, domain
        The clip. The index may lie beyond the corpus: there is no end of clips.
    cause, severity, band
        Override the fault of the clip, also of a normal one; by default what the corpus says.

    Returns
    -------
    numpy.ndarray
        (S,) float32 within -1 … 1, on the steps of 16-bit PCM.

    Raises
    ------
    ConfigError
        If there is no such clip, cause or band.
    """
    parts = render_parts(
        spec,
        machine,
        section,
        split,
        label,
        index,
        domain=domain,
        cause=cause,
        severity=severity,
        band=band,
    )
    return (quantise(parts.audio) / np.float32(FULL_SCALE + 1)).astype(np.float32)


def quantise(audio: NDArray[np.float64]) -> NDArray[np.int16]:
    """Round samples of full scale 1 to 16-bit PCM."""
    return np.asarray(np.rint(audio * FULL_SCALE), dtype=np.int16)
