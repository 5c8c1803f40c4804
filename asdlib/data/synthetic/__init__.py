"""Synthetic machines: recordings in the official layouts, made from simple physics.

The way of a clip: `spec` says what the corpus holds, `domains` draws the conditions, `machines`
(`rotating`, `moving`, `toys`) make the sound from `signals`, `anomalies` adds a fault, `scene` puts
it into a room, `render` joins all this for one clip, `corpus` writes them all.

They are a stand-in with known truth, for tests, teaching and for questions that no recording can
answer (the same clip with its fault in another band). They say nothing about real machines.
"""

from asdlib.data.synthetic.anomalies import BANDS, CAUSES
from asdlib.data.synthetic.corpus import TRUTH_COLUMNS, plan_corpus, write_corpus
from asdlib.data.synthetic.machines import MACHINES
from asdlib.data.synthetic.render import render_clip, render_parts
from asdlib.data.synthetic.scene import Recording
from asdlib.data.synthetic.signals import RATE
from asdlib.data.synthetic.spec import SPECS, SyntheticSpec

__all__ = [
    "BANDS",
    "CAUSES",
    "MACHINES",
    "RATE",
    "SPECS",
    "TRUTH_COLUMNS",
    "Recording",
    "SyntheticSpec",
    "plan_corpus",
    "render_clip",
    "render_parts",
    "write_corpus",
]
