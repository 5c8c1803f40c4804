"""Recordings on disk: file names, the clip table, ground truth, checks of a folder, downloads.

`index_folder` reads the names below a folder into one table for all years, `join_ground_truth`
fills what blind names hide, `check_folder` finds what is missing or broken. Downloads
(`asdlib.data.download`) and synthetic machines (`asdlib.data.synthetic`) are imported from their
own modules.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
