"""Log-mel features: the front end, the memory-mapped store, and how stores are built and cut.

``front_end`` holds the parameters and presets, ``logmel`` the transform and the translation to
another front end, ``store`` what every system reads and how stores are cut and joined, ``build``
makes a store from recordings.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
