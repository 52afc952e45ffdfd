"""One pass for all targets of a user gives what one pass a target gives; a script of two processes, too."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from transformers import GPT2Config, LlamaConfig, Qwen3Config

import hfrec
from hfrec.data.histories import Histories, Targets
from hfrec.data.statistics import Statistics
from hfrec.items.table import ItemTable

NUM_ITEMS, MAX_HISTORY = 80, 12
LLAMA = {
    "vocab_size": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": None,
}
BACKBONES: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: GPT2Config(
        vocab_size=1, n_positions=MAX_HISTORY + 1, n_embd=32, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None
    ),
    "llama": lambda: LlamaConfig(**LLAMA),
    "qwen3": lambda: Qwen3Config(**LLAMA),
}


class OnePassATarget:
    """A recommender that can only score."""

    def __init__(self, model: hfrec.RecModel) -> None:
        self.score = model.score


class Passes:
    """Counts the tokens that go through a model's backbone."""

    def __init__(self, model: hfrec.RecModel) -> None:
        self.tokens = 0
        model.backbone.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: Any, kwargs: Any) -> None:
        self.tokens += kwargs["attention_mask"].numel()


def world() -> Targets:
    """Users of 1 to 30 events with times and types; of each the last half are targets, the very first event of some."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 31, 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    sequences = Histories(
        rng.integers(1, NUM_ITEMS + 1, offsets[-1]),
        offsets,
        times=np.concatenate([np.sort(rng.integers(0, 10**7, length)) for length in lengths]).astype(float),
        event_types=rng.integers(0, 3, offsets[-1]),
        event_names=("", "click", "purchase"),
    )
    targets = [(user, position) for user, length in enumerate(lengths) for position in range(length // 2, length)]
    users, positions = np.array(targets).T
    order = rng.permutation(len(users))
    return Targets(sequences, users[order], positions[order], np.arange(1, NUM_ITEMS + 1))


def model_of(backbone: str = "gpt2", attention: str = "sdpa") -> hfrec.RecModel:
    """Untrained, and no weight of it is 0: what it reads moves its scores."""
    catalog = hfrec.Catalog.from_frame([{"item_id": number} for number in range(1, NUM_ITEMS + 1)])
    items = ItemTable.of_ids(catalog)
    torch.manual_seed(0)
    config = hfrec.RecConfig.for_items(
        items, backbone_config=BACKBONES[backbone](), max_history=MAX_HISTORY, event_types=["purchase", "click"]
    )
    model = hfrec.RecModel(config).grow_item_ids(catalog.item_ids)
    train = Histories.from_rows(np.random.default_rng(0).integers(1, NUM_ITEMS - 5, (30, 9)))
    model.attach(items, Statistics.count(train, catalog.num_rows))
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    model.backbone.set_attn_implementation(attention)
    return model.train()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_targets_of_a_user_are_scored_together_as_one_by_one(backbone: str, attention: str) -> None:
    targets, model = world(), model_of(backbone, attention)
    assert (targets.positions == 0).any() and (targets.positions > MAX_HISTORY).any()
    indices = np.random.default_rng(1).permutation(len(targets))[:150]
    passes = Passes(model)
    together = model.score_targets(targets, indices)
    few = passes.tokens
    one_by_one = torch.cat([model.score(targets.histories([index])) for index in indices])
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-5)
    assert one_by_one.std(dim=0).min() > 1e-2, "histories make no difference: nothing is compared"
    assert few < passes.tokens - few
    assert model.training
    rows = np.array([7, 3, 60])
    torch.testing.assert_close(model.score_targets(targets, indices, rows), together[:, rows - 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("longest", [MAX_HISTORY, 40], ids=["all fit", "some are too long"])
def test_ranks_and_lists_are_those_of_one_pass_a_target(longest: int) -> None:
    targets, model = world(), model_of()
    kept = targets.positions <= longest
    targets = Targets(targets.sequences, targets.users[kept], targets.positions[kept], targets.candidates)
    passes = Passes(model)
    together = hfrec.evaluate(model, targets, batch_size=32)
    few = passes.tokens
    one_by_one = hfrec.evaluate(OnePassATarget(model), targets, batch_size=32)
    assert together.ranks.tolist() == one_by_one.ranks.tolist()
    assert together.lists.tolist() == one_by_one.lists.tolist()
    assert together.repeated_targets == one_by_one.repeated_targets > 0
    assert few < (passes.tokens - few) / (2 if longest == MAX_HISTORY else 1)
    assert len(set(together.ranks.tolist())) > 20


def test_what_comes_after_a_target_is_not_seen() -> None:
    targets, model = world(), model_of()
    indices = np.flatnonzero(targets.positions <= MAX_HISTORY)
    before = model.score_targets(targets, indices)
    first = np.full(len(targets.sequences), 10**6)
    np.minimum.at(first, targets.users, targets.positions)
    is_earliest = targets.positions[indices] == first[targets.users[indices]]
    sequences = targets.sequences
    within = np.arange(len(sequences.rows)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    later = within >= first[sequences.owners]
    rows = np.where(later, sequences.rows % NUM_ITEMS + 1, sequences.rows)
    changed = Targets(
        Histories(rows, sequences.offsets, sequences.times, sequences.event_types, event_names=sequences.event_names),
        targets.users,
        targets.positions,
        targets.candidates,
    )
    after = model.score_targets(changed, indices)
    assert torch.equal(before[is_earliest], after[is_earliest]) and is_earliest.any()
    assert not torch.allclose(before[~is_earliest], after[~is_earliest])


def test_two_processes_judge_as_one(python: Callable, tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    ran = python(*launcher, __file__, tmp_path, CUDA_VISIBLE_DEVICES="")
    assert ran.returncode == 0, ran.stderr[-3000:]
    targets, model = world(), model_of()
    expected = hfrec.evaluate(OnePassATarget(model), targets, batch_size=32)
    whole = Passes(model)
    hfrec.evaluate(model, targets, batch_size=32)
    found = [json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]
    for one in found:
        assert one["processes"] == 2 and one["ranks"] == expected.ranks.tolist()
        assert one["lists"] == expected.lists.tolist()
        assert 0 < one["tokens"] < whole.tokens
    assert sum(one["tokens"] for one in found) == whole.tokens, "a batch is the same on any number of processes"


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    judge = model_of()
    counted = Passes(judge)
    judged = hfrec.evaluate(judge, world(), batch_size=32)
    facts = {
        "processes": torch.distributed.get_world_size(),
        "ranks": judged.ranks.tolist(),
        "lists": judged.lists.tolist(),
        "tokens": counted.tokens,
    }
    (Path(sys.argv[1]) / f"{torch.distributed.get_rank()}.json").write_text(json.dumps(facts), encoding="utf-8")
    torch.distributed.destroy_process_group()
