"""Un-stacked frames in memory, windows of consecutive frames at batch time.

A window of W frames overlaps its neighbour by W - 1 frames. Storing all windows multiplies the
data by W and is what makes the official baselines need 5 to 13 GB a machine. Here the frames of
all clips lie one after another in one float16 array, the precision of the store. A window that
starts at frame s is then the contiguous run of W * F numbers from s * F on, frame by frame, so a
strided view serves every window and one index call gathers a batch.

Shape legend: B batch, F mel bins, T frames of a clip, L frames of all clips, W frames of a
window, M windows, N clips.
"""

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from asdlib.errors import RunError
from asdlib.features import Rows
from asdlib.system import finite_batches

_CLIPS_PER_READ = 64
_CLIPS_PER_SCORING = 16


@dataclass(frozen=True, slots=True)
class FrameBank:
    """The frames of some clips, clip after clip.

    Attributes
    ----------
    frames
        Log-mel frames (L, F), float16 or float32.
    offset
        First frame of each clip (N,), int64.
    count
        Number of frames of each clip (N,), int64.
    """

    frames: Tensor
    offset: np.ndarray
    count: np.ndarray

    @classmethod
    def read(cls, rows: Rows, order: np.ndarray) -> Self:
        """Read clips of a store as float16.

        Parameters
        ----------
        rows
            The clips to read.
        order
            Positions in `rows` (N,): clip i of the bank is row ``order[i]``.

        Raises
        ------
        RunError
            If a clip holds NaN or infinite values.
        """
        count = np.asarray(rows.frames, dtype=np.int64)
        offset = np.empty_like(count)
        offset[order] = np.cumsum(count[order]) - count[order]
        frames = np.empty((int(count.sum()), rows.store.n_mels), dtype=np.float16)
        for positions, log_mel in finite_batches(rows, _CLIPS_PER_READ):
            index = offset[positions][:, None] + np.arange(log_mel.shape[2])
            frames[index] = log_mel.transpose(0, 2, 1)
            _release(rows)
        return cls(torch.from_numpy(frames), offset[order], count[order])

    @classmethod
    def of_batch(cls, log_mel: np.ndarray) -> Self:
        """Take clips of equal length from `log_mel` (B, F, T), float32."""
        n_clips, n_mels, n_frames = log_mel.shape
        frames = np.ascontiguousarray(log_mel.transpose(0, 2, 1)).reshape(-1, n_mels)
        offset = np.arange(n_clips, dtype=np.int64) * n_frames
        return cls(torch.from_numpy(frames), offset, np.full(n_clips, n_frames, dtype=np.int64))

    def to(self, device: torch.device) -> "FrameBank":
        """Move the frames to `device`."""
        return FrameBank(self.frames.to(device), self.offset, self.count)

    def starts(self, width: int, hop: int) -> tuple[Tensor, Tensor]:
        """List all windows, clip after clip.

        Parameters
        ----------
        width
            Frames of a window, W.
        hop
            Frames from the start of one window to the start of the next.

        Returns
        -------
        start, clip
            First frame of each window (M,) and the clip that it lies in (M,), int64, on the CPU.
            A clip with fewer than `width` frames has no window.
        """
        per_clip = np.maximum(0, (self.count - width) // hop + 1)
        clip = np.repeat(np.arange(len(self.count), dtype=np.int64), per_clip)
        first_of_clip = np.cumsum(per_clip) - per_clip
        within = np.arange(len(clip), dtype=np.int64) - first_of_clip[clip]
        return torch.from_numpy(self.offset[clip] + hop * within), torch.from_numpy(clip)

    def windows(self, start: Tensor, width: int) -> Tensor:
        """Gather windows.

        Parameters
        ----------
        start
            First frame of each window (B,), int64.
        width
            Frames of a window, W.

        Returns
        -------
        Tensor
            Windows (B, W, F), float32, on the device of the frames.
        """
        n_frames, n_mels = self.frames.shape
        every = self.frames.as_strided((n_frames - width + 1, width * n_mels), (n_mels, 1))
        picked = every.index_select(0, start.to(self.frames.device))
        return picked.float().reshape(len(start), width, n_mels)


def mean_over_windows(
    rows: Rows,
    score: Callable[[Tensor, Tensor], Tensor],
    width: int,
    hop: int,
    batch_size: int,
    device: torch.device,
) -> np.ndarray:
    """Score clips by the mean over their windows.

    Parameters
    ----------
    rows
        The clips, none shorter than a window.
    score
        Scores (B,) of windows (B, W, F) of the clips at the positions (B,) in `rows`.
    width, hop
        Frames of a window, and from one window to the next.
    batch_size
        Windows given to `score` at once.
    device
        Where `score` computes.

    Returns
    -------
    np.ndarray
        One score a clip (N,), float64.

    Raises
    ------
    RunError
        If a clip holds NaN or infinite values.
    """
    scores = np.empty(len(rows))
    for positions, log_mel in finite_batches(rows, _CLIPS_PER_SCORING):
        bank = FrameBank.of_batch(log_mel).to(device)
        start, clip = (part.to(device) for part in bank.starts(width, hop))
        position = torch.from_numpy(positions).to(device)[clip]
        parts = [
            score(bank.windows(some, width), of_clip)
            for some, of_clip in zip(
                torch.split(start, batch_size), torch.split(position, batch_size), strict=True
            )
        ]
        per_window = torch.cat(parts).double().reshape(len(positions), -1)
        scores[positions] = per_window.mean(dim=1).cpu().numpy()
    return scores


def _release(rows: Rows) -> None:
    # Pages of the memory map that were read stay in the process until memory is short, which
    # doubles the peak; the system keeps its own copy, so giving them back costs nothing.
    mapped = rows.store.features.base
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def check_length(rows: Rows, width: int) -> None:
    """Refuse clips that are shorter than one window of `width` frames.

    Raises
    ------
    RunError
        Naming the first such clip.
    """
    short = np.asarray(rows.frames) < width
    if short.any():
        row = int(np.argmax(short))
        raise RunError(
            f"clip '{rows.manifest['clip'].iloc[row]}' has {int(rows.frames[row])} frames, "
            f"expected at least {width}; leave it out or set fewer frames a window"
        )
