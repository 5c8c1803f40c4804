"""Write the golden scores: what each system gives for the smoke recordings, command by command.

Run ``python tests/golden/make_scores.py`` to make ``tests/golden/scores.json`` anew. That is right
only when a change of the scores is wanted: results kept from before then no longer compare.
"""

import hashlib
import json
import runpy
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from llvmlite.binding import get_host_cpu_name
from threadpoolctl import threadpool_limits

OUT = Path(__file__).parent / "scores.json"
LAYOUTS = ("dcase2020", "dcase2022")

CONTRASTIVE = ("contrastive", "epochs=1", "crop_frames=32", "batch_size=16")
# Its batch normalisation follows slowly: with fewer steps than that its scores are all alike.
MOBILENET = ("mobilenetv2", "epochs=1", "n_frames=48", "batch_size=8", "batch_norm_momentum=0.9")
SETTINGS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "statistics": ("dcase2020", 0, ("statistics",)),
    "statistics, pooled": ("dcase2022", 0, ("statistics", "covariance=pooled")),
    "autoencoder": ("dcase2020", 0, ("autoencoder", "epochs=1")),
    "mobilenetv2": ("dcase2022", 1, MOBILENET),
    "contrastive": ("dcase2020", 0, CONTRASTIVE),
    "contrastive, views only": (
        "dcase2020",
        1,
        (*CONTRASTIVE, "loss=nt_xent", "embedding=encoder", "backend=knn"),
    ),
    "contrastive, arcface, across domains": (
        "dcase2022",
        0,
        (*CONTRASTIVE, "classifier=arcface", "cross_domain=true"),
    ),
}
"""Name → layout of the recordings, seed, the system and its parameters."""


def asd(*words: Any) -> None:
    """Do one command as ``python -m asdlib`` does it, in this process."""
    with patch.object(sys, "argv", ["asd", *map(str, words)]):
        try:
            runpy.run_module("asdlib", run_name="__main__", alter_sys=True)
            code: Any = 0
        except SystemExit as end:
            code = end.code
    assert not code, words


def write_corpus(folder: Path, layout: str) -> dict[str, str]:
    """Write the recordings of a layout and their features; return the SHA-256 of both."""
    wav = folder / layout
    asd("synth", wav, "--profile", "smoke", "--layout", layout, "--jobs", 1)
    asd("features", wav, folder / f"{layout}-store", "--jobs", 1)
    digest = hashlib.sha256()
    for path in sorted(wav.rglob("*.wav")):
        digest.update(path.relative_to(wav).as_posix().encode() + b"\0" + path.read_bytes())
    features = (folder / f"{layout}-store" / "logmel.npy").read_bytes()
    return {"wav": digest.hexdigest(), "features": hashlib.sha256(features).hexdigest()}


def arithmetic() -> str:
    """Return what decides the last digits here: processor, vector instructions, PyTorch."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{get_host_cpu_name()}, {capability}, PyTorch {torch.__version__}"


def scores_of(folder: Path, setting: str) -> dict[str, list[float]]:
    """Run one setting on the features in `folder`; file of scores → scores in its order."""
    layout, seed, (system, *params) = SETTINGS[setting]
    store, out = folder / f"{layout}-store", folder / setting
    words = ["run", system, "--train", store, "--test", store, "--out", out, "--seed", seed]
    asd(*words, *(word for pair in params for word in ("--set", pair)))
    return {
        path.name: [float(line.rsplit(",", 1)[1]) for line in path.read_text().splitlines()]
        for path in sorted(out.glob("anomaly_score_*.csv"))
    }


def main() -> None:
    """Record everything with one thread, as the test does."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as name, threadpool_limits(1):
        folder = Path(name)
        with patch.dict("os.environ", ASDLIB_CACHE=str(folder / "cache")):
            found = {
                "arithmetic": arithmetic(),
                "corpus": {layout: write_corpus(folder, layout) for layout in LAYOUTS},
                "scores": {setting: scores_of(folder, setting) for setting in SETTINGS},
            }
    OUT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
