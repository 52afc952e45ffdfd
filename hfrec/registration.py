"""Registers hfrec with libraries that may be imported later, or never: none of them is imported for it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def when_imported(library: str, registering: str) -> None:
    """Import the module `registering` as soon as the module `library` is there: now, or right after its own import."""
    if library in sys.modules:
        importlib.import_module(registering)
    else:
        sys.meta_path.insert(0, _Watch(library, registering))


class _Watch(MetaPathFinder):
    """Finds one module by the finders after it, and adds what is to follow its import."""

    def __init__(self, library: str, registering: str) -> None:
        self.library, self.registering = library, registering

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.library:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Followed(spec.loader, self.registering)
        return spec


class _Followed(Loader):
    """A module's loader, and one import after it."""

    def __init__(self, loader: Any, registering: str) -> None:
        self.loader, self.registering = loader, registering

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module keeps its own loader: what reads its source must not find this one.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        importlib.import_module(self.registering)
