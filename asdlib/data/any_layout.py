"""Any folder of audio as a clip table: recordings that follow no official layout.

Such recordings serve pre-training, which asks for no machine, section or label. All of them become
clips of machine ``audio``, section ``00``, split ``train``; year 0 says that no grammar applies.
"""

from pathlib import Path

import pandas as pd

from asdlib.data.clips import audio_files, clip_table
from asdlib.data.grammars import AUDIO_SUFFIXES
from asdlib.data.naming import Clip
from asdlib.errors import DataError

__all__ = ["index_any_folder"]


def index_any_folder(root: str | Path) -> pd.DataFrame:
    """Index all WAV and FLAC files below a folder, whatever their names.

    Parameters
    ----------
    root
        The folder. Hidden files and folders are left out.

    Returns
    -------
    pandas.DataFrame
        See `asdlib.data.clips.clip_table`; ``clip`` and ``path`` are the path relative to ``root``,
        ``domain`` and ``label`` are empty, ``index`` counts in order of the paths.

    Raises
    ------
    DataError
        If the root does not exist, is not a folder or holds no audio.
    """
    paths = sorted(
        f"{folder}/{name}" if folder else name
        for folder, names in audio_files(Path(root))
        for name in names
    )
    if not paths:
        raise DataError(
            f"folder '{root}' holds no {' or '.join(AUDIO_SUFFIXES)} file; give a folder of audio"
        )
    return clip_table(
        Clip(
            clip=path,
            year=0,
            subset="development",
            split="train",
            machine="audio",
            section="00",
            domain="",
            label="",
            index=index,
            attributes="",
            path=path,
        )
        for index, path in enumerate(paths)
    )
