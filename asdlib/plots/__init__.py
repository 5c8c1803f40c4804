"""What several pages draw or show: one visual language, units on every axis, colour-blind safe.

``figures`` sets fonts, sizes and colours, and draws log-mels and effects with their intervals,
``sound`` makes players, cards and tables for notebooks and resynthesises spectrograms.
What one page alone draws stands in that page.
"""

import lazy_loader

from asdlib.plots.figures import apply_style

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

apply_style()
