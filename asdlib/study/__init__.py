"""From a configuration to cached runs, tables and executed notebooks.

``config`` says what defines a run, ``run`` does one and ``result`` reads it, ``sweep`` does many,
``profiles`` fix budgets, ``study`` is what notebooks talk to, ``report`` turns tidy results into
what a reader sees, and ``notebooks`` runs and renders them.
"""

from asdlib.study.result import RunResult, load_run, read_scores
from asdlib.study.run import run
from asdlib.study.study import Study

__all__ = ["RunResult", "Study", "load_run", "read_scores", "run"]
