"""A threshold for one section of a finished run, from its held-out normal clips alone."""

import sys

import numpy as np

from asdlib.baselines import gamma_threshold
from asdlib.study import read_scores


def thresholds(run: str, machine: str, section: str, false_alarms: float) -> dict[str, float]:
    """Give the score that a share of normal clips exceeds: counted, and by a gamma fit."""
    scores = read_scores(run)
    chosen = (scores["machine"] == machine) & (scores["section"] == section)
    normal = scores.loc[chosen & (scores["label"] == "normal"), "anomaly_score"].to_numpy()
    return {
        "quantile": float(np.quantile(normal, 1 - false_alarms)),
        "gamma": gamma_threshold(normal, 1 - false_alarms),
    }


if __name__ == "__main__":
    for name, value in thresholds(*sys.argv[1:4], float(sys.argv[4])).items():
        print(f"{name}: alarm above {value:.4g}")
