"""The log-mel transform: waveforms to log-mel spectrograms, with torchaudio's mel filters.

The values agree with librosa for the same parameters (a test holds both to 1e-3 dB), and the
preset ``ast`` with the feature extractor of the transformers library (1e-5). `LogMel` takes batches
on any device; stores are built by the faster ``clip_transform``.

Shapes: B batch, S samples, K frequencies, F mel bins, T frames.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchaudio.functional import melscale_fbanks

from asdlib.errors import DataError
from asdlib.features.front_end import FrontEnd, preset


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
        self.register_buffer("window", periodic_hann(self.front_end.n_fft).to(dtype))
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


def periodic_hann(n_samples: int) -> Tensor:
    """Make the window in double precision: rounding of a smaller one leaks into empty bins."""
    return torch.hann_window(n_samples, dtype=torch.float64)


def mel_filters(front_end: FrontEnd) -> Tensor:
    """Make the mel filters of a front end, shape (K, F), single precision."""
    filters: Tensor = melscale_fbanks(
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
    from torchaudio.compliance.kaldi import fbank

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
