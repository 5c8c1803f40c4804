"""Synthetic machines: recordings in the official layouts, made from simple physics.

`machines` make the sound of a clip from `signals`, `faults` adds an anomaly, `rooms` draws the
conditions and records it in a room, `corpus` says what a corpus holds and writes it. They are a
stand-in with known truth, for tests, teaching and for questions that no recording can answer (the
same clip with its fault in another band). They say nothing about real machines.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
