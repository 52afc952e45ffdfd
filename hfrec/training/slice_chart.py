"""How good a model is on each slice of the users, beside the baselines, as a picture."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from hfrec.model_card import SLICES, judged_part

METRIC = "ndcg@10"

# Drawn at twice the size and halved: PIL has no smooth lines of its own.
_SCALE, _WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 2, 720, 150, 36, 44, 34
_SPELT = {"α·": "alpha · "}
"""Signs of baselines' names that PIL's font does not have."""
_PAPER, _GREY, _GRID, _OURS, _BEST = (250, 250, 248), (112, 118, 128), (226, 228, 232), (52, 104, 160), (176, 92, 60)


def draw_slices(results: dict[str, Any]) -> bytes:
    """A PNG with a row for each slice: NDCG@10 of the model, ringed, of each baseline in grey, of the best by name.

    Args:
        results: what `results.json` holds.
    """
    ours = results[judged_part(results)]
    slices = [name for name in SLICES if name in ours] or list(ours)
    height = _TOP + _ROW * len(slices) + 30
    picture = Image.new("RGB", (_WIDTH * _SCALE, height * _SCALE), _PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(11 * _SCALE)
    top = (
        max((of[name][METRIC] for of in (ours, *results["baselines"].values()) for name in slices), default=0.0) or 1.0
    )

    def across(value: float) -> float:
        return (_LEFT + value / top * (_WIDTH - _LEFT - _RIGHT)) * _SCALE

    bottom = (height - 26) * _SCALE
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        draw.line((across(share * top), (_TOP - 8) * _SCALE, across(share * top), bottom), _GRID, _SCALE)
        draw.text((across(share * top), bottom + 4 * _SCALE), f"{share * top:.3f}", _GREY, font, anchor="mt")
    draw.text((_LEFT * _SCALE, 10 * _SCALE), "NDCG@10: hfrec", _OURS, font)
    draw.text(((_LEFT + 110) * _SCALE, 10 * _SCALE), "best baseline", _BEST, font)
    draw.text(((_LEFT + 200) * _SCALE, 10 * _SCALE), "other baselines", _GREY, font)
    for row, name in enumerate(slices):
        y = (_TOP + _ROW * (row + 0.5)) * _SCALE
        users = ours[name].get("users")
        draw.text(((_LEFT - 10) * _SCALE, y), name if users is None else f"{name} ({users})", _GREY, font, anchor="rm")
        found = {one: of[name][METRIC] for one, of in results["baselines"].items()}
        for value in found.values():
            draw.circle((across(value), y), 3 * _SCALE, _GREY)
        if found:
            best = max(found, key=found.__getitem__)
            draw.circle((across(found[best]), y), 4 * _SCALE, _BEST)
            # A name that would leave the picture stands left of its dot.
            anchor = "lb" if across(found[best]) < (_WIDTH - 180) * _SCALE else "rb"
            draw.text((across(found[best]), y - 5 * _SCALE), spelt(best), _BEST, font, anchor=anchor)
        draw.circle((across(ours[name][METRIC]), y), 5 * _SCALE, outline=_OURS, width=2 * _SCALE)
    written = io.BytesIO()
    picture.resize((_WIDTH, height), Image.Resampling.LANCZOS).save(written, "PNG", optimize=True)
    return written.getvalue()


def spelt(name: str) -> str:
    """`name` in signs that can be drawn."""
    for sign, letters in _SPELT.items():
        name = name.replace(sign, letters)
    return name
