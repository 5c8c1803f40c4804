"""Check the answers of the exercise notebooks by computing, never against stored numbers.

Each check calls what the student wrote with inputs that it draws anew, and compares with the
library. A wrong answer raises `WrongAnswerError` with one line that says in which case.

Shapes: N clips, B clips in a batch, F mel bins, T frames, D embedding size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from asdlib.errors import ConfigError
from asdlib.evaluation import auc, pauc
from asdlib.study.answers import Namespace, WrongAnswerError, answer, array_of, number_of


def check(name: str, namespace: Namespace, *, seed: int = 0) -> None:
    """Check one answer.

    Parameters
    ----------
    name
        Name of the exercise, see `CHECKS`.
    namespace
        Where the answer stands, in a notebook ``globals()``.
    seed
        Seed of the inputs that are drawn.

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


def _close(a: Any, b: Any) -> bool:
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-6))


def _scores(rng: np.random.Generator, n: int = 60) -> tuple[Any, Any]:
    """Labels and scores with ties; anomalies score somewhat higher."""
    y_true = np.tile([0, 0, 1], n // 3)
    return y_true, np.round(rng.normal(size=len(y_true)) + 0.8 * y_true, 1)


def check_rates(namespace: Namespace, rng: np.random.Generator) -> None:
    """``rates(y_true, score, threshold)``: hits and false alarms, as shares."""
    rates = answer(namespace, "rates")
    for _ in range(5):
        y_true, score = _scores(rng)
        threshold = float(rng.choice(score))
        alarm = score > threshold
        told = array_of(rates, (2,), y_true, score, threshold)
        hits, false = alarm[y_true == 1].mean(), alarm[y_true == 0].mean()
        if _close(told, [hits, false]):
            continue
        at = score >= threshold
        if _close(told, [at[y_true == 1].mean(), at[y_true == 0].mean()]):
            raise WrongAnswerError("an alarm is a score above the threshold, not one equal to it")
        if _close(told, [false, hits]):
            raise WrongAnswerError("the two rates are in the wrong order: hits first")
        if _close(told, [(alarm & (y_true == 1)).mean(), (alarm & (y_true == 0)).mean()]):
            raise WrongAnswerError("divide by the clips of that label, not by all clips")
        raise WrongAnswerError(
            f"threshold {threshold:g}: expected {hits:.3f} and {false:.3f}, "
            f"got {told[0]:.3f} and {told[1]:.3f}"
        )


def check_area(namespace: Namespace, rng: np.random.Generator) -> None:
    """``area(y_true, score)``: AUC, ties count one half."""
    area = answer(namespace, "area")
    for _ in range(5):
        y_true, score = _scores(rng)
        told, right = number_of(area, y_true, score), auc(y_true, score)
        if _close(told, right):
            continue
        if _close(told, 1 - right):
            raise WrongAnswerError("the area is turned around: anomalies should score higher")
        pairs = score[y_true == 1][:, None] - score[y_true == 0][None, :]
        if _close(told, (pairs > 0).mean()) or _close(told, (pairs >= 0).mean()):
            raise WrongAnswerError("ties are counted wrongly: a tie of a pair counts one half")
        raise WrongAnswerError(f"expected an area of {right:.4f} on a random case, got {told:.4f}")


def check_partial_area(namespace: Namespace, rng: np.random.Generator) -> None:
    """``partial_area(y_true, score, max_fpr)``: pAUC, standardised after McClish."""
    partial_area = answer(namespace, "partial_area")
    for max_fpr in (0.1, 0.2, 0.33, 1.0):
        y_true, score = _scores(rng)
        told = number_of(partial_area, y_true, score, max_fpr)
        right, least = pauc(y_true, score, max_fpr), max_fpr**2 / 2
        if _close(told, right):
            continue
        raw = (2 * right - 1) * (max_fpr - least) + least
        if _close(told, raw):
            raise WrongAnswerError("that is the bare area; standardise it so that chance is 0.5")
        if _close(told, raw / max_fpr):
            raise WrongAnswerError(
                "the area is divided by max_fpr; McClish maps chance to 0.5 and perfect to 1"
            )
        raise WrongAnswerError(f"max_fpr {max_fpr:g}: expected {right:.4f}, got {told:.4f}")


def check_threshold(namespace: Namespace, rng: np.random.Generator) -> None:
    """``choose_threshold(normal_score, false_alarms)``: lowest one that keeps the rate."""
    choose = answer(namespace, "choose_threshold")
    for rate in (0.0, 0.05, 0.1, 0.5):
        normal = np.round(rng.gamma(3.0, size=40), 1)
        told = number_of(choose, normal, rate)
        if (normal > told).mean() > rate:
            raise WrongAnswerError(
                f"threshold {told:.2f} alarms on {(normal > told).mean():.3f} of the normal "
                f"clips, at most {rate:g} were allowed"
            )
        right = min(t for t in normal if (normal > t).mean() <= rate)
        if told > right + 1e-9:
            raise WrongAnswerError(
                f"threshold {told:.2f} keeps the rate {rate:g}, but {right:.2f} keeps it as well "
                "and finds more"
            )


def check_frame_count(namespace: Namespace, rng: np.random.Generator) -> None:
    """``frame_count(n_samples, hop_length)`` of a centred transform."""
    from asdlib.features import FrontEnd

    count = answer(namespace, "frame_count")
    for _ in range(8):
        hop = int(rng.choice([160, 256, 512]))
        samples = int(rng.integers(16000, 160001))
        right = FrontEnd(hop_length=hop).n_frames(samples)
        told = number_of(count, samples, hop)
        if told != right:
            raise WrongAnswerError(
                f"{samples} samples, hop {hop}: expected {right} frames, got {told:g}; "
                "each frame is centred on a multiple of the hop, the first one on sample 0"
            )


def check_band_level(namespace: Namespace, rng: np.random.Generator) -> None:
    """``band_level(log_mel, mel_frequencies, low, high)``: mean power of a band in dB."""
    from asdlib.features import FrontEnd

    level = answer(namespace, "band_level")
    frequencies = FrontEnd().mel_frequencies()
    log_mel = rng.normal(-40, 12, size=(len(frequencies), 30))
    for low, high in ((0.0, 500.0), (1000.0, 4000.0), (4000.0, 8000.0)):
        inside = (frequencies >= low) & (frequencies < high)
        power = 10 ** (log_mel[inside] / 10)
        right, told = 10 * np.log10(power.mean()), number_of(level, log_mel, frequencies, low, high)
        if _close(told, right):
            continue
        if _close(told, log_mel[inside].mean()):
            raise WrongAnswerError("that averages decibels; average the power, then take dB")
        raise WrongAnswerError(
            f"{low:g} to {high:g} Hz: expected {right:.2f} dB, got {told:.2f} dB"
        )


def check_distance(namespace: Namespace, rng: np.random.Generator) -> None:
    """``distance(train, test)``: ranks clips as the Mahalanobis distance does."""
    distance = answer(namespace, "distance")
    for _ in range(3):
        mixing = rng.normal(size=(4, 4))
        train, test = rng.normal(size=(80, 4)) @ mixing + 3, rng.normal(size=(30, 4)) @ mixing * 2
        told = array_of(distance, (30,), train, test)
        away = test - train.mean(axis=0)
        right = np.einsum("nd,de,ne->n", away, np.linalg.inv(np.cov(train, rowvar=False)), away)
        if np.array_equal(np.argsort(told), np.argsort(right)):
            continue
        if np.array_equal(np.argsort(told), np.argsort((away**2).sum(axis=1))):
            raise WrongAnswerError("that is the Euclidean distance; weigh with the covariance")
        if np.array_equal(np.argsort(-told), np.argsort(right)):
            raise WrongAnswerError("the order is turned around: farther means more anomalous")
        raise WrongAnswerError("the order of 30 random clips is not that of the distance")


def check_own_auc(namespace: Namespace, rng: np.random.Generator) -> None:
    """``own_auc``: AUC of the time averages on the student's own recordings."""
    told = number_of(lambda: namespace.get("own_auc"), name="own_auc")
    train, test, y_true = (namespace[name] for name in ("train", "test", "y_true"))
    mean, inverse = train.mean(axis=0), np.linalg.pinv(np.cov(train, rowvar=False))
    away = test - mean
    right = auc(y_true, np.einsum("nd,de,ne->n", away, inverse, away))
    if abs(told - right) > 0.02:
        raise WrongAnswerError(f"`own_auc` is {told:.3f}, your recordings give {right:.3f}")


def check_standardise(namespace: Namespace, rng: np.random.Generator) -> None:
    """``standardise(log_mel, mean, std)``."""
    standardise = answer(namespace, "standardise")
    log_mel = rng.normal(-40, 12, size=(3, 8, 5))
    told = array_of(standardise, log_mel.shape, log_mel, -40.0, 12.0)
    if _close(told, (log_mel + 40) / 12):
        return
    if _close(told, (log_mel + 40) / 144):
        raise WrongAnswerError("divide by the standard deviation, not by the variance")
    raise WrongAnswerError("expected zero mean and unit deviation: (log_mel − mean) / std")


def check_mixup(namespace: Namespace, rng: np.random.Generator) -> None:
    """``mix(x, z, ratio)``: log((1 − ratio) eˣ + ratio eᶻ)."""
    mix = answer(namespace, "mix")
    for offset in (0.0, 800.0):
        x, z = rng.normal(size=(2, 4, 6)) + offset
        with np.errstate(all="ignore"):
            told = array_of(mix, x.shape, x, z, 0.3)
        right = np.logaddexp(x + np.log(0.7), z + np.log(0.3))
        if _close(told, right):
            continue
        if not np.isfinite(told).all():
            raise WrongAnswerError(
                f"values near {offset:g} overflow; subtract the larger one before the exponential"
            )
        if _close(told, 0.7 * x + 0.3 * z):
            raise WrongAnswerError("that mixes logarithms; mix on the linear scale, then the log")
        if _close(told, np.logaddexp(x + np.log(0.3), z + np.log(0.7))):
            raise WrongAnswerError("the ratio belongs to z, the background, not to x")
        raise WrongAnswerError("the mixture of two random spectrograms is not right")


def check_loss(namespace: Namespace, rng: np.random.Generator) -> None:
    """``contrastive_loss(z, labels, temperature)``: supervised contrast, Khosla et al., Eq. 2."""
    import torch

    from asdlib.method.losses import supervised_contrastive_loss

    loss = answer(namespace, "contrastive_loss")
    for temperature in (0.07, 0.5):
        z = rng.normal(size=(12, 5))
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        labels = np.repeat(np.arange(4), 3)
        told = number_of(loss, z, labels, temperature)
        right = float(
            supervised_contrastive_loss(torch.tensor(z), torch.tensor(labels), temperature)
        )
        if abs(told - right) <= 1e-3 * (1 + abs(right)):
            continue
        unscaled = float(supervised_contrastive_loss(torch.tensor(z), torch.tensor(labels), 1.0))
        if abs(told - unscaled) <= 1e-3 * (1 + abs(unscaled)):
            raise WrongAnswerError("the temperature is not used: divide the similarities by it")
        if abs(told + right) <= 1e-3 * (1 + abs(right)):
            raise WrongAnswerError("the sign is turned around: the loss is minus the mean")
        raise WrongAnswerError(
            f"temperature {temperature:g}: expected {right:.4f}, got {told:.4f}; "
            "an anchor is neither its own positive nor in its own denominator"
        )


CHECKS: dict[str, Callable[[Namespace, np.random.Generator], None]] = {
    "rates": check_rates,
    "area": check_area,
    "partial_area": check_partial_area,
    "threshold": check_threshold,
    "frame_count": check_frame_count,
    "band_level": check_band_level,
    "distance": check_distance,
    "own_auc": check_own_auc,
    "standardise": check_standardise,
    "mix": check_mixup,
    "contrastive_loss": check_loss,
}
"""Name of the exercise → its check."""
