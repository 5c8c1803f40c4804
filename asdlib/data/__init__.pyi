from .check import check_folder as check_folder
from .clips import (
    COLUMNS as COLUMNS,
    Fault as Fault,
    clip_table as clip_table,
    index_any_folder as index_any_folder,
    index_folder as index_folder,
    index_own_folder as index_own_folder,
    summarise as summarise,
)
from .ground_truth import (
    join_ground_truth as join_ground_truth,
    read_ground_truth as read_ground_truth,
    read_ground_truth_2020 as read_ground_truth_2020,
    read_ground_truth_folder as read_ground_truth_folder,
)
from .naming import (
    Clip as Clip,
    clip_key as clip_key,
    detect_year as detect_year,
    parse_name as parse_name,
    plain_name as plain_name,
)
