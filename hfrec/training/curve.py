"""The training curve: training loss and validation NDCG@10 by epoch, as figures and as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

LOSS, METRIC = "training loss", "validation NDCG@10"
_NAMES = {"loss": LOSS, "eval_ndcg@10": METRIC}

# Drawn at twice the size and halved: PIL has no smooth lines of its own.
_SCALE, _WIDTH, _HEIGHT = 2, 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 64, 40, 48
_PAPER, _GREY, _GRID = (250, 250, 248), (112, 118, 128), (226, 228, 232)
_COLOURS = {LOSS: (176, 92, 60), METRIC: (52, 104, 160)}

Points = list[list[float]]


def training_curve(log: Sequence[dict[str, Any]]) -> dict[str, Points]:
    """`{name: [[epoch, value], …]}` of training loss and validation NDCG@10, from a trainer's `log_history`."""
    return {
        name: [[round(line["epoch"], 4), round(line[key], 6)] for line in log if key in line and "epoch" in line]
        for key, name in _NAMES.items()
    }


def draw_curve(curve: dict[str, Points]) -> bytes:
    """A PNG of `training_curve`'s figures: loss on the left scale, NDCG@10 on the right; its best is ringed."""
    picture = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), _PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(11 * _SCALE)
    last = max((epoch for points in curve.values() for epoch, _ in points), default=1.0)
    across = _scale(0.0, last, _LEFT, _WIDTH - _RIGHT)
    for epoch in ticks(0.0, last):
        draw.text((across(epoch), (_HEIGHT - _BOTTOM + 8) * _SCALE), f"{epoch:g}", _GREY, font, anchor="mt")
    draw.text((_WIDTH * _SCALE / 2, (_HEIGHT - 6) * _SCALE), "epoch", _GREY, font, anchor="mb")
    for name, edge, anchor in ((LOSS, _LEFT - 8, "rm"), (METRIC, _WIDTH - _RIGHT + 8, "lm")):
        points, colour = curve.get(name) or [], _COLOURS[name]
        if not points:
            continue
        values = [value for _, value in points]
        low, high = min(values), max(values)
        low, high = (low, high) if high > low else (low - abs(low) / 2 - 1e-6, high + abs(high) / 2 + 1e-6)
        up = _scale(low, high, _HEIGHT - _BOTTOM, _TOP)
        for value in ticks(low, high):
            if name == LOSS:
                line = (across(0.0), up(value), across(last), up(value))
                draw.line(line, _GRID, _SCALE)
            draw.text((edge * _SCALE, up(value)), f"{value:.4g}", colour, font, anchor=anchor)
        places = [(across(epoch), up(value)) for epoch, value in points]
        if len(places) > 1:
            draw.line(places, colour, 2 * _SCALE, joint="curve")
        for place in places if len(places) <= 60 else []:
            draw.circle(place, 2.5 * _SCALE, colour)
        side = {"anchor": "la"} if name == LOSS else {"anchor": "ra"}
        corner = _LEFT if name == LOSS else _WIDTH - _RIGHT
        draw.text((corner * _SCALE, 12 * _SCALE), name, colour, font, **side)
        if name == METRIC:
            draw.circle(places[values.index(max(values))], 6 * _SCALE, outline=colour, width=2 * _SCALE)
    written = io.BytesIO()
    picture.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS).save(written, "PNG", optimize=True)
    return written.getvalue()


def _scale(low: float, high: float, start: int, stop: int) -> Callable[[float], float]:
    """The map of [low, high] onto pixels [start, stop] of the large drawing."""
    return lambda value: _SCALE * (start + (stop - start) * (value - low) / ((high - low) or 1.0))


def ticks(low: float, high: float) -> list[float]:
    """Some five round numbers between `low` and `high`: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5 or 1.0
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]
