"""What a repository of the Hub is: commits of files, and the branches and tags that name them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any


class Refused(Exception):
    """An answer that is none: status, and the code and message by which the Hub's clients tell errors apart."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class File:
    """A file of a commit: its content, or the SHA-256 and size by which the large-file store has it."""

    content: bytes = b""
    sha256: str | None = None
    size: int = 0

    @property
    def git_hash(self) -> str:
        content = self.content
        if self.sha256 is not None:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
            content = pointer.encode()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        size = self.size if self.sha256 is not None else len(self.content)
        found = {"type": "file", "path": path, "oid": self.git_hash, "size": size}
        if self.sha256 is not None:
            found["lfs"] = {"oid": self.sha256, "size": size, "pointerSize": 130}
        return found


@dataclass(frozen=True)
class Commit:
    files: dict[str, File]
    title: str
    parent: str | None

    @property
    def id(self) -> str:
        tree = {path: file.git_hash for path, file in sorted(self.files.items())}
        return hashlib.sha1(json.dumps([tree, self.title, self.parent]).encode()).hexdigest()


class Repository:
    """Commits, and the branches and tags that name them; a new one has an empty commit on `main`."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.add("main", Commit({}, "initial commit", None))

    def add(self, branch: str, commit: Commit) -> str:
        self.commits[commit.id] = commit
        self.branches[branch] = commit.id
        return commit.id

    def resolve(self, revision: str) -> str:
        found = self.branches.get(revision) or self.tags.get(revision)
        found = found or (revision if revision in self.commits else None)
        if found is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def files(self, revision: str = "main") -> dict[str, File]:
        return self.commits[self.resolve(revision)].files


def entries(files: dict[str, File], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders of a tree, below `folder`."""
    found: dict[str, dict[str, Any]] = {}
    for path, file in sorted(files.items()):
        for parent in reversed(PurePosixPath(path).parents):
            if str(parent) != ".":
                oid = hashlib.sha1(str(parent).encode()).hexdigest()
                found[str(parent)] = {"type": "directory", "path": str(parent), "oid": oid, "size": 0}
        found[path] = file.entry(path)
    start = f"{folder}/" if folder else ""
    below = {path: entry for path, entry in found.items() if path.startswith(start) and path != folder}
    return [entry for path, entry in below.items() if recursive or "/" not in path[len(start) :]]
