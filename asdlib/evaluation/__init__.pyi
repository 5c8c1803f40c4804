from .intervals import (
    interval_frame as interval_frame,
    official_score as official_score,
    paired_frame as paired_frame,
    t_interval as t_interval,
)
from .metrics import (
    auc as auc,
    mauc as mauc,
    mean_metrics as mean_metrics,
    omega as omega,
    pauc as pauc,
    pooled as pooled,
)
from .scores import (
    Evaluation as Evaluation,
    evaluate as evaluate,
    evaluate_folder as evaluate_folder,
    label_scores as label_scores,
    read_score_folder as read_score_folder,
    write_score_folder as write_score_folder,
    year_of as year_of,
)
