"""From a log-mel spectrogram back to sound, so that a step of the method can be heard.

A log-mel spectrogram keeps neither the phase nor the fine structure within a mel bin. What comes
back is therefore a likeness: pitch, rhythm and timbre are right, noise sounds a little watery. Two
spectrograms that went through the same way can be compared by ear.

Shapes: F mel bins, K linear frequencies, T frames, S samples.
"""

import numpy as np
import torch
from torchaudio.functional import griffinlim

from asdlib.errors import ConfigError
from asdlib.features import FrontEnd
from asdlib.features.logmel import mel_filters

_UPDATES = 60
_SMALLEST = 1e-12


def log_mel_to_audio(
    log_mel: np.ndarray, front_end: FrontEnd, *, iterations: int = 32, peak: float | None = 0.7
) -> np.ndarray:
    """Find samples whose log-mel spectrogram is about the given one.

    Mel power is spread over linear frequencies by multiplicative updates, which keep it positive;
    the phase is estimated by the algorithm of Griffin and Lim from a phase of zero, so that equal
    input gives equal sound.

    Parameters
    ----------
    log_mel
        Log-mel spectrogram in the unit of the front end, shape (F, T).
    front_end
        Parameters that it was made with.
    iterations
        Rounds of phase estimation.
    peak
        Largest absolute sample of the result; None keeps the level.

    Returns
    -------
    ndarray
        Samples within −1 … 1 if `peak` is given, shape (S,), float32.

    Raises
    ------
    ConfigError
        If the number of mel bins is not that of the front end.

    Notes
    -----
    D. Lee and H. Seung, "Algorithms for non-negative matrix factorization", NIPS 2000; D. Griffin
    and J. Lim, "Signal estimation from modified short-time Fourier transform", IEEE Trans. ASSP
    32(2), 1984.
    """
    if log_mel.ndim != 2 or log_mel.shape[0] != front_end.n_mels:
        raise ConfigError(
            f"log-mel of shape {log_mel.shape} does not fit a front end of {front_end.n_mels} mel "
            "bins; give the front end that it was made with"
        )
    spectrum = _linear_power(_mel_power(log_mel, front_end), front_end)
    samples = griffinlim(
        spectrum,
        window=torch.hann_window(front_end.n_fft),
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        win_length=front_end.n_fft,
        power=front_end.power,
        n_iter=iterations,
        momentum=0.99,
        length=None,
        rand_init=False,
    ).numpy()
    if peak is not None:
        samples = samples * (peak / max(float(np.abs(samples).max()), _SMALLEST))
    out: np.ndarray = samples.astype(np.float32)
    return out


def _mel_power(log_mel: np.ndarray, front_end: FrontEnd) -> torch.Tensor:
    """Undo the logarithm, shape (F, T)."""
    values = torch.from_numpy(np.asarray(log_mel, dtype=np.float32))
    if front_end.unit == "neper":
        return values.exp()
    return torch.pow(10.0, values / 10.0)


def _linear_power(mel: torch.Tensor, front_end: FrontEnd) -> torch.Tensor:
    """Spread mel power (F, T) over linear frequencies (K, T), none of them negative."""
    filters = mel_filters(front_end)
    spread = filters @ mel
    linear: torch.Tensor = spread.clamp(min=_SMALLEST)
    gram = filters @ filters.T
    for _ in range(_UPDATES):
        linear = linear * spread / (gram @ linear).clamp(min=_SMALLEST)
    return linear
