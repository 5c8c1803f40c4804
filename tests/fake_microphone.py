"""A `sounddevice` without PortAudio: a thread speaks into it, block by block."""

import queue
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest


class PortAudioError(Exception):
    """What the real one raises."""


def plug_in(
    monkeypatch: pytest.MonkeyPatch, sound: np.ndarray, rate: int = 16000, lost: int = -1
) -> None:
    """Let the microphone hear `sound` (S,) and then Ctrl-C; samples are lost before a block."""
    blocks: queue.Queue[np.ndarray | None] = queue.Queue()

    class InputStream:
        def __init__(
            self, samplerate: float, blocksize: int, device: str | None, channels: int, dtype: str
        ) -> None:
            assert (samplerate, blocksize, channels, dtype) == (rate, rate // 10, 1, "float32")
            if device == "absent":
                raise ValueError("No input device matching 'absent'")
            if device == "busy":
                raise PortAudioError("Device unavailable [PaErrorCode -9985]")
            self.count = 0

        def __enter__(self) -> "InputStream":
            threading.Thread(target=speak).start()
            return self

        def __exit__(self, *_: object) -> None:
            """Close."""

        def read(self, size: int) -> tuple[np.ndarray, bool]:
            block = blocks.get(timeout=30)
            if block is None:
                raise KeyboardInterrupt
            assert block.shape == (size, 1)
            self.count += 1
            return block, self.count == lost

    def speak() -> None:
        for block in np.split(sound.astype(np.float32)[:, None], 10 * len(sound) // rate):
            blocks.put(block)
        blocks.put(None)

    fake: Any = ModuleType("sounddevice")
    fake.InputStream, fake.PortAudioError = InputStream, PortAudioError
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
