"""A data set with the layout and sizes of DCASE 2020 goes the whole way; how long each step takes.

Synthetic recordings are packed into archives with the official names and served by a mirror on this
machine; then download, features, runs and evaluation are the commands of a user, who has been told
the checksums of these archives. `--fraction 0.02` takes two clips in a hundred of each section.
The table says what was measured, and what that is for all clips where time is in proportion.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

from asdlib.data import download as downloading
from asdlib.data.sources import archives_for
from asdlib.data.synthetic import SyntheticSpec, write_corpus

CLIPS = 54_254
TRAIN, TEST = 20_119 + 16_164, 10_868 + 7_103  # of all sections
SECTIONS = 36  # six of each machine type: four of development, two of evaluation
EPOCHS = 2


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def pack(corpus: Path, mirror: Path, spec: SyntheticSpec) -> None:
    """Divide a corpus into the official archives, whose evaluation clips have no label."""
    truth = []
    for machine in spec.machine_names:
        sections = spec.sections(machine)
        truth.append(machine)
        names = {"dev": "dev_data", "train": "eval_data_train", "test": "eval_data_test"}
        zips = {
            kind: zipfile.ZipFile(
                mirror / f"{name}_{machine}.zip", "w", zipfile.ZIP_DEFLATED, True, 1
            )
            for kind, name in names.items()
        }
        numbers = dict.fromkeys(sections, 0)
        for file in sorted((corpus / machine).glob("*/*.wav")):
            label, _, section, _ = file.stem.split("_")
            split = file.parent.name
            kind, name = ("dev" if section in sections[:4] else split), file.name
            if kind == "test":
                name = f"id_{section}_{numbers[section]:08d}.wav"
                numbers[section] += 1
                truth.append(f"{name},{file.name},{int(label == 'anomaly')}")
            zips[kind].write(file, f"{machine}/{split}/{name}")
        for archive in zips.values():
            archive.close()
    (mirror / "eval_data_list.csv").write_text("\n".join(truth) + "\n")


def fetch(mirror: Path, root: Path) -> None:
    """Download from the mirror, which has the paths of the real host."""
    declared, placed = [], mirror / "served"
    for archive in archives_for("dcase2020"):
        file = placed / "records" / archive.record / "files" / archive.file
        file.parent.mkdir(parents=True, exist_ok=True)
        (mirror / archive.file).replace(file)
        md5 = hashlib.md5(file.read_bytes()).hexdigest()
        declared.append(replace(archive, md5=md5, size=file.stat().st_size))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(placed)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with patch.object(downloading, "archives_for", lambda *_: declared):
        plan = downloading.plan_download("dcase2020", root=root, base_url=url)
        downloading.download(plan)
    server.shutdown()


def asd(*words: object) -> None:
    subprocess.run(
        [sys.executable, "-m", "asdlib", *map(str, words)], check=True, stdout=subprocess.DEVNULL
    )


def run(fraction: float, folder: str | None) -> list[tuple[str, float]]:
    spent: list[tuple[str, float]] = []

    def timed(what: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        spent.append((what, time.perf_counter() - start))
        print(f"{what}: {spent[-1][1]:.1f} s", flush=True)

    in_test = round(fraction * TEST / SECTIONS / 2)
    spec = SyntheticSpec(
        n_sections=6,
        n_train=round(fraction * TRAIN / SECTIONS),
        n_test_normal=in_test,
        n_test_anomaly=in_test,
    )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        corpus, mirror, root, store = (place / n for n in ("wav", "mirror", "data", "store"))
        mirror.mkdir()
        timed("make recordings of 10 s", lambda: write_corpus(spec, corpus))
        timed("pack them", lambda: pack(corpus, mirror, spec))
        shutil.rmtree(corpus)
        timed("download, verify, unpack", lambda: fetch(mirror, root))
        truth = root / "dcase2020" / "ground_truth" / "eval_data_list.csv"
        labels = ["--ground-truth", truth]
        timed("asd features", lambda: asd("features", root, store, *labels))
        stores = ["--train", store, "--test", store]
        for system, words in {
            "statistics": [],
            "contrastive": ["--set", f"epochs={EPOCHS}"],
        }.items():
            out = place / system
            more = f", {EPOCHS} epochs" if words else ""
            timed(
                f"asd run {system}{more}",
                partial(asd, "run", system, *stores, *words, "--out", out),
            )
            timed("asd evaluate", partial(asd, "evaluate", out, "--year", 2020, *labels))
        clips = SECTIONS * (spec.n_train + 2 * in_test)
    print(f"\n{clips} clips, {100 * clips / CLIPS:.1f} % of {CLIPS}\n")
    print(f"| step | s | × {CLIPS / clips:.0f}, h |\n|---|---|---|")
    for what, seconds in spent:
        print(f"| {what} | {seconds:.1f} | {seconds * CLIPS / clips / 3600:.2f} |")
    return spent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--folder", help="where the scratch folder goes")
    given = parser.parse_args()
    run(given.fraction, given.folder)
