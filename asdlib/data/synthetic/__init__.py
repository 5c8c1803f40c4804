"""Synthetic machines: recordings in the official layouts, made from simple physics.

`machines` make the sound of a clip from `signals`, `faults` adds an anomaly, `rooms` draws the
conditions and records it in a room, `corpus` says what a corpus holds and writes it. They are a
stand-in with known truth, for tests, teaching and for questions that no recording can answer (the
same clip with its fault in another band). They say nothing about real machines.
"""

from asdlib.data.synthetic.corpus import (
    LAYOUT_MACHINES as LAYOUT_MACHINES,
    SPECS as SPECS,
    TRUTH_COLUMNS as TRUTH_COLUMNS,
    SyntheticSpec as SyntheticSpec,
    plan_corpus as plan_corpus,
    read_truth as read_truth,
    render_clip as render_clip,
    write_corpus as write_corpus,
)
from asdlib.data.synthetic.faults import (
    BANDS as BANDS,
    CAUSES as CAUSES,
)
from asdlib.data.synthetic.machines import MACHINES as MACHINES
