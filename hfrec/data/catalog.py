"""The items, by their real ids: text, pictures and whatever else is known of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hfrec.data.languages import (
    check_language,
    check_written,
    detected,
    further_texts,
    is_language,
    language_columns_of,
    one_row_each,
)
from hfrec.data.pictures import is_key, picture_cells, with_images
from hfrec.data.read import expand_path, read_table
from hfrec.data.schema import (
    AUDIO,
    IMAGE,
    ITEM_ID,
    LANGUAGE,
    TEXT_COLUMNS,
    TITLE,
    VIDEO,
    DataError,
    check_ids,
    require_columns,
)

REMOVED = "removed"


class Catalog:
    """Real item ids (strings or integers) mapped to rows, with what is known of each item.

    Row 0 is padding; the i-th item of `frame`, counted from 0, is row i + 1. Rows are only ever appended: an item
    that was removed leaves a tombstone, so that whatever is kept by row stays right.

    Attributes:
        frame: one line an item, `item_id` first; a boolean column `removed` marks the tombstones.
        root: the folder in which relative picture paths resolve; `None` if pictures are bytes or absent.
        text_columns: the columns that make up an item's text, in order.
        pictures: those that a saved catalogue keeps apart, by the key that stands in `image`.
        language_columns: for each further language of the items' texts, or other source of them, the columns that make
            up an item's text in it, in order.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        root: Path | None,
        text_columns: Sequence[str],
        pictures: Mapping[str, bytes] | None = None,
        language_columns: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.frame = frame
        self.root = root
        self.text_columns = tuple(text_columns)
        self.pictures: Mapping[str, bytes] = {} if pictures is None else pictures
        self.language_columns = {name: tuple(of) for name, of in (language_columns or {}).items()}
        self._rows: dict[Any, int] = {item_id: row for row, item_id in enumerate(frame[ITEM_ID].to_list(), start=1)}

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        images: str | Path | None = None,
        text_columns: Sequence[str] | None = None,
        columns: Mapping[str, str] | None = None,
        language_columns: Mapping[str, Sequence[str]] | str | None = None,
    ) -> Catalog:
        """The catalogue in a Parquet, CSV or JSON-lines file; relative picture paths start at the file's folder.

        `images` is a folder with pictures named `<item_id>.jpg` (or png, webp), or the name of a column with paths
        or bytes.
        """
        root = expand_path(path).parent
        return cls.from_frame(
            path,
            root=root,
            images=images,
            text_columns=text_columns,
            columns=columns,
            language_columns=language_columns,
        )

    @classmethod
    def from_frame(
        cls,
        source: Any,
        *,
        root: str | Path | None = None,
        images: str | Path | None = None,
        text_columns: Sequence[str] | None = None,
        columns: Mapping[str, str] | None = None,
        language_columns: Mapping[str, Sequence[str]] | str | None = None,
    ) -> Catalog:
        """The catalogue in anything that `read_table` opens.

        An item may have a row for each `language` that its text is in: the first is its own.

        Args:
            language_columns: columns of the item's text in further languages, `{"de": ["title_de"]}`, or a pattern,
                `title_{language}`.

        Raises:
            DataError: no `item_id`; null or duplicate ids; a named text column or picture folder that is not there;
                a column `removed` that is not boolean; a language that there is not, or that nothing is written in.
        """
        frame = read_table(source, "items", columns)
        require_columns(frame, [ITEM_ID], "items")
        frame, from_rows = one_row_each(check_ids(frame, ITEM_ID, "items"), text_columns)
        in_languages = from_rows | language_columns_of(frame, language_columns)
        repeated = frame[ITEM_ID].filter(frame[ITEM_ID].is_duplicated())
        if len(repeated):
            raise DataError(
                f"`{ITEM_ID}` of the items table must be unique; {repeated.n_unique()} ids come more than once, "
                f"such as {repeated[0]!r}. Rows of one item must differ in `{LANGUAGE}`."
            )
        if text_columns is None:
            text_columns = [name for name in TEXT_COLUMNS if name in frame.columns]
        if isinstance(text_columns, str) or len(set(text_columns)) < len(text_columns):
            raise DataError(f"`text_columns` must be a list of different columns, got {text_columns!r}.")
        require_columns(frame, text_columns, "items")
        written = dict.fromkeys([*text_columns, *(name for of in in_languages.values() for name in of)])
        frame = frame.with_columns(_as_text(frame[name]) for name in written)
        check_written(frame, in_languages)
        frame, folder = with_images(frame, images)
        if IMAGE in frame.columns:
            frame = frame.with_columns(picture_cells(frame[IMAGE]))
        root = folder or (expand_path(root) if root is not None else None)
        if REMOVED not in frame.columns:
            frame = frame.with_columns(pl.lit(False).alias(REMOVED))
        elif frame.schema[REMOVED] != pl.Boolean:
            raise DataError(
                f"`{REMOVED}` of the items table must be true or false, got {frame.schema[REMOVED]} such as "
                f"{frame[REMOVED][0]!r}. It marks items that are never recommended; rename a column of another meaning."
            )
        return cls(frame.select(ITEM_ID, pl.exclude(ITEM_ID)), root, text_columns, language_columns=in_languages)

    def __len__(self) -> int:
        """Number of items N, tombstones included, padding not."""
        return self.frame.height

    def __contains__(self, item_id: Any) -> bool:
        return item_id in self._rows

    def __repr__(self) -> str:
        return f"Catalog({len(self)} items, text={list(self.text_columns)}, image={IMAGE in self.frame.columns})"

    @property
    def num_rows(self) -> int:
        """N + 1: the items and the padding row."""
        return len(self) + 1

    @property
    def item_ids(self) -> list[Any]:
        """The real ids `(N,)` in the order of the rows."""
        return self.frame[ITEM_ID].to_list()

    @property
    def removed_rows(self) -> np.ndarray:
        """Rows of the items that were removed."""
        return self.frame[REMOVED].arg_true().to_numpy().astype(np.int64) + 1

    def rows(self, item_ids: Iterable[Any]) -> np.ndarray:
        """Rows of `item_ids`, int64; 0 for an id that the catalogue does not know."""
        if isinstance(item_ids, np.ndarray) and item_ids.dtype.kind in "iuU":
            item_ids = pl.Series(item_ids)
        # A join beats the dictionary several times over, but hashes the whole catalogue for each call.
        if isinstance(item_ids, list) and len(item_ids) >= len(self):
            with contextlib.suppress(TypeError, OverflowError, pl.exceptions.PolarsError):
                item_ids = pl.Series(item_ids, dtype=self.frame.schema[ITEM_ID], strict=True)
        if isinstance(item_ids, pl.Series) and len(item_ids) >= len(self):
            text = self.frame.schema[ITEM_ID] == pl.String
            if text and item_ids.dtype in (pl.String, pl.Categorical, pl.Enum):
                return self._joined_rows(item_ids.cast(pl.String))
            if not text and item_ids.dtype.is_integer():
                return self._joined_rows(item_ids.cast(pl.Int64, strict=False))
        rows = [self._rows.get(item_id, 0) for item_id in item_ids]
        return np.array(rows, dtype=np.int64)

    def _joined_rows(self, item_ids: pl.Series) -> np.ndarray:
        known = self.frame.select(ITEM_ID).with_row_index("row", offset=1)
        found = item_ids.alias(ITEM_ID).to_frame().join(known, on=ITEM_ID, how="left", maintain_order="left")
        return found["row"].fill_null(0).cast(pl.Int64).to_numpy()

    def ids(self, rows: Iterable[int]) -> list[Any]:
        """Real ids of `rows`, each in 1 … N; another row raises `DataError`."""
        places = np.asarray(list(rows), dtype=np.int64)
        outside = places[(places < 1) | (places > len(self))]
        if len(outside):
            raise DataError(f"A row of this catalogue is in 1 … {len(self)}, got {outside[0]}; 0 is padding.")
        return self.frame[ITEM_ID].gather(places - 1).to_list()

    def titles(self, rows: Iterable[int], language: str | None = None) -> list[str | None]:
        """What to call the items in `rows`: their `title`, else the first line of their text; if named and there, the
        first line of that in a further `language`."""
        index = np.asarray(list(rows), dtype=np.int64) - 1
        if language is not None:
            own, texts = self.titles(index + 1), self.texts_in(language)
            lines = ((texts[place] or "").partition("\n")[0] for place in index)
            return [line or title for line, title in zip(lines, own, strict=True)]
        if TITLE in self.frame.columns:
            return self.frame[TITLE].gather(index).to_list()
        texts = self.texts()
        return [text and text.partition("\n")[0] for text in (texts[place] for place in index)]

    def texts(self) -> list[str | None]:
        """Each item's text `(N,)`: its text columns, one a line; `None` where nothing is written. An item that has a
        text in further languages alone is read in the first of them."""
        texts = self._joined_lines(self.text_columns)
        for language in self.language_columns if None in texts else ():
            further = self.texts_in(language)
            texts = [other if text is None else text for text, other in zip(texts, further, strict=True)]
        return texts

    def texts_in(self, language: str) -> list[str | None]:
        """Each item's text `(N,)` in one of `language_columns`, `None` where it has none.

        Raises:
            DataError: the catalogue has no such language.
        """
        if language not in self.language_columns:
            raise DataError(
                f"The catalogue has texts in the further languages {list(self.language_columns)}, got {language!r}. "
                "Name their columns with `language_columns=`, or add a table with `with_texts`."
            )
        return self._joined_lines(self.language_columns[language])

    def _joined_lines(self, columns: Sequence[str]) -> list[str | None]:
        if not columns:
            return [None] * len(self)
        lines = pl.concat_str(
            [pl.col(name).str.strip_chars().replace("", None) for name in columns],
            separator="\n",
            ignore_nulls=True,
        )
        return self.frame.select(lines.replace("", None)).to_series().to_list()

    def images(self, rows: Iterable[int] | None = None) -> list[Any]:
        """Each item's picture `(N,)`, or that of each of `rows`: bytes, a path relative to `root`, or `None`."""
        cells = self._column(IMAGE)
        cells = cells if rows is None else [cells[row - 1] for row in rows]
        return [cell and (cell["bytes"] or self._kept_picture(cell["path"])) for cell in cells]

    def _kept_picture(self, path: str) -> bytes | str:
        return self.pictures.get(path, path) if is_key(path) else path

    def audio(self) -> list[Any]:
        """Each item's sound `(N,)`, or `None`."""
        return self._column(AUDIO)

    def videos(self) -> list[Any]:
        """Each item's video `(N,)`, or `None`."""
        return self._column(VIDEO)

    def cells(self, modality: str, rows: Iterable[int] | None = None) -> list[Any]:
        """What an encoder of `modality` reads of each item `(N,)`, or of each of `rows`: texts, pictures …"""
        if modality == "image":
            return self.images(rows)
        column = {"text": self.texts, "audio": self.audio, "video": self.videos}[modality]()
        return column if rows is None else [column[row - 1] for row in rows]

    def languages(self) -> list[str | None]:
        """Each item's language code `(N,)`, or `None`."""
        return self._column(LANGUAGE)

    def with_texts(self, texts: Any) -> Catalog:
        """A catalogue in which items have further texts: `texts` is a table (anything that `read_table` opens) of
        `item_id`, `language` or `source`, and text columns, such as translations, or titles by synonyms.

        Raises:
            DataError: an unknown item or language; an item with two texts of one; a column is missing, or taken.
        """
        given = check_ids(read_table(texts, "texts"), ITEM_ID, "texts")
        if given.schema[ITEM_ID] != self.frame.schema[ITEM_ID]:
            raise DataError(
                f"`{ITEM_ID}` of the texts must be {self.frame.schema[ITEM_ID]} as in the catalogue, got "
                f"{given.schema[ITEM_ID]} such as {given[ITEM_ID][0]!r}."
            )
        frame, columns = further_texts(self.frame, given, self.text_columns)
        return self._with(frame, {**self.language_columns, **columns})

    def with_language(self, language: str) -> Catalog:
        """A catalogue in which `language` is that of the items of which none is given."""
        check_language(language)
        return self._with_languages([found or language for found in self.languages()])

    def with_detected_languages(self, least: float = 0.5, among: Sequence[str] | None = None) -> Catalog:
        """A catalogue in which `language` is found by py3langid from an item's text where it is not given.

        Args:
            least: probability below which it stays unknown, as of many a short title.
            among: the languages that come into question: the fewer, the surer.

        Raises:
            ImportError: py3langid is not installed.
            ValueError: `least` is no probability, or py3langid does not know a language.
        """
        given = self.languages()
        unknown = [text if language is None else None for text, language in zip(self.texts(), given, strict=True)]
        found = detected(unknown, least, among)
        return self._with_languages([old or new for old, new in zip(given, found, strict=True)])

    def _with_languages(self, languages: list[str | None]) -> Catalog:
        return self._with(self.frame.with_columns(pl.Series(LANGUAGE, languages, dtype=pl.String)))

    def all_languages(self) -> list[str]:
        """The languages that items have texts in, sorted; other sources of texts are none."""
        further = filter(is_language, self.language_columns)
        return sorted({language for language in self.languages() if language}.union(further))

    def _column(self, name: str) -> list[Any]:
        return self.frame[name].to_list() if name in self.frame.columns else [None] * len(self)

    def rows_in(self, other: Catalog) -> np.ndarray:
        """For each row of this catalogue `(N + 1,)` the row of the same item in `other`, 0 where it has none."""
        return np.concatenate([[0], other.rows(self.item_ids)])

    def with_items(self, items: Any) -> Catalog:
        """A catalogue with `items` (anything that `read_table` opens) appended; columns that it lacks are dropped.

        Raises:
            DataError: an id is known already (see `with_changes`), twice in `items`, or of another type.
        """
        new = self._checked(items)
        known = [item_id for item_id in new[ITEM_ID].to_list() if item_id in self._rows]
        if known:
            raise DataError(f"Items to add must be new; the catalogue has {known[:5]}. Use `update_items` for those.")
        return self._with(pl.concat([self.frame, new], how="diagonal"))

    def with_changes(self, items: Any) -> Catalog:
        """A catalogue in which the given columns of known `items` are replaced and their tombstones lifted.

        A null changes nothing.

        Raises:
            DataError: an id that the catalogue does not know.
        """
        new = self._checked(items)
        unknown = [item_id for item_id in new[ITEM_ID].to_list() if item_id not in self._rows]
        if unknown:
            raise DataError(f"Items to update must be known; the catalogue lacks {unknown[:5]}. Use `add_items`.")
        return self._with(self.frame.update(new, on=ITEM_ID))

    def without_items(self, item_ids: Sequence[Any]) -> Catalog:
        """A catalogue in which `item_ids` are tombstones: their rows stay, and are never recommended."""
        unknown = [item_id for item_id in item_ids if item_id not in self._rows]
        if unknown:
            raise DataError(f"Items to remove must be known; the catalogue lacks {unknown[:5]}.")
        gone = pl.col(ITEM_ID).is_in(list(item_ids))
        return self._with(self.frame.with_columns((pl.col(REMOVED) | gone).alias(REMOVED)))

    def only(self, kept: np.ndarray) -> Catalog:
        """The catalogue of the items that `kept` `(N,)` bool marks; their rows are others."""
        return self._with(self.frame.filter(pl.Series(kept)))

    def _with(self, frame: pl.DataFrame, language_columns: Mapping[str, Sequence[str]] | None = None) -> Catalog:
        in_languages = self.language_columns if language_columns is None else language_columns
        return Catalog(frame, self.root, self.text_columns, self.pictures, in_languages)

    def _checked(self, items: Any) -> pl.DataFrame:
        given = read_table(items, "items")
        written = [*self.text_columns, *(name for of in self.language_columns.values() for name in of)]
        new = Catalog.from_frame(given, text_columns=[name for name in written if name in given.columns]).frame
        ids, own_ids = new.schema[ITEM_ID], self.frame.schema[ITEM_ID]
        if ids != own_ids:
            raise DataError(
                f"`{ITEM_ID}` of the items must be {own_ids} as in the catalogue, "
                f"got {ids} such as {new[ITEM_ID][0]!r}."
            )
        kept = [name for name in new.columns if name in self.frame.columns]
        try:
            return new.select(pl.col(name).cast(self.frame.schema[name]) for name in kept)
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"The items must have the catalogue's column types {dict(self.frame.schema)}, got {dict(new.schema)}."
            ) from error


def _as_text(column: pl.Series) -> pl.Series:
    """`column` as strings; a list of words becomes `first, second`."""
    kind = column.dtype.inner if isinstance(column.dtype, pl.List) else column.dtype
    if kind.is_nested() or kind in (pl.Binary, pl.Object):
        raise DataError(
            f"The text column `{column.name}` must hold text, numbers or lists of them, got {column.dtype}."
        )
    if isinstance(column.dtype, pl.List):
        return column.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    return column.cast(pl.String)
