"""Build a store from recordings: all headers checked first, several threads, resumable.

Blocks of rows are appended to an array in a hidden folder beside the store; a build that was killed
goes on where it ends. Then the folder gets its name. What a store was built from is in its
``source.json``: asking for the same again costs nothing, another one of its name is an error.

Threads are enough: reading, arithmetic and the Fourier transform all release Python's lock.

Of a near and a far microphone, what the far one hears of the noise can be taken away. The noise
reaches both along different paths. If a path is short against a window, it is one complex factor
w(f) at each frequency f, and ``near - w far`` is left of the noise. Of the spectra N(t, f) and
F(t, f) of normal clips, frame t, least squares find ::

    w(f) = sum_t N(t, f) F*(t, f) / sum_t |F(t, f)|^2

What the far microphone hears of the machine itself, its leakage, makes w too small for the noise
where the machine is loud, and takes a part of the machine away.

Shapes: N clips, S samples, K frequencies, F mel bins, T frames.
"""

import hashlib
import json
import math
import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import soundfile
import torch
from numpy.typing import NDArray
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann
from torchaudio.functional import resample as resample_waveform

from asdlib.data.check import Header, read_headers
from asdlib.data.clips import index_folder, index_own_folder
from asdlib.errors import DataError, StoreError
from asdlib.features.front_end import FrontEnd, differences, preset as find_preset
from asdlib.features.logmel import LogMel
from asdlib.features.store import FeatureStore, fill_store, rows_written
from asdlib.files import is_taken, only_process, read_json, whole_folder

Far = Literal["keep", "subtract"]

SOURCE, _REQUEST = "source.json", "request.json"

_BATCH = 32
_MOST_TAPS = 2**22
"""Size of the filter bank of a resampler, phases times taps: 70,560 from 44,100 to 16,000 Hz."""
_SAME_DB, _FLOOR_DB = 0.15, 100.0
"""Two machines round differently: by less than this, and more only this far below a clip's peak."""

WINDOW, HOP = 1024, 256
Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The near and the far channel, (S,) each."""


def build_store(
    wav_root: str | Path,
    out: str | Path,
    *,
    preset: str | FrontEnd = "dcase2020",
    jobs: int | None = None,
    resample: bool = False,
    channel: int | None = None,
    far: Far | None = None,
    table: pd.DataFrame | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
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
        Threads that compute; by default one per processor.
    resample
        Convert files of another sample rate, with a warning, instead of refusing them.
    channel
        Which channel to take of files that have several, from 0.
    far
        Of files with a near and a far microphone, channels 0 and 1: "keep" adds each far channel as
        a row of split ``far``, which no system trains on or scores; "subtract" takes what it tells
        about the noise away from the near one, fitted on the normal training clips of each machine
        and section.
    table
        The clips to take, as `asdlib.data.clips.index_folder` returns them for `wav_root`; for a
        part of the folder, another year, or with ground truth joined. By default all.
    on_progress
        Called as ``on_progress(done, total)``, in clips.

    Returns
    -------
    FeatureStore
        Its rows are in the order of the clip table; its columns are those of the clip table and
        ``frames``.

    Raises
    ------
    DataError
        Naming a file that is broken, or has another sample rate or number of channels, or a
        section without training clips to fit on; nothing is left behind.
    StoreError
        If `out` holds something else, the disk is full, or another process builds the same store.
    KeyboardInterrupt
        When interrupted; finished rows are kept, and the same call goes on from there.
    """
    root, out = Path(wav_root), Path(out)
    front_end = find_preset(preset)
    clips = index_folder(root) if table is None else table.reset_index(drop=True)
    if far and channel is not None:
        raise StoreError(f"far='{far}' takes channels 0 and 1; leave channel {channel} out")
    if far == "keep":
        clips = pd.concat([clips, clips.assign(split="far", label="")], ignore_index=True)
    sources = inspect_sources(root, clips, front_end, channel=channel, resample=resample, far=far)
    request = sources.request(resample)
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = min(jobs or own or 1, len(clips))
    with only_process(out, StoreError, "building"):
        if is_taken(out):
            return _same_store(out, request, sources)
        foreign = sum(header.rate != front_end.sample_rate for header in sources.headers)
        if foreign:
            resampled = f"{foreign} of {len(clips)} files are resampled to"
            warnings.warn(f"{resampled} {front_end.sample_rate} Hz", stacklevel=2)
        with whole_folder(out, StoreError, resume=True) as partial:
            try:
                _fill(partial, request, sources, threads, on_progress)
            except Exception:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    return FeatureStore.open(out, check=False)


def own_store(
    folder: str | Path, *, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Build the store of a folder of recordings beside it, or find the one that is there.

    For names see `asdlib.data.index_own_folder`. Files of other sample rates are resampled, and the
    first of several channels is taken. The name of the store holds a key of all that and of the
    files: other recordings give another store. Errors are those of `build_store`.
    """
    root, front_end = Path(folder).absolute(), FrontEnd()
    table = index_own_folder(root)
    sources = inspect_sources(root, table, front_end, channel=0, resample=True)
    key = hashlib.sha256(json.dumps(sources.request(True), sort_keys=True).encode()).hexdigest()
    out = root.with_name(f"{root.name}-store-{key[:8]}")
    build_store(root, out, resample=True, channel=0, table=table, on_progress=on_progress)
    return out


@dataclass(frozen=True)
class Sources:
    """Recordings that were found fit to become a store; N clips, see `build_store`."""

    root: Path
    table: pd.DataFrame
    front_end: FrontEnd
    n_samples: NDArray[np.int64]
    """Samples of each clip after resampling, shape (N,)."""
    headers: tuple[Header, ...]
    channel: int | None
    far: Far | None = None

    @cached_property
    def factors(self) -> dict[str, NDArray[np.complex128]]:
        """What to subtract of the far channel, by "machine/section"; empty if it is not asked."""
        if self.far != "subtract":
            return {}
        keys = (self.table["machine"] + "/" + self.table["section"]).to_numpy()
        normal = ((self.table["split"] == "train") & (self.table["label"] != "anomaly")).to_numpy()
        if lost := sorted(set(keys) - set(keys[normal])):
            raise DataError(
                f"'{lost[0]}' has no normal training clips to fit the far channel on; give a "
                "folder that holds them too, or leave the far channel as it is"
            )
        return {
            key: fit_far(map(self.pair, np.flatnonzero(normal & (keys == key)).tolist()))
            for key in sorted(set(keys))
        }

    def pair(self, row: int) -> Pair:
        """Read near and far channel of a clip, full scale 1.0."""
        path = f"{self.root}/{self.table['path'].iloc[row]}"
        near, far = (decode(path, self.headers[row], channel) for channel in (0, 1))
        return near, far

    @property
    def described(self) -> dict[str, Any]:
        """What ``feature.json`` says of the front end."""
        subtracted = {"far": self.far} if self.far == "subtract" else {}
        return self.front_end.describe() | subtracted

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        """Frames of each clip, shape (N,)."""
        return np.array([self.front_end.n_frames(int(n)) for n in self.n_samples])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (N, F, T) of the store's array."""
        return len(self.table), self.front_end.n_mels, int(self.frames.max())

    def request(self, resample: bool) -> dict[str, Any]:
        """Return what tells this store from others, without reading any sample."""
        text = self.table.to_csv(index=False, lineterminator="\n")
        state = hashlib.sha256()
        for header in self.headers:
            state.update(f"{header.size} {header.mtime_ns}\n".encode())
        return {
            "front_end": self.described,
            "channel": self.channel,
            "resample": resample,
            "clips": len(self.table),
            "clip_table": hashlib.sha256(text.encode()).hexdigest(),
            "file_states": state.hexdigest(),
        }

    def compute(self, rows: range) -> NDArray[np.float16]:
        """Compute the log-mels of some rows, zeros after the end of each: (rows, F, T)."""
        block = np.zeros((len(rows), *self.shape[1:]), dtype=np.float16)
        rate, transform = self.front_end.sample_rate, transform_of(self.front_end)
        clips = self.table.iloc[rows.start : rows.stop]
        with torch.inference_mode():
            for out, row, clip in zip(
                torch.from_numpy(block), rows, clips.itertuples(), strict=True
            ):
                header = self.headers[row]
                if self.factors:
                    factors = self.factors[f"{clip.machine}/{clip.section}"]
                    waveform = subtract_far(self.pair(row), factors)
                else:
                    channel = 1 if clip.split == "far" else self.channel
                    waveform = decode(f"{self.root}/{clip.path}", header, channel)
                if header.rate != rate:
                    original = torch.from_numpy(waveform)
                    waveform = resample_waveform(original, header.rate, rate).numpy()
                out[:, : self.frames[row]] = transform.of_clip(waveform)
        return block


def inspect_sources(
    root: Path,
    table: pd.DataFrame,
    front_end: FrontEnd,
    *,
    channel: int | None,
    resample: bool,
    far: Far | None = None,
) -> Sources:
    """Look at the headers of all files before any work starts; see `build_store`."""
    paths = table["path"].tolist()
    found = list(read_headers([f"{root}/{path}" for path in paths]))
    broken = [(p, h.what) for p, h in zip(paths, found, strict=True) if not isinstance(h, Header)]
    if broken:
        more = f" (and {len(broken) - 1} more such files)" if len(broken) > 1 else ""
        raise DataError(f"file '{broken[0][0]}' {broken[0][1]}{more}")
    headers = tuple(header for header in found if isinstance(header, Header))
    rates, channels, lengths = np.array([(h.rate, h.channels, h.frames) for h in headers]).T
    rate, shortest, at = front_end.sample_rate, front_end.shortest, channel or 0
    n_samples = -(-lengths * rate // rates)
    taps = rates * rate // np.gcd(rates, rate) ** 2
    one = (channels == 1) | (far is not None) | (channel is not None)
    checks = [
        ((rates == rate) | resample, rates, f"Hz, expected {rate} Hz; resample it (--resample)"),
        (taps <= _MOST_TAPS, rates, f"Hz, too odd a ratio to {rate} Hz; convert it first"),
        ((channels == 2) | (not far), channels, "channels, --far needs two; leave that out"),
        (one, channels, "channels, expected one; say which (--channel 0), or use --far"),
        ((at >= 0) & (at < channels), channels, f"channels, counted from 0, and no channel {at}"),
        (n_samples >= shortest, n_samples, f"samples, expected {shortest} or more; leave it out"),
    ]
    for fine, values, text in checks:
        if not fine.all():
            wrong = int(np.argmin(fine))
            raise DataError(f"file '{paths[wrong]}' has {values[wrong]} {text}")
    return Sources(root, table, front_end, n_samples, headers, channel, far)


def decode(file: str, header: Header, channel: int | None) -> NDArray[np.float32]:
    """Read one channel of a file: a waveform (S,), full scale 1.0."""
    try:
        with soundfile.SoundFile(file) as stream:
            # 16-bit samples are read as they are: libsndfile takes five times longer to scale them.
            dtype = "int16" if stream.subtype == "PCM_16" else "float32"
            samples = stream.read(dtype=dtype, always_2d=True)
    except soundfile.SoundFileError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(
            f"file '{file}' cannot be decoded ({reason}); fetch or record it again"
        ) from error
    if len(samples) != header.frames:
        raise DataError(
            f"file '{file}' ends after {len(samples)} of {header.frames} samples; fetch or record "
            "it again"
        )
    scale = 1.0 if samples.dtype == np.float32 else 1 / 32768
    waveform: NDArray[np.float32] = np.multiply(samples[:, channel or 0], scale, dtype=np.float32)
    return waveform


transform_of = cache(LogMel)
"""The transform of a front end, one for all threads."""


def _fill(
    folder: Path,
    request: dict[str, Any],
    sources: Sources,
    jobs: int,
    on_progress: Callable[[int, int], None],
) -> None:
    """Write all files of the store into `folder`, going on with what is in it already."""
    asked, text = folder / _REQUEST, json.dumps(request, indent=2) + "\n"
    if not asked.exists() or asked.read_text(encoding="utf-8") != text:
        shutil.rmtree(folder)
        folder.mkdir()
        asked.write_text(text, encoding="utf-8")
    done = rows_written(folder, sources.shape)
    on_progress(done, len(sources.table))
    with closing(_computed(sources, done, jobs, on_progress)) as blocks:
        manifest = sources.table.assign(frames=sources.frames)
        fill_store(folder, manifest, sources.described, sources.shape, blocks)
    asked.rename(folder / SOURCE)


def _computed(
    sources: Sources,
    first: int = 0,
    jobs: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Generator[NDArray[np.float16], None, None]:
    """Yield blocks of log-mels from row `first` on, computed in `jobs` threads.

    `on_progress` is called for a block once the next one is asked for.
    """
    _ = sources.factors  # before there are threads that would each fit them
    n, before = len(sources.table), torch.get_num_threads()
    waiting: deque[Future[NDArray[np.float16]]] = deque()
    pool = ThreadPoolExecutor(jobs, initializer=_start_thread)
    try:
        starts = iter(range(first, n, _BATCH))
        done = first
        while True:
            # Three batches per thread keep it busy while the disk is waited for, and memory does
            # not grow with N.
            for start in islice(starts, 3 * jobs - len(waiting)):
                waiting.append(pool.submit(sources.compute, range(start, min(start + _BATCH, n))))
            if not waiting:
                return
            block = waiting.popleft().result()
            yield block
            done += len(block)
            on_progress(done, n)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def _start_thread() -> None:
    """Prepare a thread: once a large block was freed, glibc keeps blocks, which halves the time."""
    torch.set_num_threads(1)  # the threads share the processors
    torch.empty(7_000_000)


def _same_store(out: Path, request: dict[str, Any], sources: Sources) -> FeatureStore:
    """Open what is at `out` if it is what `request` asks for."""
    way_out = "delete it or choose another name"
    if not (out / SOURCE).exists():
        raise StoreError(f"'{out}' exists and was not built from recordings; {way_out}")
    built = read_json(out / SOURCE, StoreError, way_out)
    if not (request.keys() <= built.keys() and isinstance(built["front_end"], dict)):
        raise StoreError(f"'{out / SOURCE}' is not what a build has written; {way_out}")
    there, asked = (
        r["front_end"] | {key: r[key] for key in ("channel", "resample")} for r in (built, request)
    )
    if differ := differences(there, asked):
        raise StoreError(f"store '{out}' was built otherwise, then and now: {differ}; {way_out}")
    if built["clip_table"] != request["clip_table"]:
        raise StoreError(
            f"store '{out}' was built from other clips: {built['clips']}, now {request['clips']}, "
            f"or others of the same number; {way_out}"
        )
    store = FeatureStore.open(out)
    # Files that were only copied have other times but give the same features.
    if built["file_states"] != request["file_states"]:
        other = _first_other(store, sources)
        if other is not None:
            raise StoreError(
                f"store '{out}' was built from another recording of the name '{other}'; {way_out}"
            )
    return store


def _first_other(store: FeatureStore, sources: Sources) -> str | None:
    """Return the path of the first file that does not give the features of its row, or None."""
    same = sources.frames == store.frames
    if same.all():
        to_db = 1.0 if sources.front_end.unit == "dB" else 10 / math.log(10)
        with closing(_computed(sources)) as blocks:
            rows = zip((row for block in blocks for row in block), store.features, strict=True)
            for row, pair in enumerate(rows):
                new, old = (to_db * x[:, : store.frames[row]].astype(np.float32) for x in pair)
                quiet = np.maximum(new, old) <= old.max() - _FLOOR_DB
                same[row] = np.all(quiet | (np.abs(new - old) <= _SAME_DB))
    return None if same.all() else str(store.manifest["path"].iloc[int(np.argmin(same))])


@cache
def _transform() -> ShortTimeFFT:
    return ShortTimeFFT(hann(WINDOW, sym=False), HOP, fs=1.0)


def fit_far(clips: Iterable[Pair]) -> NDArray[np.complex128]:
    """Find the factor of each frequency, (K,), from normal clips; 0 where the far one is silent.

    Notes
    -----
    A cheap rival of networks that listen to both microphones: kasahart/asd-experiments report 62.8
    without and 66.8 with it for a frozen network on the evaluation set of 2026.
    """
    n_frequencies = WINDOW // 2 + 1
    cross = np.zeros(n_frequencies, dtype=np.complex128)
    power = np.zeros(n_frequencies)
    for clip in clips:
        near, far = (_transform().stft(channel) for channel in clip)
        cross += (near * far.conj()).sum(axis=1)
        power += np.square(np.abs(far)).sum(axis=1)
    return np.divide(cross, power, out=np.zeros_like(cross), where=power > 0)


def subtract_far(clip: Pair, factors: NDArray[np.complex128]) -> NDArray[np.float32]:
    """Return the near channel without what the far one tells about it, (S,)."""
    near, far = (_transform().stft(channel) for channel in clip)
    left = _transform().istft(near - factors[:, None] * far, k1=len(clip[0]))
    return np.asarray(left, dtype=np.float32)
