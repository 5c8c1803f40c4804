"""A synthetic corpus: what it is made of, its clips, and the files that it is written to.

Every clip has its own random streams, keyed by (seed, layout, machine, section, split, domain,
label, index). The fault is not part of the key: the same clip with another severity, band or SNR is
the same machine in the same room at the same moment.

``OUT/<machine>/{train,test}/*.wav`` (16 kHz, mono, PCM16), after 2020 also
``OUT/<machine>/attributes_SS.csv``; ``OUT/synthetic.csv`` is the clip table with the truth,
``OUT/synthetic.json`` what the corpus was made from. The bytes depend on the spec only.

The *first-shot* layouts, 2023 to 2026, have one section a machine, in which one of the conditions
shifts, and one target clip to 99 source clips in training. Since 2024 half of the machines hide
their attributes. In 2025 ``OUT/<machine>/supplemental`` holds the machine without noise, or the
noise without the machine. In 2026 there are two channels, a near and a far microphone.
"""

import json
import os
import wave
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from asdlib.data.clips import COLUMNS, clip_table
from asdlib.data.naming import Clip
from asdlib.data.synthetic.faults import BANDS, CAUSES, apply_fault
from asdlib.data.synthetic.machines import MACHINES, OperatingPoint
from asdlib.data.synthetic.rooms import Conditions, draw_conditions, record
from asdlib.data.synthetic.signals import RATE, generator
from asdlib.errors import ConfigError, DataError, shorten
from asdlib.files import is_taken, only_process, remove_left, whole_folder

_SINCE_2022 = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
LAYOUT_MACHINES = {
    "dcase2020": ("ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"),
    **{f"dcase{year}": _SINCE_2022 for year in range(2022, 2027)},
}
"""Machine types of the official development sets; each layout accepts only its own. Those of 2026
are not known to us and stand for themselves."""

HIDDEN = _SINCE_2022[::2]
"""Machine types whose attributes are hidden since 2024."""

CLEAN = _SINCE_2022[:3]
"""Machine types whose supplemental clips are the machine without noise; else the noise alone."""

TRUTH, SPEC = "synthetic.csv", "synthetic.json"

TRUTH_COLUMNS = (*COLUMNS, "cause", "kind", "severity", "band", "speed", "load")
"""Columns of the table: the clip table and what only a generator can know (`ClipPlan`)."""

VERSION = 2
"""Raised with every change of the generator that changes samples."""

PARTS_DB = 2.0
"""Standard deviation of the level of each part of a machine from clip to clip (dB)."""

FULL_SCALE = 32767
_WAV_HEADER = 44  # bytes

Count = Annotated[int, Field(ge=1, le=10_000)]


class SyntheticSpec(BaseModel, frozen=True, extra="forbid"):
    """Everything that decides the bytes of a synthetic corpus."""

    layout: Literal[
        "dcase2020", "dcase2022", "dcase2023", "dcase2024", "dcase2025", "dcase2026"
    ] = Field("dcase2020", description="official layout")
    machines: tuple[str, ...] | None = Field(
        None, min_length=1, description="machine types of the layout; by default six of them"
    )
    n_sections: int = Field(
        3, ge=1, le=6, description="IDs (2020) or sections of each machine; first-shot layouts: 1"
    )
    n_train: Count = Field(50, ge=2, description="normal training clips of a section")
    n_test_normal: Count = Field(20, description="normal test clips of a section")
    n_test_anomaly: Count = Field(20, description="anomalous test clips of a section")
    shift: Literal["mild", "hard"] = Field("mild", description="shift of domain (not in 2020)")
    target_share: float | None = Field(
        None,
        gt=0,
        lt=0.5,
        description="target clips in training: 1 in 5, hard 1 in 25, first-shot 1 in 100",
    )
    seconds: float = Field(10.0, ge=1.0, le=60.0, description="length of a clip in s")
    snr_db: float = Field(6.0, ge=-30, le=40, description="machine over factory noise, in dB")
    variation: float = Field(1.0, ge=0, le=3, description="scale of variation between normal clips")
    severity: tuple[float, float] = Field(
        (0.4, 1.0), description="range of the severity of anomalies, 0 (none) … 1, drawn uniformly"
    )
    band: Literal["natural", "low", "mid", "high"] = Field(
        "natural", description="frequency band in which anomalies are heard"
    )
    causes: tuple[str, ...] | None = Field(
        None, description="causes of anomaly, by default all that a machine can have"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the clips, not of the machines")

    @property
    def machine_names(self) -> tuple[str, ...]:
        """Machine types of the corpus, sorted."""
        default = set(LAYOUT_MACHINES[self.layout])
        if self.layout != "dcase2020":
            default -= {"slider"}
        return tuple(sorted(set(self.machines or default)))

    @property
    def year(self) -> int:
        """Year of the layout."""
        return int(self.layout.removeprefix("dcase"))

    @property
    def first_shot(self) -> bool:
        """Whether the layout is one of the first-shot task."""
        return self.year >= 2023

    @property
    def channels(self) -> int:
        """Channels of a file: since 2026 the near and the far microphone."""
        return 1 + (self.year == 2026)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains of the layout."""
        return ("source",) if self.layout == "dcase2020" else ("source", "target")

    def sections(self, machine: str) -> tuple[str, ...]:
        """Sections of a machine type: first those of the development set, then the others."""
        order = ("00", "02", "04", "06", "01", "03")
        if self.first_shot:
            return ("00",)
        if self.layout == "dcase2022":
            order = ("00", "01", "02", "03", "04", "05")
        elif machine in ("ToyCar", "ToyConveyor"):
            order = ("01", "02", "03", "04", "05", "06")
        return order[: self.n_sections]

    def causes_of(self, machine: str) -> tuple[str, ...]:
        """Causes of anomaly of a machine type in this corpus."""
        own = MACHINES[machine].causes
        return own if self.causes is None else tuple(c for c in own if c in self.causes)

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = LAYOUT_MACHINES[self.layout]
        if strange := sorted(set(self.causes or ()) - set(CAUSES)):
            raise ValueError(f"unknown cause '{strange[0]}' (known: {', '.join(CAUSES)})")
        for machine in self.machine_names:
            if machine not in known:
                raise ValueError(
                    f"machine '{machine}' is not in layout {self.layout} (known: "
                    f"{', '.join(known)})"
                )
            if not self.causes_of(machine):
                own = ", ".join(MACHINES[machine].causes)
                raise ValueError(
                    f"machine '{machine}' has none of the causes given (its own: {own})"
                )
        low, high = self.severity
        if not 0 <= low <= high <= 1:
            raise ValueError(f"severity {low:g} … {high:g} is not an ascending range within 0 … 1")
        if len(self.domains) == 2 and (self.n_test_normal % 2 or self.n_test_anomaly % 2):
            raise ValueError(
                f"{self.n_test_normal} normal and {self.n_test_anomaly} anomalous test clips "
                "cannot be halved between source and target; use even numbers"
            )
        return self


SPECS = {
    "smoke": SyntheticSpec(
        machines=("fan", "valve"), n_sections=2, n_train=10, n_test_normal=6, n_test_anomaly=6,
        seconds=2.0,
    ),
    "classroom": SyntheticSpec(seconds=4.0),
}  # fmt: skip
"""Corpora of the profiles, in the 2020 layout."""


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """A clip of the corpus and the truth about it."""

    clip: Clip
    """The record, with the file name and the path relative to the corpus."""
    part: str
    """What is heard: "both", or in a supplemental clip the "machine" or the "noise" alone."""
    cause: str
    """Cause of the anomaly, empty for a normal clip."""
    severity: float
    """0 for a normal clip."""
    band: str
    """Band of the anomaly, empty for a normal clip."""
    conditions: Conditions
    """Speed and load of the healthy machine, microphone, noises."""


def _key(spec: SyntheticSpec, clip: Clip) -> tuple[object, ...]:
    """Return the key of the clip's random streams."""
    place = (clip.machine, clip.section, clip.split, clip.domain, clip.label, clip.index)
    return (spec.seed, spec.layout, *place)


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
    """Draw what is true of a clip, name, conditions, cause and severity; see `render_clip`."""
    splits = {"train": ("normal",), "test": ("normal", "anomaly")}
    extra = split == "supplemental" and spec.year == 2025
    if extra:
        splits[split], domain = ("",), ""
    for what, value, known in (
        ("machine", machine, spec.machine_names),
        ("section", section, spec.sections(machine)),
        ("split", split, tuple(splits)),
        ("label", label, splits.get(split, ())),
        ("domain", domain, ("",) if extra else spec.domains),
    ):
        if value not in known:
            raise ConfigError(
                f"{what} '{value}' is not in this synthetic corpus (known: {', '.join(known)})"
            )
    place = (spec.year, "development", split, machine, section, domain, label)
    clip = Clip("", *place, index, "", "")
    key = _key(spec, clip)
    number = _SINCE_2022.index(machine) if spec.first_shot else int(section)
    values = spec.shift if domain == "target" else "source"
    rng = generator(*key, "conditions")
    conditions = draw_conditions(rng, spec.layout, machine, number, values, spec.variation)
    said, part = conditions.attributes, "both"
    name = f"{label}_id_{section}_{index:08d}.wav"
    if spec.year >= 2024 and machine in HIDDEN:
        said = "noAttribute"
    if spec.year >= 2022:
        name = f"section_{section}_{domain}_{split}_{label}_{index:04d}_{said}.wav"
    if extra:
        part = "machine" if machine in CLEAN else "noise"
        name, said = f"section_{section}_{part}_{index:04d}.wav", f"kind_{part}"
    path = f"{machine}/{split}/{name}"
    clip = replace(clip, clip=name, attributes=said, path=path)
    if label != "anomaly":
        return ClipPlan(clip, part, "", 0.0, "", conditions)
    causes = spec.causes_of(machine)
    severity = float(generator(*key, "severity").uniform(*spec.severity))
    return ClipPlan(clip, part, causes[index % len(causes)], severity, spec.band, conditions)


def plan_corpus(spec: SyntheticSpec) -> list[ClipPlan]:
    """List all clips of a corpus, in the order of the clip table."""
    share = len(spec.domains)
    default = 0.01 if spec.first_shot else {"mild": 0.2, "hard": 0.04}[spec.shift]
    part = spec.target_share or default
    n_target = max(1, round(part * spec.n_train)) if share == 2 else 0
    in_train = {"source": spec.n_train - n_target, "target": n_target}
    first = int(spec.year == 2024)  # that year counts from 1
    plans = [
        plan_clip(spec, machine, section, split, label, index + first, domain=domain)
        for machine in spec.machine_names
        for section in spec.sections(machine)
        for domain in spec.domains
        for split, label, count in (
            ("train", "normal", in_train[domain]),
            ("test", "normal", spec.n_test_normal // share),
            ("test", "anomaly", spec.n_test_anomaly // share),
        )
        for index in range(count)
    ]
    if spec.year == 2025:
        plans += [
            plan_clip(spec, machine, "00", "supplemental", "", index)
            for machine in spec.machine_names
            for index in range(-(-spec.n_train // 10))
        ]
    return sorted(plans, key=lambda p: (p.clip.machine, p.clip.section, p.clip.split, p.clip.clip))


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
        The clip. The index may lie beyond the corpus.
    cause, severity, band
        Override the fault of the clip, also of a normal one; by default what the corpus says.

    Returns
    -------
    numpy.ndarray
        (S,), or (S, 2) in layout dcase2026, float32 within -1 … 1, on the steps of 16-bit PCM.

    Raises
    ------
    ConfigError
        If there is no such clip, cause, severity or band.
    """
    plan = plan_clip(spec, machine, section, split, label, index, domain=domain)
    fault: dict[str, Any] = {"cause": cause, "severity": severity, "band": band or spec.band}
    plan = replace(plan, **{key: value for key, value in fault.items() if value is not None})
    if plan.cause and plan.cause not in CAUSES:
        raise ConfigError(f"unknown cause '{plan.cause}' (known: {', '.join(CAUSES)})")
    if plan.band and plan.band not in (*BANDS, "natural"):
        raise ConfigError(f"unknown band '{plan.band}' (known: natural, {', '.join(BANDS)})")
    if not 0 <= plan.severity <= 1:
        raise ConfigError(f"severity {plan.severity:g} is not within 0 … 1")
    return (_pcm16(spec, plan) / np.float32(FULL_SCALE + 1)).astype(np.float32)


def _pcm16(spec: SyntheticSpec, plan: ClipPlan) -> NDArray[np.int16]:
    """Make one clip, (S,) or (S, 2) 16-bit PCM."""
    clip, conditions = plan.clip, plan.conditions
    key, model = _key(spec, clip), MACHINES[clip.machine]
    point = OperatingPoint(conditions.speed, conditions.load, spread_db=PARTS_DB * spec.variation)
    streams = generator(*key, "machine")
    healthy = model.sound(model.identity(clip.section), point, streams, round(spec.seconds * RATE))
    sound = healthy.audio
    if plan.cause and plan.severity > 0:
        fault = (plan.cause, plan.severity, plan.band)
        sound = apply_fault(model, clip.section, *fault, point, healthy, key)
    audio = record(
        sound,
        float(np.mean(healthy.audio**2)),
        clip.machine,
        clip.section,
        conditions,
        snr_db=spec.snr_db,
        variation=spec.variation,
        rng=generator(*key, "scene"),
        part=plan.part,
        far=spec.channels == 2,
    )
    return np.asarray(np.rint(audio * FULL_SCALE), dtype="<i2")


def write_corpus(
    spec: SyntheticSpec,
    out: str | Path,
    *,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Write a corpus, or return its table if it is there already.

    Parameters
    ----------
    spec
        What to make.
    out
        Folder to make.
    jobs
        Threads, by default one per processor; NumPy and SciPy release Python's lock.
    on_progress
        Called as ``on_progress(done, total)``, in clips.

    Returns
    -------
    pandas.DataFrame
        Columns `TRUTH_COLUMNS`, in the order of the clip table. ``cause``, ``kind`` (of the cause)
        and ``band`` are empty and ``severity`` is 0 for normal clips.

    Raises
    ------
    DataError
        If ``out`` holds something else or another corpus, another process writes it, or the disk
        is full. Nothing half-written is left.
    """
    # model_copy(update=…) does not validate.
    spec = SyntheticSpec.model_validate(spec.model_dump())
    target = Path(out).absolute()
    with only_process(target, DataError, "writing"):
        plans = plan_corpus(spec)
        # The clip table sorts its rows as the plans are.
        table = clip_table(plan.clip for plan in plans).assign(
            cause=[plan.cause for plan in plans],
            kind=[CAUSES[plan.cause].kind if plan.cause else "" for plan in plans],
            severity=[round(plan.severity, 6) for plan in plans],
            band=[plan.band for plan in plans],
            speed=[round(plan.conditions.speed, 6) for plan in plans],
            load=[round(plan.conditions.load, 6) for plan in plans],
        )
        texts = _texts(spec, table)
        if is_taken(target):
            _check_existing(spec, target, table, texts)
            return table
        remove_left(target)
        with whole_folder(target, DataError) as folder:
            for place in {(folder / path).parent for path in table["path"]}:
                place.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
            on_progress(0, len(plans))
            pool = ThreadPoolExecutor(jobs or os.cpu_count())
            try:
                written = pool.map(partial(_write_clip, spec, folder), plans)
                for done, _ in enumerate(written, start=1):
                    on_progress(done, len(plans))
            finally:
                pool.shutdown(cancel_futures=True)
    return table


def _write_clip(spec: SyntheticSpec, folder: Path, plan: ClipPlan) -> None:
    with wave.open(str(folder / plan.clip.path), "wb") as sink:
        sink.setparams((spec.channels, 2, RATE, 0, "NONE", ""))
        sink.writeframes(_pcm16(spec, plan).tobytes())


def _texts(spec: SyntheticSpec, table: pd.DataFrame) -> dict[str, str]:
    """Return what stands beside the clips, path → text: spec, truth, attributes of each section."""
    # The default list of machines is written out, so that both ways to say it are the same corpus.
    said = spec.model_copy(update={"machines": spec.machine_names}).model_dump(mode="json")
    described = {"generator": VERSION, "sample_rate": RATE, "spec": said}
    texts = {
        SPEC: json.dumps(described, indent=2, ensure_ascii=False) + "\n",
        TRUTH: table.to_csv(index=False, lineterminator="\n"),
    }
    told = table[(table["attributes"] != "noAttribute") & (table["split"] != "supplemental")]
    for (machine, section), part in told.groupby(["machine", "section"]):
        if spec.layout == "dcase2020":
            break
        words = part["attributes"].str.split("_", expand=True)
        words.columns = [f"d{n // 2 + 1}{'pv'[n % 2]}" for n in range(words.shape[1])]
        words.insert(0, "file_name", part["path"])
        name = f"{machine}/attributes_{section}.csv"
        texts[name] = words.to_csv(index=False, lineterminator="\n")
    return texts


def _check_existing(
    spec: SyntheticSpec, target: Path, table: pd.DataFrame, texts: dict[str, str]
) -> None:
    """Refuse what is not this corpus, whole."""
    way_out = "remove it or choose another folder"
    for name, text in texts.items():
        try:
            found = (target / name).read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise DataError(f"'{target}' exists and is no synthetic corpus; {way_out}") from None
        for old, new in zip_longest(found.split("\n"), text.split("\n"), fillvalue="nothing"):
            if old != new:
                was, now = (shorten(line.strip(" ,"), 60) for line in (old, new))
                raise DataError(
                    f"'{target}' holds another synthetic corpus, or '{name}' was changed ({was} "
                    f"instead of {now}); {way_out}"
                )
    size = _WAV_HEADER + 2 * spec.channels * round(spec.seconds * RATE)
    lost = [p for p in table["path"] if not (f := target / p).is_file() or f.stat().st_size != size]
    if lost:
        raise DataError(
            f"'{target}' lacks {len(lost)} of its {len(table)} clips, or they were changed, first "
            f"'{lost[0]}'; {way_out}"
        )


def read_truth(folder: str | Path) -> pd.DataFrame:
    """Read the table of a corpus as `write_corpus` returned it."""
    types: dict[Hashable, str] = dict.fromkeys(TRUTH_COLUMNS, "object")
    types |= {"year": "int64", "index": "int64"}
    types |= dict.fromkeys(("severity", "speed", "load"), "float64")
    return pd.read_csv(Path(folder) / TRUTH, dtype=types, keep_default_na=False)
