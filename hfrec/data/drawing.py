"""Small pictures of shop articles: a shape for each kind, filled with a colour and a pattern."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

IMAGE_SIZE = 64
"""Width and height of a picture in pixels."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (206, 40, 48),
    "orange": (243, 134, 34),
    "yellow": (246, 207, 62),
    "green": (62, 150, 76),
    "blue": (44, 96, 190),
    "purple": (124, 66, 160),
    "pink": (242, 148, 182),
    "brown": (122, 78, 48),
}
PATTERNS = ("plain", "stripes", "dots", "checks", "zigzag", "flowers")

_CANVAS = 3 * IMAGE_SIZE
_UNIT = _CANVAS / 100
_WHITE = (250, 248, 243)
_INK = (52, 46, 48)
_SHADE = (0.7, 0.56, 0.56)
_DEEP_SHADE = (0.76, 0.5, 0.42)
_LIGHT_COLOUR = 0.66

Point = tuple[float, float]


@dataclass(frozen=True)
class _Pen:
    """Draws in hundredths of the canvas, so that a shape reads as plain numbers from 0 to 100."""

    draw: ImageDraw.ImageDraw

    def polygon(self, *points: Point) -> None:
        self.draw.polygon([(x * _UNIT, y * _UNIT) for x, y in points], fill=255)

    def box(self, left: float, top: float, right: float, bottom: float, radius: float = 0) -> None:
        self.draw.rounded_rectangle(_box(left, top, right, bottom), radius=radius * _UNIT, fill=255)

    def ellipse(self, left: float, top: float, right: float, bottom: float, fill: int = 255) -> None:
        self.draw.ellipse(_box(left, top, right, bottom), fill=fill)

    def arc(self, box: tuple[float, float, float, float], start: float, end: float, width: float) -> None:
        self.draw.arc(_box(*box), start, end, fill=255, width=round(width * _UNIT))

    def half(self, left: float, top: float, right: float, bottom: float) -> None:
        """The upper half of an ellipse."""
        self.draw.pieslice(_box(left, top, right, bottom), 180, 360, fill=255)

    def line(self, *points: Point, width: float = 3) -> None:
        self.draw.line([(x * _UNIT, y * _UNIT) for x, y in points], fill=255, width=round(width * _UNIT), joint="curve")


def _box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left * _UNIT, top * _UNIT, right * _UNIT, bottom * _UNIT]


# A shape draws on four layers, painted in this order: `trim` in a darker shade of the article's colour,
# `body` in its colour and pattern, `light` in white, `ink` in near black. The last two lie over the body.


def _mug(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.arc((50, 34, 88, 72), 0, 360, width=8)
    body.box(18, 24, 68, 84, radius=7)
    light.ellipse(20, 20, 66, 31)
    ink.ellipse(24, 22, 62, 30)


def _teapot(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.polygon((66, 70), (84, 36), (95, 36), (78, 78))
    trim.arc((4, 38, 40, 78), 0, 360, width=7)
    trim.half(36, 28, 64, 52)
    trim.ellipse(45, 18, 55, 29)
    body.ellipse(18, 36, 80, 86)
    light.line((33, 44), (66, 44), width=2)


def _vase(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.ellipse(32, 5, 68, 17)
    body.polygon((40, 10), (60, 10), (58, 30), (80, 56), (66, 92), (34, 92), (20, 56), (42, 30))
    body.ellipse(20, 38, 80, 76)
    ink.ellipse(37, 8, 63, 14)


def _lamp(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.box(46, 50, 54, 86)
    trim.half(26, 76, 74, 104)
    body.polygon((34, 8), (66, 8), (88, 56), (12, 56))


def _clock(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.ellipse(10, 6, 42, 36)
    trim.ellipse(58, 6, 90, 36)
    trim.line((26, 78), (16, 94), width=7)
    trim.line((74, 78), (84, 94), width=7)
    body.ellipse(11, 13, 89, 91)
    light.ellipse(32, 34, 68, 70)
    ink.line((50, 53), (50, 38), width=4)
    ink.line((49, 52), (61, 57), width=4)


def _chair(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.line((26, 62), (22, 96), width=6)
    trim.line((74, 62), (78, 96), width=6)
    trim.line((36, 60), (36, 86), width=5)
    trim.line((64, 60), (64, 86), width=5)
    trim.line((31, 40), (31, 58), width=5)
    trim.line((69, 40), (69, 58), width=5)
    body.box(25, 4, 75, 44, radius=8)
    body.polygon((28, 52), (72, 52), (82, 69), (18, 69))


def _cushion(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    for x, y in ((11, 15), (89, 15), (11, 85), (89, 85)):
        trim.ellipse(x - 7, y - 7, x + 7, y + 7)
    bend = [6 * float(np.sin(np.pi * step / 8)) for step in range(9)]
    along = [12 + 76 * step / 8 for step in range(9)]
    top = [(x, 16 + b) for x, b in zip(along, bend, strict=True)]
    right = [(88 - b, 16 + (x - 12) * 68 / 76) for x, b in zip(along, bend, strict=True)]
    bottom = [(100 - x, 84 - b) for x, b in zip(along, bend, strict=True)]
    left = [(12 + b, 84 - (x - 12) * 68 / 76) for x, b in zip(along, bend, strict=True)]
    body.polygon(*top, *right, *bottom, *left)


def _bag(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.arc((30, 6, 70, 70), 180, 360, width=6)
    body.polygon((22, 38), (78, 38), (92, 88), (8, 88))
    light.box(45, 41, 55, 50, radius=2)
    ink.ellipse(48, 43, 52, 48)


def _shoe(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.ellipse(66, 56, 98, 92)
    body.polygon((8, 30), (38, 30), (46, 44), (72, 57), (90, 64), (95, 78), (8, 78))
    light.box(5, 76, 98, 86, radius=4)
    for x, y in ((43, 36), (51, 44), (61, 49)):
        light.line((x - 8, y + 10), (x + 3, y), width=3)


def _hat(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.ellipse(1, 60, 99, 88)
    body.box(24, 18, 76, 72, radius=14)
    body.ellipse(24, 62, 76, 79)
    ink.box(24, 60, 76, 68)


def _shirt(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.ellipse(36, 6, 64, 28)
    body.polygon((37, 12), (50, 26), (63, 12), (98, 36), (86, 54), (74, 44))
    body.polygon((37, 12), (2, 36), (14, 54), (26, 44), (26, 93), (74, 93), (74, 44), (63, 12), (50, 26))
    for y in (38, 52, 66, 80):
        light.ellipse(48, y, 53, y + 5)


def _umbrella(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.line((50, 4), (50, 84), width=5)
    trim.arc((34, 74, 52, 96), 0, 180, width=5)
    body.half(4, 10, 96, 104)
    for left in (4, 27, 50, 73):
        body.ellipse(left, 51, left + 23, 65, fill=0)


def _kite(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.line((50, 66), (42, 76), (56, 84), (44, 93), (52, 99), width=4)
    for x, y in ((49, 80), (50, 90)):
        trim.polygon((x - 10, y - 5), (x + 10, y + 5), (x + 10, y - 5), (x - 10, y + 5))
    body.polygon((50, 2), (84, 30), (50, 72), (16, 30))
    ink.line((50, 4), (50, 70), width=2)
    ink.line((18, 30), (82, 30), width=2)


def _sock(trim: _Pen, body: _Pen, light: _Pen, ink: _Pen) -> None:
    trim.box(28, 4, 64, 20, radius=4)
    trim.ellipse(66, 60, 96, 92)
    body.polygon((31, 16), (61, 16), (61, 56), (84, 64), (84, 92), (44, 92), (30, 76))
    body.ellipse(28, 58, 60, 92)


_SHAPES: dict[str, Callable[[_Pen, _Pen, _Pen, _Pen], None]] = {
    "mug": _mug,
    "teapot": _teapot,
    "vase": _vase,
    "lamp": _lamp,
    "clock": _clock,
    "chair": _chair,
    "cushion": _cushion,
    "bag": _bag,
    "shoe": _shoe,
    "hat": _hat,
    "shirt": _shirt,
    "umbrella": _umbrella,
    "kite": _kite,
    "sock": _sock,
}
KINDS = tuple(_SHAPES)


def draw_item(kind: str, colour: str, pattern: str, rng: np.random.Generator) -> bytes:
    """A PNG of `IMAGE_SIZE` squared RGB pixels; background, size, place, rotation and shade vary with `rng`.

    Raises:
        ValueError: a kind, colour or pattern that is not in `KINDS`, `COLOURS`, `PATTERNS`.
    """
    for name, value, known in (
        ("kind", kind, KINDS),
        ("colour", colour, COLOURS),
        ("pattern", pattern, PATTERNS),
    ):
        if value not in known:
            raise ValueError(f"`{name}` must be one of {list(known)}, got {value!r}.")
    base = _varied(COLOURS[colour], rng)
    layers = [Image.new("L", (_CANVAS, _CANVAS)) for _ in range(4)]
    _SHAPES[kind](*(_Pen(ImageDraw.Draw(layer)) for layer in layers))
    _, body, light, ink = layers

    article = Image.new("RGB", (_CANVAS, _CANVAS), _shaded(base, _SHADE))
    fabric = Image.new("RGB", (_CANVAS, _CANVAS), base)
    fabric.paste(_accent(base), mask=_pattern(pattern, rng))
    article.paste(fabric, mask=body)
    article.paste(_WHITE, mask=light)
    article.paste(_INK, mask=ink)
    outline = Image.new("L", (_CANVAS, _CANVAS))
    for layer in layers:
        outline.paste(255, mask=layer)

    picture = _background(rng)
    move = _placement(rng)
    article = article.transform(article.size, Image.Transform.AFFINE, move, Image.Resampling.BILINEAR)
    shape = outline.transform(outline.size, Image.Transform.AFFINE, move, Image.Resampling.BILINEAR)
    shadow = Image.new("L", (_CANVAS, _CANVAS))
    shadow.paste(shape.point(lambda value: value * 0.28), (4, 6))
    picture.paste(_INK, mask=shadow.filter(ImageFilter.BoxBlur(4)))
    picture.paste(article, mask=shape)
    picture = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _placement(rng: np.random.Generator) -> tuple[float, ...]:
    """From a pixel of the picture to the article's: the six numbers of a shrinking, a turn and a shift."""
    shrink, angle = rng.uniform(0.76, 0.92), np.radians(rng.uniform(-14, 14))
    cos, sin = float(np.cos(angle)) / shrink, float(np.sin(angle)) / shrink
    middle = _CANVAS / 2
    x, y = middle + rng.uniform(-9, 9, 2)
    return cos, sin, float(middle - cos * x - sin * y), -sin, cos, float(middle + sin * x - cos * y)


def _pattern(pattern: str, rng: np.random.Generator) -> Image.Image:
    """Where the accent colour goes: a mask of the canvas."""
    mask = Image.new("L", (_CANVAS, _CANVAS))
    draw = ImageDraw.Draw(mask)
    period = int(rng.integers(34, 41))
    shift_x, shift_y = (int(shift) for shift in rng.integers(0, period, 2))
    starts = range(-2 * period, _CANVAS + 2 * period, period)
    if pattern == "stripes":
        for start in starts:
            draw.rectangle([0, start + shift_y, _CANVAS, start + shift_y + int(period * 0.42)], fill=255)
    elif pattern == "checks":
        half = period // 2 + 2
        for row in range(-1, _CANVAS // half + 1):
            for column in range(-1 - row % 2, _CANVAS // half + 1, 2):
                x, y = column * half + shift_x % half, row * half + shift_y % half
                draw.rectangle([x, y, x + half - 1, y + half - 1], fill=255)
    elif pattern == "zigzag":
        wide = period // 2
        for start in starts:
            points = [
                (x, start + shift_y + (wide if step % 2 else 0))
                for step, x in enumerate(range(-wide, _CANVAS + wide, wide))
            ]
            draw.line(points, fill=255, width=int(period * 0.36), joint="curve")
    elif pattern in ("dots", "flowers"):
        radius = period * 0.27
        for row, y in enumerate(starts):
            for x in starts:
                center = (x + shift_x + (period // 2 if row % 2 else 0), y + shift_y)
                if pattern == "dots":
                    draw.ellipse(_around(center, radius), fill=255)
                else:
                    _flower(draw, center, period)
    return mask


def _flower(draw: ImageDraw.ImageDraw, center: Point, period: int) -> None:
    """Five petals around an open heart."""
    for petal in range(5):
        turn = 2 * np.pi * petal / 5
        tip = (center[0] + 0.28 * period * np.sin(turn), center[1] - 0.28 * period * np.cos(turn))
        draw.ellipse(_around(tip, 0.17 * period), fill=255)
    draw.ellipse(_around(center, 0.15 * period), fill=0)


def _around(center: Point, radius: float) -> list[float]:
    return [center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius]


def _background(rng: np.random.Generator) -> Image.Image:
    """A pale wall that darkens a little towards the floor."""
    tint = 255 - rng.uniform(4, 40, 3)
    fall = np.linspace(1.0, rng.uniform(0.86, 0.95), _CANVAS)[:, None]
    column = Image.fromarray((tint * fall).astype(np.uint8)[:, None])
    return column.resize((_CANVAS, _CANVAS), Image.Resampling.NEAREST)


def _varied(colour: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    shade = rng.uniform(0.9, 1.08)
    red, green, blue = np.clip(np.array(colour) * shade + rng.uniform(-7, 7, 3), 0, 255).astype(int)
    return int(red), int(green), int(blue)


def _accent(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """The pattern's tone: pale on a dark colour, deep on a light one."""
    red, green, blue = colour
    brightness = (0.299 * red + 0.587 * green + 0.114 * blue) / 255
    if brightness > _LIGHT_COLOUR:
        return _shaded(colour, _DEEP_SHADE)
    red, green, blue = (round(0.22 * own + 0.78 * white) for own, white in zip(colour, _WHITE, strict=True))
    return red, green, blue


def _shaded(colour: tuple[int, int, int], shade: tuple[float, float, float]) -> tuple[int, int, int]:
    red, green, blue = (round(own * factor) for own, factor in zip(colour, shade, strict=True))
    return red, green, blue
