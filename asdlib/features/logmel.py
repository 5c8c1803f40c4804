"""The log-mel transform: waveforms to log-mel spectrograms, with torchaudio's mel filters.

The values agree with librosa for the same parameters (a test holds both to 1e-3 dB), the preset
``ast`` with the feature extractor of the transformers library (1e-5), and ``efficientat`` with its
formulas (1e-4). `LogMel` takes batches on any device; stores are built by the faster
``clip_transform``.

Shapes: B batch, S samples, K frequencies, F mel bins, T frames.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchaudio.compliance.kaldi import fbank, get_mel_banks
from torchaudio.functional import melscale_fbanks

from asdlib.errors import DataError
from asdlib.features.front_end import PREEMPHASIS, FrontEnd, preset


class LogMel(nn.Module):
    """Log-mel spectrogram of a batch of waveforms, by a `FrontEnd` or the name of a preset.

    Single precision is what the DCASE baselines use; its rounding shows only in bins some 120 dB
    below the loudest one of a frame.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self, front_end: FrontEnd | str = "dcase2020", *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.front_end = preset(front_end)
        self.dtype = dtype
        if self.front_end.framing == "kaldi":
            return
        self.register_buffer("window", hann_window(self.front_end).to(dtype))
        self.register_buffer("filters", mel_filters(self.front_end).T.to(dtype))

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform waveforms (B, S), full scale 1.0, to log-mels (B, F, T), float32.

        Clips that are shorter than the mirror padding, or one frame, needs raise a `DataError`.
        """
        front_end, waveform = self.front_end, waveform.to(self.dtype)
        if waveform.ndim != 2 or waveform.shape[1] < front_end.shortest:
            raise DataError(
                f"waveforms of shape {tuple(waveform.shape)} cannot be transformed; expected "
                f"(clips, samples) with at least {front_end.shortest} samples"
            )
        if front_end.framing == "kaldi":
            return kaldi_log_mel(waveform, front_end).to(torch.float32)
        if front_end.framing == "efficientat":
            waveform = waveform[:, 1:] - PREEMPHASIS * waveform[:, :-1]
        half = front_end.n_fft // 2
        frames = pad(waveform, (half, half), mode=front_end.pad_mode).unfold(
            -1, front_end.n_fft, front_end.hop_length
        )
        magnitude = torch.fft.rfft(frames * self.window).abs()
        mel = self.filters @ magnitude.pow(front_end.power).mT
        eps = front_end.eps
        log_mel: Tensor = (mel.clamp(min=eps) if "max" in front_end.scale else mel + eps).log()
        if front_end.unit == "dB":
            log_mel = log_mel * (10.0 / math.log(10.0))
        return log_mel.to(torch.float32)


def hann_window(front_end: FrontEnd) -> Tensor:
    """Make the window, shape (n_fft,), in double precision: a rounded one leaks into empty bins."""
    n_fft, n_window = front_end.n_fft, front_end.win_length
    hann = torch.hann_window(n_window, front_end.framing == "stft", dtype=torch.float64)
    left = (n_fft - n_window) // 2
    return pad(hann, (left, n_fft - n_window - left))


def mel_filters(front_end: FrontEnd) -> Tensor:
    """Make the mel filters of a front end, shape (K, F), single precision."""
    filters: Tensor
    if front_end.framing == "efficientat":
        rate, band = front_end.sample_rate, (front_end.f_min, front_end.f_max)
        filters, _ = get_mel_banks(front_end.n_mels, front_end.n_fft, rate, *band, 0.0, 0.0, 1.0)
        return pad(filters, (0, 1)).T
    filters = melscale_fbanks(
        n_freqs=front_end.n_fft // 2 + 1,
        f_min=front_end.f_min,
        f_max=front_end.f_max,
        n_mels=front_end.n_mels,
        sample_rate=front_end.sample_rate,
        norm=front_end.norm,
        mel_scale=front_end.mel_scale,
    )
    return filters


def kaldi_log_mel(waveform: Tensor, front_end: FrontEnd) -> Tensor:
    """Transform waveforms (B, S) to log-mels (B, F, T) by Kaldi's filter bank, clip by clip."""
    return torch.stack(
        [
            fbank(
                clip[None],
                sample_frequency=front_end.sample_rate,
                window_type="hanning",
                num_mel_bins=front_end.n_mels,
                low_freq=front_end.f_min,
                high_freq=front_end.f_max,
            ).T
            for clip in waveform
        ]
    )
