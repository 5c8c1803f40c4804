"""Evaluation: anomaly scores in, metrics, tables and their uncertainty out.

The way through the room: ``scores`` (official score files) → ``labels`` (label and domain by file
name) → ``metrics`` (per section, by year) and ``decisions`` (precision, recall, F1) → ``means``
(averages, omega) → ``tables`` (metrics.csv, JSON, :func:`evaluate_folder`) and ``official``
(result.csv). ``intervals``, ``frame_intervals`` and ``delong`` say how certain a figure is;
``published`` and ``compare`` set it beside others. Figures are fractions from 0 to 1.

Imports numpy, pandas, scipy and scikit-learn only.
"""

from asdlib.evaluation.compare import (
    ComparisonRow,
    comparison_table,
    mean_row,
    measured_row,
    published_rows,
)
from asdlib.evaluation.decisions import (
    apply_thresholds,
    decide,
    evaluate_decisions,
    precision_recall_f1,
)
from asdlib.evaluation.delong import delong_frame, delong_test
from asdlib.evaluation.frame_intervals import bootstrap_frame, paired_frame, paired_groups
from asdlib.evaluation.intervals import bootstrap_interval, paired_bootstrap, t_interval
from asdlib.evaluation.labels import label_scores
from asdlib.evaluation.means import arithmetic_mean, harmonic_mean, mauc, omega
from asdlib.evaluation.metrics import (
    auc,
    evaluate,
    evaluate_dcase2020,
    evaluate_dcase2021,
    evaluate_dcase2022,
    pauc,
    pooled,
)
from asdlib.evaluation.official import write_result_csv
from asdlib.evaluation.published import load_published, published_per_id
from asdlib.evaluation.scores import (
    read_decision_folder,
    read_score_folder,
    write_decision_folder,
    write_score_folder,
)
from asdlib.evaluation.tables import (
    Evaluation,
    evaluate_folder,
    evaluate_frame,
    metrics_frame,
    to_json_dict,
    write_metrics_csv,
)

__all__ = [
    "ComparisonRow",
    "Evaluation",
    "apply_thresholds",
    "arithmetic_mean",
    "auc",
    "bootstrap_frame",
    "bootstrap_interval",
    "comparison_table",
    "decide",
    "delong_frame",
    "delong_test",
    "evaluate",
    "evaluate_dcase2020",
    "evaluate_dcase2021",
    "evaluate_dcase2022",
    "evaluate_decisions",
    "evaluate_folder",
    "evaluate_frame",
    "harmonic_mean",
    "label_scores",
    "load_published",
    "mauc",
    "mean_row",
    "measured_row",
    "metrics_frame",
    "omega",
    "paired_bootstrap",
    "paired_frame",
    "paired_groups",
    "pauc",
    "pooled",
    "precision_recall_f1",
    "published_per_id",
    "published_rows",
    "read_decision_folder",
    "read_score_folder",
    "t_interval",
    "to_json_dict",
    "write_decision_folder",
    "write_metrics_csv",
    "write_result_csv",
    "write_score_folder",
]
