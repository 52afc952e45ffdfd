"""The picture of slices: what stands where, in signs that can be read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFont

from hfrec.training.baselines import BASELINES
from hfrec.training.slice_chart import draw_slices, spelt

OURS = (52, 104, 160)


def ring(ours: float) -> float:
    """The middle column of the ring that stands for our figure."""
    part = {"all": {"ndcg@10": ours, "users": 9}}
    drawn = draw_slices({"test": part, "baselines": {"popularity": {"all": {"ndcg@10": 0.2}}}})
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)
    rows, columns = np.nonzero(np.abs(pixels - OURS).sum(-1) < 40)
    return float(columns[rows > 40].mean())


def test_a_figure_stands_where_its_value_is() -> None:
    nothing, half, whole = ring(0.0), ring(0.1), ring(0.2)
    assert half - nothing == pytest.approx(whole - half, abs=1.5) and whole - nothing > 400


@pytest.mark.parametrize("name", BASELINES)
def test_the_font_has_every_sign_of_a_name(name: str) -> None:
    font = ImageFont.load_default(22)
    missing = bytes(font.getmask("\uffff"))
    assert [sign for sign in spelt(name) if bytes(font.getmask(sign)) == missing] == []
