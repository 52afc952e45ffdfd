"""The `data` section of a run, and what it names: a catalogue, a cut log, an encoder and its vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from hfrec.data.catalog import Catalog
from hfrec.data.interactions import load_interactions
from hfrec.data.read import expand_path
from hfrec.data.schema import DataError
from hfrec.data.splits import Splits, split_by_time, split_cold_items, split_leave_last
from hfrec.items.augmentation import with_variants
from hfrec.items.encoder import ItemEncoder
from hfrec.items.languages import with_languages
from hfrec.items.table import ItemTable
from hfrec.training.arguments import RecTrainingArguments

if TYPE_CHECKING:
    import polars as pl

_SPLITS = {
    "leave_last": split_leave_last,
    "by_time": split_by_time,
    "cold_items": split_cold_items,
    "cold_items_of_test": partial(split_cold_items, for_validation=False),
}


@dataclass
class DataConfig:
    """The `data` section. `${VARIABLES}` in paths and encoder names are expanded.

    Attributes:
        name: what the data set is called in tables and cards.
        about: where the data come from and who is in them, for the card.
        licence: under which they may be used, for the card.
        interactions: the log: Parquet, CSV or JSON lines.
        items: the items table.
        images: a folder of `<item_id>.jpg`, or a column of the items table.
        text_columns: columns that make up an item's text, in order; by default those that hfrec knows.
        language: of the items for which the table does not give one.
        language_columns: columns of an item's text in further languages, `{de: [title_de]}`, or a pattern that finds
            them, `title_{language}`.
        texts: a table of further texts: `item_id`, `language` or `source`, and text columns.
        detect_languages: find the language of items for which none is given, `true` among all, or among those listed.
        train_languages: the further languages that training reads, beside what an item's own text is in; by default
            all. Vectors of all of them are saved.
        centre_languages: move each language's vectors, so that their mean is that of the same items' own.
        interaction_columns: new names of columns of the log, `{yours: hfrec's}`.
        item_columns: new names of columns of the items table.
        unknown_items: `error` or `drop` events of items that the items table lacks.
        min_rating: keep only events with at least this rating.
        duplicates: of several events of a user with an item keep `keep` (all), `first` or `last`.
        user_core: drop users with fewer events.
        item_core: drop items with fewer events.
        split: `leave_last`, `by_time`, `cold_items`, or `cold_items_of_test`, by which validation's are known.
        user_share: learn from so many of the users, such as 0.1: training, validation and counts know no other; the
            test part is of all users.
        candidates: rank the items of the log (`interactions`) or `all` of the items table.
        text_encoder: an encoder's Hub id, folder or `package:` name; `null` for none.
        image_encoder: the same for pictures.
        audio_encoder: the same for sounds, which the column `audio` of the items table names.
        max_text_tokens: longer texts are cut.
        encoder_batch_size: inputs that are encoded at once.
        encoder_processes: processes that encode.
        variants: how often each item is encoded once more, its text and picture augmented; training draws one of them.
        cache: folder in which vectors are kept, by content.
    """

    name: str
    interactions: str
    items: str
    images: str | None = None
    text_columns: list[str] | None = None
    language: str | None = None
    language_columns: dict[str, list[str]] | str | None = None
    texts: str | None = None
    detect_languages: bool | list[str] = False
    train_languages: list[str] | None = None
    centre_languages: bool = False
    interaction_columns: dict[str, str] = field(default_factory=dict)
    item_columns: dict[str, str] = field(default_factory=dict)
    unknown_items: Literal["error", "drop"] = "error"
    min_rating: float | None = None
    duplicates: Literal["keep", "first", "last"] = "keep"
    user_core: int = 0
    item_core: int = 0
    split: Literal["leave_last", "by_time", "cold_items", "cold_items_of_test"] = "leave_last"
    user_share: float = 1.0
    candidates: Literal["interactions", "all"] = "interactions"
    text_encoder: str | None = None
    image_encoder: str | None = None
    audio_encoder: str | None = None
    max_text_tokens: int = 128
    encoder_batch_size: int = 64
    encoder_processes: int = 1
    variants: int = 0
    cache: str | None = None
    about: str | None = None
    licence: str | None = None


def load_data(data: DataConfig) -> tuple[Catalog, Splits]:
    """The catalogue and the cut log that the `data` section names."""
    catalog = load_items(data)
    return catalog, cut_log(data, catalog)


def cut_log(data: DataConfig, catalog: Catalog) -> Splits:
    """The log that the `data` section names, of items of `catalog`, cut as it says."""
    return _SPLITS[data.split](load_events(data, catalog)).of_users(data.user_share)


def load_items(data: DataConfig) -> Catalog:
    """The items table that the `data` section names."""
    images = data.images
    if images is not None and ("/" in images or "$" in images):
        images = str(expand_path(images))
    catalog = Catalog.from_file(
        data.items,
        images=images,
        text_columns=data.text_columns,
        columns=data.item_columns,
        language_columns=data.language_columns,
    )
    if data.texts is not None:
        catalog = catalog.with_texts(data.texts)
    if data.detect_languages:
        among = None if data.detect_languages is True else data.detect_languages
        catalog = catalog.with_detected_languages(among=among)
    return catalog if data.language is None else catalog.with_language(data.language)


def load_events(data: DataConfig, catalog: Catalog) -> pl.DataFrame:
    """The log that the `data` section names, of items of `catalog`."""
    return load_interactions(
        data.interactions,
        columns=data.interaction_columns,
        catalog=catalog,
        unknown_items=data.unknown_items,
        min_rating=data.min_rating,
        duplicates=data.duplicates,
        user_core=data.user_core,
        item_core=data.item_core,
    )


def make_encoder(data: DataConfig) -> ItemEncoder | None:
    """The encoder that the `data` section names, or `None` for ids alone."""
    if data.text_encoder is None and data.image_encoder is None and data.audio_encoder is None:
        return None
    text, image, audio, cache = (
        value and str(expand_path(value))
        for value in (data.text_encoder, data.image_encoder, data.audio_encoder, data.cache)
    )
    encoder = ItemEncoder(
        text=text,
        image=image,
        audio=audio,
        max_text_tokens=data.max_text_tokens,
        batch_size=data.encoder_batch_size,
        processes=data.encoder_processes,
        cache_dir=cache,
    )
    # Reading what tells encoders apart finds one that is missing now, not after an hour of encoding with the other.
    _ = encoder.fingerprint
    return encoder


def encode_items(
    catalog: Catalog, encoder: ItemEncoder | None, arguments: RecTrainingArguments, data: DataConfig | None = None
) -> ItemTable:
    """The catalogue's vectors, or its ids alone; one process encodes, the others read what it cached.

    Args:
        data: says as what else training is to read the items, in further languages or augmented; `None`: as nothing.

    Raises:
        DataError: training is to read a language that no item has a text in.
        ValueError: variants without an encoder.
    """
    if encoder is None:
        if data is not None and data.variants:
            raise ValueError(f"`variants` are of what an encoder reads, and none is named; got {data.variants}.")
        return ItemTable.of_ids(catalog)
    with arguments.main_process_first(desc="encode"):
        items = encoder.encode(catalog)
        if data is None:
            return items
        if catalog.language_columns and "text" in items.modalities:
            items = with_languages(items, encoder, centred=data.centre_languages)
        if data.train_languages is not None:
            items = items.drawing(_further(data.train_languages, catalog))
        return with_variants(items, encoder, data.variants) if data.variants else items


def _further(languages: list[str], catalog: Catalog) -> list[str]:
    """Those of `languages` that are not only what items' own texts are in, which training always reads."""
    own = {language for language in catalog.languages() if language}
    if unknown := [name for name in languages if name not in own and name not in catalog.language_columns]:
        raise DataError(
            f"`train_languages` must be among {sorted(own.union(catalog.language_columns))}, in which items have "
            f"texts, got {unknown}."
        )
    return [name for name in languages if name in catalog.language_columns]
