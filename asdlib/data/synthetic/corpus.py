"""Write a synthetic corpus: WAV files in an official layout, and the truth beside them.

``OUT/<machine>/{train,test}/*.wav`` (16 kHz, mono, PCM16), in the 2022 layout also
``OUT/<machine>/attributes_SS.csv``; ``OUT/synthetic.csv`` is the clip table with the truth,
``OUT/synthetic.json`` what the corpus was made from. All is written to ``.<name>.partial`` beside
OUT and renamed at the end. The bytes depend on the spec only, not on the number of processes.
"""

import errno
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile as sf

from asdlib.data.clips import COLUMNS, clip_table
from asdlib.data.naming import parse_attributes
from asdlib.data.synthetic.render import ClipPlan, plan_clip, quantise, render_parts
from asdlib.data.synthetic.signals import RATE
from asdlib.data.synthetic.spec import SyntheticSpec
from asdlib.errors import DataError
from asdlib.files import only_process
from asdlib.workers import end_with_parent

TRUTH, SPEC = "synthetic.csv", "synthetic.json"

TRUTH_COLUMNS = (*COLUMNS, "cause", "severity", "band", "speed", "load")
"""Columns of the table: the clip table and what only a generator can know (`ClipPlan`)."""

VERSION = 1
"""Raised with every change of the generator that changes samples."""

_CHUNK = 8
_SECONDS_WORTH_A_PROCESS = 600.0
"""Starting a process takes about as long as making this much sound is worth waiting for (s)."""


def plan_corpus(spec: SyntheticSpec) -> list[ClipPlan]:
    """List all clips of a corpus, in the order of the clip table."""
    domains = ("source",) if spec.layout == "dcase2020" else ("source", "target")
    n_target = max(1, round(spec.target_share * spec.n_train))
    in_train = {"source": spec.n_train - n_target, "target": n_target}
    if len(domains) == 1:
        in_train = {"source": spec.n_train}
    plans = [
        plan_clip(spec, machine, section, split, label, index, domain=domain)
        for machine in spec.machine_names
        for section in spec.sections(machine)
        for domain in domains
        for split, label, count in (
            ("train", "normal", in_train[domain]),
            ("test", "normal", spec.n_test_normal // len(domains)),
            ("test", "anomaly", spec.n_test_anomaly // len(domains)),
        )
        for index in range(count)
    ]
    return sorted(plans, key=lambda p: (p.clip.machine, p.clip.section, p.clip.split, p.clip.clip))


def write_corpus(
    spec: SyntheticSpec,
    out: str | Path,
    *,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Write a corpus, or return its table if it is there already.

    Parameters
    ----------
    spec
        What to make.
    out
        Folder to make.
    jobs
        Processes; by default one a processor, but no more than one for ten minutes of sound each.
        With one, the work is done in this process.
    on_progress
        Called as ``on_progress(done, total)``, in clips.

    Returns
    -------
    pandas.DataFrame
        Columns `TRUTH_COLUMNS`, in the order of the clip table. ``cause`` and ``band`` are empty
        and ``severity`` is 0 for normal clips.

    Raises
    ------
    DataError
        If ``out`` holds something else or another corpus, another process writes it, or the disk
        is full. Nothing half-written is left.
    pydantic.ValidationError
        If ``spec`` was changed to something that is not allowed.
    """
    # model_copy(update=…) does not validate.
    spec = SyntheticSpec.model_validate(spec.model_dump())
    if jobs is not None and jobs < 1:
        raise DataError(f"jobs {jobs} must be at least 1")
    target = Path(out).absolute()
    with only_process(target, DataError, "writing"):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            return _existing(spec, target)
        partial = target.with_name(f".{target.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            plans = plan_corpus(spec)
            _write_audio(spec, plans, partial, jobs, on_progress)
            table = _truth_table(plans)
            _write_tables(spec, table, partial)
            if target.exists():
                target.rmdir()
            partial.replace(target)
        except BrokenProcessPool as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise DataError(
                f"a process that wrote '{target}' ended unasked; a script must call write_corpus "
                "under if __name__ == '__main__', and memory must suffice; or use jobs=1"
            ) from error
        except (OSError, sf.LibsndfileError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise _not_written(spec, target, error) from error
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return table


def _not_written(spec: SyntheticSpec, target: Path, error: Exception) -> DataError:
    size = 2 * RATE * spec.seconds * len(plan_corpus(spec)) / 1e6
    # libsndfile hides the errno of a failed write.
    parent = next((p for p in target.parents if p.exists()), Path("/"))
    full = shutil.disk_usage(parent).free < 1e6 or getattr(error, "errno", 0) == errno.ENOSPC
    if full:
        return DataError(
            f"the disk of '{target}' is full; the corpus needs {size:.0f} MB, free some space or "
            "choose another place"
        )
    return DataError(f"'{target}' cannot be written ({error}); choose another place")


def _describe(spec: SyntheticSpec) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(spec.model_dump_json())
    # The default list of machines is written out, so that both ways to say it are the same corpus.
    content["machines"] = list(spec.machine_names)
    return {"generator": VERSION, "sample_rate": RATE, "spec": content}


def _existing(spec: SyntheticSpec, target: Path) -> pd.DataFrame:
    way_out = "remove it or choose another folder"
    if not target.is_dir():
        raise DataError(f"'{target}' is a file, expected a new folder; {way_out}")
    try:
        found = json.loads((target / SPEC).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or "spec" not in found:
        raise DataError(f"folder '{target}' holds files that are no synthetic corpus; {way_out}")
    wanted = _describe(spec)
    if found != wanted:
        old = {k: v for k, v in found.items() if k != "spec"} | dict(found["spec"])
        new = {k: v for k, v in wanted.items() if k != "spec"} | dict(wanted["spec"])
        keys = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
        what = ", ".join(f"{k} {old.get(k)} instead of {new.get(k)}" for k in keys)
        raise DataError(f"folder '{target}' holds another synthetic corpus ({what}); {way_out}")
    try:
        table = read_truth(target / TRUTH)
    except (OSError, ValueError) as error:
        raise DataError(f"'{target / TRUTH}' cannot be read ({error}); {way_out}") from error
    missing = [path for path in table["path"] if not (target / path).is_file()]
    if missing:
        raise DataError(
            f"folder '{target}' lacks {len(missing)} of its {len(table)} clips, the first is "
            f"'{missing[0]}'; {way_out}"
        )
    return table


def read_truth(path: str | Path) -> pd.DataFrame:
    """Read a ``synthetic.csv`` as `write_corpus` returned it."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    numbers = {"year": "int64", "index": "int64"}
    numbers |= dict.fromkeys(("severity", "speed", "load"), "float64")
    return table.astype(numbers)[list(TRUTH_COLUMNS)]


def _truth_table(plans: Sequence[ClipPlan]) -> pd.DataFrame:
    table = clip_table(plan.clip for plan in plans)
    for column in ("cause", "severity", "band", "speed", "load"):
        values = [getattr(plan, column) for plan in plans]
        text = column in ("cause", "band")
        table[column] = pd.Series(values, dtype="object" if text else "float64")
    return table.round({"severity": 6, "speed": 6, "load": 6})


def _write_tables(spec: SyntheticSpec, table: pd.DataFrame, folder: Path) -> None:
    table.to_csv(folder / TRUTH, index=False, lineterminator="\n")
    text = json.dumps(_describe(spec), indent=2, ensure_ascii=False) + "\n"
    (folder / SPEC).write_text(text, encoding="utf-8")
    if spec.layout == "dcase2020":
        return
    for (machine, section), part in table.groupby(["machine", "section"]):
        pairs = [dict(parse_attributes(text)) for text in part["attributes"]]
        columns: dict[str, list[str]] = {"file_name": part["path"].tolist()}
        for number, key in enumerate(pairs[0], start=1):
            columns[f"d{number}p"] = [key] * len(pairs)
            columns[f"d{number}v"] = [pair[key] for pair in pairs]
        name = f"attributes_{section}.csv"
        pd.DataFrame(columns).to_csv(folder / str(machine) / name, index=False, lineterminator="\n")


def _write_audio(
    spec: SyntheticSpec,
    plans: Sequence[ClipPlan],
    folder: Path,
    jobs: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    for place in {folder / plan.clip.machine / plan.clip.split for plan in plans}:
        place.mkdir(parents=True, exist_ok=True)
    report = on_progress or (lambda done, total: None)
    chunks = [plans[start : start + _CHUNK] for start in range(0, len(plans), _CHUNK)]
    worth = max(1, int(len(plans) * spec.seconds / _SECONDS_WORTH_A_PROCESS))
    n_jobs = min(jobs or min(os.cpu_count() or 1, worth), len(chunks))
    report(0, len(plans))
    done = 0
    for written in _written(spec, chunks, folder, n_jobs):
        done += written
        report(done, len(plans))


def _written(
    spec: SyntheticSpec, chunks: Sequence[Sequence[ClipPlan]], folder: Path, n_jobs: int
) -> Iterator[int]:
    if n_jobs == 1:
        for chunk in chunks:
            yield write_clips(spec, chunk, folder)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_jobs, mp_context=context, initializer=_start_worker)
    try:
        for future in as_completed([pool.submit(write_clips, spec, c, folder) for c in chunks]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the main process, which then removes what was written."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def write_clips(spec: SyntheticSpec, plans: Sequence[ClipPlan], folder: Path) -> int:
    """Render and write some clips of a corpus; returns their number."""
    for plan in plans:
        clip = plan.clip
        parts = render_parts(
            spec,
            clip.machine,
            clip.section,
            clip.split,
            clip.label,
            clip.index,
            domain=clip.domain,
        )
        sf.write(folder / clip.path, quantise(parts.audio), RATE, subtype="PCM_16")
    return len(plans)
