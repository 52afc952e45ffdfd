"""The command line: each command is the thin face of the room that does the work."""

from __future__ import annotations

import argparse
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

COMMANDS = ("encode", "train", "evaluate", "recommend", "similar", "search", "align", "card", "push")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that `argv`, by default that of the process, names; `--debug` brings an error's traceback."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = [argument for argument in given if argument != "--debug"]
    with one_line_errors(debug=len(arguments) < len(given)):
        if arguments[:1] in (["train"], ["evaluate"]):
            _run_config(arguments[0], arguments[1:])
            return
        parsed = build_parser().parse_args(arguments)
        commands = {"encode": _encode, "align": _align, "card": _card, "push": _push}
        commands.get(parsed.command, _at_the_shell)(parsed)


@contextmanager
def one_line_errors(debug: bool = False) -> Iterator[None]:
    """What a user can mend is one line on stderr, an error with exit status 2; with `debug` it has its traceback.

    Anything else is a bug, and keeps its traceback.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"hfrec: warning: {message}", file=sys.stderr)
            yield
    except Exception as error:
        reason = _mendable(error)
        if debug or reason is None:
            raise
        print(f"hfrec: error: {' '.join(reason.split())}", file=sys.stderr)
        raise SystemExit(2) from None


_MENDABLE = (ValueError, OSError, FloatingPointError, argparse.ArgumentError)


def _mendable(error: Exception) -> str | None:
    """What a user did wrong, in words; `None` where it is us."""
    if type(error).__name__ == "StrictDataclassClassValidationError" and error.__cause__ is not None:
        # What a Hugging Face configuration wraps around the sentence of ours that says it all.
        return str(error.__cause__)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename2 or error.filename}: {error.strerror}"
    return str(error) if isinstance(error, _MENDABLE) else None


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands but those that read a run's YAML."""
    from hfrec import __version__

    parser = argparse.ArgumentParser(prog="hfrec", description="A recommender that you can from_pretrained.")
    parser.add_argument("--version", action="version", version=f"hfrec {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{" + ",".join(COMMANDS) + "}")

    encode = commands.add_parser("encode", help="read texts and pictures of a catalogue into vectors")
    encode.add_argument("--items", required=True)
    encode.add_argument("--out", required=True, help="folder for catalogue and vectors")
    encode.add_argument("--images", help="folder of <item_id>.jpg, or a column")
    encode.add_argument("--text-columns", nargs="+", metavar="COLUMN")
    encode.add_argument("--text-encoder")
    encode.add_argument("--image-encoder")
    encode.add_argument("--audio-encoder")
    encode.add_argument("--cache")

    commands.add_parser("train", help="a YAML becomes a trained folder: --config FILE [--data.x …]", add_help=False)
    commands.add_parser("evaluate", help="judge a folder: --model DIR --config FILE", add_help=False)

    recommend = commands.add_parser("recommend", help="lists for one user, for some of a log, or for a million")
    recommend.add_argument("--model", required=True, help="a folder or a Hub id")
    who = recommend.add_mutually_exclusive_group(required=True)
    who.add_argument("--history", help="item ids, oldest first: a,b,c")
    who.add_argument("--histories", help='JSON lines or Parquet of {"user_id", "item_ids"}')
    who.add_argument("--sample-users", type=int, help="so many users of --interactions")
    recommend.add_argument("--interactions")
    recommend.add_argument("--seed", type=int, default=0)
    recommend.add_argument(
        "--out", help="Parquet file for --histories, its folder is made: user_id, rank, item_id, score"
    )
    recommend.add_argument("--sheet", help="PNG of histories and lists as pictures")
    asked = recommend.add_mutually_exclusive_group()
    asked.add_argument("--query", help="words that steer the lists, in any language that the encoder reads")
    asked.add_argument("--query-image", help="the file of a picture that steers them")
    recommend.add_argument("--query-weight", type=float, default=1.0, help="of the query beside the history")
    recommend.add_argument(
        "--adapter",
        help='one of the adapters saved with the model, or the folder or Hub id of another; "" for the base alone',
    )

    recommend.add_argument("--language", help="read and name what is recommended in a further language: de")

    similar = commands.add_parser("similar", help="items whose content is alike")
    similar.add_argument("--model", required=True, help="a folder or a Hub id")
    similar.add_argument("--item", required=True)
    similar.add_argument("--sheet", help="PNG of the items as pictures")

    search = commands.add_parser("search", help="items that a text, in any language, or a picture means")
    search.add_argument("--model", required=True, help="a folder or a Hub id")
    wanted = search.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--text", help="words, in any language that the encoder reads")
    wanted.add_argument("--image", help="the file of a picture")
    search.add_argument("--sheet", help="PNG of the items as pictures")
    for command in (recommend, search):
        command.add_argument("--candidates", help="only these items: a,b,c")
        command.add_argument(
            "--filter", help="only such items, in SQL over the catalogue's columns: \"category = 'lamp'\""
        )
    for command in (recommend, similar, search):
        command.add_argument("--revision", help="of a Hub id: branch, tag or commit")
        command.add_argument("--k", type=int, default=10)
        command.add_argument("--images", help="folder in which the catalogue's picture paths start")

    align = commands.add_parser("align", help="let words find pictures: fit a projector, into the model's folder")
    align.add_argument("--model", required=True, help="a folder")
    align.add_argument("--seed", type=int, default=0)

    card = commands.add_parser("card", help="write README.md anew from results.json")
    card.add_argument("--model", help="the folder of a run")
    card.add_argument("--out", help="a file NAME.md elsewhere, with the figures and pictures beside it")
    card.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail if the card is not what would be written, or not what the Hub documents",
    )

    push = commands.add_parser("push", help="share a saved recommender, or a table, on the Hub")
    what = push.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="a saved recommender")
    what.add_argument("--table", help="items or interactions, as a data set: Parquet, CSV or JSON lines")
    push.add_argument("--repo", required=True, metavar="OWNER/NAME")
    push.add_argument(
        "--private", action="store_true", default=None, help="if it is made now; else as the account has it"
    )
    push.add_argument("--revision", help="the branch, made if need be; by default main")
    push.add_argument("--message", help="of the commit")
    push.add_argument("--images", help="of an items table: folder of <item_id>.jpg, or a column")
    return parser


def _imported(module: str, name: str) -> Callable[[], ArgumentParser]:
    """The function `name` of a room's `module`, which is imported when it is called."""

    def build() -> ArgumentParser:
        built: ArgumentParser = getattr(import_module(module), name)()
        return built

    build.__doc__ = f"What `{module}.{name}` builds."
    return build


build_run_parser = _imported("hfrec.training.run", "build_parser")
build_losses_parser = _imported("hfrec.training.compare", "build_losses_parser")
build_modalities_parser = _imported("hfrec.training.compare_modalities", "build_modalities_parser")
build_languages_parser = _imported("hfrec.training.compare_languages", "build_languages_parser")
build_update_parser = _imported("hfrec.training.update_run", "build_update_parser")
build_updates_parser = _imported("hfrec.training.compare_updates", "build_updates_parser")
build_benchmark_parser = _imported("hfrec.training.benchmark", "build_benchmark_parser")
build_adaptation_parser = _imported("hfrec.training.adapt", "build_adaptation_parser")
build_few_shot_parser = _imported("hfrec.training.few_shot", "build_few_shot_parser")
build_pretraining_parser = _imported("hfrec.training.pretrain", "build_pretraining_parser")
build_serving_parser = _imported("hfrec.serving.timing", "build_serving_parser")
build_search_parser = _imported("hfrec.training.search", "build_search_parser")


def build_shop_parser() -> ArgumentParser:
    """The parser of `train/make_shop.py`."""
    parser = _config_parser("make_shop.py", "Write the synthetic shop.")
    parser.add_argument("--num_users", type=int, default=2000)
    return parser


def build_clip_parser() -> ArgumentParser:
    """The parser of `train/pretrain_clip.py`."""
    parser = _config_parser("pretrain_clip.py", "Train a small CLIP on the captions of a synthetic shop.")
    parser.add_argument("--steps", type=int, default=400)
    return parser


def _config_parser(name: str, description: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=name, description=description, exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--output", type=str, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_items", type=int, default=600)
    return parser


def make_once(output: Path, settings: str, make: Callable[[Path], object]) -> None:
    """Let `make` fill the folder `output`, unless it was made with the same `settings` before; say which it was.

    What was made with other settings goes first; a folder that was not made here loses nothing.
    """
    made = output / "settings.txt"
    if made.exists():
        if made.read_text(encoding="utf-8") == settings:
            print(f"{output} is there already: {settings}")
            return
        shutil.rmtree(output)
    make(output)
    made.write_text(settings, encoding="utf-8")
    print(f"{settings}: written to {output}")


def _run_config(command: str, arguments: list[str]) -> None:
    if command == "train":
        from hfrec.training.run import run_training

        run_training(build_run_parser().parse_args(arguments))
        return
    # `--model DIR` is taken out first: to the parser of a run, `model` is a section.
    before = argparse.ArgumentParser(
        prog="hfrec evaluate",
        description="Judge a saved recommender on the test part of a run's data.",
        epilog="and --data.x VALUE, as for `hfrec train`",
        allow_abbrev=False,
    )
    before.add_argument("--model", required=True, help="the saved recommender to judge")
    before.add_argument("--config", required=True, help="the YAML whose `data` section names the data")
    found, rest = before.parse_known_args(arguments)

    from hfrec.evaluation.evaluator import format_table
    from hfrec.training.run import evaluate_folder

    config = build_run_parser().parse_args(["--config", found.config, *rest])
    print(format_table({found.model: evaluate_folder(config, found.model)}))


def _encode(arguments: argparse.Namespace) -> None:
    from hfrec.data.catalog import Catalog
    from hfrec.items.encoder import ItemEncoder
    from hfrec.models.artifact import save_catalog

    catalog = Catalog.from_file(arguments.items, images=arguments.images, text_columns=arguments.text_columns)
    names = {"text": arguments.text_encoder, "image": arguments.image_encoder, "audio": arguments.audio_encoder}
    encoder = ItemEncoder(**names, cache_dir=arguments.cache)
    items = encoder.encode(catalog)
    save_catalog(catalog, Path(arguments.out))
    items.save(arguments.out)
    print(encoder.report)
    print(f"{items} written to {arguments.out}")


def _at_the_shell(arguments: argparse.Namespace) -> None:
    from hfrec.recommend import shell

    {"recommend": shell.recommend, "similar": shell.similar, "search": shell.search}[arguments.command](arguments)


def _align(arguments: argparse.Namespace) -> None:
    from hfrec.training.aligning import align_folder

    print(align_folder(arguments.model, arguments.seed))


def _card(arguments: argparse.Namespace) -> None:
    from hfrec.training.card import check_card, write_card

    if arguments.check:
        print(check_card(arguments.out or arguments.model))
    elif arguments.model is None:
        raise ValueError("`hfrec card` needs `--model`, the folder of the run; only `--check` does with `--out` alone.")
    else:
        print(write_card(arguments.model, arguments.out))


def _push(arguments: argparse.Namespace) -> None:
    where = {"private": arguments.private, "revision": arguments.revision, "commit_message": arguments.message}
    if arguments.model is not None:
        from hfrec.data.repository import push_folder

        print(push_folder(arguments.model, arguments.repo, **where).commit_url)
        return
    from hfrec.data.catalog import Catalog
    from hfrec.data.read import read_table
    from hfrec.data.schema import ITEM_ID, USER_ID
    from hfrec.items.sharing import push_table

    table = read_table(arguments.table, "pushed")
    if ITEM_ID in table.columns and USER_ID not in table.columns:
        # With its pictures, which are files beside the table.
        table = Catalog.from_file(arguments.table, images=arguments.images)
    elif arguments.images is not None:
        raise ValueError(f"`--images` goes with an items table; {arguments.table} has the columns {table.columns}.")
    print(push_table(table, arguments.repo, **where).commit_url)
