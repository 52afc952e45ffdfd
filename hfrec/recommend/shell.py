"""What `hfrec recommend`, `similar` and `search` print and draw."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hfrec.data.interactions import load_interactions
from hfrec.recommend.batch import read_histories, recommend_table
from hfrec.recommend.recommender import Recommendation, Recommender
from hfrec.recommend.search import open_query
from hfrec.recommend.sheet import draw_sheet


def recommend(arguments: argparse.Namespace) -> None:
    """Lists for one history, for some users of a log, or for a file of histories."""
    adapter = {} if arguments.adapter is None else {"adapter": arguments.adapter or []}
    recommender = Recommender.from_pretrained(
        arguments.model, images=arguments.images, revision=arguments.revision, **adapter
    )
    if arguments.language:
        recommender = recommender.in_language(arguments.language)
    query = arguments.query if arguments.query_image is None else Path(arguments.query_image)
    if arguments.histories:
        if not arguments.out:
            raise ValueError("`--histories` needs `--out`, the Parquet file for the lists.")
        if arguments.sheet or arguments.filter or arguments.candidates or query is not None:
            raise ValueError(
                "`--sheet`, `--filter`, `--candidates` and a query go with `--history` and `--sample-users`, "
                "not with `--histories`."
            )
        counts = recommend_table(recommender, read_histories(arguments.histories), arguments.out, arguments.k)
        print(", ".join(f"{name} {number}" for name, number in counts.items()), f"→ {arguments.out}")
        return
    histories = _some_histories(recommender, arguments)
    candidates = None if arguments.candidates is None else _ids(recommender, arguments.candidates)
    wanted = _expression(arguments.filter)
    sheet = []
    for name, history in histories.items():
        found = recommender.recommend(
            history,
            arguments.k,
            candidates=candidates,
            filter=wanted,
            query=query,
            query_weight=arguments.query_weight,
        )
        # All of a history is read and hidden; what is shown of it is as long as the list.
        known = [item_id for item_id in history if item_id in recommender.catalog][-max(arguments.k, 1) :]
        print(f"\n{name}")
        for title, item_id in zip(recommender.catalog.titles(recommender.catalog.rows(known)), known, strict=True):
            print(f"    took  {item_id}  {title or ''}")
        _print(found, "    ")
        sheet += [
            (f"{name}: history", known),
            (f"{name}: recommended", [one.item_id for one in found]),
        ]
    _draw(recommender, sheet, arguments.sheet)


def _some_histories(recommender: Any, arguments: argparse.Namespace) -> dict[str, list[Any]]:
    if arguments.history is not None:
        return {"history": _ids(recommender, arguments.history)}
    if not arguments.interactions:
        raise ValueError("`--sample-users` needs `--interactions`, the log to draw users from.")
    events = load_interactions(arguments.interactions, duplicates="first", user_core=5)
    events = events.filter(events["weight"] > 0)
    users = events["user_id"].unique(maintain_order=True)
    if not 1 <= arguments.sample_users <= len(users):
        raise ValueError(
            f"`--sample-users` must be at least 1 and at most the number of users with 5 events ({len(users)}), "
            f"got {arguments.sample_users}."
        )
    drawn = np.random.default_rng(arguments.seed).choice(len(users), arguments.sample_users, replace=False)
    return {
        f"user {user}": events.filter(events["user_id"] == user)["item_id"].to_list() for user in users.gather(drawn)
    }


def similar(arguments: argparse.Namespace) -> None:
    """Items whose content is alike."""
    recommender = Recommender.from_pretrained(arguments.model, images=arguments.images, revision=arguments.revision)
    item_id = _typed(recommender, [arguments.item])[0]
    found = recommender.similar_items(item_id, arguments.k)
    _print(found)
    _draw(recommender, [(f"like {item_id}", [item_id, *(one.item_id for one in found)])], arguments.sheet)


def search(arguments: argparse.Namespace) -> None:
    """Items that a text or a picture means."""
    recommender = Recommender.from_pretrained(arguments.model, images=arguments.images, revision=arguments.revision)
    candidates = None if arguments.candidates is None else _ids(recommender, arguments.candidates)
    wanted = _expression(arguments.filter)
    found = recommender.search(arguments.text, arguments.image, arguments.k, candidates=candidates, filter=wanted)
    _print(found)
    ids = [one.item_id for one in found]
    if arguments.text is not None:
        _draw(recommender, [(f"“{arguments.text}”", ids)], arguments.sheet)
    else:
        _draw(
            recommender, [(f"like {Path(arguments.image).name}", [open_query(arguments.image), *ids])], arguments.sheet
        )


def _print(found: Sequence[Recommendation], indent: str = "") -> None:
    for rank, item in enumerate(found, start=1):
        print(f"{indent}{rank:>3}.  {item.item_id}  {item.title or ''}  ({item.score:.3f})")


def _expression(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        raise ValueError(
            f"`--filter` must be a condition such as \"category = 'lamp'\", got {text!r}: {error}"
        ) from error


def _ids(recommender: Any, text: str) -> list[Any]:
    return _typed(recommender, [one for one in text.split(",") if one])


def _typed(recommender: Any, ids: list[str]) -> list[Any]:
    """`ids` as the catalogue has them: integers where its ids are integers."""
    numeric = recommender.catalog.frame["item_id"].dtype.is_integer()
    return [int(one) if numeric and one.lstrip("-").isdigit() else one for one in ids]


def _draw(recommender: Any, lines: list[Any], path: str | None) -> None:
    if path:
        print(f"\n{draw_sheet(recommender.catalog, lines, path)}")
