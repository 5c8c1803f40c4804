"""The log-mel transform: waveforms to log-mel spectrograms, by torchaudio.

The values agree with librosa for the same parameters (a test holds both to 1e-3 dB). Parameters
and presets come from ``front_end`` and can be imported from here as well.

Shapes: B batch, S samples, F mel bins, T frames.
"""

import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from asdlib.errors import DataError
from asdlib.features.front_end import PRESETS, FrontEnd, preset

__all__ = ["PRESETS", "FrontEnd", "LogMel", "preset"]


class LogMel(nn.Module):
    """Log-mel spectrogram of a batch of waveforms.

    Parameters
    ----------
    front_end
        The parameters, or the name of a preset.
    dtype
        Precision of the computation. Single precision is what the DCASE baselines use; its
        rounding shows only in bins some 120 dB below the loudest one of a frame.
    """

    def __init__(
        self, front_end: FrontEnd | str = "dcase2020", *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.front_end = preset(front_end)
        self.mel_spectrogram = MelSpectrogram(
            sample_rate=self.front_end.sample_rate,
            n_fft=self.front_end.n_fft,
            hop_length=self.front_end.hop_length,
            f_min=self.front_end.f_min,
            f_max=self.front_end.f_max,
            n_mels=self.front_end.n_mels,
            power=self.front_end.power,
            norm=self.front_end.norm,
            mel_scale=self.front_end.mel_scale,
            pad_mode=self.front_end.pad_mode,
            # Made in double precision: rounding of the window leaks into empty bins.
            wkwargs={"dtype": torch.float64},
        ).to(dtype)

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform waveforms (B, S), full scale 1.0, to log-mels (B, F, T), float32.

        Raises
        ------
        DataError
            If the clips are shorter than the mirror padding needs.
        """
        shortest = self.front_end.n_fft // 2 + 1
        if waveform.ndim != 2 or waveform.shape[1] < shortest:
            raise DataError(
                f"waveforms of shape {tuple(waveform.shape)} cannot be transformed; expected "
                f"(clips, samples) with at least {shortest} samples"
            )
        window = self.mel_spectrogram.spectrogram.window
        mel: Tensor = self.mel_spectrogram(waveform.to(window.dtype))
        eps = self.front_end.eps
        if self.front_end.scale == "ln(mel + eps)":
            log_mel = mel.add_(eps).log_()
        elif self.front_end.scale == "10*log10(mel + eps)":
            log_mel = mel.add_(eps).log10_().mul_(10.0)
        else:
            log_mel = mel.clamp_(min=eps).log10_().mul_(10.0)
        return log_mel.to(torch.float32)
