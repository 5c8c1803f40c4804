"""Evaluation: anomaly scores in, metrics, tables and their uncertainty out.

In the order of use: ``scores`` reads, writes and labels official score files, ``metrics`` computes
figures of arrays and of each section, ``tables`` puts them into one :class:`Evaluation`
(:func:`evaluate`, :func:`evaluate_folder`), ``intervals`` estimates their uncertainty (bootstrap,
paired tests, DeLong, Student t), ``published`` holds figures that others have printed. Figures are
fractions from 0 to 1.
"""

from asdlib.evaluation.intervals import (
    bootstrap_frame,
    delong_frame,
    delong_test,
    paired_frame,
    t_interval,
)
from asdlib.evaluation.metrics import (
    arithmetic_mean,
    auc,
    harmonic_mean,
    mauc,
    mean_metrics,
    omega,
    pauc,
    pooled,
    precision_recall_f1,
)
from asdlib.evaluation.published import load_published
from asdlib.evaluation.scores import (
    label_scores,
    read_score_folder,
    read_truth,
    write_score_folder,
)
from asdlib.evaluation.tables import Evaluation, evaluate, evaluate_folder

__all__ = [
    "Evaluation",
    "arithmetic_mean",
    "auc",
    "bootstrap_frame",
    "delong_frame",
    "delong_test",
    "evaluate",
    "evaluate_folder",
    "harmonic_mean",
    "label_scores",
    "load_published",
    "mauc",
    "mean_metrics",
    "omega",
    "paired_frame",
    "pauc",
    "pooled",
    "precision_recall_f1",
    "read_score_folder",
    "read_truth",
    "t_interval",
    "write_score_folder",
]
