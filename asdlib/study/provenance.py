"""Where a result comes from: the machine, the packages, the device."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

PACKAGES = (
    "asdlib",
    "lightning",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "soundfile",
    "torch",
    "torchaudio",
)


def device_kind() -> Literal["cpu", "cuda", "mps"]:
    """Kind of device that trainings will use here."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def describe_environment() -> dict[str, Any]:
    """Versions and hardware, for ``run.json``."""
    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    kind = device_kind()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if kind == "cuda" else kind,
        "packages": versions,
    }
