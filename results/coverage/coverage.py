"""How often do 95 % intervals cover the truth? Makes ``coverage.csv`` beside this file anew.

Call:  python results/coverage/coverage.py  (about 6 minutes of one core)

Test sets are drawn from distributions whose AUC and pAUC are known, each with four sections of 50
normal and 132 anomalous clips, the size of the ToyCar development set of this study. Every method
gives an interval for each section and for the mean of the four. *Systems* are scored once;
*differences* are of two systems that have scored the same clips, trained with three seeds each, and
then with one, where the truth is that of these very trainings.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special, stats

from asdlib.evaluation.intervals import standard_error, t_interval, without_each
from asdlib.study.result import Results, write_table

Floats = NDArray[np.float64]
SETS, RESAMPLES, SECTIONS, SEEDS = 1000, 500, 4, 3
NORMAL, ANOMALOUS, RATE = 50, 132, 0.1
Y = np.repeat([0, 1], [NORMAL, ANOMALOUS])
LUCK = 0.1  # standard deviation between trainings of the distance of both distributions
Z = stats.norm.ppf(0.975)
STRATA = list(
    np.split(np.arange(SECTIONS * Y.size), np.cumsum(SECTIONS * [NORMAL, ANOMALOUS])[:-1])
)


def standardised(area: Floats) -> Floats:
    """Bring the area below a false-positive rate of `RATE` to the scale of McClish."""
    least = RATE**2 / 2
    return 0.5 * (1 + (area - least) / (RATE - least))


def true_figures(true_rate: Callable[[Floats], Floats]) -> tuple[float, float]:
    """Return AUC and pAUC of a ROC curve."""
    u = (np.arange(200_000) + 0.5) / 200_000
    return true_rate(u).mean(), float(standardised(RATE * true_rate(RATE * u).mean()))


def shift_of(auc: float) -> float:
    """Distance of two normal distributions of variance 1 with this AUC."""
    return float(np.sqrt(2) * stats.norm.ppf(auc))


# Systems: how scores are drawn, (sections, clips), and the ROC curve of all that could be drawn.
NORMALS, EASY, HARD = stats.gamma(3), stats.gamma(3, loc=8, scale=2), stats.gamma(3, scale=1.3)


def skewed(rng: np.random.Generator) -> Floats:
    """Scores like distances, skewed to the right; one anomaly in seven is hardly heard."""
    shape = SECTIONS, Y.size
    hard = rng.random(shape) < 0.15
    anomalous = np.where(hard, HARD.rvs(shape, rng), EASY.rvs(shape, rng))
    return np.where(Y == 1, anomalous, NORMALS.rvs(shape, rng))


def skewed_rate(rate: Floats) -> Floats:
    """True-positive rate of `skewed`."""
    threshold = NORMALS.isf(rate)
    return 0.15 * HARD.sf(threshold) + 0.85 * EASY.sf(threshold)


def gaussian_rate(auc: float) -> Callable[[Floats], Floats]:
    """ROC curve of two normal distributions."""
    return lambda rate: stats.norm.cdf(shift_of(auc) + stats.norm.ppf(rate))


def gaussian(auc: float) -> Callable[[np.random.Generator], Floats]:
    """Draw scores of two normal distributions."""
    return lambda rng: rng.normal(size=(SECTIONS, Y.size)) + shift_of(auc) * Y


SYSTEMS = {
    "Gaussian, AUC 98": (gaussian(0.98), gaussian_rate(0.98)),
    "Gaussian, AUC 90": (gaussian(0.90), gaussian_rate(0.90)),
    "skewed, AUC 94": (skewed, skewed_rate),
}


def figures_of(y: NDArray[np.int64], score: Floats) -> Floats:
    """Return AUC and pAUC with all clips and without each, (2, 1 + N)."""
    return np.stack([without_each(y, score, rate) for rate in (1.0, RATE)])


def bootstrap(scores: Floats, rng: np.random.Generator) -> Floats:
    """Resample the clips of a section for all runs alike: (runs, N) → (2, runs, R)."""
    weights = [rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in (NORMAL, ANOMALOUS)]
    out = np.empty((2, len(scores), RESAMPLES))
    for run, score in enumerate(scores):
        above = (score[Y == 0][:, None] > score[Y == 1]).astype(float)
        rate = weights[0] @ above  # false-positive rate of each anomaly
        out[0, run] = 1 - (rate * weights[1]).sum(axis=1)
        out[1, run] = standardised((np.clip(RATE - rate, 0, None) * weights[1]).sum(axis=1))
    return out


def smoothed(score: Floats, rng: np.random.Generator) -> Floats:
    """Resample with noise of Silverman's width: (2, R)."""
    drawn = []
    for part in (score[Y == 0], score[Y == 1]):
        width = 0.9 * min(part.std(ddof=1), stats.iqr(part) / 1.349) * part.size**-0.2
        shape = RESAMPLES, part.size
        drawn.append(rng.choice(part, shape) + width * rng.normal(size=shape))
    order = np.argsort(np.concatenate(drawn, axis=1), axis=1)
    rate = 1 - np.cumsum(order < NORMAL, axis=1) / NORMAL
    anomalous = order >= NORMAL
    area = (np.clip(RATE - rate, 0, None) * anomalous).sum(axis=1) / ANOMALOUS
    return np.stack([1 - (rate * anomalous).sum(axis=1) / ANOMALOUS, standardised(area)])


def on_logit(estimate: float, reach: float) -> tuple[float, float]:
    """Return an interval that is symmetric on the logit scale."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = reach / (estimate * (1 - estimate))
        low, high = special.expit(special.logit(estimate) + reach * np.array([-1, 1]))
    return low, high


def bca(estimate: float, resampled: Floats, influence: Floats) -> tuple[float, float]:
    """Return the bias-corrected and accelerated interval of Efron."""
    cubes, squares = (influence**3).sum(), (influence**2).sum()
    acceleration = cubes / (6 * squares**1.5) if squares else 0.0
    below = (resampled < estimate).mean() + (resampled == estimate).mean() / 2
    bias = stats.norm.ppf(np.clip(below, 1e-4, 1 - 1e-4))
    z = bias + np.array([-Z, Z])
    low, high = np.quantile(resampled, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return low, high


def newcombe(auc: float) -> tuple[float, float]:
    """Return the score interval of Newcombe (2006), method 5."""
    size = (NORMAL + ANOMALOUS) / 2

    def distance(true: float) -> float:
        tied = (1 - true) / (2 - true) + true / (1 + true)
        variance = true * (1 - true) * (1 + (size - 1) * tied) / (NORMAL * ANOMALOUS)
        return float((auc - true) ** 2 - Z**2 * variance)

    high = optimize.brentq(distance, auc, 1 - 1e-12) if auc < 1 - 1e-12 else 1.0
    return optimize.brentq(distance, 0.01, auc), high


def units(values: Floats) -> Iterator[tuple[str, Floats]]:
    """Yield each section, then their mean, of values (…, section, …) with the section first."""
    yield from (("section", part) for part in values)
    yield "mean of four", values.mean(axis=0)


def spread_out(parts: Floats) -> Floats:
    """Place figures without a clip of a section, (sections, F, 1 + N), among those of all clips."""
    whole = np.repeat(parts[:, :, :1], 1 + SECTIONS * Y.size, axis=2)
    for section in range(SECTIONS):
        start = 1 + section * Y.size
        whole[section, :, start : start + Y.size] = parts[section, :, 1:]
    return whole


def of_systems(
    draw: Callable[[np.random.Generator], Floats], rng: np.random.Generator
) -> Iterator[tuple[str, str, int, tuple[float, float]]]:
    """Yield unit, method, metric (0: AUC, 1: pAUC) and interval for one test set."""
    scores = draw(rng)
    influence = spread_out(np.stack([figures_of(Y, score) for score in scores]))
    resampled = np.stack([bootstrap(score[None], rng)[:, 0] for score in scores])
    noisy = np.stack([smoothed(score, rng) for score in scores])
    both = zip(units(influence), units(resampled), units(noisy), strict=True)
    for (unit, values), (_, drawn), (_, smooth) in both:
        errors, freedom = standard_error(values, [], STRATA)
        for metric, (value, error) in enumerate(zip(values, errors, strict=True)):
            estimate, student = value[0], stats.t.ppf(0.975, freedom[metric])
            intervals = {
                "percentile bootstrap": np.quantile(drawn[metric], [0.025, 0.975]),
                "BCa bootstrap": bca(estimate, drawn[metric], estimate - value[1:]),
                "smoothed bootstrap": np.quantile(smooth[metric], [0.025, 0.975]),
                "logit, bootstrap": on_logit(estimate, Z * drawn[metric].std()),
                "DeLong or jackknife": (estimate - Z * error, estimate + Z * error),
                "logit, jackknife": on_logit(estimate, Z * error),
                "logit, jackknife, Student t (used)": on_logit(estimate, student * error),
            }
            if unit == "section" and metric == 0:
                intervals["score interval of Newcombe"] = newcombe(estimate)
            for method, interval in intervals.items():
                yield unit, method, metric, interval


def of_differences(
    told: tuple[tuple[float, float], int], rng: np.random.Generator
) -> Iterator[tuple[str, str, int, tuple[float, float]]]:
    """Yield the same for the difference of two systems; half of the noise is the clip's own."""
    aucs, n_seeds = told
    shape = 2, n_seeds, SECTIONS, Y.size
    clip, system, seed = (rng.normal(size=s) for s in (shape[2:], (2, 1, *shape[2:]), shape))
    luck = LUCK * (n_seeds > 1) * rng.normal(size=(2, n_seeds, 1, 1))
    shift = np.reshape([shift_of(auc) for auc in aucs], (2, 1, 1, 1)) + luck
    scores = np.sqrt(0.5) * clip + np.sqrt(0.25) * (system + seed) + shift * Y
    runs = scores.reshape(2 * n_seeds, SECTIONS, Y.size)
    found = np.array([[figures_of(Y, score) for score in run] for run in runs])
    apart = found[:n_seeds] - found[n_seeds:]  # (seeds, sections, 2, 1 + N)
    drawn = np.stack([bootstrap(runs[:, section], rng) for section in range(SECTIONS)])
    drawn = drawn[:, :, :n_seeds] - drawn[:, :, n_seeds:]  # (sections, 2, seeds, R)
    chosen = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), RESAMPLES).T / n_seeds
    by_seed = apart[:, :, :, 0].transpose(1, 2, 0)  # (sections, 2, seeds)
    influence = spread_out(apart.mean(axis=0))
    for (unit, values), (_, one), (_, resampled) in zip(
        units(influence), units(by_seed), units(drawn), strict=True
    ):
        errors, freedom = standard_error(values, [one.T], STRATA)
        for metric, (value, error) in enumerate(zip(values, errors, strict=True)):
            estimate, student = value[0], stats.t.ppf(0.975, freedom[metric])
            clips, both = resampled[metric].mean(axis=0), (resampled[metric] * chosen).sum(axis=0)
            intervals = {
                "seeds alone, Student t": t_interval(one[metric])[1:],
                "clips alone, percentile bootstrap": np.quantile(clips, [0.025, 0.975]),
                "clips and seeds, percentile bootstrap": np.quantile(both, [0.025, 0.975]),
                "clips and seeds, jackknife": (estimate - Z * error, estimate + Z * error),
                "clips and seeds, jackknife, Student t (used)": (
                    estimate - student * error,
                    estimate + student * error,
                ),
            }
            for method, interval in intervals.items():
                yield unit, method, metric, interval


def expected(auc: float, luck: float) -> tuple[float, float]:
    """Return the mean AUC and pAUC of all trainings of a system."""
    return true_figures(
        lambda rate: stats.norm.cdf((shift_of(auc) + stats.norm.ppf(rate)) / np.sqrt(1 + luck**2))
    )


def main() -> None:
    """Simulate, and write the table with its provenance."""
    started = time.process_time()
    jobs: list[tuple[str, str, Any, Any, tuple[float, float]]] = [
        ("system", name, of_systems, draw, true_figures(rate))
        for name, (draw, rate) in SYSTEMS.items()
    ]
    for n_seeds, luck in ((SEEDS, LUCK), (1, 0.0)):
        for aucs in ((0.98, 0.98), (0.98, 0.96)):
            name = "AUC {:g} and {:g}, seeds: ".format(*(100 * auc for auc in aucs)) + str(n_seeds)
            a, b = (expected(auc, luck) for auc in aucs)
            told = aucs, n_seeds
            jobs.append(("difference", name, of_differences, told, (a[0] - b[0], a[1] - b[1])))
    rows = []
    for kind, name, intervals_of, argument, truth in jobs:
        rng = np.random.default_rng(0)
        for _ in range(SETS):
            for unit, method, metric, (low, high) in intervals_of(argument, rng):
                value = truth[metric]
                place = kind, name, unit, ("AUC", "pAUC")[metric], method
                rows.append((*place, low <= value <= high, high - low))
    keys = ["of", "case", "unit", "metric", "method"]
    table = pd.DataFrame(rows, columns=[*keys, "covered", "width"])
    summary = table.groupby(keys, sort=False).agg(
        intervals=("covered", "size"), covered=("covered", "mean"), width=("width", "mean")
    )
    summary = summary.dropna()  # seeds alone have no interval where there is one
    summary[["covered", "width"]] = (100 * summary[["covered", "width"]]).round(2)
    spec = {
        "sets": SETS,
        "resamples": RESAMPLES,
        "sections": SECTIONS,
        "seeds": SEEDS,
        "luck": LUCK,
    }
    spec |= {"normal": NORMAL, "anomalous": ANOMALOUS, "numpy_seed": 0}
    here = Path(__file__).parent
    results = Results(here, {}, command="python results/coverage/coverage.py", spec=spec)
    with results.writing(seconds=round(time.process_time() - started)) as folder:
        write_table(summary.reset_index(), folder / "coverage.csv")


if __name__ == "__main__":
    main()
