"""How a memory learns what to trust: from events that neither the Transformer nor a count has seen.

For each such event a softmax tells it from other items; a generalized cross-entropy (Zhang & Sabuncu 2018) lets it
care less for those that it cannot find at all, as a list of ten does. The Transformer and the counts are data here:
what they say of the items that matter is looked up once, in `Evidence`, and the memory's few hundred weights are
fitted to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hfrec.data.histories import Histories, Targets
from hfrec.models.memory import Memory

if TYPE_CHECKING:
    from hfrec.models.modeling import RecModel

MOST_QUESTIONS = 16_384
"""As many events teach a memory of a few hundred weights, if not of what is rare among them."""
_LIKELY, _CANDIDATES = 250, 600
"""Likeliest items by the counts, and as many by the Transformer, that stand against a label, and items in all."""
_QUESTIONS_AT_ONCE, _BATCH = 128, 256
_EPOCHS, _LEAST_STEPS, _RATE, _DECAY = 12, 150, 5e-3, 1e-3
NEW_ITEMS = 0.1
"""Share of the items that are shown as new ones are: enough to learn of, and most of a catalogue is not new."""
_IMPOSSIBLE = -1e4


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is said of the label, in the first place, and of C - 1 other items after each of Q histories.

    Attributes:
        logits: the Transformer's `(Q, C)`.
        amounts: what was counted `(Q, C, S)`, see `Memory.gather`; half precision.
        contexts: of the histories `(Q, CONTEXTS)`.
        corrections: what is added to the scores `(Q, C)`: an item that was drawn stands for many that were not.
    """

    logits: Tensor
    amounts: Tensor
    contexts: Tensor
    corrections: Tensor

    def __len__(self) -> int:
        return len(self.logits)

    @classmethod
    def joined(cls, parts: Sequence[Evidence]) -> Evidence:
        """The questions of several models; where one has fewer items than another, places stay empty."""
        if len(parts) == 1:
            return parts[0]
        most = max(part.logits.shape[1] for part in parts)

        def widened(part: Evidence) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            empty = (0, most - part.logits.shape[1])
            return (
                functional.pad(part.logits, empty),
                functional.pad(part.amounts, (0, 0, *empty)),
                part.contexts,
                functional.pad(part.corrections, empty, value=_IMPOSSIBLE),
            )

        return cls(*(torch.cat(pieces) for pieces in zip(*map(widened, parts), strict=True)))

    def loss(self, memory: Memory, chosen: Tensor, q: float = 0.0) -> Tensor:
        """Mean generalized cross-entropy (1 - p^q) / q of the labels of the `chosen` `(n,)` questions; 0: -log p."""
        scores = memory.read(self.logits[chosen], self.amounts[chosen].float(), self.contexts[chosen])
        scores = scores + self.corrections[chosen]
        labels = torch.zeros(len(chosen), dtype=torch.long, device=scores.device)
        if not q:
            return functional.cross_entropy(scores, labels)
        losses = functional.cross_entropy(scores, labels, reduction="none")
        return (-torch.expm1(-q * losses) / q).mean()


def evidence_of(
    model: RecModel,
    targets: Targets,
    random: np.random.Generator,
    seed: int = 0,
    new_items: float = NEW_ITEMS,
    among: np.ndarray | None = None,
    most: int = MOST_QUESTIONS,
) -> Evidence | None:
    """The evidence of `model` on `targets`, of which neither its weights nor its counts know anything.

    Args:
        model: trained, with counts, on what came before the targets.
        targets: at most `most` of them are drawn by `random`.
        seed, new_items: see `collect`.
        among: see `collect`; what is asked for is one of them.

    Returns:
        `None` where there is nothing to learn from, for lack of such items among the targets.
    """
    among = model.known_rows if among is None else among
    indices = drawn(np.flatnonzero(np.isin(targets.rows, among)), most, random)
    evidence = collect(model, targets, indices, seed, among, new_items) if len(indices) else None
    return evidence or None


def drawn(indices: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """At most so many of `indices`, in their order."""
    return indices if len(indices) <= most else np.sort(random.choice(indices, most, replace=False))


def fit(
    model: RecModel,
    evidence: Evidence,
    random: np.random.Generator,
    seed: int = 0,
    q: float = 0.0,
    pull: float = 0.0,
) -> None:
    """Fit the memory of `model` to what `collect` found; it is trusted from now on.

    Args:
        random: the order of the events.
        q: of the generalized cross-entropy.
        pull: with it the memory starts from what it has kept of a foundation, if anything, and a weight w stays near
            where it started, w₀: the loss, a mean over n events, grows by pull / 2n · (w - w₀)². So it weighs against
            the events as `pull` of them would, and few change little. At 0 a memory learns from its beginning.
    """
    memory = model.memory
    assert memory is not None
    if pull and memory.start is not None:
        memory.load_state_dict(memory.start)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            memory.forget()
    started = [weight.detach().clone() for weight in memory.parameters()]
    memory.requires_grad_(True)
    optimizer = torch.optim.AdamW(memory.parameters(), _RATE, weight_decay=_DECAY)
    batches = -(-len(evidence) // _BATCH)
    epochs = max(_EPOCHS, -(-_LEAST_STEPS // batches))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=epochs * batches)
    for _ in range(epochs):
        for some in np.array_split(random.permutation(len(evidence)), batches):
            optimizer.zero_grad()
            loss = evidence.loss(memory, torch.from_numpy(some).to(model.device), q)
            if pull:
                moved = ((now - then).square().sum() for now, then in zip(memory.parameters(), started, strict=True))
                loss = loss + pull / (2 * len(evidence)) * sum(moved)
            loss.backward()
            optimizer.step()
            schedule.step()
    memory.requires_grad_(False)
    model.config.memory_learned = True


@torch.no_grad()
def collect(
    model: RecModel,
    targets: Targets,
    indices: np.ndarray,
    seed: int = 0,
    among: np.ndarray | None = None,
    new_items: float = NEW_ITEMS,
) -> Evidence:
    """The evidence on the `targets` at `indices`; one whose user had chosen the item before is no question.

    A share `new_items`, drawn anew for some questions at a time, is shown as new ones are: no id, no count.

    Args:
        among: catalogue rows `(M,)`, ascending, that compete with a label; by default those with training events.
            Those of them without any are new in all questions: an id of theirs has learned nothing.
    """
    assert model.statistics is not None
    known = torch.from_numpy(model.known_rows if among is None else among).to(model.device)
    new = torch.zeros(model.catalog.num_rows, dtype=torch.bool, device=model.device)
    new[known] = torch.from_numpy(model.statistics.popularity == 0).to(model.device)[known]
    generator = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    parts = [
        _part(model, targets.histories(some), targets.rows[some], known, new, generator, new_items)
        for some in np.array_split(indices, -(-len(indices) // _QUESTIONS_AT_ONCE) or 1)
    ]
    model.train(was_training)
    return Evidence(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))


def _part(
    model: RecModel,
    histories: Histories,
    labels: np.ndarray,
    known: Tensor,
    new: Tensor,
    generator: torch.Generator,
    new_items: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, amounts, contexts and corrections of some questions, see `Evidence`; `known` `(M,)` rows compete, and
    `new` `(N + 1,)` ones are shown as such, beside those that are drawn."""
    memory = model.memory
    assert memory is not None
    hidden = model.hide_items(new_items, generator)
    hidden = new if hidden is None else hidden | new
    recalled = model.recall(histories, hidden.cpu().numpy())
    logits = model.logits(histories, known, hidden)
    amounts = memory.gather(recalled, known)
    contexts = torch.from_numpy(recalled.contexts).to(known.device)
    place = torch.searchsorted(known, torch.from_numpy(labels).to(known.device))
    seen = torch.zeros(logits.shape, dtype=torch.bool)
    owners, places = histories.owners, np.searchsorted(known.cpu().numpy(), histories.rows).clip(max=len(known) - 1)
    there = known.cpu().numpy()[places] == histories.rows
    seen[owners[there], places[there]] = True
    seen = seen.to(known.device)
    asked = ~seen.gather(1, place[:, None])[:, 0]

    num_likely, num_candidates = min(_LIKELY, len(known)), min(_CANDIDATES, len(known))
    chance = torch.rand(logits.shape, generator=generator).to(known.device)
    likely = torch.zeros_like(seen)
    for likelihood in (amounts.sum(-1), logits):
        best = likelihood.masked_fill(seen, -torch.inf).topk(num_likely).indices
        likely.scatter_(1, best, True)
    likely &= ~seen
    order = torch.where(likely, chance + 1, chance).masked_fill(seen, -1).scatter(1, place[:, None], 3.0)
    rank, candidates = order.topk(num_candidates)
    others = (~seen & ~likely).sum(1, keepdim=True)
    drawn = ((rank >= 0) & (rank < 1)).sum(1, keepdim=True).clamp(min=1)
    corrections = torch.where(rank < 1, (others / drawn).clamp(min=1).log(), torch.zeros_like(rank))
    corrections = corrections.masked_fill(rank < 0, _IMPOSSIBLE)
    gathered = amounts.gather(1, candidates[..., None].expand(-1, -1, amounts.shape[-1])).half()
    return logits.gather(1, candidates)[asked], gathered[asked], contexts[asked], corrections[asked]
