"""An item's text in several languages: columns and rows of a table, their names, and what language a text is in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from hfrec.data.schema import ITEM_ID, LANGUAGE, SOURCE, TEXT_COLUMNS, DataError, require_columns

_ALL_CODES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en "
    "eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv "
    "ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne "
    "ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st "
    "su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
CODES = frozenset(_ALL_CODES.split())
"""ISO 639-1."""
_SOURCE = re.compile(r"[A-Za-z]\w{3,}")
_PLACE = "{language}"


def is_language(name: str) -> bool:
    """Whether `name` is a language's code, which a script or a region may follow.

    >>> [is_language(name) for name in ("de", "pt-BR", "xx", "synonyms")]
    [True, True, False, False]
    """
    return name.replace("_", "-").partition("-")[0] in CODES


def check_language(name: str) -> str:
    """`name`, which must be a language's code, or what texts come from: a word of at least four letters."""
    if not is_language(name) and not _SOURCE.fullmatch(name):
        raise DataError(
            "A language must be an ISO 639-1 code such as `de` or `pt-BR`, and another source of texts a word of at "
            f"least four letters such as `synonyms`, got {name!r}."
        )
    return name


def language_columns_of(frame: pl.DataFrame, given: Mapping[str, Sequence[str]] | str | None) -> dict[str, list[str]]:
    """For each language, or other source of texts, the columns of `frame` that make up an item's text in it.

    Args:
        given: that, or a pattern such as `title_{language}`, which finds the languages that there are.

    Raises:
        DataError: an unknown language, a pattern that fits no column, a column that is not there or of two languages.
    """
    if isinstance(given, str):
        before, place, after = given.partition(_PLACE)
        found = {}
        for column in frame.columns if place else ():
            name = column.removeprefix(before).removesuffix(after)
            if column == f"{before}{name}{after}" and is_language(name):
                found[name] = [column]
        if not found:
            raise DataError(
                f"A pattern of language columns must hold `{_PLACE}` and fit a column of the items table, as "
                f"`title_{_PLACE}` does `title_de`; got {given!r} for {frame.columns}."
            )
        return found
    named = {check_language(name): of for name, of in (given or {}).items()}
    for name, of in named.items():
        if isinstance(of, str) or not of:
            raise DataError(
                f"`language_columns` must have a list of columns for each language, got {of!r} for {name!r}."
            )
    every = [column for of in named.values() for column in of]
    twice = sorted({column for column in every if every.count(column) > 1})
    if twice:
        raise DataError(f"A column must be of one language in `language_columns`, got {twice} twice.")
    require_columns(frame, every, "items")
    return {name: list(of) for name, of in named.items()}


def check_written(frame: pl.DataFrame, columns: Mapping[str, Sequence[str]]) -> None:
    """Raise `DataError` for a language of whose `columns` none holds anything."""
    for language, of in columns.items():
        if all(frame[name].null_count() == frame.height for name in of):
            raise DataError(
                f"A language must have a text of some item; of {language!r} nothing is written in {list(of)}."
            )


def texts_as_columns(
    frame: pl.DataFrame, rows: pl.DataFrame, by: str, text_columns: Iterable[str]
) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    """`frame` with a column `title_de` for the `title` of those `rows` whose `by` is `de`, and so on; and their names.

    Raises:
        DataError: `by` is empty somewhere or no language, an item has two rows of one, nothing is written in one, or
            a column has its name already.
    """
    written = [name for name in text_columns if name in rows.columns]
    if rows[by].null_count():
        item_id = rows.filter(pl.col(by).is_null())[ITEM_ID][0]
        raise DataError(f"`{by}` must be given in each row of an item's further texts; {item_id!r} has one without.")
    twice = rows.filter(pl.struct(ITEM_ID, by).is_duplicated())
    if len(twice):
        raise DataError(f"An item must have one row of each `{by}`, {twice[ITEM_ID][0]!r} has two of {twice[by][0]!r}.")
    found: dict[str, list[str]] = {}
    for name in rows[by].unique(maintain_order=True).to_list():
        columns = {column: f"{column}_{check_language(name)}" for column in written}
        if taken := [column for column in columns.values() if column in frame.columns]:
            raise DataError(f"The items table has a column `{taken[0]}` already: rename it, or give the texts once.")
        of = rows.filter(pl.col(by) == name).select(ITEM_ID, *written).rename(columns)
        check_written(of, {name: list(columns.values())})
        said = [column for column in columns.values() if of[column].null_count() < of.height]
        frame = frame.join(of.select(ITEM_ID, *said), on=ITEM_ID, how="left", maintain_order="left")
        found[name] = said
    return frame, found


def one_row_each(frame: pl.DataFrame, text_columns: Sequence[str] | None) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    """An items table with a row for each item and language, as one with a row for each item and columns for languages.

    An item's first row is its own; what only a later row tells beside the texts is taken from there. A table in which
    an item comes twice for another reason stays as it is.
    """
    repeated = frame[ITEM_ID].is_duplicated()
    if LANGUAGE not in frame.columns or not repeated.any():
        return frame, {}
    given = frame.filter(repeated)
    if given[LANGUAGE].null_count() or given.select(ITEM_ID, LANGUAGE).is_duplicated().any():
        return frame, {}
    texts = [name for name in (text_columns or TEXT_COLUMNS) if name in frame.columns]
    own = [LANGUAGE, *texts]
    first = frame.group_by(ITEM_ID, maintain_order=True).agg(
        pl.col(own).first(), pl.exclude(ITEM_ID, *own).drop_nulls().first()
    )
    further = frame.filter(~frame[ITEM_ID].is_first_distinct())
    return texts_as_columns(first.select(frame.columns), further, LANGUAGE, texts)


def further_texts(
    frame: pl.DataFrame, texts: pl.DataFrame, text_columns: Iterable[str]
) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    """`frame` with columns for what `texts` says: `item_id`, `language` or `source`, and text columns.

    Raises:
        DataError: neither or both of `language` and `source`; no text column; an item that `frame` lacks.
    """
    require_columns(texts, [ITEM_ID], "texts")
    by = [name for name in (LANGUAGE, SOURCE) if name in texts.columns]
    known = dict.fromkeys([*text_columns, *TEXT_COLUMNS])
    written = [name for name in known if name in texts.columns]
    if len(by) != 1 or not written:
        raise DataError(
            f"The texts table needs one of `{LANGUAGE}` and `{SOURCE}`, and a text column such as `title`; it has "
            f"{texts.columns}."
        )
    unknown = texts.filter(~texts[ITEM_ID].is_in(frame[ITEM_ID].to_list()))
    if len(unknown):
        raise DataError(f"The texts must be of known items; the items table lacks {unknown[ITEM_ID].to_list()[:5]}.")
    return texts_as_columns(frame, texts, by[0], written)


def detected(texts: Sequence[str | None], least: float = 0.5, among: Sequence[str] | None = None) -> list[str | None]:
    """The language of each text by py3langid, `None` where it is less probable than `least`: short ones often are.

    Args:
        least: 0 … 1.
        among: the languages that come into question; by default all that py3langid knows.

    Raises:
        ImportError: py3langid is not installed.
        ValueError: `least` is no probability, or py3langid does not know a language.
    """
    if not 0 <= least <= 1:
        raise ValueError(f"`least` must be a probability, 0 … 1, got {least}.")
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ImportError('Finding languages needs py3langid: pip install "hfrec[languages]"') from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = sorted(CODES.intersection(identifier.labels))
    if unknown := sorted(set(among or ()) - set(known)):
        raise ValueError(f"Languages to be found must be among {known}, got {unknown}.")
    identifier.set_languages(list(among or known))
    found = [(None, 0.0) if text is None else identifier.classify(text) for text in texts]
    return [language if probability >= least else None for language, probability in found]
