"""From a configuration to cached runs, experiments and tables.

``config`` says what defines a run, ``run`` does one and ``result`` reads it, ``experiment`` does
many, of which the ablation is one. ``study`` fixes budgets and is what notebooks talk to, and
``report`` summarises tables.

What comes after a study is here, too: ``score`` takes recordings of any kind, ``explain`` says what
sounds wrong in them, ``listen`` hears a stream.

Importing the room does not load torch: what needs it is imported when a run begins.
"""

from asdlib.study.experiment import (
    ABLATION as ABLATION,
    Variant as Variant,
    ablation as ablation,
    experiment as experiment,
)
from asdlib.study.report import (
    adjusted as adjusted,
    compare_runs as compare_runs,
    describe_difference as describe_difference,
    describe_runs as describe_runs,
    over_seeds as over_seeds,
    overall_rows as overall_rows,
    pairwise as pairwise,
    scores_of as scores_of,
)
from asdlib.study.result import (
    RunResult as RunResult,
    load_run as load_run,
    read_scores as read_scores,
)
from asdlib.study.run import run as run
from asdlib.study.study import (
    Study as Study,
    project_folder as project_folder,
)
