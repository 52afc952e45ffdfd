"""The import rule, read from the source: a room imports from lower floors only, and heavy libraries late."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FLOORS = {
    "losses": 0,
    "model_card": 0,
    "registration": 0,
    "data": 1,
    "items": 2,
    "models": 3,
    "evaluation": 4,
    "training": 5,
    "recommend": 5,
    "simulation": 6,
    "serving": 7,
    "cli": 8,
    "__main__": 9,
}

# Imported where they are used: they cost seconds (sentence-transformers, datasets) or live in an extra.
# fmt: off
LATE_EVERYWHERE = frozenset({
    "captum", "datasets", "fairlearn", "faiss", "fastapi", "flwr", "gradio", "implicit",
    "ir_measures", "onnx", "onnxruntime", "onnxscript", "opacus", "optuna", "pandas", "pyversity",
    "qdrant_client", "ray", "redis", "sentence_transformers", "torchao", "torchvision",
    "trackio", "uvicorn",
})
# fmt: on
# One room is built on them; every other room imports them late.
LATE_EXCEPT_IN = {
    "peft": "training",
    "transformers.Trainer": "training",
    "transformers.TrainingArguments": "training",
    "transformers.trainer": "training",
    "transformers.training_args": "training",
}
# Tables are read, and a command line answers, without torch.
WITHOUT_TORCH = frozenset({"accelerate", "hfrec.losses", "peft", "torch", "transformers"})
LATE_IN = {"data": WITHOUT_TORCH, "cli": WITHOUT_TORCH, "": WITHOUT_TORCH}


@dataclass(frozen=True)
class Import:
    """One imported name, absolute (`hfrec.data.schema.USER_ID`), and whether importing the file runs it."""

    target: str
    line: int
    at_top: bool

    def is_of(self, name: str) -> bool:
        return self.target == name or self.target.startswith(name + ".")


def _absolute(module: str, level: int, package: tuple[str, ...]) -> str:
    """`..losses`, said in the package `hfrec.data`, is `hfrec.losses`."""
    if level == 0:
        return module
    return ".".join([*package[: len(package) - level + 1], *([module] if module else [])])


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def imports_of(tree: ast.AST, package: tuple[str, ...], at_top: bool = True) -> Iterator[Import]:
    """Every import below `tree`, those inside functions and `import_module("...")` too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node.module or "", node.level, package)
            yield from (Import(f"{module}.{alias.name}", node.lineno, at_top) for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports_of(node, package, at_top=False)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            for part in node.body:
                yield from imports_of(ast.Module([part], []), package, at_top=False)
            for part in node.orelse:
                yield from imports_of(ast.Module([part], []), package, at_top)
        else:
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {
                "__import__",
                "import_module",
            }:
                name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
                if isinstance(name, str):
                    level = len(name) - len(name.lstrip("."))
                    yield Import(_absolute(name.lstrip("."), level, package), node.lineno, at_top)
            yield from imports_of(node, package, at_top)


def _floor_violation(found: Import, room: str) -> str | None:
    """What is wrong with an import of hfrec by hfrec, or nothing."""
    if not found.is_of("hfrec"):
        return None
    parts = found.target.split(".")
    other = parts[1] if len(parts) > 1 else ""
    if other.startswith("__") and other not in FLOORS:  # __version__
        return None
    if other not in FLOORS:
        return f"imports `{found.target}` from the top of the house; import it from its room"
    if other == room:
        return None
    if FLOORS[other] >= FLOORS[room]:
        floors = f"{room} is floor {FLOORS[room]}, {other} is floor {FLOORS[other]}"
        return f"imports `{found.target}`; lower floors only: {floors}"
    if room == "cli" and found.at_top:
        return f"cli imports `{found.target}` outside a function"
    return None


def _late_violation(found: Import, room: str) -> str | None:
    """A heavy library that importing the file would load."""
    if not found.at_top:
        return None
    late = LATE_EVERYWHERE | LATE_IN.get(room, frozenset())
    late |= {name for name, home in LATE_EXCEPT_IN.items() if home != room}
    for name in sorted(late):
        if found.is_of(name):
            return f"`{found.target}` is imported at the top; import it inside the function that needs it"
    return None


def house_violations(root: Path) -> list[str]:
    """Every breach of the import rule in `root/hfrec`, as `path:line: what`."""
    violations = []
    for path in sorted((root / "hfrec").rglob("*.py")):
        name = path.relative_to(root)
        room = "" if name == Path("hfrec/__init__.py") else name.parts[1].removesuffix(".py")
        if room and room not in FLOORS:
            violations.append(f"{name}:1: `{room}` has no floor; give it one in FLOORS and in CONTRIBUTING.md")
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(name))
        for found in imports_of(tree, package=name.parent.parts):
            # The front door hands out names of every room; it only has to stay light.
            wrong = (room and _floor_violation(found, room)) or _late_violation(found, room)
            if wrong:
                violations.append(f"{name}:{found.line}: {wrong}")
    return violations


def script_violations(root: Path, public: frozenset[str]) -> list[str]:
    """Every use of a name of hfrec in `root/train` that a reader of the README could not know."""
    allowed = public | {"cli", "__version__"}
    violations = []
    for path in sorted((root / "train").glob("*.py")):
        name = path.relative_to(root)
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(name))
        for found in imports_of(tree, package=("train",)):
            parts = found.target.split(".")
            is_public = len(parts) == 1 or parts[1] == "cli" or (len(parts) == 2 and parts[1] in allowed)
            if parts[0] == "hfrec" and not is_public:
                violations.append(f"{name}:{found.line}: `{found.target}` is no public name of hfrec")
        aliases = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "hfrec"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used = f"{node.value.id}.{node.attr}"
                if node.value.id in aliases and node.attr not in allowed:
                    violations.append(f"{name}:{node.lineno}: `{used}` is no public name of hfrec")
    return violations


def test_rooms_import_from_lower_floors_and_heavy_libraries_late() -> None:
    assert list((ROOT / "hfrec").rglob("*.py")), "nothing was read"
    assert house_violations(ROOT) == []


def test_train_scripts_use_public_names_only() -> None:
    import hfrec

    assert list((ROOT / "train").glob("*.py")), "nothing was read"
    assert script_violations(ROOT, frozenset(hfrec.__all__)) == []


def _write(root: Path, path: str, source: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(source, encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("hfrec/__init__.py", "def __getattr__(name):\n    from hfrec.serving import server\n"),
        (
            "hfrec/data/catalog.py",
            "from .schema import A\nfrom hfrec.data import schema\nimport hfrec.data.schema\n",
        ),
        (
            "hfrec/models/modeling.py",
            "import torch\nfrom hfrec import losses\nfrom ..data.catalog import Catalog\n",
        ),
        ("hfrec/model_card.py", "from hfrec import __version__\n"),
        (
            "hfrec/items/encoder.py",
            "def encode():\n    from sentence_transformers import SentenceTransformer\n",
        ),
        (
            "hfrec/data/read.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch, pandas\n",
        ),
        ("hfrec/training/trainer.py", "from transformers import Trainer\nimport peft\n"),
        ("hfrec/cli.py", "import argparse\ndef main():\n    from hfrec.recommend import Recommender\n"),
        ("hfrec/__main__.py", "from hfrec.cli import main\n"),
    ],
)
def test_checker_is_silent_about_a_good_file(tmp_path: Path, path: str, source: str) -> None:
    _write(tmp_path, path, source)
    assert house_violations(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "source", "line", "named"),
    [
        ("hfrec/data/catalog.py", "from hfrec.items import ItemTable", 1, "hfrec.items.ItemTable"),
        ("hfrec/data/catalog.py", "import os\nfrom ..models import x", 2, "hfrec.models.x"),
        ("hfrec/data/__init__.py", "from ..items.table import ItemTable", 1, "hfrec.items.table.ItemTable"),
        ("hfrec/models/hybrid.py", "def f():\n    from .. import training", 2, "hfrec.training"),
        (
            "hfrec/models/hybrid.py",
            "async def f():\n    import hfrec.recommend.explore",
            2,
            "hfrec.recommend",
        ),
        ("hfrec/losses.py", "from hfrec.model_card import x", 1, "hfrec.model_card.x"),
        ("hfrec/training/trainer.py", "from hfrec.recommend import x", 1, "hfrec.recommend.x"),
        ("hfrec/recommend/recommender.py", "from ..training import x", 1, "hfrec.training.x"),
        (
            "hfrec/items/table.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..models import x",
            3,
            "x",
        ),
        (
            "hfrec/items/table.py",
            "from importlib import import_module\nimport_module('hfrec.models')",
            2,
            "models",
        ),
        (
            "hfrec/items/table.py",
            "import importlib\nx = importlib.import_module('..models', __package__)",
            2,
            "hfrec.models",
        ),
        ("hfrec/items/table.py", "import hfrec", 1, "hfrec"),
        ("hfrec/items/table.py", "from hfrec import Catalog", 1, "hfrec.Catalog"),
        ("hfrec/cli.py", "from hfrec.data import Catalog", 1, "outside a function"),
        ("hfrec/data/cli_twin.py", "def f():\n    from hfrec.cli import main", 2, "hfrec.cli.main"),
        ("hfrec/helpers/strings.py", "", 1, "helpers"),
        (
            "hfrec/items/encoder.py",
            "try:\n    import sentence_transformers\nexcept ImportError:\n    pass",
            2,
            "sentence",
        ),
        ("hfrec/items/index.py", "class A:\n    import faiss", 2, "faiss"),
        ("hfrec/models/modeling.py", "from transformers import Trainer", 1, "transformers.Trainer"),
        (
            "hfrec/models/modeling.py",
            "from transformers.trainer import Trainer",
            1,
            "transformers.trainer.Trainer",
        ),
        ("hfrec/data/catalog.py", "import torch.nn", 1, "torch.nn"),
        ("hfrec/data/collator.py", "from hfrec.losses import SampledSoftmax", 1, "hfrec.losses"),
        ("hfrec/__init__.py", "from transformers import AutoConfig", 1, "transformers.AutoConfig"),
    ],
)
def test_checker_catches_a_breach(tmp_path: Path, path: str, source: str, line: int, named: str) -> None:
    _write(tmp_path, path, source)
    (violation,) = house_violations(tmp_path)
    assert violation.startswith(f"{path}:{line}: ")
    assert named in violation


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "import hfrec\nfrom hfrec import RecModel\nfrom hfrec.cli import main\nhfrec.RecModel\n",
            None,
        ),
        ("from hfrec.models.modeling import RecModel", 1),
        ("from hfrec import data", 1),
        ("def main():\n    import hfrec.data", 2),
        ("import hfrec as h\nh.RecModel\nh.models.artifact", 3),
    ],
)
def test_checker_holds_scripts_to_public_names(tmp_path: Path, source: str, line: int | None) -> None:
    _write(tmp_path, "train/train.py", source)
    violations = script_violations(tmp_path, frozenset({"RecModel"}))
    assert [violation.split(": ")[0] for violation in violations] == ([f"train/train.py:{line}"] if line else [])
