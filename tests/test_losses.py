"""Losses against their plain definitions."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from hfrec.losses import Candidates, FullSoftmax, SampledSoftmax


@pytest.fixture
def world() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Candidates]:
    torch.manual_seed(0)
    table = torch.randn(41, 8)
    labels = torch.randint(1, 41, (12,))
    return torch.randn(12, 8), labels, torch.rand(12), Candidates(lambda rows: table[rows], torch.arange(1, 41))


def test_full_softmax_is_cross_entropy_over_all_items(world: tuple) -> None:
    states, labels, weights, candidates = world
    logits = states @ candidates.embed(candidates.rows).T
    plain = (functional.cross_entropy(logits, labels - 1, reduction="none") * weights).sum()
    assert torch.allclose(FullSoftmax()(states, labels, weights, candidates), plain)


def test_sampling_every_item_is_the_full_softmax(world: tuple) -> None:
    states, labels, weights, candidates = world
    full = FullSoftmax()(states, labels, weights, candidates)
    assert torch.allclose(SampledSoftmax(40)(states, labels, weights, candidates), full, atol=1e-5)


def test_logq_brings_the_sampled_loss_nearer_to_the_full_one(world: tuple) -> None:
    states, labels, _, candidates = world
    full = FullSoftmax()(states, labels, None, candidates)
    errors = {}
    for logq in (True, False):
        draws = torch.stack([SampledSoftmax(8, logq)(states, labels, None, candidates) for _ in range(300)])
        errors[logq] = float((draws.mean() - full).abs())
    assert errors[True] < errors[False]


def test_more_negatives_than_items_is_refused(world: tuple) -> None:
    states, labels, _, candidates = world
    with pytest.raises(ValueError, match=r"`num_negatives` must be at most the number of items \(40\), got 41"):
        SampledSoftmax(41)(states, labels, None, candidates)
