"""Take a synthetic data set of the official size of DCASE 2020 through all stages and time each.

Some clips of each machine ID are rendered; all others are copies of these, rotated by a random
time, with another gain and other noise, so that no two files are alike. Names, lengths and counts
are the official ones. A machine ID that the synthetic machines lack sounds like one that they have.
The clips are packed into the official archives and served by a local mirror. Download, feature
extraction, runs and evaluation are then done by the commands that a user types; only the checksums
are those of these archives.

A finished stage is not repeated, and files that no later stage needs are deleted. ``--fraction
0.05`` keeps five clips in a hundred of each kind. ``whole.csv`` in the folder has one row per
stage: wall-clock time, processor time, peak memory of the command (without pages of files), and the
disk space in use afterwards.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import wave
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from asdlib.data import download as downloading
from asdlib.data.naming import EVALUATION_IDS_2020
from asdlib.data.sources import archives_for
from asdlib.data.synthetic import SyntheticSpec, render_clip
from benchmarks.memory import anonymous

RENDERED = {"normal": 10, "anomaly": 5}
"""Clips of each machine ID that are rendered."""

ARCHIVES = {"dev": "dev_data", "train": "eval_data_train", "test": "eval_data_test"}
EPOCHS = 1


def official_counts() -> pd.DataFrame:
    """Clips by ``machine, archive, split, section, label``; sums are divided evenly."""
    with (files("asdlib.data") / "official_counts.csv").open() as table:
        rows = pd.read_csv(table, dtype={"section": str}).query("year == 2020")
    found = []
    for row in rows.itertuples():
        development = row.subset == "development"
        machines = EVALUATION_IDS_2020 if row.machine == "*" else [row.machine]
        groups = [
            (machine, "dev" if development else row.split, row.split, section, label)
            for machine in machines
            for section in sections_of(machine, row.section, development=development)
            for label in (("normal", "anomaly") if row.label == "*" else (row.label,))
        ]
        share, more = divmod(row.clips, len(groups))
        found += [(*group, share + (i < more)) for i, group in enumerate(groups)]
    table = pd.DataFrame(found, columns=["machine", "archive", "split", "section", "label", "n"])
    return table.groupby(list(table.columns[:-1]), as_index=False).sum()


def sections_of(machine: str, wanted: str, *, development: bool) -> list[str]:
    """List the IDs that a row of the official counts is about."""
    if wanted != "*":
        return [wanted]
    if not development:
        return list(EVALUATION_IDS_2020[machine])
    first, n = (1, 3) if machine == "ToyConveyor" else (1, 4)
    return [f"{first + i:02d}" for i in range(n)]


@cache
def sounds(machine: str, section: str, label: str) -> np.ndarray:
    """Render some clips of a machine ID, (clips, samples), 16 bit."""
    seconds = 11 if machine == "ToyCar" else 10
    known = SyntheticSpec(n_sections=6, seconds=seconds).sections(machine)
    spec = SyntheticSpec(n_sections=6, seconds=seconds, seed=int(section))
    place = machine, section if section in known else known[-1], "test", label
    clips = [render_clip(spec, *place, index) for index in range(RENDERED[label])]
    return np.asarray(np.rint(np.stack(clips) * 32767), dtype=np.int16)


def recordings(rendered: np.ndarray, n: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Make `n` different WAV files out of rendered clips."""
    size = rendered.shape[1]
    noise = rng.normal(0, 10, 4 * size).astype(np.float32)
    for i in range(n):
        at = rng.integers(3 * size)
        clip = np.roll(rendered[i % len(rendered)], rng.integers(size)) * rng.uniform(0.7, 1.0)
        file = io.BytesIO()
        with wave.open(file, "wb") as sink:
            sink.setparams((1, 2, 16000, size, "NONE", ""))
            sink.writeframes(np.rint(clip + noise[at : at + size]).astype("<i2").tobytes())
        yield file.getvalue()


def make(place: Path, fraction: float) -> None:
    """Write the official archives and the list of labels, and keep their checksums."""
    mirror, truth = place / "mirror", []
    shutil.rmtree(mirror, ignore_errors=True)
    folders = {}
    for archive in archives_for("dcase2020"):
        folders[archive.file] = mirror / "records" / archive.record / "files"
        folders[archive.file].mkdir(parents=True, exist_ok=True)
    for machine, of_machine in official_counts().groupby("machine"):
        truth.append(str(machine))
        for kind, groups in of_machine.groupby("archive"):
            file = f"{ARCHIVES[kind]}_{machine}.zip"
            with zipfile.ZipFile(
                folders[file] / file, "w", zipfile.ZIP_DEFLATED, compresslevel=1
            ) as archive:
                numbers: dict[str, int] = {}
                for row in groups.itertuples():
                    rng = np.random.default_rng([*f"{machine}{row.Index}".encode()])
                    n = max(2, round(fraction * row.n))
                    made = recordings(sounds(str(machine), row.section, row.label), n, rng)
                    for i, content in enumerate(made):
                        name = original = f"{row.label}_id_{row.section}_{i:08d}.wav"
                        if kind == "test":  # its label is not told
                            number = numbers.setdefault(row.section, 0)
                            numbers[row.section] += 1
                            name = f"id_{row.section}_{number:08d}.wav"
                            truth.append(f"{name},{original},{int(row.label == 'anomaly')}")
                        archive.writestr(f"{machine}/{row.split}/{name}", content)
    (folders["eval_data_list.csv"] / "eval_data_list.csv").write_text("\n".join(truth) + "\n")
    declared = {}
    for file, folder in folders.items():
        with (folder / file).open("rb") as stream:
            digest = hashlib.file_digest(stream, "md5").hexdigest()
        declared[file] = {"md5": digest, "size": (folder / file).stat().st_size}
    (place / "declared.json").write_text(json.dumps(declared))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def fetch(place: Path) -> None:
    """Download from the mirror, which has the paths of the real host."""
    facts = json.loads((place / "declared.json").read_text())
    declared = [replace(archive, **facts[archive.file]) for archive in archives_for("dcase2020")]
    served = partial(Quiet, directory=str(place / "mirror"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), served)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with patch.object(downloading, "archives_for", lambda *_: declared):
        plan = downloading.plan_download("dcase2020", root=place / "data", base_url=url)
        downloading.download(plan)
    server.shutdown()
    shutil.rmtree(place / "mirror")


def asd(*words: object) -> int:
    """Run a command as a user would; return the most memory that it held, in bytes."""
    command = [sys.executable, "-m", "asdlib", *map(str, words)]
    held = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            held = max(held, anonymous(process.pid))
            time.sleep(0.1)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return held


def spent() -> float:
    """Seconds of a core that this process and its ended children have taken."""
    return sum(os.times()[:4])


def run(place: Path, fraction: float) -> pd.DataFrame:
    """Run the stages that are not finished yet."""
    place.mkdir(parents=True, exist_ok=True)
    table, store, root = place / "whole.csv", place / "store", place / "data"
    labels = ["--ground-truth", root / "dcase2020" / "ground_truth" / "eval_data_list.csv"]
    stores = ["--train", store, "--test", store]
    stages: dict[str, Callable[[], Any]] = {
        "make and pack recordings": lambda: make(place, fraction),
        "download, verify, unpack": lambda: fetch(place),
        "asd features": lambda: asd("features", root, store, "--jobs", 1, *labels),
    }
    if fraction == 1:
        stages["asd data check"] = lambda: asd("data", "check", root, "--jobs", 1)
    for system, words in {"statistics": [], "contrastive": ["--set", f"epochs={EPOCHS}"]}.items():
        out = ["--out", place / system]
        stages[f"asd run {system}{', 1 epoch' if words else ''}"] = partial(
            asd, "run", system, *stores, *words, *out
        )
        stages[f"asd evaluate ({system})"] = partial(
            asd, "evaluate", place / system, "--year", 2020, *labels
        )
    rows = pd.read_csv(table).to_dict("records") if table.is_file() else []
    for stage, work in stages.items():
        if stage in [row["stage"] for row in rows]:
            continue
        begun, processor = time.perf_counter(), spent()
        held = work()
        seconds = round(time.perf_counter() - begun, 1), round(spent() - processor, 1)
        on_disk = sum(path.lstat().st_size for path in place.rglob("*") if path.is_file())
        row = {"stage": stage, "s": seconds[0], "s of a core": seconds[1]}
        row |= {"MiB": held and held >> 20, "GB on disk": round(on_disk / 1e9, 1)}
        rows.append(row)
        pd.DataFrame(rows).to_csv(table, index=False)
        print(*row.values(), sep="\t", flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path("build/whole_dcase2020"))
    given = parser.parse_args()
    print(run(given.folder, given.fraction).to_string(index=False))
