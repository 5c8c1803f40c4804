"""One shape for every system: the contrastive method, the baselines, the statistical reference.

A system is constructed with its parameters, sees the normal training clips once (``fit``), and
gives one anomaly score a clip (``score``); higher is more anomalous. Its state goes to a folder
with ``model.json`` and ``model.safetensors`` and comes back from there.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel
from safetensors import SafetensorError

from asdlib.errors import RunError
from asdlib.features import Rows

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``."""


class AnomalyDetector(Protocol):
    """What every system can do."""

    name: str
    params: BaseModel
    seed: int

    def fit(
        self, rows: Rows, *, workdir: Path | None = None, progress: Progress | None = None
    ) -> Self:
        """Learn what normal sounds like.

        Parameters
        ----------
        rows
            Normal training clips, of one or several machines and sections.
        workdir
            Folder for checkpoints, from which an interrupted training goes on.
        progress
            Told how far the work is.
        """
        ...

    def score(self, rows: Rows) -> np.ndarray:
        """Give anomaly scores, shape (N,), float64; higher is more anomalous.

        Raises
        ------
        RunError
            If a clip belongs to a section that was not in training.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``model.safetensors`` into `folder`."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote."""
        ...


def section_keys(manifest: pd.DataFrame) -> np.ndarray:
    """Name the section of every row as ``machine/section``, shape (N,)."""
    keys: np.ndarray = (manifest["machine"] + "/" + manifest["section"]).to_numpy(dtype=object)
    return keys


def check_sections(known: Iterable[str], manifest: pd.DataFrame) -> None:
    """Refuse rows of sections that the system was not fitted on.

    Raises
    ------
    RunError
        Naming the first unknown section, the known ones and the way out.
    """
    known = sorted(set(known))
    for key in sorted(set(section_keys(manifest)) - set(known)):
        machine, section = key.split("/")
        of_machine = [name.split("/")[1] for name in known if name.startswith(f"{machine}/")]
        if of_machine:
            raise RunError(
                f"section '{section}' is not in the training rows of '{machine}' "
                f"(known: {', '.join(of_machine)}); train on it or leave it out of the test rows"
            )
        machines = sorted({name.split("/")[0] for name in known})
        raise RunError(
            f"machine '{machine}' has no training rows (known: {', '.join(machines)}); "
            "train on it, or score other machines only (--machine)"
        )


@contextmanager
def reading_model(folder: Path) -> Iterator[None]:
    """Turn what a missing, damaged or foreign model raises while it is read into one line.

    Raises
    ------
    RunError
        Naming `folder`, what is wrong with it, and the way out.
    """
    try:
        yield
    except KeyError as error:
        reason = f"it lacks {error}"
    except OSError as error:
        reason = f"{Path(error.filename).name}: {error.strerror}" if error.filename else str(error)
    except (ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).split("\n", 1)[0].strip()
    else:
        return
    raise RunError(
        f"'{folder}' holds no readable model ({reason}); train again with a fresh output folder"
    )
