"""From a configuration to cached runs, experiments and tables.

``config`` says what defines a run, ``run`` does one and ``result`` reads it, ``experiment`` does
many, of which the ablation is one. ``study`` fixes budgets and is what notebooks talk to, and
``report`` summarises tables.

What comes after a study is here, too: ``score`` takes recordings of any kind, ``explain`` says what
sounds wrong in them, ``listen`` hears a stream.

Importing the room does not load torch: what needs it is imported when a run begins.
"""

from asdlib.study.experiment import ABLATION, Variant, ablate, experiment
from asdlib.study.report import (
    adjusted,
    compare_runs,
    describe_difference,
    describe_runs,
    machine_rows,
    over_seeds,
    overall_rows,
    paired_differences,
    scores_of,
)
from asdlib.study.result import RunResult, load_run, read_scores
from asdlib.study.run import run
from asdlib.study.study import Study, check_number, project_folder

__all__ = [
    "ABLATION",
    "RunResult",
    "Study",
    "Variant",
    "ablate",
    "adjusted",
    "check_number",
    "compare_runs",
    "describe_difference",
    "describe_runs",
    "experiment",
    "load_run",
    "machine_rows",
    "over_seeds",
    "overall_rows",
    "paired_differences",
    "project_folder",
    "read_scores",
    "run",
    "scores_of",
]
