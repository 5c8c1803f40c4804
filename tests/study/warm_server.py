"""One server process that imports torch and Lightning once and forks warm processes."""

import multiprocessing.forkserver
import os
from multiprocessing import get_context

MODULES = [
    "asdlib.cli",
    "asdlib.features.build",
    "asdlib.study.experiment",
    "asdlib.baselines.autoencoder",
    "asdlib.baselines.statistics",
    "asdlib.method.contrastive",
]


def start_server() -> None:
    """Start the server, unless it runs; its processes use one thread."""
    before = dict(os.environ)
    os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")})
    get_context("forkserver").set_forkserver_preload(MODULES)
    multiprocessing.forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(before)
