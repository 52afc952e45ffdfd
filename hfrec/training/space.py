"""What a search may vary: fields of a run's `model` and `training` sections, each with a range or with choices."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from hfrec.models import RecConfig
from hfrec.training.arguments import RecTrainingArguments

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
    from optuna.trial import BaseTrial

SECTIONS = ("model", "training")

SHARED = {
    "training.output_dir": "all trials are of one study, in its folder",
    "training.resume_from_checkpoint": "a trial starts at its beginning",
    "training.metric_for_best_model": "trials are compared by it",
    "training.greater_is_better": "trials are compared by it",
    "training.validation_targets": "trials are compared on one sample",
    "training.data_seed": "trials are compared on one sample, drawn under it",
    "training.rare_item_cost": "it moves nothing that trials are compared by",
    "training.new_item_cost": "it moves nothing that trials are compared by",
    "training.warm_cost": "it moves nothing that trials are compared by",
    "training.refit": "it moves nothing that trials are compared by",
}
"""Fields that are the same in all trials, and why."""

_ROUNDING = 1e-9


class Field(Protocol):
    """How the values of one field are drawn."""

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must be possible, or none of them is."""

    def draw(self, trial: BaseTrial, name: str) -> Any:
        """The value of `trial`: drawn the first time, the same ever after."""

    def written(self, value: Any) -> Any:
        """`value` as a study holds it.

        Raises:
            ValueError: it is none of the values.
        """


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones where `low`, `high` and `step` are.

    Attributes:
        log: draw evenly on a logarithmic scale.
        step: draw `low`, `low + step` … only.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        numbers = {"low": self.low, "high": self.high} | ({} if self.step is None else {"step": self.step})
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"`{name}` must be a number, got {value!r}.")
        if not self.low < self.high:
            raise ValueError(f"`low` must be below `high` ({self.high}), got {self.low}.")
        if not isinstance(self.log, bool):
            raise ValueError(f"`log` must be true or false, got {self.log!r}.")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(
                f"With `log`, `low` must be above 0 and `step` left out, got `low` {self.low}, `step` {self.step}."
            )
        if self.step is not None and not (self.step > 0 and self._is_on_step(self.high)):
            raise ValueError(f"`step` must lead from `low` ({self.low}) to `high` ({self.high}), got {self.step}.")

    @property
    def ends(self) -> tuple[float, float]:
        return (self.low, self.high) if self._is_whole else (float(self.low), float(self.high))

    def draw(self, trial: BaseTrial, name: str) -> float:
        low, high = self.ends
        if self._is_whole:
            return trial.suggest_int(name, int(low), int(high), log=self.log, step=int(self.step or 1))
        return trial.suggest_float(name, low, high, log=self.log, step=self.step)

    def written(self, value: Any) -> float:
        kind = int if self._is_whole else float
        if isinstance(value, bool) or not isinstance(value, int | float) or kind(value) != value:
            raise ValueError(f"{value!r} is not of the range {self}.")
        if not self.low <= value <= self.high or (self.step is not None and not self._is_on_step(value)):
            raise ValueError(f"{value!r} is not in the range {self}.")
        return kind(value)

    @property
    def _is_whole(self) -> bool:
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    def _is_on_step(self, value: float) -> bool:
        assert self.step is not None
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < _ROUNDING * max(1.0, abs(steps))


@dataclass(frozen=True)
class Choices:
    """Some values, of any kind that a configuration holds: `[true, false]`, `[full_softmax, bce]`, `[[], [words]]`."""

    choices: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.choices, list | tuple):
            raise ValueError(f"`choices` must be a list, got {self.choices!r}.")
        object.__setattr__(self, "choices", tuple(self.choices))
        if len(self._written) < max(2, len(self.choices)):
            raise ValueError(f"`choices` must be at least two, all different, got {list(self.choices)}.")

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.choices

    def draw(self, trial: BaseTrial, name: str) -> Any:
        return self._written[trial.suggest_categorical(name, tuple(self._written))]

    def written(self, value: Any) -> Any:
        if value not in self.choices:
            raise ValueError(f"{value!r} is not among the choices {list(self.choices)}.")
        return next(written for written, choice in self._written.items() if choice == value)

    @property
    def _written(self) -> dict[Any, Any]:
        """Each choice by what a study can hold of it: itself, or a list or mapping as JSON."""
        return {json.dumps(one) if isinstance(one, list | dict) else one: one for one in self.choices}


@dataclass(frozen=True)
class SearchSpace:
    """Fields such as `model.dropout` and `training.learning_rate`, and what is tried for each."""

    fields: Mapping[str, Field]

    @classmethod
    def read(cls, space: Mapping[str, Mapping[str, Any]]) -> SearchSpace:
        """The space as a YAML has it: `{training.learning_rate: {low: 1e-4, high: 1e-2, log: true}, …}`.

        Raises:
            ValueError: an entry is neither `{low, high, log, step}` nor `{choices}`, is empty, or is of a field that
                all trials share.
        """
        if not space:
            raise ValueError("`space` must name at least one field of `model` or `training`, got none.")
        return cls({name: _read(name, entry) for name, entry in space.items()})

    def check(self, parser: ArgumentParser, base: Any) -> None:
        """Try each end of a range and each choice alone over `base`, what the `parser` of a run gave.

        Raises:
            ArgumentError: a field that no run has, or a value of another kind than its own.
            ValueError: a value that a run with the other settings of `base` refuses.
        """
        for name, entry in self.fields.items():
            section, field = name.split(".", 1)
            for value in entry.ends:
                varied = parser.parse_object({section: {field: value}}, base)
                try:
                    RecConfig.for_sizes({"any": 1}, **varied.model.as_dict())
                    RecTrainingArguments(**varied.training.as_dict())
                except Exception as error:
                    raise ValueError(
                        f"`{name}` in `space` cannot be {value!r} with the other settings of this file: "
                        f"{error.__cause__ or error} Leave it out of `space`, or set what it needs."
                    ) from error

    def draw(self, trial: BaseTrial) -> dict[str, dict[str, Any]]:
        """The values of `trial`, by section and field."""
        drawn: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for name, entry in self.fields.items():
            section, field = name.split(".", 1)
            drawn[section][field] = entry.draw(trial, name)
        return drawn

    def written(self, base: Any) -> dict[str, Any] | None:
        """The values of `base` as a study holds them, or `None` where it lies outside."""
        try:
            return {name: entry.written(base[name]) for name, entry in self.fields.items()}
        except ValueError:
            return None


def _read(name: str, entry: Mapping[str, Any]) -> Field:
    section, _, field = name.partition(".")
    if section not in SECTIONS or not field.isidentifier():
        raise ValueError(
            "A field in `space` must be one of `model` or of `training`, such as `training.learning_rate`; "
            f"got {name!r}."
        )
    if name in SHARED:
        raise ValueError(f"`{name}` must be the same in all trials: {SHARED[name]}. Leave it out of `space`.")
    kind = Choices if "choices" in entry else Range
    known = {one.name for one in fields(kind)}
    if not entry.keys() <= known or ("choices" not in entry and not {"low", "high"} <= entry.keys()):
        raise ValueError(
            f"`{name}` in `space` must be given as {{low, high, log, step}} or as {{choices}}, got {dict(entry)}."
        )
    try:
        return kind(**entry)
    except ValueError as error:
        raise ValueError(f"`{name}` in `space`: {error}") from error
