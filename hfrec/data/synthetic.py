"""A shop that never was, to try everything on: pictures, texts in six languages, customers of changing taste.

What an item is, its text and its picture tell together: the text the kind, the style and now and then the
colour, the picture the kind, the colour and the pattern. What its customers like is in `Shop.tastes`, and no
model sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hfrec.data.drawing import COLOURS, KINDS, PATTERNS, draw_item
from hfrec.data.schema import (
    AVAILABLE_FROM,
    CATEGORY,
    EVENT_TYPE,
    IMAGE,
    ITEM_ID,
    LANGUAGE,
    PRICE,
    PROVIDER,
    TIMESTAMP,
    TITLE,
    USER_ID,
)
from hfrec.data.tastes import DAY_SECONDS, Tastes, draw_tastes, simulate_visits
from hfrec.data.vocabulary import LANGUAGES, STYLES

DESCRIPTION = "description"
START = 1_704_067_200
"""The shop opens on 1 January 2024, 00:00 UTC."""
DAYS = 365

_ATTRIBUTES = {"kind": KINDS, "colour": tuple(COLOURS), "pattern": PATTERNS, "style": STYLES}
_CATEGORIES = {
    "kitchen": ("mug", "teapot"),
    "home": ("vase", "lamp", "clock", "chair", "cushion"),
    "clothing": ("shoe", "hat", "shirt", "sock"),
    "outdoor": ("bag", "umbrella", "kite"),
}
_CATEGORY_OF = {kind: category for category, kinds in _CATEGORIES.items() for kind in kinds}
_PROVIDERS = (
    ("Fern & Field", "en", 0.10),
    ("Northlight Goods", "en", 0.08),
    ("Pebble Lane", "en", 0.06),
    ("Haus Lindner", "de", 0.11),
    ("Werkstatt Birke", "de", 0.08),
    ("Maison Clairval", "fr", 0.10),
    ("Atelier du Pont", "fr", 0.07),
    ("Casa Olivar", "es", 0.09),
    ("Taller del Mar", "es", 0.07),
    ("Bottega Serena", "it", 0.11),
    ("Тёплый дом", "ru", 0.08),
    ("Мастерская Берёза", "ru", 0.05),
)
_KIND_PRICES = {
    "mug": 12, "teapot": 34, "vase": 28, "lamp": 55, "clock": 24, "chair": 95, "cushion": 22,
    "bag": 70, "shoe": 80, "hat": 30, "shirt": 38, "umbrella": 26, "kite": 20, "sock": 9,
}  # fmt: skip
_STYLE_PRICES = {
    "rustic": 1.0,
    "modern": 1.1,
    "playful": 0.8,
    "elegant": 1.5,
    "sporty": 0.95,
    "classic": 1.15,
}
_LATE_SHARE, _LATE_SPAN = 0.15, 0.35
_NO_IMAGE, _NO_DESCRIPTION = 0.05, 0.03
_TITLE_TELLS_STYLE, _TITLE_TELLS_COLOUR = 0.7, 0.35


@dataclass(frozen=True, eq=False)
class Shop:
    """A shop's two tables and the truth behind them.

    Attributes:
        items: `item_id`, `title`, `description` (null for some 3 %), `language`, `image` (PNG bytes, null for
            some 5 %), `category`, `provider`, `price`, `available_from` (seconds UTC).
        interactions: `user_id`, `item_id`, `timestamp` (seconds UTC), `event_type` (view, click, purchase),
            in the order of time.
        attributes: `item_id`, `kind`, `colour`, `pattern`, `style`, in the order of `items`.
        tastes: what the users truly like; its indices are lines of `items`.
    """

    items: pl.DataFrame
    interactions: pl.DataFrame
    attributes: pl.DataFrame
    tastes: Tastes

    def __repr__(self) -> str:
        users, events = len(self.tastes.users), self.interactions.height
        return f"Shop({self.items.height} items, {users} users, {events} events)"

    def save(self, folder: str | Path) -> Path:
        """Write `items.parquet` (paths of pictures instead of bytes), `interactions.parquet` and `images/`.

        The tables come last and appear whole or not at all.
        """
        folder = Path(folder)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        paths: list[str | None] = []
        for item_id, picture in self.items.select(ITEM_ID, IMAGE).iter_rows():
            paths.append(None if picture is None else f"images/{item_id}.png")
            if picture is not None:
                (folder / f"images/{item_id}.png").write_bytes(picture)
        _write_table(self.items.with_columns(pl.Series(IMAGE, paths, dtype=pl.String)), folder / "items.parquet")
        _write_table(self.interactions, folder / "interactions.parquet")
        return folder


def make_shop(seed: int = 0, num_items: int = 600, num_users: int = 2000) -> Shop:
    """A shop, the same for the same arguments; its items do not depend on `num_users`.

    A log of a year, some 22 events a user. Of the items 15 % come in its last third, so that a split by time
    has items in the test part that training never saw.

    Raises:
        ValueError: fewer than 20 items, or a negative number of users (0 gives a shop without a log).
    """
    if num_items < 20:
        raise ValueError(f"`num_items` must be at least 20, got {num_items}.")
    if num_users < 0:
        raise ValueError(f"`num_users` must be at least 0, got {num_users}.")
    item_rng, picture_rng, user_rng = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3))
    codes = {name: item_rng.integers(0, len(values), num_items) for name, values in _ATTRIBUTES.items()}
    available_from = _first_days(num_items, item_rng)
    items, attributes = _items(codes, available_from, item_rng, picture_rng)

    period = (START, START + DAYS * DAY_SECONDS)
    num_values = {name: len(values) for name, values in _ATTRIBUTES.items()}
    tastes = draw_tastes(codes, num_values, available_from, num_users, period, user_rng)
    visits = simulate_visits(tastes, period, user_rng)
    interactions = pl.DataFrame(
        {
            USER_ID: pl.Series(list(tastes.users), dtype=pl.String).gather(visits.users),
            ITEM_ID: items[ITEM_ID].gather(visits.items),
            TIMESTAMP: visits.times.astype(np.int64),
            EVENT_TYPE: pl.Series(visits.types.tolist(), dtype=pl.String),
        }
    ).sort(TIMESTAMP, maintain_order=True)
    return Shop(items, interactions, attributes, tastes)


def make_captions(shop: Shop) -> pl.DataFrame:
    """The shop's items with titles that also tell what the picture shows: kind, style, colour and pattern.

    Two more lines, the kind alone and the pattern alone, come before the description: without them an encoder finds
    it enough to learn the colour and one of the two. Pretrain it on the captions of a shop with another seed.
    """
    codes = {name: _codes(shop.attributes[name], values) for name, values in _ATTRIBUTES.items()}
    titles, texts = [], []
    for row, (code, description) in enumerate(shop.items.select(LANGUAGE, DESCRIPTION).iter_rows()):
        kind, style, colour, pattern = (int(codes[name][row]) for name in ("kind", "style", "colour", "pattern"))
        language = LANGUAGES[code]
        titles.append(language.title(kind, style, colour, pattern))
        lines = [language.title(kind, None, None), language.patterns[pattern], description]
        texts.append("\n".join(line for line in lines if line))
    return shop.items.with_columns(pl.Series(TITLE, titles), pl.Series(DESCRIPTION, texts))


def _items(
    codes: dict[str, np.ndarray],
    available_from: np.ndarray,
    rng: np.random.Generator,
    picture_rng: np.random.Generator,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The items and their attributes, in the order of ids that say nothing about either."""
    num_items = len(available_from)
    shares = np.array([share for *_, share in _PROVIDERS])
    providers = [_PROVIDERS[choice] for choice in rng.choice(len(_PROVIDERS), num_items, p=shares / shares.sum())]
    has_picture, has_description = (
        rng.random(num_items) >= _NO_IMAGE,
        rng.random(num_items) >= _NO_DESCRIPTION,
    )
    names = {name: [values[code] for code in codes[name]] for name, values in _ATTRIBUTES.items()}
    texts = [
        _text(
            language,
            int(codes["kind"][row]),
            int(codes["style"][row]),
            int(codes["colour"][row]),
            described,
            rng,
        )
        for row, ((_, language, _), described) in enumerate(zip(providers, has_description, strict=True))
    ]
    pictures = [
        draw_item(names["kind"][row], names["colour"][row], names["pattern"][row], picture_rng)
        for row in range(num_items)
    ]
    typical = [
        _KIND_PRICES[kind] * _STYLE_PRICES[style] for kind, style in zip(names["kind"], names["style"], strict=True)
    ]
    ids = [f"sku-{row + 1:04d}" for row in range(num_items)]
    items = pl.DataFrame(
        {
            ITEM_ID: ids,
            TITLE: [title for title, _ in texts],
            DESCRIPTION: pl.Series([description for _, description in texts], dtype=pl.String),
            LANGUAGE: [language for _, language, _ in providers],
            IMAGE: pl.Series(
                [data if shown else None for data, shown in zip(pictures, has_picture, strict=True)],
                dtype=pl.Binary,
            ),
            CATEGORY: [_CATEGORY_OF[kind] for kind in names["kind"]],
            PROVIDER: [name for name, *_ in providers],
            PRICE: np.round(np.array(typical) * rng.lognormal(0, 0.2, num_items), 2),
            AVAILABLE_FROM: available_from,
        }
    )
    return items, pl.DataFrame({ITEM_ID: ids, **names})


def _text(
    code: str, kind: int, style: int, colour: int, described: bool, rng: np.random.Generator
) -> tuple[str, str | None]:
    """Title and description; one of the two always tells the style, only the title may tell the colour."""
    language = LANGUAGES[code]
    in_title, tells_colour, in_description, closes = rng.random(4)
    sentence, closing = rng.integers(0, 2), rng.integers(0, len(language.closings))
    style_in_title = not described or in_title < _TITLE_TELLS_STYLE
    title = language.title(
        kind, style if style_in_title else None, colour if tells_colour < _TITLE_TELLS_COLOUR else None
    )
    if not described:
        return title, None
    parts = [language.articles[kind][2]]
    if not style_in_title or in_description < 0.8:
        parts.append(language.sentences[2 * style + int(sentence)])
    if closes < 0.4:
        parts.append(language.closings[closing])
    return title, " ".join(parts)


def _first_days(num_items: int, rng: np.random.Generator) -> np.ndarray:
    """`available_from` `(N,)`: long ago for most, in the last third of the year for the late ones."""
    seconds = DAYS * DAY_SECONDS
    long_ago = START - rng.uniform(0.2, 2.0, num_items) * seconds
    late = START + (1 - _LATE_SPAN * rng.random(num_items)) * seconds
    is_late = rng.permutation(num_items) < round(_LATE_SHARE * num_items)
    return np.where(is_late, late, long_ago).astype(np.int64)


def _codes(values: pl.Series, names: tuple[str, ...]) -> np.ndarray:
    return values.replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()


def _write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write beside the final name and rename, so that a crash leaves the old table or none."""
    partial = path.with_name(f".{path.name}.partial")
    frame.write_parquet(partial)
    partial.replace(path)
