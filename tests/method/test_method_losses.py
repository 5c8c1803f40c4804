import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asdlib.errors import ConfigError
from asdlib.method.losses import (
    ArcFaceHead,
    SubClusterAdaCosHead,
    nt_xent_loss,
    supervised_contrastive_loss,
)

torch.set_num_threads(1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int, size: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, size, generator=seeded(seed))


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
@settings(max_examples=80, deadline=None)
def test_supervised_contrast_equals_a_double_precision_loop(
    case: tuple[list[int], list[int], int], temperature: float
) -> None:
    labels, _, seed = case
    z = batch(len(labels), seed=seed)
    loss = supervised_contrastive_loss(z, torch.tensor(labels), temperature)
    assert float(loss) == pytest.approx(loop_loss(z, labels, temperature), rel=1e-5, abs=1e-5)


@given(case=labelled)
@settings(max_examples=80, deadline=None)
def test_cross_domain_contrast_equals_a_double_precision_loop(
    case: tuple[list[int], list[int], int],
) -> None:
    labels, domains, seed = case[0] * 2, case[1] * 2, case[2]
    z = batch(len(labels), seed=seed)
    clips = list(range(len(labels) // 2)) * 2
    expected = loop_loss(z, labels, 0.1, domains, clips)
    for given_clips in (torch.tensor(clips), None):
        loss = supervised_contrastive_loss(
            z,
            torch.tensor(labels),
            0.1,
            domains=torch.tensor(domains),
            clips=given_clips,
            cross_domain=True,
        )
        assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@given(case=labelled)
@settings(max_examples=40, deadline=None)
def test_order_scale_rotation_and_names_do_not_matter(
    case: tuple[list[int], list[int], int],
) -> None:
    labels, _, seed = case
    z, classes = batch(len(labels), seed=seed), torch.tensor(labels)
    loss = supervised_contrastive_loss(z, classes, 0.1)
    order = torch.randperm(len(labels), generator=seeded(seed))
    rotation = torch.linalg.qr(batch(8, seed=seed + 1)).Q
    for other, names in (
        (z[order], classes[order]),
        (3.7 * z, classes),
        (z @ rotation, classes),
        (z, 7 - 2 * classes),
    ):
        torch.testing.assert_close(
            supervised_contrastive_loss(other, names, 0.1), loss, atol=1e-4, rtol=1e-4
        )


def test_two_embeddings_of_a_class_alone_cost_nothing() -> None:
    assert float(supervised_contrastive_loss(batch(2), torch.tensor([1, 1]), 0.1)) == 0


def test_closed_form_of_four_orthogonal_pairs() -> None:
    z = torch.eye(4).repeat(2, 1)
    loss = supervised_contrastive_loss(z, torch.arange(4).repeat(2), 0.5)
    assert float(loss) == pytest.approx(math.log(math.exp(2) + 6) - 2)


def test_same_class_and_domain_is_neither_near_nor_far() -> None:
    # Clips 0 and 1 are of one class and domain, clip 2 is of another class; all are orthogonal.
    labels, domains = torch.tensor([0, 0, 1] * 2), torch.tensor([0, 0, 0] * 2)
    z = torch.eye(3).repeat(2, 1)
    loss = supervised_contrastive_loss(z, labels, 0.5, domains=domains, cross_domain=True)
    of_class_0, of_class_1 = math.log(math.exp(2) + 2) - 2, math.log(math.exp(2) + 4) - 2
    assert float(loss) == pytest.approx((4 * of_class_0 + 2 * of_class_1) / 6)


def test_anchors_without_positives_are_left_out() -> None:
    z, labels = batch(5), torch.tensor([0, 0, 1, 2, 3])
    pair = loop_loss(z, [0, 0, 1, 2, 3], 0.1)
    assert float(supervised_contrastive_loss(z, labels, 0.1)) == pytest.approx(pair, rel=1e-5)


def test_no_positive_at_all_is_zero_with_a_gradient() -> None:
    z = batch(4).requires_grad_()
    loss = supervised_contrastive_loss(z, torch.arange(4), 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_gradient_is_right() -> None:
    z = batch(6, 4).double().requires_grad_()

    def loss(values: Tensor) -> Tensor:
        return supervised_contrastive_loss(values, torch.tensor([0, 1, 0, 1, 2, 2]), 0.5)

    loss(z).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    base = z.detach()
    for i, j in ((0, 0), (3, 2), (5, 1)):
        step = torch.zeros_like(base)
        step[i, j] = 1e-4
        labels = [0, 1, 0, 1, 2, 2]
        slope = (loop_loss(base + step, labels, 0.5) - loop_loss(base - step, labels, 0.5)) / 2e-4
        assert float(z.grad[i, j]) == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_is_safe(autocast: bool) -> None:
    labels = torch.tensor([0, 1, 2, 3] * 8)
    z = batch(32, 64)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = supervised_contrastive_loss(z.bfloat16(), labels, 0.01)
    assert loss.dtype == torch.float32
    expected = loop_loss(z.bfloat16(), labels.tolist(), 0.01)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_small_temperature_does_not_overflow() -> None:
    z = batch(8).requires_grad_()
    loss = supervised_contrastive_loss(z, torch.tensor([0, 1] * 4), 1e-3)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_nt_xent_equals_its_loop() -> None:
    z, n = batch(10), 5
    unit = torch.nn.functional.normalize(z.double(), dim=1)
    total = 0.0
    for i in range(2 * n):
        pair = (i + n) % (2 * n)
        others = [math.exp(float(unit[i] @ unit[j]) / 0.2) for j in range(2 * n) if j != i]
        total -= math.log(math.exp(float(unit[i] @ unit[pair]) / 0.2) / sum(others))
    loss = nt_xent_loss(z, torch.arange(n).repeat(2), 0.2)
    assert float(loss) == pytest.approx(total / (2 * n), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan, math.inf])
def test_impossible_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ConfigError, match="temperature is .* above 0"):
        supervised_contrastive_loss(batch(4), torch.zeros(4, dtype=torch.int64), temperature)


def test_wrong_lengths_and_missing_domains_are_refused() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ConfigError, match=r"labels have shape \(4,\), expected \(5,\)"):
        supervised_contrastive_loss(batch(5), labels, 0.1)
    with pytest.raises(ConfigError, match="need domains"):
        supervised_contrastive_loss(batch(4), labels, 0.1, cross_domain=True)
    with pytest.raises(ConfigError, match="5 embeddings are not two views"):
        supervised_contrastive_loss(
            batch(5), torch.zeros(5), 0.1, domains=torch.zeros(5), cross_domain=True
        )


# Classification heads


def test_arcface_equals_its_formula() -> None:
    head = ArcFaceHead(8, 3, margin=0.3, scale=16.0)
    z, labels = batch(6), [0, 1, 2, 0, 1, 2]
    unit = torch.nn.functional.normalize(z.double(), dim=1)
    centres = torch.nn.functional.normalize(head.centres.detach().double(), dim=1)
    total = 0.0
    for i, label in enumerate(labels):
        cosine = [float(unit[i] @ c) for c in centres]
        assert math.acos(cosine[label]) < math.pi - 0.3
        cosine[label] = math.cos(math.acos(cosine[label]) + 0.3)
        total += math.log(sum(math.exp(16 * c) for c in cosine)) - 16 * cosine[label]
    assert float(head(z, torch.tensor(labels)).detach()) == pytest.approx(total / 6, rel=1e-4)


def test_arcface_without_margin_is_a_softmax_and_more_margin_costs_more() -> None:
    z, labels = batch(6), torch.tensor([0, 1, 2, 0, 1, 2])
    losses = []
    for margin in (0.0, 0.2, 0.5, 1.0):
        head = ArcFaceHead(8, 3, margin=margin)
        torch.nn.init.eye_(head.centres)
        losses.append(float(head(z, labels).detach()))
    assert losses == sorted(losses)


def test_arcface_is_finite_at_the_poles() -> None:
    head = ArcFaceHead(2, 2, margin=0.5)
    with torch.no_grad():
        head.centres.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    head(z, torch.tensor([0, 0])).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_adacos_adapts_its_scale_in_training_alone() -> None:
    head = SubClusterAdaCosHead(16, 4, n_subclusters=2)
    initial = math.sqrt(2) * math.log(7)
    z, labels = batch(9, 16), torch.arange(9) % 4
    head.eval()(z, labels)
    assert float(head.scale) == pytest.approx(initial)
    head.train()(z, labels)
    unit = torch.nn.functional.normalize(z.double(), dim=1)
    centres = torch.nn.functional.normalize(head.centres.detach().double(), dim=1)
    cosine = unit @ centres.T
    total = math.log(float(torch.exp(initial * cosine).sum()) / 9)
    own = [max(row[2 * label : 2 * label + 2]) for row, label in zip(cosine, labels, strict=True)]
    angle = sorted(math.acos(value) for value in own)[4]
    assert float(head.scale) == pytest.approx(total / math.cos(min(math.pi / 4, angle)), rel=1e-5)
    assert "scale" in head.state_dict()


def test_adacos_loss_sums_the_probabilities_of_the_sub_clusters() -> None:
    head = SubClusterAdaCosHead(8, 3, n_subclusters=4).eval()
    z, labels = batch(5), torch.tensor([0, 1, 2, 0, 1])
    unit = torch.nn.functional.normalize(z, dim=1)
    centres = torch.nn.functional.normalize(head.centres.detach(), dim=1)
    probability = torch.softmax(head.scale * (unit @ centres.T), dim=1)
    of_class = probability.reshape(5, 3, 4).sum(dim=2)[torch.arange(5), labels]
    torch.testing.assert_close(head(z, labels).detach(), -of_class.log().mean())


def test_heads_learn_separable_classes() -> None:
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    z = batch(3, 8, seed=3)[labels] + 0.1 * batch(60, 8, seed=4)
    for head in (ArcFaceHead(8, 3), SubClusterAdaCosHead(8, 3, n_subclusters=2)):
        losses = []
        for _ in range(150):
            loss = head(z, labels)
            (gradient,) = torch.autograd.grad(loss, head.centres)
            with torch.no_grad():
                head.centres.sub_(0.02 * gradient)
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.4 * losses[0]


def test_impossible_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match="margin 2"):
        ArcFaceHead(8, 3, margin=2.0)
    with pytest.raises(ConfigError, match="at least 3 centres"):
        SubClusterAdaCosHead(8, 2, n_subclusters=1)
