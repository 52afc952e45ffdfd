"""The customers of the synthetic shop: what they truly like, how that drifts, and what they come to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DAY_SECONDS = 86_400
NUM_ARCHETYPES = 24
SLOTS = 4
"""Tastes that a user can hold over the year: at most three at a time, and the one that replaces the first."""

_LIKED = {"kind": (3, 2.6), "colour": (2, 1.6), "pattern": (2, 1.4), "style": (2, 1.4)}
_HIDDEN_SIZE, _HIDDEN_SCALE = 6, 0.6
_NOVELTY, _NOVELTY_DAYS = 0.7, 21
_SAME_KIND, _COMPANION = 0.5, 1.2
_SEEN_PENALTY = 5.0
_STICKINESS = 0.35
_DRIFT_DAYS = 20
_EVENT_TYPES = ("view", "click", "purchase")


@dataclass(frozen=True, eq=False)
class Tastes:
    """The truth behind the log: a user picks an item with a chance that goes with exp(utility).

    A taste is one of A archetypes, shared by all users: a liking for some kinds, colours, patterns and
    styles, and a hidden part that neither text nor picture tells. A user holds up to `SLOTS` of them with
    weights that drift from `before` to `after` around `turning`. In each session one of them is active, often
    the one of the session before.

    Attributes:
        users: the position u of each user id.
        affinity: `(A, N)` how much each archetype likes each item, in the order of the shop's items.
        popularity: `(N,)` what everybody likes.
        available_from: `(N,)` seconds UTC.
        kinds: `(N,)` each item's kind.
        companions: `(kinds, kinds)` what an item of the second kind gains right after one of the first.
        archetypes: `(U, SLOTS)` the tastes that each user can hold.
        before, after: `(U, SLOTS)` their weights, each row summing to 1.
        turning: `(U,)` seconds UTC at which the user is halfway between the two.
    """

    users: dict[str, int]
    affinity: np.ndarray
    popularity: np.ndarray
    available_from: np.ndarray
    kinds: np.ndarray
    companions: np.ndarray
    archetypes: np.ndarray
    before: np.ndarray
    after: np.ndarray
    turning: np.ndarray

    def __repr__(self) -> str:
        archetypes, items = self.affinity.shape
        return f"Tastes({len(self.users)} users, {archetypes} archetypes, {items} items)"

    def weights(self, user: str, time: float) -> np.ndarray:
        """Shares `(SLOTS,)` of the user's tastes at `time` in seconds UTC."""
        shares: np.ndarray = self._weights(np.array([self.users[user]]), np.array([time]))[0]
        return shares

    def utility(self, user: str, time: float, previous: int | None = None) -> np.ndarray:
        """True utility `(N,)` of every item for `user` at `time` in seconds UTC, whichever taste is active.

        `previous` is the index of the item just looked at in this session. What is not for sale yet has
        utility -inf.
        """
        liked = self.affinity[self.archetypes[self.users[user]]]
        chance = self.weights(user, time) @ np.exp(liked)
        utility: np.ndarray = np.log(chance) + self.appeal(np.array([time]))[0]
        return utility if previous is None else utility + self.companions[self.kinds[previous]][self.kinds]

    def appeal(self, times: np.ndarray) -> np.ndarray:
        """Popularity and novelty `(B, N)` at `times` `(B,)`: what all agree on; -inf before the first day."""
        age = (times[:, None] - self.available_from[None]) / DAY_SECONDS
        novelty = _NOVELTY * np.exp(-np.maximum(age, 0) / _NOVELTY_DAYS)
        return np.where(age >= 0, self.popularity + novelty, -np.inf)

    def _weights(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        late = 1 / (1 + np.exp(-(times - self.turning[users]) / (_DRIFT_DAYS * DAY_SECONDS)))
        shares: np.ndarray = self.before[users] * (1 - late[:, None]) + self.after[users] * late[:, None]
        return shares


@dataclass(frozen=True, eq=False)
class Visits:
    """E events in the order of user and time: user's position, item's index, seconds UTC, event type."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    types: np.ndarray


def draw_tastes(
    attributes: dict[str, np.ndarray],
    num_values: dict[str, int],
    available_from: np.ndarray,
    num_users: int,
    period: tuple[int, int],
    rng: np.random.Generator,
) -> Tastes:
    """Archetypes over items with `attributes` (codes `(N,)` below `num_values`), and users who hold some.

    `period` is the first and the last second of the log.
    """
    num_items = len(available_from)
    hidden = rng.normal(size=(num_items, _HIDDEN_SIZE))
    affinity = _HIDDEN_SCALE * rng.normal(size=(NUM_ARCHETYPES, _HIDDEN_SIZE)) @ hidden.T / _HIDDEN_SIZE**0.5
    for name, (num_liked, strength) in _LIKED.items():
        preference = rng.normal(0, 0.3, (NUM_ARCHETYPES, num_values[name]))
        for archetype in preference:
            archetype[rng.choice(num_values[name], num_liked, replace=False)] += strength
        affinity += preference[:, attributes[name]]

    num_kinds = num_values["kind"]
    companions = _SAME_KIND * np.eye(num_kinds)
    for shift in (1, 4):
        order = rng.permutation(num_kinds)
        companions[order, np.roll(order, shift)] += _COMPANION

    archetypes = np.argsort(rng.random((num_users, NUM_ARCHETYPES)), axis=1)[:, :SLOTS]
    held = np.arange(SLOTS) < rng.choice([1, 2, 3], num_users, p=[0.35, 0.4, 0.25])[:, None]
    before = np.where(held, rng.gamma(2.0, size=held.shape), 0)
    after = np.where(held, rng.gamma(2.0, size=held.shape), 0)
    replaced = rng.random(num_users) < 0.5
    after[replaced, SLOTS - 1] = after[replaced, 0]
    after[replaced, 0] = 0
    return Tastes(
        users={f"user-{position + 1:05d}": position for position in range(num_users)},
        affinity=affinity,
        popularity=rng.normal(0, 0.7, num_items),
        available_from=available_from,
        kinds=attributes["kind"],
        companions=companions,
        archetypes=archetypes,
        before=before / before.sum(1, keepdims=True),
        after=after / after.sum(1, keepdims=True),
        turning=rng.uniform(*period, num_users),
    )


def simulate_visits(tastes: Tastes, period: tuple[int, int], rng: np.random.Generator) -> Visits:
    """Let every user visit the shop; all first choices are drawn together, then all second ones, …"""
    users, times, sessions = _plan(len(tastes.users), period, rng)
    active = _active_archetypes(tastes, users, times, sessions, rng)
    first = np.flatnonzero(np.diff(users, prepend=-1))
    step = np.arange(len(users)) - np.repeat(first, np.diff(first, append=len(users)))
    opens = np.diff(sessions, prepend=-1) != 0

    items = np.zeros(len(users), dtype=np.int64)
    seen = np.zeros((len(tastes.users), len(tastes.kinds)), dtype=bool)
    for turn in range(int(step.max(initial=-1)) + 1):
        now = np.flatnonzero(step == turn)
        utility = tastes.affinity[active[now]] + tastes.appeal(times[now])
        goes_on = ~opens[now]
        previous = tastes.kinds[items[now[goes_on] - 1]]
        utility[goes_on] += tastes.companions[previous][:, tastes.kinds]
        utility -= _SEEN_PENALTY * seen[users[now]]
        items[now] = (utility + rng.gumbel(size=utility.shape)).argmax(1)
        seen[users[now], items[now]] = True

    spread = (tastes.affinity - tastes.affinity.mean(1, keepdims=True)) / tastes.affinity.std(1, keepdims=True)
    bought = 1 / (1 + np.exp(3.4 - 0.7 * spread[active, items]))
    luck = rng.random(len(users))
    types = np.where(luck < bought, 2, np.where(luck < bought + 0.28, 1, 0))
    return Visits(users, items, times, np.array(_EVENT_TYPES)[types])


def _plan(
    num_users: int, period: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who comes when: user, second and session of each event `(E,)`, in the order of user and time."""
    start, end = period
    num_events = np.clip(rng.lognormal(np.log(15), 0.9, num_users), 3, 200).astype(np.int64)
    arrival = np.where(rng.random(num_users) < 0.35, 0, rng.uniform(0, 0.98, num_users))
    arrival = start + arrival * (end - start) + rng.uniform(0, 5 * DAY_SECONDS, num_users)
    leaving = np.minimum(arrival + DAY_SECONDS * (3 + rng.exponential(240, num_users)), end)
    leaving = np.maximum(leaving, arrival)

    users, times, sessions = [], [], []
    num_sessions = 0
    for user in range(num_users):
        sizes: list[int] = []
        while (left := int(num_events[user]) - sum(sizes)) > 0:
            sizes.append(min(1 + int(rng.poisson(3.4)), left))
        gaps = rng.integers(8, 240, num_events[user])
        in_session = np.repeat(np.arange(len(sizes)), sizes)
        passed = np.cumsum(gaps)
        begins = np.sort(rng.uniform(arrival[user], leaving[user], len(sizes))).astype(np.int64)
        begins[0] = int(arrival[user])
        # A visit begins half an hour after the last one ended at the earliest.
        lasts = np.bincount(in_session, weights=gaps).astype(np.int64) + 1800
        earlier = np.cumsum(lasts) - lasts
        begins = np.maximum.accumulate(begins - earlier) + earlier
        offset = passed - np.repeat(passed[np.cumsum(sizes) - sizes], sizes)
        users.append(np.full(num_events[user], user))
        times.append(begins[in_session] + offset)
        sessions.append(num_sessions + in_session)
        num_sessions += len(sizes)
    empty = np.zeros(0, dtype=np.int64)
    return (
        np.concatenate([empty, *users]),
        np.concatenate([empty, *times]),
        np.concatenate([empty, *sessions]),
    )


def _active_archetypes(
    tastes: Tastes, users: np.ndarray, times: np.ndarray, sessions: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The archetype behind each event `(E,)`: one a session, now and then the user's last one again."""
    first = np.flatnonzero(np.diff(sessions, prepend=-1))
    owner = users[first]
    weights = tastes._weights(owner, times[first])
    drawn = (rng.random((len(first), 1)) > np.cumsum(weights, axis=1)).sum(1).clip(max=SLOTS - 1)
    active = tastes.archetypes[owner, drawn]
    keeps = (rng.random(len(first)) < _STICKINESS) & (np.diff(owner, prepend=-1) == 0)
    for session in np.flatnonzero(keeps):
        active[session] = active[session - 1]
    of_event: np.ndarray = active[sessions]
    return of_event
