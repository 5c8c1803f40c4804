"""The log-mel transform: waveforms to log-mel spectrograms, with torchaudio's mel filters.

The values agree with librosa for the same parameters (a test holds both to 1e-3 dB), and the
preset ``ast`` with the feature extractor of the transformers library (1e-5). Parameters and presets
come from ``front_end`` and can be imported from here as well.

Shapes: B batch, S samples, F mel bins, T frames.
"""

import math

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from asdlib.errors import DataError
from asdlib.features.front_end import PRESETS, FrontEnd, preset

__all__ = ["PRESETS", "FrontEnd", "LogMel", "preset"]


_FILTERS_PER_BAND = 16


class _Band(nn.Module):
    """Neighbouring mel filters, applied only to the frequencies that they reach.

    A mel filter is zero almost everywhere; in bands of 16 filters the product with the spectrum
    takes a third of the time of the full one.
    """

    filters: Tensor

    def __init__(self, filters: Tensor) -> None:
        super().__init__()
        reached = filters.any(dim=1).nonzero()
        self.low, self.high = (
            (0, 1) if not len(reached) else (int(reached[0]), int(reached[-1]) + 1)
        )
        self.register_buffer("filters", filters[self.low : self.high].T.contiguous())

    def forward(self, power: Tensor) -> Tensor:
        """Sum power spectra (frequencies, frames) into mel bins (F of the band, frames)."""
        return self.filters @ power[self.low : self.high]


class LogMel(nn.Module):
    """Log-mel spectrogram of a batch of waveforms.

    On a CPU, clips one by one are the fastest: they stay in the processor's cache.

    Parameters
    ----------
    front_end
        The parameters, or the name of a preset.
    dtype
        Precision of the computation. Single precision is what the DCASE baselines use; its
        rounding shows only in bins some 120 dB below the loudest one of a frame.
    """

    window: Tensor

    def __init__(
        self, front_end: FrontEnd | str = "dcase2020", *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.front_end = preset(front_end)
        self.dtype = dtype
        if self.front_end.framing == "kaldi":
            return
        # The window is made in double precision: its rounding would leak into empty bins.
        window = torch.hann_window(self.front_end.n_fft, dtype=torch.float64)
        self.register_buffer("window", window.to(dtype))
        filters = melscale_fbanks(
            n_freqs=self.front_end.n_fft // 2 + 1,
            f_min=self.front_end.f_min,
            f_max=self.front_end.f_max,
            n_mels=self.front_end.n_mels,
            sample_rate=self.front_end.sample_rate,
            norm=self.front_end.norm,
            mel_scale=self.front_end.mel_scale,
        )
        self._bands = nn.ModuleList(
            _Band(part.to(dtype)) for part in filters.split(_FILTERS_PER_BAND, dim=1)
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform waveforms (B, S), full scale 1.0, to log-mels (B, F, T), float32.

        Raises
        ------
        DataError
            If the clips are shorter than the mirror padding, or one frame, needs.
        """
        shortest = self.front_end.shortest
        if waveform.ndim != 2 or waveform.shape[1] < shortest:
            raise DataError(
                f"waveforms of shape {tuple(waveform.shape)} cannot be transformed; expected "
                f"(clips, samples) with at least {shortest} samples"
            )
        if self.front_end.framing == "kaldi":
            return kaldi_log_mel(waveform.to(self.dtype), self.front_end).to(torch.float32)
        half = self.front_end.n_fft // 2
        n_clips, n_samples = waveform.shape
        padded = torch.empty(
            n_clips, n_samples + 2 * half, dtype=self.window.dtype, device=waveform.device
        )
        padded[:, half:-half] = waveform
        return self.padded(padded)

    def padded(self, padded: Tensor) -> Tensor:
        """Do the same as `forward` with clips that have room for the padding already.

        Parameters
        ----------
        padded
            Waveforms with ``n_fft // 2`` samples of any value before and after each, which are
            overwritten; (B, S + 2 * (n_fft // 2)), of the precision of this transform.
        """
        self._fill_edges(padded)
        # A view: each frame is read from where it lies, nothing is copied before the product.
        frames = padded.unfold(-1, self.front_end.n_fft, self.front_end.hop_length)
        n_clips, n_frames, _ = frames.shape
        spectrum = torch.fft.rfft(frames * self.window).flatten(0, 1)
        if self.front_end.power == 2.0:
            # Without the square root that ``abs`` would take and the square would undo.
            parts = torch.view_as_real(spectrum).square()
            power = parts[..., 0] + parts[..., 1]
        else:
            power = spectrum.abs().pow(self.front_end.power)
        mel = torch.cat([band(power.T) for band in self._bands])
        eps, scale = self.front_end.eps, self.front_end.scale
        kept = mel.clamp_(min=eps) if "max" in scale else mel.add_(eps)
        log_mel = kept.log_()
        if scale.startswith("10*log10"):
            # Twice as fast as the decimal logarithm.
            log_mel = log_mel.mul_(10.0 / math.log(10.0))
        return log_mel.to(torch.float32).view(-1, n_clips, n_frames).transpose(0, 1)

    def _fill_edges(self, padded: Tensor) -> None:
        """Fill half a window at both ends, so that frame t is centred on sample t · hop."""
        half = self.front_end.n_fft // 2
        if self.front_end.pad_mode == "constant":
            padded[:, :half] = 0.0
            padded[:, -half:] = 0.0
            return
        padded[:, :half] = padded[:, half + 1 : 2 * half + 1].flip(-1)
        padded[:, -half:] = padded[:, -2 * half - 1 : -half - 1].flip(-1)


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
