"""Losses: against loops in double precision, and in the cases where a formula breaks."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn import functional

from asdlib.errors import ConfigError
from asdlib.method.losses import (
    ArcFaceHead,
    supervised_contrastive_loss,
)

torch.set_num_threads(1)


def batch(n: int, size: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed))


def loop_loss(
    z: Tensor,
    labels: list[int],
    temperature: float,
    domains: list[int] | None = None,
    clips: list[int] | None = None,
) -> float:
    """Supervised contrast by loops in double precision; cross-domain if domains are given."""
    vectors = [[float(v) for v in row] for row in z]
    unit = [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in vectors]
    n, terms = len(unit), []

    def similarity(i: int, j: int) -> float:
        return sum(a * b for a, b in zip(unit[i], unit[j], strict=True)) / temperature

    for i in range(n):
        positives = [j for j in range(n) if j != i and labels[j] == labels[i]]
        if domains is not None and clips is not None:
            positives = [j for j in positives if domains[j] != domains[i] or clips[j] == clips[i]]
        negatives = [j for j in range(n) if labels[j] != labels[i]]
        if not positives:
            continue
        total = sum(math.exp(similarity(i, j)) for j in positives + negatives)
        logs = [similarity(i, j) - math.log(total) for j in positives]
        terms.append(-sum(logs) / len(logs))
    return sum(terms) / len(terms) if terms else 0.0


labelled = st.integers(2, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        st.lists(st.integers(0, 1), min_size=n, max_size=n),
        st.integers(0, 10_000),
    )
)


@given(case=labelled, temperature=st.sampled_from([0.05, 0.1, 1.0]))
@settings(max_examples=50)
def test_supervised_contrast_equals_a_double_precision_loop(
    case: tuple[list[int], list[int], int], temperature: float
) -> None:
    labels, _, seed = case
    z = batch(len(labels), seed=seed)
    loss = supervised_contrastive_loss(z, torch.tensor(labels), temperature)
    assert float(loss) == pytest.approx(loop_loss(z, labels, temperature), rel=1e-5, abs=1e-5)


@given(case=labelled)
@settings(max_examples=50)
def test_cross_domain_contrast_equals_a_double_precision_loop(
    case: tuple[list[int], list[int], int],
) -> None:
    labels, domains, seed = case[0] * 2, case[1] * 2, case[2]
    z = batch(len(labels), seed=seed)
    clips = list(range(len(labels) // 2)) * 2
    expected = loop_loss(z, labels, 0.1, domains, clips)
    numbers = {"domains": torch.tensor(domains), "clips": torch.tensor(clips)}
    loss = supervised_contrastive_loss(z, torch.tensor(labels), 0.1, **numbers, cross_domain=True)
    assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_closed_form_of_four_orthogonal_pairs() -> None:
    z = torch.eye(4).repeat(2, 1)
    expected = math.log(math.exp(2) + 6) - 2
    loss = supervised_contrastive_loss(z, torch.arange(4).repeat(2), 0.5)
    assert float(loss) == pytest.approx(expected)


def test_same_class_and_domain_is_neither_near_nor_far() -> None:
    # Clips 0 and 1 are of one class and domain, clip 2 is of another class; all are orthogonal.
    labels, domains = torch.tensor([0, 0, 1] * 2), torch.tensor([0, 0, 0] * 2)
    numbers = {"domains": domains, "clips": torch.tensor([0, 1, 2] * 2)}
    z = torch.eye(3).repeat(2, 1)
    loss = supervised_contrastive_loss(z, labels, 0.5, **numbers, cross_domain=True)
    of_class_0, of_class_1 = math.log(math.exp(2) + 2) - 2, math.log(math.exp(2) + 4) - 2
    assert float(loss) == pytest.approx((4 * of_class_0 + 2 * of_class_1) / 6)


def test_no_positive_at_all_is_zero_with_a_gradient() -> None:
    for n in [1, 4]:
        z = batch(n).requires_grad_()
        loss = supervised_contrastive_loss(z, torch.arange(n), 0.1)
        assert float(loss.detach()) == 0
        assert torch.equal(torch.autograd.grad(loss, z)[0], torch.zeros_like(z))


def test_gradient_is_right() -> None:
    labels = [0, 1, 0, 1, 2, 2]
    z = batch(6, 4).double().requires_grad_()
    loss = supervised_contrastive_loss(z, torch.tensor(labels), 0.5)
    gradient = torch.autograd.grad(loss, z)[0]
    base = z.detach()
    for i, j in ((0, 0), (3, 2), (5, 1)):
        step = torch.zeros_like(base)
        step[i, j] = 1e-4
        slope = (loop_loss(base + step, labels, 0.5) - loop_loss(base - step, labels, 0.5)) / 2e-4
        assert float(gradient[i, j]) == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_and_small_temperatures_are_safe(autocast: bool) -> None:
    labels = torch.tensor([0, 1, 2, 3] * 8)
    z = batch(32, 64).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = supervised_contrastive_loss(z, labels, 0.01)
        tiny = supervised_contrastive_loss(z, labels, 1e-3)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(
        loop_loss(z.detach(), labels.tolist(), 0.01), rel=1e-5
    )
    assert torch.isfinite(torch.autograd.grad(tiny, z)[0]).all()


LABELS = torch.zeros(5, dtype=torch.int64)


MISFITS = [
    *(({"temperature": t}, "temperature is .* above 0") for t in (0.0, -0.1, math.nan, 1e400)),
    ({"labels": LABELS[:4]}, r"labels have shape \(4,\), expected \(5,\)"),
    ({"cross_domain": True}, "need domains"),
    ({"cross_domain": True, "domains": LABELS}, "need domains and clips"),
]


def test_what_does_not_fit_is_refused() -> None:
    for changes, message in MISFITS:
        with pytest.raises(ConfigError, match=message):
            supervised_contrastive_loss(batch(5), **({"labels": LABELS} | changes))


def cosines(z: Tensor, head: Any) -> Tensor:
    centres = functional.normalize(head.centres.detach().double(), dim=1)
    return functional.normalize(z.double(), dim=1) @ centres.T


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_arcface_equals_its_formula(margin: float) -> None:
    head = ArcFaceHead(8, 3, margin=margin, scale=16.0)
    z, labels = batch(6), [0, 1, 2, 0, 1, 2]
    total = 0.0
    for row, label in zip(cosines(z, head).tolist(), labels, strict=True):
        assert math.acos(row[label]) < math.pi - margin
        row[label] = math.cos(math.acos(row[label]) + margin)
        total += math.log(sum(math.exp(16 * c) for c in row)) - 16 * row[label]
    assert float(head(z, torch.tensor(labels)).detach()) == pytest.approx(total / 6, rel=1e-4)


def test_arcface_goes_on_falling_at_the_poles() -> None:
    head = ArcFaceHead(2, 2, margin=0.5)
    with torch.no_grad():
        head.centres.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))  # the second stays at cosine 0
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.01]], requires_grad=True)
    losses = [head(z[i : i + 1], torch.tensor([0])) for i in range(3)]
    assert losses[0] < losses[2] < losses[1], "the opposite of a centre costs most"
    assert torch.isfinite(torch.autograd.grad(sum(losses), z)[0]).all()


def test_impossible_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match="margin 2"):
        ArcFaceHead(8, 3, margin=2.0)
