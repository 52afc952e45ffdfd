"""How good a recommender is by how many users it has learned from: benchmarks of several shares, as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from hfrec.training.curve import ticks
from hfrec.training.slice_chart import spelt

METRIC = "ndcg@10"

# Drawn at twice the size and halved: PIL has no smooth lines of its own.
_SCALE, _WIDTH, _HEIGHT = 2, 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 36, 48
_PAPER, _GREY, _GRID = (250, 250, 248), (112, 118, 128), (226, 228, 232)
_COLOURS = ((52, 104, 160), (176, 92, 60), (70, 130, 90), (130, 90, 150), (180, 140, 40), (90, 90, 90))
_AIR = 0.15
"""What is left below the lowest figure, as a share of the span of all."""
_LINE = 15
"""Pixels that two names at the end of curves are apart at least."""

Points = list[tuple[float, float]]


def few_shot_curves(benchmarks: Sequence[dict[str, Any]]) -> dict[str, Points]:
    """`{name: [(share of the users, NDCG@10), …]}` of each variant, and of the best baseline of each share.

    Args:
        benchmarks: what `benchmark.json` holds, of one test part each, by `data.user_share`.
    """
    by_share = {one["settings"].get("data.user_share", 1.0): one for one in benchmarks}
    curves: dict[str, Points] = {}
    for share, results in sorted(by_share.items()):
        ndcg = {name: figures["all"][METRIC]["mean"] for name, figures in results["figures"].items()}
        for name in results["variants"]:
            curves.setdefault(name, []).append((share, ndcg[name]))
        curves.setdefault("best baseline", []).append((share, ndcg[results["strongest"]["all"]]))
    return curves


def draw_few_shot(benchmarks: Sequence[dict[str, Any]]) -> bytes:
    """A PNG of `few_shot_curves`: NDCG@10 by share of the users on a log scale; the lowest is near its foot."""
    curves = few_shot_curves(benchmarks)
    shares = sorted({share for points in curves.values() for share, _ in points})
    values = [value for points in curves.values() for _, value in points]
    top = max(values) or 1.0
    bottom = max(min(values) - _AIR * (top - min(values)), 0.0) if min(values) < top else 0.0
    picture = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), _PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(11 * _SCALE)
    first, last = math.log(shares[0]), math.log(shares[-1])

    def across(share: float) -> float:
        place = (math.log(share) - first) / (last - first) if last > first else 0.5
        return (_LEFT + place * (_WIDTH - _LEFT - _RIGHT)) * _SCALE

    def up(value: float) -> float:
        return (_HEIGHT - _BOTTOM - (value - bottom) / (top - bottom) * (_HEIGHT - _BOTTOM - _TOP)) * _SCALE

    for value in ticks(bottom, top):
        draw.line((across(shares[0]), up(value), across(shares[-1]), up(value)), _GRID, _SCALE)
        draw.text(((_LEFT - 8) * _SCALE, up(value)), f"{value:.3g}", _GREY, font, anchor="rm")
    for share in shares:
        draw.text((across(share), (_HEIGHT - _BOTTOM + 8) * _SCALE), f"{100 * share:g} %", _GREY, font, anchor="mt")
    draw.text((across(shares[0]), 12 * _SCALE), "NDCG@10", _GREY, font, anchor="la")
    said = "share of the users that are learned from"
    draw.text(((_LEFT + _WIDTH - _RIGHT) / 2 * _SCALE, (_HEIGHT - 6) * _SCALE), said, _GREY, font, anchor="mb")

    lowest = math.inf
    names = sorted(curves, key=lambda name: -curves[name][-1][1])
    for name in names:
        colour = _GREY if name == "best baseline" else _COLOURS[names.index(name) % len(_COLOURS)]
        places = [(across(share), up(value)) for share, value in curves[name]]
        if len(places) > 1:
            draw.line(places, colour, 2 * _SCALE, joint="curve")
        for place in places:
            draw.circle(place, 3 * _SCALE, colour)
        # Names stand beside where the curves end, the higher ones first, none on another.
        lowest = places[-1][1] if lowest == math.inf else max(places[-1][1], lowest + _LINE * _SCALE)
        draw.text((places[-1][0] + 10 * _SCALE, lowest), spelt(name), colour, font, anchor="lm")
    written = io.BytesIO()
    picture.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS).save(written, "PNG", optimize=True)
    return written.getvalue()
