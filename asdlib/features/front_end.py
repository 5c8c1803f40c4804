"""Every parameter of a log-mel front end, and the named presets.

A `FrontEnd` fixes how samples become log-mel values: frames under a window, their power spectrum,
triangular mel filters, a logarithm. There are three kinds of framing. ``stft`` is the field's usual
one: frames are centred, the window is a periodic Hann window of ``n_fft`` samples. ``kaldi`` is the
filter bank of the Kaldi toolkit, on which Audio Spectrogram Transformers are trained: frames of
25 ms every 10 ms that lie within the clip; from each its mean is removed, then come pre-emphasis, a
symmetric Hann window and zeros up to ``n_fft``; filters are triangles in mel. ``efficientat`` lies
between the two: pre-emphasis of the whole clip, which takes its first sample, then centred frames
under a symmetric Hann window of 25 ms with zeros on both sides, and Kaldi's filters.

The parameters go into the ``feature.json`` of a store, so that no system is ever given features of
another front end. This module needs no torch; the transform itself is in ``logmel``.

Shapes: F mel bins, T frames.
"""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from asdlib.errors import ConfigError, reason_of

MelScale = Literal["slaney", "htk"]
Scale = Literal[
    "10*log10(mel + eps)", "10*log10(max(mel, eps))", "ln(mel + eps)", "ln(max(mel, eps))"
]

PREEMPHASIS = 0.97
_HIGHEST_RATE = 1_000_000
_FIXED = {"window": "hann", "center": True, "layout": "clip, mel, frame"}
_EFFICIENTAT = {"window": "hann, symmetric", "preemphasis": PREEMPHASIS}
_KALDI = _EFFICIENTAT | {"center": False, "remove_mean": True}


class FrontEnd(BaseModel):
    """Parameters of a log-mel front end.

    Attributes
    ----------
    sample_rate
        Samples a second, in Hz.
    n_fft, hop_length
        Window length, an even number, and hop, in samples.
    n_mels
        Number of mel bins F.
    f_min, f_max
        Lower edge of the first and upper edge of the last mel filter, in Hz.
    power
        Exponent of the magnitude spectrum; 2 is power.
    mel_scale, norm
        Mel formula, and whether filters have equal area (``"slaney"``) or equal height (None).
    pad_mode
        What stands beyond both ends of a clip: its mirror image or zeros.
    scale, eps
        The logarithm, and the small constant that keeps it finite.
    framing
        See the head of this module; ``"kaldi"`` fixes most of the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate: int = Field(16000, gt=0, le=_HIGHEST_RATE)
    n_fft: int = Field(1024, ge=2, le=2**20, multiple_of=2)
    hop_length: int = Field(512, ge=1, le=2**20)
    n_mels: int = Field(128, ge=1, le=2**16)
    f_min: float = Field(0.0, ge=0.0)
    f_max: float = Field(8000.0, gt=0.0)
    power: float = Field(2.0, gt=0.0)
    mel_scale: MelScale = "slaney"
    norm: Literal["slaney"] | None = "slaney"
    pad_mode: Literal["reflect", "constant"] = "reflect"
    scale: Scale = "10*log10(mel + eps)"
    eps: float = Field(float(np.finfo(np.float64).eps), gt=0.0)
    framing: Literal["stft", "kaldi", "efficientat"] = "stft"

    @model_validator(mode="after")
    def _check_frequencies(self) -> Self:
        if not self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"f_min {self.f_min:g} Hz and f_max {self.f_max:g} Hz must be ascending and not "
                f"above half the sample rate ({self.sample_rate / 2:g} Hz)"
            )
        return self

    @model_validator(mode="after")
    def _check_framing(self) -> Self:
        needed: dict[str, Any] = {}
        if self.framing != "stft":
            needed = {"mel_scale": "htk", "norm": None}
            needed["n_fft"] = max(self.n_fft, 2 ** (self.win_length - 1).bit_length())
        if self.framing == "kaldi":
            needed |= {
                "n_fft": 2 ** (self.win_length - 1).bit_length(),
                "hop_length": self.sample_rate // 100,
                "power": 2.0,
                "scale": "ln(max(mel, eps))",
                "eps": float(np.finfo(np.float32).eps),
            }
        for name, value in needed.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"framing '{self.framing}' at {self.sample_rate} Hz needs {name} {value!r}, "
                    f"not {getattr(self, name)!r}"
                )
        return self

    @property
    def win_length(self) -> int:
        """Samples under the window."""
        return self.n_fft if self.framing == "stft" else self.sample_rate // 40

    @property
    def shortest(self) -> int:
        """Samples that a clip has to have."""
        if self.framing == "kaldi":
            return self.win_length
        return self.n_fft // 2 + 1 + (self.framing == "efficientat")

    @property
    def unit(self) -> str:
        """Unit of the values: ``"dB"`` for decimal, ``"neper"`` for natural logarithms."""
        return "neper" if self.scale.startswith("ln") else "dB"

    def n_frames(self, n_samples: int) -> int:
        """Count the frames T of a clip of `n_samples` samples."""
        if self.framing == "kaldi":
            return 1 + (n_samples - self.win_length) // self.hop_length
        return 1 + (n_samples - (self.framing == "efficientat")) // self.hop_length

    def mel_frequencies(self) -> NDArray[np.float64]:
        """Return the centre frequency of every mel bin in Hz, shape (F,).

        The edges of the filters are equally spaced in mel from `f_min` to `f_max`; filter k rises
        from edge k, peaks at edge k + 1 and falls to edge k + 2. ``htk`` is O'Shaughnessy's mel,
        ``slaney`` that of the Auditory Toolbox (Slaney, 1998): linear, 200/3 Hz a mel, up to 1 kHz,
        then logarithmic, 27 mel for a factor of 6.4.
        """
        ends = np.array([self.f_min, self.f_max], dtype=np.float64)
        if self.mel_scale == "htk":
            low, high = 2595.0 * np.log10(1.0 + ends / 700.0)
            mel = np.linspace(low, high, self.n_mels + 2)[1:-1]
            return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
        above = 15.0 + 27.0 * np.log(np.maximum(ends, 1000.0) / 1000.0) / np.log(6.4)
        low, high = np.where(ends < 1000.0, ends * 3.0 / 200.0, above)
        mel = np.linspace(low, high, self.n_mels + 2)[1:-1]
        above = 1000.0 * 6.4 ** ((np.maximum(mel, 15.0) - 15.0) / 27.0)
        return np.where(mel < 15.0, mel * 200.0 / 3.0, above)

    def describe(self) -> dict[str, Any]:
        """Return what goes into ``feature.json``: all parameters, the unit and the layout."""
        stated = self.model_dump() | {"win_length": self.win_length, "unit": self.unit} | _FIXED
        if self.framing == "kaldi":
            del stated["pad_mode"]
            return stated | _KALDI
        if self.framing == "efficientat":
            return stated | _EFFICIENTAT
        # Stores from before there was a choice do not name it.
        del stated["framing"]
        return stated

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """Read what ``feature.json`` states, or raise a `ConfigError`; unknown keys are ignored.

        Parameters that an older store lacks get defaults, ``f_max`` half the sample rate.
        """
        given = {key: value for key, value in description.items() if key in cls.model_fields}
        rate = given.get("sample_rate")
        if isinstance(rate, int) and rate <= _HIGHEST_RATE:
            given.setdefault("f_max", rate / 2)
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ConfigError(f"front end: {reason_of(error)}") from error


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Name what two descriptions state differently, the first two with both values."""
    one, other = ({"framing": "stft", "far": "left out"} | each for each in (one, other))
    differ = [
        f"{key} {value!r} and {other[key]!r}"
        for key, value in one.items()
        if key in other and key != "dtype" and value != other[key]
    ]
    return "; ".join([*differ[:2], f"{len(differ)} in all"] if len(differ) > 2 else differ)


PRESETS: dict[str, FrontEnd] = {
    "dcase2020": FrontEnd(),
    "dcase2022": FrontEnd(pad_mode="constant", scale="10*log10(max(mel, eps))"),
    "byola": FrontEnd(
        hop_length=160,
        n_mels=64,
        f_min=60.0,
        f_max=7800.0,
        scale="ln(mel + eps)",
        eps=float(np.finfo(np.float32).eps),
    ),
    "ast": FrontEnd(
        n_fft=512,
        hop_length=160,
        f_min=20.0,
        mel_scale="htk",
        norm=None,
        scale="ln(max(mel, eps))",
        eps=float(np.finfo(np.float32).eps),
        framing="kaldi",
    ),
    "efficientat": FrontEnd(
        sample_rate=32000,
        hop_length=320,
        f_max=15000.0,
        mel_scale="htk",
        norm=None,
        scale="ln(mel + eps)",
        eps=1e-5,
        framing="efficientat",
    ),
}
"""Front ends by name.

``dcase2020``: the DCASE 2020 Task 2 baseline (y-kawagu/dcase2020_task2_baseline, ebfcc2a).
``dcase2022``: the DCASE 2022 one (Kota-Dohi/dcase2022_task2_baseline_ae, 8ab52e1); only the
padding and the way to keep the logarithm finite differ.
``byola``: BYOL-A (Niizumi et al., IJCNN 2021): 64 bins, a frame every 10 ms, natural logarithm.
``ast``: the Audio Spectrogram Transformer (Gong et al., Interspeech 2021, Section 2.1), as
``ASTFeatureExtractor`` of the transformers library computes it, before its normalisation.
``efficientat``: MobileNetV3 of AudioSet (Schmid et al., ICASSP 2023; models/preprocess.py in
fschmid56/EfficientAT, bcaaae8), at test and before its normalisation.
"""


def preset(name_or_front_end: str | FrontEnd) -> FrontEnd:
    """Look up a preset by name; a `FrontEnd` is returned as it is."""
    if isinstance(name_or_front_end, FrontEnd):
        return name_or_front_end
    if name_or_front_end not in PRESETS:
        raise ConfigError(
            f"front-end preset '{name_or_front_end}' is not known (known: {', '.join(PRESETS)})"
        )
    return PRESETS[name_or_front_end]
