"""The documents of a run: its card, and the pictures in it; written beside the model, or elsewhere, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hfrec.data.files import read_json
from hfrec.model_card import CURVE_FILE, SLICES_FILE, metadata_problems, render_card, render_foundation_card
from hfrec.models.artifact import write_documents
from hfrec.training.curve import draw_curve
from hfrec.training.slice_chart import draw_slices

CARD_FILE, RESULTS_FILE = "README.md", "results.json"


def card_documents(results: dict[str, Any], start: str = "") -> dict[str, str | bytes]:
    """The card and its pictures, by name.

    Args:
        results: what `results.json` holds.
        start: what the names of the pictures start with.
    """
    curve = {f"{start}{CURVE_FILE}": draw_curve(results["curve"])} if results.get("curve") else {}
    if "sources" in results:
        return {**curve, CARD_FILE: render_foundation_card(results, start)}
    return {f"{start}{SLICES_FILE}": draw_slices(results), **curve, CARD_FILE: render_card(results, start)}


def write_card(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the card of the run in `folder` anew from its `results.json`; returns where it is.

    Args:
        out: a file `<name>.md` elsewhere; the figures and the pictures are written beside it, their names starting
            with `<name>.`.

    Raises:
        ValueError: there are no results, or they are not what a run writes.
    """
    results = _results(Path(folder) / RESULTS_FILE)
    if out is None:
        write_documents(folder, _documents(results, Path(folder) / RESULTS_FILE))
        return Path(folder) / CARD_FILE
    out = Path(out)
    if out.suffix != ".md":
        raise ValueError(f"`--out` must be a file that ends in .md, got {str(out)!r}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    documents = _documents(results, Path(folder) / RESULTS_FILE, f"{out.stem}.")
    documents[out.name] = documents.pop(CARD_FILE)
    documents[_results_beside(out).name] = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    for name, content in documents.items():
        (out.parent / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return out


def check_card(card: str | Path) -> Path:
    """Look whether a card is what its results give, and its metadata what the Hub documents; returns where it is.

    Args:
        card: a run's folder, or a file that `write_card` wrote.

    Raises:
        ValueError: it is not; it says in what.
    """
    path = Path(card)
    start = "" if path.is_dir() else f"{path.stem}."
    figures = path / RESULTS_FILE if path.is_dir() else _results_beside(path)
    path = path / CARD_FILE if path.is_dir() else path
    expected = _documents(_results(figures), figures, start)[CARD_FILE]
    command = f"hfrec card --model RUN --out {path}" if start else f"hfrec card --model {path.parent}"
    if not path.exists() or path.read_text(encoding="utf-8") != expected:
        raise ValueError(f"{path} is not the card of {figures.name}. Write it: {command}")
    if problems := metadata_problems(str(expected)):
        raise ValueError(f"The metadata of {path} is not what the Hub documents: {' '.join(problems)}")
    return path


def _results_beside(card: Path) -> Path:
    return card.with_name(f"{card.stem}.{RESULTS_FILE}")


def _results(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"A card is made of what a run measured; {path} is missing. Write it: hfrec train …")
    return read_json(path)


def _documents(results: dict[str, Any], path: Path, start: str = "") -> dict[str, str | bytes]:
    try:
        return card_documents(results, start)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what a run writes: {type(error).__name__} {error}") from error
