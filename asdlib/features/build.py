"""Build a store from recordings: all files checked first, several threads, resumable.

The array is filled in a hidden folder ``.<name>.partial`` beside the store; ``rows`` in it lists
the rows that are on disk. A build that was killed goes on there. When all rows are done, the folder
gets its name. What a store was built from is in its ``source.json``, so that asking for the same
store again costs nothing and asking for another one under the same name is an error.

Shapes: N clips, F mel bins, T frames.
"""

import json
import math
import os
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdlib.data.clips import index_folder
from asdlib.errors import StoreError
from asdlib.features.files import (
    ARRAY,
    create_array,
    disk_full,
    is_disk_full,
    write_parts,
)
from asdlib.features.front_end import FrontEnd
from asdlib.features.front_end import preset as find_preset
from asdlib.features.progress import Done
from asdlib.features.sources import Sources, inspect_sources
from asdlib.features.store import FeatureStore
from asdlib.features.transform import (
    Target,
    compute_rows,
    fill_rows,
    single_threaded,
    start_thread,
)
from asdlib.files import only_process

SOURCE, REQUEST, RECORD = "source.json", "request.json", "rows"

_BATCH = 32
_SAME_DB, _FLOOR_DB = 0.15, 100.0
"""Two machines round differently: by less than this, and more only this far below a clip's peak."""


def build_store(
    wav_root: str | Path,
    out: str | Path,
    *,
    preset: str | FrontEnd = "dcase2020",
    jobs: int | None = None,
    resample: bool = False,
    channel: int | None = None,
    year: int | None = None,
    table: pd.DataFrame | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FeatureStore:
    """Build the feature store of a folder of recordings, or open it if it is there already.

    Parameters
    ----------
    wav_root
        Any folder in an official layout, WAV or FLAC.
    out
        Folder of the store.
    preset
        Name of a preset, or the parameters of the front end.
    jobs
        Threads that compute; by default one a processor.
    resample
        Convert files of another sample rate, with a warning, instead of refusing them.
    channel
        Which channel to take of files that have several, from 0.
    year
        Year of the file names, where they do not tell.
    table
        The clips to take, as `asdlib.data.clips.index_folder` gives them for `wav_root`; for a part
        of the folder, or with ground truth joined. By default all.
    on_progress
        Called as ``on_progress(done, total)``, in clips.

    Returns
    -------
    The opened store. The rows are in the order of the clip table; columns are those of the clip
    table and ``frames``.

    Raises
    ------
    DataError
        Naming a file that is broken, or has another sample rate or several channels; nothing is
        left behind.
    StoreError
        If `out` holds something else, the disk is full, or another process builds the same store.
    KeyboardInterrupt
        When interrupted; finished rows are kept, and the same call goes on from there.
    """
    root, out = Path(wav_root), Path(out)
    front_end = find_preset(preset)
    if jobs is not None and jobs < 1:
        raise StoreError(f"jobs {jobs} must be at least 1")
    clips = index_folder(root, year=year) if table is None else table.reset_index(drop=True)
    sources = inspect_sources(root, clips, front_end, channel=channel, resample=resample)
    request = {
        "front_end": front_end.describe(),
        "channel": channel,
        "resample": resample,
        **sources.identity(),
    }
    with only_process(out, StoreError, "building"):
        if out.exists():
            return _same_store(out, request, sources, front_end)
        foreign = np.flatnonzero(sources.rates != front_end.sample_rate)
        if foreign.size:
            warnings.warn(
                f"{foreign.size} of {len(clips)} files are resampled to {front_end.sample_rate} Hz,"
                f" the first is '{clips['path'].iloc[foreign[0]]}' of {sources.rates[foreign[0]]}"
                " Hz",
                stacklevel=2,
            )
        _build(out, request, sources, front_end, jobs, on_progress or _silent)
    return FeatureStore.open(out, check=False)


def _build(
    out: Path,
    request: dict[str, Any],
    sources: Sources,
    front_end: FrontEnd,
    jobs: int | None,
    on_progress: Callable[[int, int], None],
) -> None:
    partial = out.with_name(f".{out.name}.partial")
    frames = np.array([front_end.n_frames(int(n)) for n in sources.n_samples])
    shape = (len(frames), front_end.n_mels, int(frames.max()))
    try:
        if _read_json(partial / REQUEST) != request:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            create_array(partial / ARRAY, shape)
            _write_json(partial / REQUEST, request)
        offset = (partial / ARRAY).stat().st_size - 2 * int(np.prod(shape))
        target = Target(str(partial / ARRAY), offset, shape[2])
        with Done(partial / RECORD, partial / ARRAY, len(frames)) as done:
            _fill(target, front_end, sources, done, jobs, on_progress)
        manifest = sources.table.assign(frames=frames)
        write_parts(partial, manifest, front_end)
        _write_json(partial / SOURCE, request)
        (partial / REQUEST).unlink()
        (partial / RECORD).unlink()
        partial.replace(out)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if is_disk_full(error):
            raise disk_full(out, 2 * int(np.prod(shape))) from error
        raise StoreError(f"'{out}' cannot be written ({error}); choose another place") from error
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _fill(
    target: Target,
    front_end: FrontEnd,
    sources: Sources,
    done: Done,
    jobs: int | None,
    on_progress: Callable[[int, int], None],
) -> None:
    total, open_rows = len(sources.table), iter(done.open_rows(_BATCH))
    on_progress(done.count, total)
    n_jobs = jobs or _processors()
    waiting: dict[Future[None], range] = {}
    with single_threaded():
        pool = ThreadPoolExecutor(n_jobs, initializer=start_thread)
        try:
            while True:
                # Three batches a thread keep it busy while the disk is waited for here, and memory
                # does not grow with N.
                for rows in islice(open_rows, 3 * n_jobs - len(waiting)):
                    picked = sources.files(rows)
                    task = pool.submit(
                        fill_rows, target, front_end, sources.channel, rows.start, picked
                    )
                    waiting[task] = rows
                if not waiting:
                    return
                finished = wait(waiting, return_when=FIRST_COMPLETED).done
                for task in finished:
                    task.result()
                done.add([waiting.pop(task) for task in finished])
                on_progress(done.count, total)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _same_store(
    out: Path, request: dict[str, Any], sources: Sources, front_end: FrontEnd
) -> FeatureStore:
    """Open what is at `out` if it is what `request` asks for."""
    way_out = "delete it or choose another name"
    built = _read_json(out / SOURCE)
    if built is None:
        raise StoreError(f"'{out}' exists and was not built from recordings; {way_out}")
    asked = request["front_end"] | {key: request[key] for key in ("channel", "resample")}
    there = built["front_end"] | {key: built[key] for key in ("channel", "resample")}
    differ = [
        f"{key} {there.get(key)!r}, now {asked.get(key)!r}"
        for key in sorted({*asked, *there})
        if asked.get(key) != there.get(key)
    ]
    if differ:
        raise StoreError(f"store '{out}' was built otherwise: {'; '.join(differ)}; {way_out}")
    if built["clip_table"] != request["clip_table"]:
        raise StoreError(
            f"store '{out}' was built from other clips: {built['clips']}, now {request['clips']}, "
            f"or others of the same number; {way_out}"
        )
    store = FeatureStore.open(out)
    # Files that were only copied have other times but give the same features.
    if built["file_states"] != request["file_states"]:
        other = _first_other(store, sources, front_end)
        if other is not None:
            raise StoreError(
                f"store '{out}' was built from another recording of the name '{other}'; {way_out}"
            )
    return store


def _first_other(store: FeatureStore, sources: Sources, front_end: FrontEnd) -> str | None:
    """Path of the first file that does not give the features of its row, None if all do."""
    to_db = 1.0 if front_end.unit == "dB" else 10 / math.log(10)
    frames = [front_end.n_frames(int(n)) for n in sources.n_samples]
    if frames != store.frames.tolist():
        wrong = next(i for i, n in enumerate(frames) if n != store.frames[i])
        return str(store.manifest["path"].iloc[wrong])
    with single_threaded():
        for start in range(0, len(store), _BATCH):
            rows = range(start, min(start + _BATCH, len(store)))
            now = compute_rows(store.n_frames, front_end, sources.channel, sources.files(rows))
            there = store.features[rows.start : rows.stop]
            for row, a, b in zip(rows, now, there, strict=True):
                if np.array_equal(a, b):
                    continue
                new, old = to_db * a.astype(np.float32), to_db * b.astype(np.float32)
                floor = old[:, : frames[row]].max() - _FLOOR_DB
                loud = (new > floor) | (old > floor)
                if np.any(np.abs(new - old)[loud] > _SAME_DB):
                    return str(store.manifest["path"].iloc[row])
    return None


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _silent(done: int, total: int) -> None:
    """Tell nobody."""
