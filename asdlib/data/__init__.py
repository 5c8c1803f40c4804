"""Recordings on disk: file names, the clip table, ground truth, checks of a folder, downloads.

`index_folder` reads the names below a folder into one table for all years, `join_ground_truth`
fills what blind names hide, `check_folder` finds what is missing or broken. Downloads
(`asdlib.data.download`) and synthetic machines (`asdlib.data.synthetic`) are imported from their
own modules.
"""

from asdlib.data.check import check_folder as check_folder
from asdlib.data.clips import (
    COLUMNS as COLUMNS,
    Fault as Fault,
    clip_table as clip_table,
    index_any_folder as index_any_folder,
    index_folder as index_folder,
    index_own_folder as index_own_folder,
    summarise as summarise,
)
from asdlib.data.ground_truth import (
    join_ground_truth as join_ground_truth,
    read_ground_truth as read_ground_truth,
    read_ground_truth_2020 as read_ground_truth_2020,
    read_ground_truth_folder as read_ground_truth_folder,
)
from asdlib.data.naming import (
    Clip as Clip,
    clip_key as clip_key,
    detect_year as detect_year,
    parse_name as parse_name,
    plain_name as plain_name,
)
