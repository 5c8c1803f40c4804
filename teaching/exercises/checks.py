"""Checks of the exercises: they compute, and never compare with stored numbers.

Each check calls what the student wrote with inputs that it draws anew, and compares with the
library. A wrong answer raises `WrongAnswerError` with one line that helps; usual mistakes are
recognised by the values that they give.

Shapes: N clips, B clips in a batch, F mel bins, T frames, D embedding size.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import logsumexp

from asdlib import FrontEnd, auc, pauc
from asdlib.errors import AsdError, ConfigError

Namespace = Mapping[str, Any]
Rng = np.random.Generator


class WrongAnswerError(AsdError):
    """An answer is not right; the message helps."""


def check(name: str, namespace: Namespace, *, seed: int = 0) -> None:
    """Check the answer `name` of a notebook whose ``globals()`` are given.

    Raises
    ------
    WrongAnswerError
        If the answer is wrong or missing.
    ConfigError
        If there is no exercise of this name.
    """
    if name not in CHECKS:
        raise ConfigError(f"unknown exercise '{name}' (known: {', '.join(CHECKS)})")
    CHECKS[name](namespace, np.random.default_rng(seed))
    print("✓ right")


def numpy_only(namespace: Namespace, name: str) -> None:
    """Refuse a function that leaves its work to a library other than NumPy."""
    codes, used = [getattr(namespace.get(name), "__code__", None)], {name}
    for code in codes:
        used |= set(getattr(code, "co_names", ()))
        codes += [part for part in getattr(code, "co_consts", ()) if hasattr(part, "co_names")]
    for word in sorted(used):
        value = namespace.get(word)
        origin = getattr(value, "__module__", None) or getattr(value, "__name__", None) or word
        library = str(origin).split(".")[0]
        if library in ("asdlib", "scipy", "sklearn", "torch", "torchmetrics"):
            raise WrongAnswerError(f"`{name}` leaves the work to {library}; use NumPy only")


def ask(namespace: Namespace, name: str, *arguments: Any, shape: tuple[int, ...] = ()) -> Any:
    """Call the function that the student wrote and expect numbers of a shape, by default one."""
    function = namespace.get(name)
    if not callable(function):
        raise WrongAnswerError(f"there is no function `{name}` yet; define it in the cell above")
    try:
        with np.errstate(all="ignore"):
            value = function(*arguments)
    except NotImplementedError:
        raise WrongAnswerError(f"`{name}` is not written yet") from None
    except Exception as error:
        reason = " ".join(str(error).split())
        raise WrongAnswerError(f"`{name}` stopped with {type(error).__name__}: {reason}") from None
    return numbers(value, name, shape)


def numbers(value: Any, name: str, shape: tuple[int, ...] = ()) -> Any:
    """Return `value` as an array of a shape, or as one finite number; refuse anything else."""
    if value is None:
        raise WrongAnswerError(f"`{name}` gives nothing; `return` the number or set it")
    found = np.asarray(value)
    if found.shape != shape or found.dtype.kind not in "biuf":
        expected = f"numbers of shape {shape}" if shape else "one number"
        raise WrongAnswerError(
            f"`{name}` gave shape {found.shape} of {found.dtype}, expected {expected}"
        )
    if not shape and not np.isfinite(found):
        raise WrongAnswerError(f"`{name}` gave {found}, expected a finite number")
    return found if shape else float(found)


def compare(
    given: Any, right: Any, wrong: str, mistakes: Mapping[str, Any], *, tolerance: float = 1e-5
) -> None:
    """Accept what is right; else raise the hint whose mistake gives the same, or `wrong`."""

    def close(value: Any) -> bool:
        return np.allclose(given, value, rtol=tolerance, atol=tolerance / 10)

    if not close(right):
        hints = [hint for hint, value in mistakes.items() if close(value)]
        raise WrongAnswerError(hints[0] if hints else wrong)


def draw_scores(rng: Rng, n: int = 60) -> tuple[Any, Any]:
    """Draw labels (N,) and scores (N,) with ties; anomalies score somewhat higher."""
    y_true = np.tile([0, 0, 1], n // 3)
    return y_true, np.round(rng.normal(size=len(y_true)) + 0.8 * y_true, 1)


def mahalanobis(train: Any, test: Any) -> Any:
    """Return squared distances (N,) of the rows of `test` (N, D) from those of `train`."""
    away = test - train.mean(axis=0)
    return np.einsum("nd,de,ne->n", away, np.linalg.pinv(np.cov(train, rowvar=False)), away)


def supervised_contrast(z: Any, labels: Any, temperature: float, weights: Any = None) -> float:
    """Return the loss of unit vectors (B, D), Khosla et al., Eq. 2; torch would start slowly.

    Anchors count alike, or by `weights` (B,).
    """
    similarity = z @ z.T / temperature
    np.fill_diagonal(similarity, -np.inf)
    log_share = similarity - logsumexp(similarity, axis=1, keepdims=True)
    positive = (labels[:, None] == labels) & ~np.eye(len(z), dtype=bool)
    means = np.where(positive, log_share, 0.0).sum(axis=1) / positive.sum(axis=1)
    return float(-np.average(means, weights=weights))


def check_rates(namespace: Namespace, rng: Rng) -> None:
    """``rates(y_true, score, threshold)``: hits and false alarms, as shares."""
    for _ in range(5):
        y_true, score = draw_scores(rng)
        threshold = float(rng.choice(score))
        given = ask(namespace, "rates", y_true, score, threshold, shape=(2,))
        anomaly, alarm, at = y_true == 1, score > threshold, score >= threshold
        hits, false = alarm[anomaly].mean(), alarm[~anomaly].mean()
        at_least = (at[anomaly].mean(), at[~anomaly].mean())
        of_all = ((alarm & anomaly).mean(), (alarm & ~anomaly).mean())
        mistakes = {
            "an alarm is a score above the threshold, not one equal to it": at_least,
            "the two rates are in the wrong order: hits first": (false, hits),
            "divide by the clips of that label, not by all clips": of_all,
        }
        wrong = f"expected {hits:.3f} and {false:.3f}, got {given[0]:.3f} and {given[1]:.3f}"
        compare(given, (hits, false), f"threshold {threshold:g}: {wrong}", mistakes)


def check_area(namespace: Namespace, rng: Rng) -> None:
    """``area(y_true, score)``: AUC, ties count one half."""
    for _ in range(5):
        y_true, score = draw_scores(rng)
        given, right = ask(namespace, "area", y_true, score), auc(y_true, score)
        pairs = score[y_true == 1][:, None] - score[y_true == 0][None, :]
        mistakes = {
            "the area is turned around: anomalies should score higher": 1 - right,
            "ties are counted wrongly: a tie of a pair counts one half": (pairs > 0).mean(),
            "ties are counted wrongly: a tie counts one half, not one": (pairs >= 0).mean(),
        }
        wrong = f"expected an area of {right:.4f} on a random case, got {given:.4f}"
        compare(given, right, wrong, mistakes)
    numpy_only(namespace, "area")


def check_partial_area(namespace: Namespace, rng: Rng) -> None:
    """``partial_area(y_true, score, max_fpr)``: pAUC, standardised after McClish."""
    for max_fpr in (0.1, 0.2, 0.33, 1.0):
        y_true, score = draw_scores(rng)
        given = ask(namespace, "partial_area", y_true, score, max_fpr)
        right, least = pauc(y_true, score, max_fpr), max_fpr**2 / 2
        bare = (2 * right - 1) * (max_fpr - least) + least
        divided = "the area is divided by max_fpr; McClish maps chance to 0.5 and perfect to 1"
        mistakes = {
            "that is the bare area; standardise it so that chance is 0.5": bare,
            divided: bare / max_fpr,
        }
        wrong = f"max_fpr {max_fpr:g}: expected {right:.4f}, got {given:.4f}"
        compare(given, right, wrong, mistakes)
    numpy_only(namespace, "partial_area")


def check_threshold(namespace: Namespace, rng: Rng) -> None:
    """``choose_threshold(normal_score, false_alarms)``: lowest one that keeps the rate."""
    for rate in (0.0, 0.05, 0.1, 0.5):
        normal = np.round(rng.gamma(3.0, size=40), 1)
        given = ask(namespace, "choose_threshold", normal, rate)
        alarms = (normal > given).mean()
        if alarms > rate:
            what = f"alarms on {alarms:.3f} of the normal clips, at most {rate:g} were allowed"
            raise WrongAnswerError(f"threshold {given:.2f} {what}")
        right = min(t for t in normal if (normal > t).mean() <= rate)
        if given > right + 1e-9:
            what = f"keeps the rate {rate:g}, but {right:.2f} keeps it as well and finds more"
            raise WrongAnswerError(f"threshold {given:.2f} {what}")


def check_frame_count(namespace: Namespace, rng: Rng) -> None:
    """``frame_count(n_samples, hop_length)`` of a centred transform."""
    for _ in range(8):
        hop, samples = int(rng.choice([160, 256, 512])), int(rng.integers(16000, 160001))
        given = ask(namespace, "frame_count", samples, hop)
        right = FrontEnd(hop_length=hop).n_frames(samples)
        if given != right:
            why = "each frame is centred on a multiple of the hop, the first one on sample 0"
            what = f"{samples} samples, hop {hop}: expected {right} frames, got {given:g}"
            raise WrongAnswerError(f"{what}; {why}")


def check_band_level(namespace: Namespace, rng: Rng) -> None:
    """``band_level(log_mel, mel_frequencies, low, high)``: mean power of a band in dB."""
    frequencies = FrontEnd().mel_frequencies()
    log_mel = rng.normal(-40, 12, size=(len(frequencies), 30))
    for low, high in ((0.0, 500.0), (1000.0, 4000.0), (4000.0, 8000.0)):
        given = ask(namespace, "band_level", log_mel, frequencies, low, high)
        inside = log_mel[(frequencies >= low) & (frequencies < high)]
        right = 10 * np.log10((10 ** (inside / 10)).mean())
        mistakes = {
            "that averages decibels; average the power, then take dB": inside.mean(),
            "that adds the power; take its mean, not its sum": right + 10 * np.log10(inside.size),
        }
        wrong = f"{low:g} to {high:g} Hz: expected {right:.2f} dB, got {given:.2f} dB"
        compare(given, right, wrong, mistakes)


def check_distance(namespace: Namespace, rng: Rng) -> None:
    """``distance(train, test)``: ranks clips as the Mahalanobis distance does."""
    for _ in range(3):
        mixing = rng.normal(size=(4, 4))
        train, test = rng.normal(size=(80, 4)) @ mixing + 3, rng.normal(size=(30, 4)) @ mixing * 2
        given = np.argsort(ask(namespace, "distance", train, test, shape=(30,)))
        right, plain = mahalanobis(train, test), ((test - train.mean(axis=0)) ** 2).sum(axis=1)
        mistakes = {
            "that is the Euclidean distance; weigh with the covariance": np.argsort(plain),
            "the order is turned around: farther means more anomalous": np.argsort(-right),
        }
        wrong = "the order of 30 random clips is not that of the distance"
        compare(given, np.argsort(right), wrong, mistakes)


def check_own_auc(namespace: Namespace, rng: Rng) -> None:
    """``own_auc(train, test, y_true)``: AUC of the distance, on clips that nobody has seen."""
    for _ in range(3):
        mixing = rng.normal(size=(4, 4))
        train, y_true = rng.normal(size=(80, 4)) @ mixing, np.tile([0, 1], 40)
        test = (rng.normal(size=(80, 4)) * (1 + 0.6 * y_true[:, None])) @ mixing
        given = ask(namespace, "own_auc", train, test, y_true)
        right, plain = (
            auc(y_true, score)
            for score in (mahalanobis(train, test), ((test - train.mean(axis=0)) ** 2).sum(axis=1))
        )
        mistakes = {
            "the area is turned around: farther means more anomalous": 1 - right,
            "that is the area of the Euclidean distance; use your `distance`": plain,
        }
        wrong = "the area is not that of your distance on clips that you have not seen"
        compare(given, right, wrong, mistakes)


def check_standardise(namespace: Namespace, rng: Rng) -> None:
    """``standardise(log_mel, mean, std)``."""
    log_mel = rng.normal(-40, 12, size=(3, 8, 5))
    given = ask(namespace, "standardise", log_mel, -40.0, 12.0, shape=log_mel.shape)
    mistakes = {"divide by the standard deviation, not by the variance": (log_mel + 40) / 144}
    wrong = "expected zero mean and unit deviation: (log_mel − mean) / std"
    compare(given, (log_mel + 40) / 12, wrong, mistakes)


def check_mix(namespace: Namespace, rng: Rng) -> None:
    """``mix(x, z, ratio)``: log((1 − ratio) eˣ + ratio eᶻ)."""
    for offset in (0.0, 800.0):
        x, z = rng.normal(size=(2, 4, 6)) + offset
        given = ask(namespace, "mix", x, z, 0.3, shape=x.shape)
        if not np.isfinite(given).all():
            way_out = "subtract the larger one before the exponential"
            raise WrongAnswerError(f"values near {offset:g} overflow; {way_out}")
        low, high = np.log(0.3), np.log(0.7)
        turned = np.logaddexp(x + low, z + high)
        mistakes = {
            "that mixes logarithms; mix on the linear scale, then the log": 0.7 * x + 0.3 * z,
            "the ratio belongs to z, the background, not to x": turned,
        }
        wrong = "the mixture of two random spectrograms is not right"
        compare(given, np.logaddexp(x + high, z + low), wrong, mistakes)


def check_contrastive_loss(namespace: Namespace, rng: Rng) -> None:
    """``contrastive_loss(z, labels, temperature)``: supervised contrast, Khosla et al., Eq. 2."""
    labels = np.repeat(np.arange(4), [2, 3, 4, 3])  # unequal, so that the order of means counts
    for temperature in (0.07, 0.5):
        z = rng.normal(size=(12, 5))
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        given = ask(namespace, "contrastive_loss", z, labels, temperature)
        right, unscaled = (supervised_contrast(z, labels, t) for t in (temperature, 1.0))
        counts = np.array([(labels == label).sum() - 1 for label in labels])
        of_pairs = supervised_contrast(z, labels, temperature, weights=counts)
        each_first = "average over the positives of each anchor first, then over the anchors"
        mistakes = {
            each_first: of_pairs,
            "the temperature is not used: divide the similarities by it": unscaled,
            "the sign is turned around: the loss is minus the mean": -right,
        }
        why = "an anchor is neither its own positive nor in its own denominator"
        wrong = f"temperature {temperature:g}: expected {right:.4f}, got {given:.4f}; {why}"
        compare(given, right, wrong, mistakes, tolerance=1e-3)


def check_resize(namespace: Namespace, rng: Rng) -> None:
    """``resize(row, start, width, size)``: linear interpolation, corners aligned."""
    for width, size in ((9, 12), (12, 12), (15, 7)):
        row, start = rng.normal(size=24), int(rng.integers(1, 8))
        given = ask(namespace, "resize", row, start, width, size, shape=(size,))
        at = np.arange(size)

        def values(places: Any, row: Any = row) -> Any:
            return np.interp(places, np.arange(len(row)), row)

        right = start + at * (width - 1) / (size - 1)
        aligned = "corners are not aligned: {} of the crop has to stay the last one"
        mistakes = {
            "round less: interpolate between two neighbours": row[np.rint(right).astype(int)],
            aligned.format("the last value"): values(start + at * width / size),
            "pixels have no width here: corners are aligned": values(
                np.clip(start + (at + 0.5) * width / size - 0.5, start, start + width - 1)
            ),
            "the crop begins at `start`, not at 0": values(right - start),
        }
        wrong = f"a crop of {width} values at {start}, resized to {size}, is not right"
        compare(given, values(right), wrong, mistakes)
    numpy_only(namespace, "resize")


def check_post_normalise(namespace: Namespace, rng: Rng) -> None:
    """``post_normalise(views)``: one shift and one scale for the batch."""
    views = rng.normal(size=(2, 3, 4, 5)) * rng.uniform(1, 4, size=(1, 3, 1, 1)) + 2
    given = ask(namespace, "post_normalise", views, shape=views.shape)

    def normal(axis: Any = None, ddof: int = 0) -> Any:
        mean = views.mean(axis=axis, keepdims=True)
        return (views - mean) / views.std(axis=axis, ddof=ddof, keepdims=True)

    one = "one shift and one scale for the whole batch, not for each {}"
    mistakes = {
        one.format("clip: the difference in level would be lost"): normal((2, 3)),
        one.format("view"): normal((1, 2, 3)),
        one.format("mel bin"): normal((0, 1, 3)),
        "divide by n, not by n − 1": normal(ddof=1),
        "the mean is right, the deviation is not yet 1": views - views.mean(),
    }
    wrong = f"mean {given.mean():.3f}, deviation {given.std():.3f}; expected 0 and 1"
    compare(given, normal(), wrong, mistakes)
    numpy_only(namespace, "post_normalise")


def check_high_share(namespace: Namespace, rng: Rng) -> None:
    """``high_share(first, second, mel_frequencies, cutoff)``: where two views differ."""
    hz = np.array([100.0, 300, 700, 1500, 3000, 6000])
    for cutoff in (700.0, 1500.0, 2000.0):
        first, second = rng.normal(size=(2, 6, 8)) * np.arange(1, 7)[:, None]
        given = ask(namespace, "high_share", first, second, hz, cutoff)
        away, high = abs(first - second), hz >= cutoff
        right = away[high].sum() / away.sum()
        mistakes = {
            "a bin at the cut-off counts as high": away[hz > cutoff].sum() / away.sum(),
            "that is the share below the cut-off": 1 - right,
            "take absolute differences, not squares": (away**2)[high].sum() / (away**2).sum(),
            "differences of both signs cancel: take absolute values first": (
                (first - second)[high].sum() / (first - second).sum()
            ),
            "compare sums, not means: the bands have different sizes": (
                away[high].mean() / away.mean()
            ),
        }
        wrong = f"cut-off {cutoff:g} Hz: expected {right:.4f}, got {given:.4f}"
        compare(given, right, wrong, mistakes)
    numpy_only(namespace, "high_share")


def check_positives(namespace: Namespace, rng: Rng) -> None:
    """``positives(classes, domains, clips)``: of another domain, or of the same clip."""
    clips = rng.permutation(np.repeat(np.arange(9), 2))
    classes, domains = clips % 3, (clips // 3 == 0).astype(int)
    given = ask(namespace, "positives", classes, domains, clips, shape=(18, 18))
    same, domain, clip = (np.equal.outer(x, x) for x in (classes, domains, clips))
    other = ~np.eye(18, dtype=bool)
    right = same & (~domain | clip) & other
    mistakes = {
        "a view is no positive of itself": same & (~domain | clip),
        "the domain is not used: of its class, only other domains and its own clip": same & other,
        "the other view of the clip is a positive, too": same & ~domain & other,
        "the domains are turned around: *other* domains are positives": (
            same & (domain | clip) & other
        ),
        "positives are of the same class": (~domain | clip) & other,
        "those are the negatives": ~same,
    }
    compare(given, right, f"{(given != right).sum()} of {right.size} pairs are wrong", mistakes)
    numpy_only(namespace, "positives")


def check_reach(namespace: Namespace, rng: Rng) -> None:
    """``reach(kernels, strides)``: 1 + Σ (k − 1) · product of the strides before."""
    for _ in range(4):
        kernels, strides = rng.choice([3, 5, 7], size=4).tolist(), [2, 1, 2, 3]
        given = ask(namespace, "reach", kernels, strides)
        jumps = np.cumprod([1, *strides])
        grown = np.array(kernels) - 1
        right = 1 + grown @ jumps[:-1]
        mistakes = {
            "a stride widens the steps of all *later* layers": 1 + grown.sum(),
            "the stride of a layer acts on the layers after it only": 1 + grown @ jumps[1:],
            "start from the one cell itself": right - 1,
            "a kernel of k adds k − 1 steps, not k": 1 + np.array(kernels) @ jumps[:-1],
            "that is the total stride; add what each kernel reaches": jumps[-1],
        }
        wrong = f"kernels {kernels}, strides {strides}: expected {right}, got {given:g}"
        compare(given, right, wrong, mistakes)


def check_level_score(namespace: Namespace, rng: Rng) -> None:
    """``level_score(normal, test)``: mean over levels of standardised logarithms."""
    scale = np.array([[1.0], [50.0], [3000.0]])
    normal, test = rng.gamma(5, size=(3, 40)) * scale, rng.gamma(7, size=(3, 20)) * scale
    given = ask(namespace, "level_score", normal, test, shape=(20,))

    def score(normal: Any, test: Any, ddof: int = 0) -> Any:
        away = test - normal.mean(axis=1, keepdims=True)
        return away / normal.std(axis=1, ddof=ddof, keepdims=True)

    low, high = np.log(normal), np.log(test)
    mistakes = {
        "standardise the logarithms of the distances": score(normal, test).mean(axis=0),
        "test clips must not set mean and deviation: use the normal ones": (
            score(high, high).mean(axis=0)
        ),
        "average over the levels, do not add": score(low, high).sum(axis=0),
        "divide by n, not by n − 1": score(low, high, ddof=1).mean(axis=0),
        "each level needs its own mean and deviation": (
            ((high - low.mean()) / low.std()).mean(axis=0)
        ),
        "the deviations are not yet 1: divide by them": (
            (high - low.mean(axis=1, keepdims=True)).mean(axis=0)
        ),
    }
    compare(given, score(low, high).mean(axis=0), "scores of 20 random clips are wrong", mistakes)
    numpy_only(namespace, "level_score")


CHECKS = {
    name.removeprefix("check_"): function
    for name, function in list(globals().items())
    if name.startswith("check_")
}
"""Name of the exercise → its check."""
