"""Reference solution of exercise 1. Each part replaces the cell of the same name."""

import numpy as np


# %% rates
def rates(y_true, score, threshold):
    """Share of hits, share of false alarms."""
    alarm = score > threshold
    return alarm[y_true == 1].mean(), alarm[y_true == 0].mean()


# %% area
def area(y_true, score):
    """AUC, between 0 and 1."""
    pairs = score[y_true == 1][:, None] - score[y_true == 0][None, :]
    return (pairs > 0).mean() + (pairs == 0).mean() / 2


# %% partial_area
def partial_area(y_true, score, max_fpr):
    """Standardised partial AUC."""
    thresholds = np.unique(score)[::-1]
    hits, false = np.array([rates(y_true, score, t) for t in thresholds] + [(1.0, 1.0)]).T
    inside = np.append(false[false < max_fpr], max_fpr)
    # At a vertical step of the curve several hits belong to one rate; the last one leads on.
    order = np.arange(len(false))
    last = order[false < max_fpr][-1] if (false < max_fpr).any() else 0
    nxt = last + 1
    share = (max_fpr - false[last]) / (false[nxt] - false[last])
    end = hits[last] + share * (hits[nxt] - hits[last])
    heights = np.append(hits[false < max_fpr], end)
    bare = np.sum(np.diff(inside) * (heights[1:] + heights[:-1]) / 2)
    least = max_fpr**2 / 2
    return 0.5 * (1 + (bare - least) / (max_fpr - least))


# %% threshold
def choose_threshold(normal_score, false_alarms):
    """Lowest score of a normal clip that keeps the rate."""
    kept = [t for t in normal_score if (normal_score > t).mean() <= false_alarms]
    return min(kept)
