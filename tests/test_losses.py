"""Losses against their plain definitions, in value, gradient and memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hfrec import losses
from hfrec.losses import BCE, GBCE, LOSSES, Candidates, FullSoftmax, InBatchSoftmax, SampledSoftmax

P, N, D = 12, 40, 8
SMALL = [FullSoftmax(), SampledSoftmax(16), InBatchSoftmax(), BCE(), BCE(3), GBCE(16)]
fused = pytest.param("fused", marks=pytest.mark.skipif(losses.LinearCrossEntropyOptions is None, reason="torch < 2.14"))
each_loss = pytest.mark.parametrize("loss", SMALL, ids=repr)


@dataclass
class World:
    """States, labels and weights of P positions, and vectors of N items, as leaves that gather gradients."""

    states: Tensor
    labels: Tensor
    weights: Tensor
    table: Tensor

    @property
    def candidates(self) -> Candidates:
        return Candidates(lambda rows: self.table[rows], torch.arange(1, len(self.table)))

    def value(
        self, loss: Callable[..., Tensor], weights: Tensor | None, candidates: Candidates | None = None
    ) -> Tensor:
        """The loss under a seed: the same draws each time."""
        torch.manual_seed(1)
        return loss(self.states, self.labels, weights, candidates or self.candidates)

    def gradients(self, value: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(value, [self.states, self.table, *more])


def make_world(num_positions: int = P, num_items: int = N, width: int = D) -> World:
    torch.manual_seed(0)
    table = torch.randn(num_items + 1, width)
    labels = torch.randint(1, num_items + 1, (num_positions,))
    states = torch.randn(num_positions, width)
    return World(states.requires_grad_(), labels, torch.rand(num_positions), table.requires_grad_())


@pytest.fixture
def world() -> World:
    return make_world()


def plain_full(states: Tensor, labels: Tensor, weights: Tensor | None, candidates: Candidates) -> Tensor:
    logits = states @ candidates.embed(candidates.rows).T
    values = functional.cross_entropy(logits, torch.searchsorted(candidates.rows, labels), reduction="none")
    return (values * (1 if weights is None else weights)).sum()


def assert_close(one: tuple[Tensor, ...], other: tuple[Tensor, ...], within: float = 1e-5) -> None:
    for left, right in zip(one, other, strict=True):
        torch.testing.assert_close(left, right, rtol=within, atol=within)


@pytest.fixture(params=["at once", "checkpointed", fused])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The three ways to a softmax; chunks of 2 or 3 positions where it is not computed at once."""
    if request.param != "at once":
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", 100)
    if request.param == "checkpointed":
        monkeypatch.setattr(losses, "LinearCrossEntropyOptions", None)
    return request.param


@pytest.mark.parametrize("weighted", [False, True])
def test_full_softmax_is_cross_entropy_over_all_items(path: str, weighted: bool, world: World) -> None:
    weights = world.weights if weighted else None
    ours, plain = (world.value(one, weights) for one in (FullSoftmax(), plain_full))
    assert_close((ours, *world.gradients(ours)), (plain, *world.gradients(plain)))


def test_popularity_is_allowed_for_in_training(path: str, world: World) -> None:
    popularity = torch.randint(0, 50, (N,))
    candidates = replace(world.candidates, popularity=popularity)
    ours = world.value(FullSoftmax(popularity=0.5), world.weights, candidates)
    logits = world.states @ world.table[1:].T + 0.5 * popularity.clamp(min=1).log()
    plain = (functional.cross_entropy(logits, world.labels - 1, reduction="none") * world.weights).sum()
    assert_close((ours, *world.gradients(ours)), (plain, *world.gradients(plain)))
    with pytest.raises(ValueError, match=r"`popularity` 0\.5 needs the training events of the candidates"):
        world.value(FullSoftmax(popularity=0.5), None)


@each_loss
def test_what_a_user_has_had_does_not_compete_and_a_label_always_does(
    loss: Callable[..., Tensor], path: str, world: World
) -> None:
    had = torch.randint(1, N + 1, (P, N))
    had[:, 1], had[:, 2], had[0] = world.labels, 0, 0
    candidates = replace(world.candidates, seen=had)
    ours = world.value(loss, world.weights, candidates)
    # To say nothing of an item is as good as to find it impossible: its logit is as low as can be.
    far = torch.full((P, N), 0.0).scatter_(1, (had - 1).clamp(min=0), -1e9)
    far[torch.arange(P), world.labels - 1] = far[0] = 0.0
    far[:, 0] = torch.where((had == 1).any(1) & (world.labels != 1), -1e9, 0.0)
    wide = torch.cat([world.states, far], dim=1)
    table = torch.cat([world.table, torch.cat([torch.zeros(1, N), torch.eye(N)])], dim=1)
    torch.manual_seed(1)
    plain = loss(wide, world.labels, world.weights, replace(world.candidates, embed=lambda rows: table[rows]))
    assert_close((ours, *world.gradients(ours)), (plain, *world.gradients(plain)))
    assert ours < world.value(loss, world.weights)


@pytest.mark.parametrize("logq", [False, True])
def test_sampling_every_item_is_the_full_softmax(path: str, logq: bool, world: World) -> None:
    ours, plain = world.value(SampledSoftmax(N, logq), world.weights), world.value(plain_full, world.weights)
    assert_close((ours, *world.gradients(ours)), (plain, *world.gradients(plain)))


def peak_bytes(run: Callable[[], Any], folder: Path) -> int:
    """The most bytes that tensors made while running held at once, inside fused operations too."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    trace = folder / "trace.json"
    profile.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [
        event["args"]["Bytes"]
        for event in sorted(events, key=lambda event: event.get("ts", 0))
        if event["name"] == "[memory]"
    ]
    live = most = 0
    for change in changes:
        live += change
        most = max(most, live)
    return most


@pytest.fixture(scope="module")
def large() -> World:
    return make_world(2048, 40_000, 64)


@pytest.fixture(scope="module")
def plain_peak(large: World, tmp_path_factory: pytest.TempPathFactory) -> int:
    return peak_bytes(lambda: large.value(plain_full, large.weights).backward(), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("way", ["checkpointed", fused])
def test_a_third_of_the_memory_of_plain_cross_entropy(
    way: str, large: World, plain_peak: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "checkpointed":
        monkeypatch.setattr(losses, "LinearCrossEntropyOptions", None)
    ours = peak_bytes(lambda: large.value(FullSoftmax(), large.weights).backward(), tmp_path)
    logits = 2048 * 40_000 * 4
    assert plain_peak > 2 * logits, "the measurement must see the plain loss's own buffers"
    assert 3 * ours <= plain_peak, f"{ours / 2**20:.0f} MiB of {plain_peak / 2**20:.0f} MiB"


@each_loss
def test_a_weight_is_a_factor_of_its_positions_loss(loss: Callable[..., Tensor], world: World) -> None:
    of_each = torch.stack([world.value(loss, one) for one in torch.eye(P)])
    torch.testing.assert_close(world.value(loss, world.weights), (of_each * world.weights).sum())
    torch.testing.assert_close(world.value(loss, None), of_each.sum())


@each_loss
def test_autocast_leaves_logits_in_float32(loss: Callable[..., Tensor], path: str, world: World) -> None:
    projection = torch.eye(D)
    plain = world.value(loss, world.weights, replace(world.candidates, embed=lambda rows: 10 * world.table[rows]))
    with torch.autocast("cpu", torch.bfloat16):
        # As a projection of the item tower does, the embedding comes out in bfloat16.
        low = replace(world.candidates, embed=lambda rows: (10 * world.table[rows]) @ projection)
        assert low.embed(low.rows).dtype == torch.bfloat16
        ours = world.value(loss, world.weights, low)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, plain, rtol=0.02, atol=0.02)
    assert all(bool(gradient.isfinite().all()) for gradient in world.gradients(ours))


def test_logq_brings_the_sampled_loss_nearer_to_the_full_one(world: World) -> None:
    full = world.value(FullSoftmax(), None)
    errors = {}
    for logq in (True, False):
        loss = SampledSoftmax(8, logq)
        draws = torch.stack([loss(world.states, world.labels, None, world.candidates) for _ in range(300)])
        errors[logq] = (draws.mean() - full).abs().item()
    assert errors[True] < errors[False]


def test_in_batch_softmax_ranks_each_label_of_the_batch_once(world: World) -> None:
    world.labels[:4] = 7
    unique = world.labels.unique()
    logits = world.states @ world.table[unique].T
    place = torch.searchsorted(unique, world.labels)
    plain = functional.cross_entropy(logits, place, reduction="sum")
    torch.testing.assert_close(world.value(InBatchSoftmax(logq=False), None), plain)
    popularity = torch.arange(1.0, N + 1)
    chance = 1 - (1 - popularity[unique - 1].double() / popularity.sum()) ** P
    corrected = functional.cross_entropy(logits - chance.log().float(), place, reduction="sum")
    known = replace(world.candidates, popularity=popularity)
    torch.testing.assert_close(world.value(InBatchSoftmax(), None, known), corrected)


def test_gbce_over_all_items_has_every_other_item_as_negative(world: World) -> None:
    logits = world.states @ world.table[1:].T - math.log(N)
    targets = functional.one_hot(world.labels - 1, N).float()
    plain = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / (N + 1)
    torch.testing.assert_close(world.value(GBCE(N), None), plain)


def test_gbce_is_calibrated_by_t(world: World) -> None:
    share = 10 / (N - 1)
    assert GBCE(10, t=0).beta(N) == pytest.approx(1)
    assert GBCE(10, t=1).beta(N) == pytest.approx(share)
    assert GBCE(10, t=0.75).beta(N) == pytest.approx(1 - 0.75 * (1 - share))
    torch.manual_seed(1)
    drawn = world.candidates.draw(10)
    prior = math.log(share / 10)
    right = functional.logsigmoid((world.states * world.table[world.labels]).sum(1) + prior)
    wrong = functional.logsigmoid(-(world.states @ world.table[drawn].T + prior))
    wrong = torch.where(drawn == world.labels[:, None], 0.0, wrong).sum(1)
    torch.testing.assert_close(world.value(GBCE(10, t=1), None), -(share * right + wrong).sum() / 11)


@pytest.mark.parametrize("loss", [BCE(), BCE(3), GBCE(10), GBCE(10, t=0)], ids=repr)
def test_a_model_that_knows_nothing_is_left_at_its_level(loss: Callable[..., Tensor], world: World) -> None:
    world.labels = torch.arange(1, N + 1).repeat(50)
    # One number in each state and vector: its product is the level of all logits.
    world.states = torch.ones(len(world.labels), 1)
    level = torch.tensor(0.0, requires_grad=True)
    shifted = [
        replace(world.candidates, embed=lambda rows, to=to: (level + to).expand(len(rows), 1)) for to in (0.0, 3.0)
    ]
    still, pulled = (torch.autograd.grad(world.value(loss, None, one), level)[0].abs() for one in shifted)
    assert still < 0.05 * pulled


def test_a_draw_that_is_the_label_counts_nothing(world: World) -> None:
    only = Candidates(lambda rows: world.table[rows], torch.tensor([7]))
    world.labels[:] = 7
    logits = world.states @ world.table[7]
    torch.testing.assert_close(world.value(BCE(), None, only), -functional.logsigmoid(logits).sum())
    torch.testing.assert_close(world.value(BCE(5), None, only), -functional.logsigmoid(logits - math.log(5)).sum())
    torch.testing.assert_close(world.value(GBCE(1), None, only), -functional.logsigmoid(logits).sum() / 2)
    torch.testing.assert_close(world.value(InBatchSoftmax(), None, only), torch.tensor(0.0))


@pytest.mark.parametrize("loss", [SampledSoftmax(N + 1), GBCE(N + 1)], ids=repr)
def test_more_negatives_than_items_is_refused(loss: Callable[..., Tensor], world: World) -> None:
    with pytest.raises(ValueError, match=rf"`num_negatives` must be at most the number of items \({N}\), got {N + 1}"):
        world.value(loss, None)


def test_a_label_that_is_no_candidate_is_named(world: World) -> None:
    world.labels[3] = N
    with pytest.raises(ValueError, match=f"among the {N - 1} candidate rows, {N} is not"):
        world.value(FullSoftmax(), None, replace(world.candidates, rows=torch.arange(1, N)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SampledSoftmax(0), "`num_negatives` must be at least 1, got 0"),
        (lambda: BCE(0), "`num_negatives` must be at least 1, got 0"),
        (lambda: GBCE(-1), "`num_negatives` must be at least 1, got -1"),
        (lambda: GBCE(t=1.5), "`t` must be at least 0 and at most 1, got 1.5"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_every_loss_has_a_name() -> None:
    assert {type(loss) for loss in SMALL} == set(LOSSES.values())
