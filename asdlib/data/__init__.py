"""Recordings on disk: file names, the clip table, ground truth, checks of a folder, downloads.

`index_folder` reads the names below a folder into one table for all years, `join_ground_truth`
fills what blind names hide, `check_folder` finds what is missing or broken. Downloads
(`asdlib.data.download`) and synthetic machines (`asdlib.data.synthetic`) are imported from their
own modules.
"""

from asdlib.data.check import check_folder
from asdlib.data.clips import (
    COLUMNS,
    Fault,
    clip_table,
    index_any_folder,
    index_folder,
    index_own_folder,
    summarise,
)
from asdlib.data.ground_truth import (
    join_ground_truth,
    read_ground_truth,
    read_ground_truth_2020,
    read_ground_truth_folder,
)
from asdlib.data.naming import Clip, clip_key, detect_year, parse_name, plain_name

__all__ = [
    "COLUMNS",
    "Clip",
    "Fault",
    "check_folder",
    "clip_key",
    "clip_table",
    "detect_year",
    "index_any_folder",
    "index_folder",
    "index_own_folder",
    "join_ground_truth",
    "parse_name",
    "plain_name",
    "read_ground_truth",
    "read_ground_truth_2020",
    "read_ground_truth_folder",
    "summarise",
]
