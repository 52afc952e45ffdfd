"""What no file of the repository may hold, whoever writes it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Neither pattern matches its own source, so this file is read like any other.
LOCAL_PATH = re.compile(r"(?<![\w.~-])/(?:work|farm|opt|root|tmp|home|mnt|Users)/|\b[A-Z]:\\Users\\")
REGISTRY_HOST = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|anaconda\.org|deb\.debian\.org|download\.pytorch\.org)\b",
    re.IGNORECASE,
)
GRAB_BAGS = frozenset({"utils", "util", "common", "helpers", "helper", "base", "misc"})
PICKLERS = frozenset({"pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"})
MAX_LINES = {"hfrec": 400, "train": 120}


def repository_files() -> list[Path]:
    """The files that are in the repository, or would be with the next `git add .`."""
    listing = subprocess.run(
        [
            "git",
            "-c",
            f"safe.directory={ROOT}",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode != 0:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    return [ROOT / name for name in sorted(set(listing.stdout.split("\0"))) if name and (ROOT / name).is_file()]


def foreign_addresses(path: Path) -> Iterator[str]:
    """Lines of a text file that name one machine's path or a package registry."""
    content = path.read_bytes()
    if b"\0" in content[:8192]:
        return
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        for pattern in (LOCAL_PATH, REGISTRY_HOST):
            if found := pattern.search(line):
                yield f"{path.name}:{number}: names {found[0]!r}"


def _constant(call: ast.Call, keyword: str) -> object:
    """The constant that `call` is given for `keyword`; None without one."""
    values = [k.value.value for k in call.keywords if k.arg == keyword and isinstance(k.value, ast.Constant)]
    return values[0] if values else None


def unsafe_lines(source: str) -> list[str]:
    """What could run code from a loaded folder: pickles, remote code, `eval`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        wrong = ""
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            wrong = ", ".join(name for name in modules if name.split(".")[0] in PICKLERS)
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            if any(
                isinstance(key, ast.Constant)
                and key.value == "trust_remote_code"
                and not (isinstance(value, ast.Constant) and value.value is False)
                for key, value in pairs
            ):
                wrong = "trust_remote_code"
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in {"eval", "exec"}:
                wrong = name
            elif name == "torch.load" and _constant(node, "weights_only") is not True:
                wrong = "torch.load without weights_only=True"
            elif name in {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}:
                wrong = f"{name}; use yaml.safe_load"
            elif _constant(node, "allow_pickle") is True:
                wrong = "allow_pickle=True"
            elif any(k.arg == "trust_remote_code" for k in node.keywords) and (
                _constant(node, "trust_remote_code") is not False
            ):
                wrong = "trust_remote_code"
        if wrong:
            found.append(f"{node.lineno}: {wrong}")
    return found


def source_files(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert files, "nothing was read"
    return files


def test_no_file_names_a_local_path_or_a_registry() -> None:
    assert [line for path in repository_files() for line in foreign_addresses(path)] == []


def test_no_file_is_a_grab_bag() -> None:
    names = [path.relative_to(ROOT) for path in repository_files() if path.suffix == ".py"]
    assert [str(name) for name in names if GRAB_BAGS & {Path(part).stem for part in name.parts}] == []


@pytest.mark.parametrize("folder", MAX_LINES)
def test_files_are_the_size_of_a_thought(folder: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in source_files(folder)
    }
    assert {name: length for name, length in lengths.items() if length > MAX_LINES[folder]} == {}


def test_nothing_that_is_loaded_can_run() -> None:
    assert [
        f"{path.relative_to(ROOT)}:{line}"
        for path in source_files("hfrec", "train")
        for line in unsafe_lines(path.read_text(encoding="utf-8"))
    ] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=allowed)",
        "arguments = {'trust_remote_code': True}",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "eval(text)",
    ],
)
def test_unsafe_code_is_found(source: str) -> None:
    assert len(unsafe_lines(source)) == 1


def test_safe_code_is_left_alone() -> None:
    assert unsafe_lines("model.eval()\ntorch.load(p, weights_only=True)\nload(p, trust_remote_code=False)") == []


def test_foreign_addresses_are_found(tmp_path: Path) -> None:
    text = "\n".join(
        [
            "cd " + "/".join(["", "home", "me", "code"]),
            "see https://" + ".".join(["pypi", "org"]) + "/simple",
            "https://example.org" + "/".join(["", "home", "page"]),
            "#!/usr/bin/env bash",
        ]
    )
    (tmp_path / "notes.md").write_text(text, encoding="utf-8")
    assert [line.split(": ")[0] for line in foreign_addresses(tmp_path / "notes.md")] == [
        "notes.md:1",
        "notes.md:2",
    ]
    (tmp_path / "picture.png").write_bytes(b"\0" + text.encode())
    assert list(foreign_addresses(tmp_path / "picture.png")) == []
