"""Folders from strangers, broken and hostile: what is done to a good one, and what must be said of it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from hfrec.data.manifest import MANIFEST

Spoil = Callable[[Path], object]
WEIGHTS, CONFIG, ITEMS = "model.safetensors", "config.json", "catalog/items.parquet"
COUNTS, WORDS = "catalog/statistics.safetensors", "catalog/text_index.json"
PROJECTOR = "catalog/projector.safetensors"


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran-by-pickle",)


CODE = 'open("ran-by-import", "w").close()\nclass RecModel: pass\nclass RecConfig: pass\n'


def pickled() -> bytes:
    return pickle.dumps(Payload())


def write(name: str, content: str | bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def cut(name: str, kept: float = 0.6) -> Spoil:
    return lambda folder: os.truncate(folder / name, int((folder / name).stat().st_size * kept))


def settings(name: str, **values: Any) -> Spoil:
    """Change fields of a JSON file; `backbone__x` is a field of `backbone_config`."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        for key, value in values.items():
            section, _, field = key.rpartition("__")
            (content["backbone_config"] if section else content)[field] = value
        (folder / name).write_text(json.dumps(content), encoding="utf-8")

    return spoil


def arrays(name: str, **changes: Any) -> Spoil:
    """Change arrays of a safetensors file; a dot in a name is `__`."""

    def spoil(folder: Path) -> None:
        found = dict(load_file(folder / name))
        for key, change in changes.items():
            key = key.replace("__", ".")
            found[key] = np.ascontiguousarray(change(found.get(key)))
        save_file({key: value for key, value in found.items() if value.size or value.ndim}, folder / name)

    return spoil


def header(name: str, **claims: Any) -> Spoil:
    """Write a safetensors file that claims what it does not have."""

    def spoil(folder: Path) -> None:
        said = json.dumps({key: value for key, value in claims.items()}).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(said)) + said + bytes(64))

    return spoil


def link(name: str, target: str | Path) -> Spoil:
    def spoil(folder: Path) -> None:
        place = folder / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        place.symlink_to(target)

    return spoil


def link_outside(folder: Path) -> None:
    outside = folder.with_name("outside.json")
    shutil.copyfile(folder / CONFIG, outside)
    link(CONFIG, outside)(folder)


def link_room_outside(folder: Path) -> None:
    outside = folder.with_name("outside")
    shutil.copytree(folder / "catalog", outside)
    link("catalog", outside)(folder)


def items(change: Callable[[pl.DataFrame], pl.DataFrame], **metadata: str) -> Spoil:
    """Change the items' table."""

    def spoil(folder: Path) -> None:
        kept = pl.read_parquet_metadata(folder / ITEMS)
        kept = {"hfrec.text_columns": kept["hfrec.text_columns"]} | {
            f"hfrec.{key}": one for key, one in metadata.items()
        }
        change(pl.read_parquet(folder / ITEMS)).write_parquet(folder / ITEMS, metadata=kept)

    return spoil


def many_rows(num_rows: int) -> Spoil:
    """A table of a few kilobytes that unpacks to any size."""

    def spoil(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        one = pa.table({"item_id": pa.array(["x"] * 2**20).dictionary_encode(), "title": pa.nulls(2**20, pa.string())})
        schema = one.schema.with_metadata({"hfrec.text_columns": '["title"]'})
        with pq.ParquetWriter(folder / ITEMS, schema, compression="zstd") as writer:
            for _ in range(num_rows // 2**20):
                writer.write_table(one.cast(schema))

    return spoil


def one_long_text(folder: Path) -> None:
    items(lambda frame: frame.with_columns(description=pl.lit("word " * 4_000_000)))(folder)


def alike(folder: Path) -> None:
    """A hundred thousand items of one word: all pairs are as near as the nearest."""
    num = 100_000
    counts = np.ones(num + 1, np.float32)
    empty = {"transitions.indptr": np.zeros(num + 2, np.int64), "transitions.indices": np.zeros(0, np.int32)}
    nothing = {"transitions.data": np.zeros(0, np.float32)}
    save_file({"popularity": counts, **empty, **nothing}, folder / COUNTS)
    ones = {
        "data": np.ones(num, np.float32),
        "indices": np.zeros(num, np.int32),
        "idf": np.ones(1, np.float32),
        "axes": np.ones((1, 2), np.float32),
    }
    save_file(
        {**ones, "indptr": np.r_[0, np.arange(num + 1)].astype(np.int64)}, folder / "catalog/text_index.safetensors"
    )
    (folder / WORDS).write_text('{"words": ["same"], "pattern": "[a-z]+"}')
    frame = pl.DataFrame({"item_id": [str(number) for number in range(num)], "title": ["same"] * num})
    frame.write_parquet(folder / ITEMS, metadata={"hfrec.text_columns": '["title"]'})
    content = {"modalities": [], "encoders": {}, "whitening": {}, "items": "none"}
    (folder / "catalog/fingerprint.json").write_text(json.dumps(content))


def manifest(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Change the list of files itself."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        change(content)
        (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")

    return spoil


def index(change: Callable[[dict[str, str]], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors.index.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content["weight_map"])
        path.write_text(json.dumps(content), encoding="utf-8")

    return spoil


def first_shard(folder: Path) -> Path:
    return sorted(folder.glob("model-*.safetensors"))[0]


def adapter(**values: Any) -> Spoil:
    return settings("adapters/shop/adapter_config.json", **values)


@dataclass(frozen=True)
class Case:
    """What is done to a good folder, what must be said, and which folder it is.

    Attributes:
        sealed: the list of files is made anew: whoever did it could.
    """

    spoil: Spoil
    said: str
    folder: str = "model"
    sealed: bool = True


STRAY = "../../secret"
ENTRY = {"bytes": 1, "sha256": "0" * 64}
CASES = {
    # the list of files
    "no list": Case(lambda folder: (folder / MANIFEST).unlink(), "manifest.json is missing", sealed=False),
    "a list that is none": Case(write(MANIFEST, "[1, 2]"), "manifest.json must hold a JSON object", sealed=False),
    "a list cut short": Case(cut(MANIFEST), "manifest.json cannot be read", sealed=False),
    "a list nested without end": Case(write(MANIFEST, "[" * 10**6), "manifest.json cannot be read", sealed=False),
    "a list of a hundred megabytes": Case(write(MANIFEST, " " * 10**8), "at most .* bytes", sealed=False),
    "a path out of the folder": Case(
        manifest(lambda files: files.update({"../other.json": ENTRY})), "plain names, got '../other.json'", sealed=False
    ),
    "an absolute path": Case(
        manifest(lambda files: files.update({"/etc/passwd": ENTRY})), "plain names, got '/etc/passwd'", sealed=False
    ),
    "a file without a hash": Case(
        manifest(lambda files: files.update({CONFIG: {"bytes": -1}})), "`bytes` and `sha256` of 'conf", sealed=False
    ),
    "a file that was changed": Case(settings(CONFIG, dropout=0.3), "config.json .*changed", sealed=False),
    "a file that is missing": Case(
        lambda folder: (folder / WORDS).unlink(), "text_index.json is missing", sealed=False
    ),
    # what may be in a folder
    "a pickle in the list": Case(write("model.pkl", pickled()), "names 'model.pkl'. Nothing of the folder is loaded"),
    "a program in the list": Case(write("modeling_rec.py", CODE), "names 'modeling_rec.py'"),
    "an index that was stored": Case(write("catalog/items.faiss", b"IxFI"), "names 'catalog/items.faiss'"),
    "a pickle beside": Case(write("pytorch_model.bin", pickled()), "pytorch_model.bin is not part", sealed=False),
    "a program beside": Case(write("modeling_rec.py", CODE), "modeling_rec.py is not part", sealed=False),
    "an adapter of another model beside": Case(
        write("adapter_config.json", '{"base_model_name_or_path": "evil/base", "peft_type": "LORA"}'),
        "adapter_config.json is not part",
        sealed=False,
    ),
    "a link out of the folder": Case(link_outside, "config.json must be inside its folder, got a link"),
    "a room that is a link": Case(link_room_outside, "must be inside its folder, got a link", sealed=False),
    "a device": Case(link(ITEMS, "/dev/zero"), "items.parquet is no plain file", sealed=False),
    # the configuration
    "another library's model": Case(settings(CONFIG, model_type="bert"), "`model_type` .* got 'bert'"),
    "another class of ours": Case(settings(CONFIG, model_type="hfrec-als"), "config.json must hold settings of"),
    "code to be run": Case(
        settings(CONFIG, auto_map={"AutoModel": "modeling_rec.RecModel"}), "got 'auto_map'.*Nothing of the folder is"
    ),
    "code of the backbone": Case(
        settings(CONFIG, backbone__auto_map={"AutoModel": "evil/repo--modeling.Rec"}), "GPT2Config, got 'auto_map'"
    ),
    "a kernel from the Hub": Case(
        settings(CONFIG, _attn_implementation="evil/attention"), "RecConfig, got '_attn_implementation'"
    ),
    "a quantizer": Case(
        settings(CONFIG, quantization_config={"quant_method": "quanto"}), "RecConfig, got 'quantization_config'"
    ),
    "weights of another name": Case(settings(CONFIG, transformers_weights="x.bin"), "got 'transformers_weights'"),
    "a backbone that is none": Case(settings(CONFIG, backbone__model_type="evil"), "must name a decoder .* got 'evil'"),
    "a billion layers": Case(settings(CONFIG, backbone__n_layer=10**9), "`n_layer` .* at most the number of weights"),
    "a width of a trillion": Case(settings(CONFIG, hidden_size=10**12), "must be the backbone's"),
    "a trillion positions": Case(
        settings(CONFIG, backbone__n_positions=10**12, max_history=10**11), r"asks for `backbone.wpe.weight` .*0{12}"
    ),
    "a trillion ids": Case(settings(CONFIG, num_item_ids=10**12), "asks for `item_tower.ids.weight` of the shape"),
    "a type of no kind": Case(settings(CONFIG, dtype="system"), "describes no model that can be built"),
    "a table that is a number": Case(settings(CONFIG, modalities=7), "`modalities` .* must be a list or a table"),
    "encoders that are none": Case(settings(CONFIG, encoders=["evil/encoder"]), "`encoders` .* for each modality"),
    "a decoder that is to be fetched": Case(
        settings(CONFIG, backbone="evil/decoder", backbone_config=None), "`backbone_config` .* must name a decoder"
    ),
    "a quantizer of the backbone": Case(
        settings(CONFIG, backbone__quantization_config={"quant_method": "quanto"}), "got 'quantization_config'"
    ),
    "a prompt of words that are not there": Case(
        settings(CONFIG, prompt_ids=[0, 10**12], max_history=5), "rows of .* 1 words, got 2"
    ),
    "a prompt without end": Case(settings(CONFIG, prompt_ids=[0] * 10**6), "the prompt 1000000"),
    "a prompt that is none": Case(settings(CONFIG, prompt_ids="all"), "describes no model that can be built"),
    "a rank below nothing": Case(settings(CONFIG, lora_rank=-1), "`lora_rank` must be at least 0, got -1"),
    # weights
    "a pickle for safetensors": Case(write(WEIGHTS, pickled()), "model.safetensors cannot be read"),
    "a shape of a trillion": Case(
        header(WEIGHTS, start={"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}),
        "model.safetensors cannot be read",
    ),
    "a header without end": Case(write(WEIGHTS, struct.pack("<Q", 2**63) + b"{}"), "model.safetensors cannot be read"),
    "weights cut short": Case(cut(WEIGHTS), "model.safetensors cannot be read"),
    "a weight of another shape": Case(
        arrays(WEIGHTS, start=lambda _: np.zeros(7, np.float32)), r"asks for `start` of the shape \(32,\).* of \(7,\)"
    ),
    "a weight more": Case(arrays(WEIGHTS, more=lambda _: np.zeros(3, np.float32)), "asks for `more` of the shape None"),
    "a truncated shard": Case(lambda folder: cut(first_shard(folder).name)(folder), "cannot be read", "shards"),
    "a shard elsewhere": Case(
        index(lambda shards: shards.update(start="../outside.safetensors")), "names the shard '../outside", "shards"
    ),
    "a shard without its weight": Case(
        index(lambda shards: shards.update(nothing=next(iter(shards.values())))), "must hold `nothing`", "shards"
    ),
    # the processor
    "another processor": Case(
        settings("preprocessor_config.json", auto_map={"AutoProcessor": "evil.Processor"}), "got 'auto_map'"
    ),
    "ids of another model": Case(settings("preprocessor_config.json", item_ids=["a"]), "names 1 items, the id table"),
    "a history without end": Case(settings("preprocessor_config.json", max_history="all"), "`max_history` .*'all'"),
    # the catalogue
    "a pickle for a table": Case(write(ITEMS, pickled()), "items.parquet cannot be read"),
    "a table cut short": Case(cut(ITEMS), "items.parquet cannot be read"),
    "a billion rows in a few kilobytes": Case(many_rows(2**30), r"must have 120 rows, got 1,073,741,824"),
    "one text for all that is large together": Case(one_long_text, "items.parquet must unpack to at most"),
    "fewer items": Case(items(lambda frame: frame.head(100)), "must have 120 rows, got 100"),
    "an item twice": Case(items(lambda frame: frame.with_columns(item_id=pl.lit("a"))), "must be unique"),
    "text columns that are not there": Case(items(lambda frame: frame, text_columns='["nothing"]'), "column `nothing`"),
    "text columns that are none": Case(items(lambda frame: frame, text_columns="7"), "must be a list of names, got 7"),
    "languages that are none": Case(
        items(lambda frame: frame, language_columns='{"de": "title"}'), "language columns must be lists of names"
    ),
    "a language that nothing is written in": Case(
        items(lambda frame: frame.with_columns(none=pl.lit(None, pl.String)), language_columns='{"de": ["none"]}'),
        "of 'de' nothing is written",
    ),
    "a picture out of its folder": Case(
        items(lambda frame: frame.with_columns(image=pl.struct(bytes=pl.lit(None, pl.Binary), path=pl.lit(STRAY)))),
        r"120 paths of pictures in .*items.parquet lead out of their folder, such as '" + STRAY,
    ),
    "pictures of another hash": Case(
        lambda folder: pl.read_parquet(folder / "catalog/pictures.parquet")
        .with_columns(bytes=pl.lit(b"other"))
        .write_parquet(folder / "catalog/pictures.parquet"),
        "must be of that hash, and is not",
    ),
    "counts below nothing": Case(arrays(COUNTS, popularity=lambda counts: -counts), "must be at least 0"),
    "counts that are no numbers": Case(arrays(COUNTS, popularity=lambda counts: counts * np.nan), "must be finite"),
    "counts of more items": Case(arrays(COUNTS, popularity=lambda counts: np.r_[counts, 1.0]), "must have 121 rows"),
    "a count of no item": Case(
        arrays(COUNTS, transitions__indices=lambda rows: rows + 1000), "statistics.safetensors cannot be read"
    ),
    "counts in another order": Case(
        arrays(COUNTS, transitions__indptr=lambda starts: starts[::-1]), "statistics.safetensors cannot be read"
    ),
    "vectors of fewer items": Case(
        arrays("catalog/text.safetensors", vectors=lambda values: values[:9]), r"`vectors` in .* must be \[121, 384\]"
    ),
    "another centre": Case(
        arrays("catalog/text.safetensors", center=lambda values: values + 1), "not the one of .*fingerprint.json"
    ),
    "a modality out of the folder": Case(
        settings("catalog/fingerprint.json", modalities=["../../secret"]), "must be a plain name, got '../../secret'"
    ),
    "a pickle for a projector": Case(write(PROJECTOR, pickled()), "projector.safetensors cannot be read"),
    "a projector cut short": Case(cut(PROJECTOR), "projector.safetensors cannot be read"),
    "a projector of a trillion": Case(
        header(PROJECTOR, text__map={"dtype": "F32", "shape": [384, 10**12], "data_offsets": [0, 64]}),
        "projector.safetensors cannot be read",
    ),
    "a projector of other vectors": Case(
        arrays(PROJECTOR, text__whitening=lambda one: one[::-1]), "projector must be fitted to the vectors"
    ),
    "a projector of other widths": Case(
        arrays(PROJECTOR, text__map=lambda one: one[:-1]), r"`text.map` in .* must have the shape \(384, any\)"
    ),
    "a projector into two spaces": Case(
        arrays(PROJECTOR, text__map=lambda one: one[:, :-1]), "must lead into one space of 1 to 4096 float32"
    ),
    "a projector that is not finite": Case(arrays(PROJECTOR, text__map=lambda one: one * np.nan), "must be finite"),
    "a projector of one modality": Case(
        lambda folder: save_file(
            {name: one for name, one in load_file(folder / PROJECTOR).items() if name.startswith("text")},
            folder / PROJECTOR,
        ),
        r"must map two or more of the modalities .*, got \['text'\]",
    ),
    "a projector with more in it": Case(
        arrays(PROJECTOR, image__more=lambda _: np.ones(3)), "must hold a map and a hash for each modality"
    ),
    "languages without their vectors": Case(
        settings("catalog/fingerprint.json", variants={"text": {"names": ["de"], "drawn": [True]}}),
        "lacks the file .*text_variants.safetensors",
    ),
    "languages without names": Case(
        settings("catalog/fingerprint.json", variants={"text": {"names": [7], "drawn": [True]}}),
        "fingerprint.json is not what `ItemTable.save` writes",
    ),
    "a language out of the folder": Case(
        settings("catalog/fingerprint.json", variants={"../text": {"names": ["de"], "drawn": [True]}}),
        "fingerprint.json is not what `ItemTable.save` writes",
    ),
    "words of another index": Case(settings(WORDS, words=["one"]), "text index .* cannot be read"),
    "a pattern that is none": Case(settings(WORDS, pattern="("), "text index .* cannot be read"),
    "a hundred thousand items alike": Case(alike, "must belong to these 100000 items", "model"),
    # encoders and adapters
    "an encoder that the configuration does not name": Case(
        settings("item_encoder/encoder.json", encoders={"text": "evil/encoder"}),
        "names the text encoder 'evil/encoder', .*config.json names 'package:.*allow it: `from_pretrained",
    ),
    "an encoder of no kind": Case(settings("item_encoder/encoder.json", encoders={"x": "y"}), "encoder.json is not"),
    "an adapter from elsewhere": Case(
        settings(CONFIG, active_adapters=["evil/adapter"]), "names 'evil/adapter', not there", "adapted"
    ),
    "an adapter that imports a module": Case(
        adapter(megatron_config={"a": 1}, megatron_core="modeling_rec"), "it sets `megatron_co", "adapted"
    ),
    "an adapter of a billion ranks": Case(adapter(r=10**9), "must have the shape", "adapted"),
    "a pickled adapter": Case(
        write("adapters/shop/adapter_model.safetensors", pickled()), "adapter_model.* cannot be read", "adapted"
    ),
    # a baseline
    "a setting that it does not know": Case(settings(CONFIG, evil="x"), "settings of ItemKNN .* got 'evil'", "knn"),
    "a setting of no kind": Case(settings(CONFIG, decay=["x"]), r"settings of ItemKNN .* got 'decay': \['x'\]", "knn"),
    "neighbours beyond the end": Case(
        arrays("baseline.safetensors", neighbours=lambda rows: rows + 10**8),
        r"Neighbours must be rows in 0 … 120",
        "knn",
    ),
    "what was fitted cut short": Case(cut("baseline.safetensors"), "baseline.safetensors cannot be read", "knn"),
}  # fmt: skip
