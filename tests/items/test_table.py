from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.table import ItemTable

FINGERPRINT = {"text": {"encoder": "t"}, "image": {"encoder": "i"}}


def catalog_of(*names: str) -> Catalog:
    return Catalog.from_frame(pl.DataFrame({"item_id": list(names), "title": [f"title {name}" for name in names]}))


def arrays(num_items: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    vectors = {
        "text": torch.randn(num_items + 1, 6, generator=generator).half() + 3,
        "image": torch.randn(num_items + 1, 4, generator=generator).half(),
    }
    present = {name: torch.ones(num_items + 1, dtype=torch.bool) for name in vectors}
    for mask in present.values():
        mask[0] = False
    present["image"][2:3] = False
    return vectors, present


@pytest.fixture
def table() -> ItemTable:
    return ItemTable.from_arrays(catalog_of(*"abcde"), *arrays(5), FINGERPRINT)


def test_center_and_whitening_are_of_the_items_present(table: ItemTable) -> None:
    vectors, present = arrays(5)
    for name in table.modalities:
        kept = vectors[name][present[name]].double()
        centred = kept - kept.mean(0)
        assert torch.allclose(table.center[name].double(), kept.mean(0), atol=1e-6)
        whitened = (centred @ table.whitening[name].double()).half()
        assert torch.allclose(table.vectors[name][present[name]].double(), whitened.double(), atol=2e-3)
    gathered, mask = table.gather(torch.tensor([1, 3, 4, 5]))["image"]
    assert mask.all()
    assert gathered.dtype == torch.float32
    assert torch.allclose(gathered.mean(0), torch.zeros(4), atol=1e-3)
    assert float(gathered.square().sum(1).mean()) == pytest.approx(1.0, abs=1e-3)


def test_whitened_vectors_are_alike_in_every_direction_that_says_something() -> None:
    """A direction that all vectors share, and a hundredth of its length all others: cosines see the others then."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(201, 8)).astype(np.float32)
    vectors[:, 0] *= 100
    present = np.arange(201) > 0
    catalog = catalog_of(*(f"i{number}" for number in range(200)))
    table = ItemTable.from_arrays(catalog, {"text": vectors}, {"text": present}, {})
    spread = table.vectors["text"][1:].std(0)
    assert float(spread.max() / spread.min()) < 40 < 100
    noise = vectors * np.where(np.arange(8) < 7, 1, 1e-6).astype(np.float32)
    table = ItemTable.from_arrays(catalog, {"text": noise}, {"text": present}, {})
    assert float(table.vectors["text"][1:, 7].std()) < 1e-4, "what is but noise is not blown up"


def test_gather_is_zero_where_missing_and_keeps_the_shape(table: ItemTable) -> None:
    gathered = table.gather(torch.tensor([[0, 1, 2], [5, 2, 0]]))
    text, has_text = gathered["text"]
    image, has_image = gathered["image"]
    assert text.shape == (2, 3, 6)
    assert image.shape == (2, 3, 4)
    assert has_text.tolist() == [[False, True, True], [True, True, False]]
    assert has_image.tolist() == [[False, True, False], [True, False, False]]
    assert not image[~has_image].any()
    assert not text[~has_text].any()
    assert text[has_text].abs().sum(1).min() > 0
    assert table.gather(np.array([], dtype=np.int64))["text"][0].shape == (0, 6)


def test_gather_refuses_rows_that_are_not_there(table: ItemTable) -> None:
    for rows in ([-1], [6]):
        with pytest.raises(IndexError, match="0 … 5"):
            table.gather(torch.tensor(rows))


def test_what_it_says_of_itself(table: ItemTable) -> None:
    assert table.sizes == {"text": 6, "image": 4}
    assert table.coverage == pytest.approx({"text": 1.0, "image": 0.8})
    assert "5 items" in repr(table)
    assert "image: 4 wide, 80.0%" in repr(table)
    assert not isinstance(table, torch.nn.Module)
    assert table.vectors["text"].dtype == torch.float16


def test_pinned_on_a_device_it_gathers_the_same(table: ItemTable) -> None:
    rows = torch.tensor([0, 2, 5])
    pinned = table.pin("cpu").gather(rows, device="cpu")
    for name, (values, mask) in table.gather(rows).items():
        assert torch.equal(pinned[name][0], values)
        assert torch.equal(pinned[name][1], mask)
    assert table.pin("meta").gather(rows, device="meta")["text"][0].device.type == "meta"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_vector_that_is_not_finite_names_its_item(value: float) -> None:
    vectors, present = arrays(5)
    vectors["image"][4, 1] = value
    with pytest.raises(DataError, match="image vector of the item 'd'"):
        ItemTable.from_arrays(catalog_of(*"abcde"), vectors, present, FINGERPRINT)
    present["image"][4] = False
    masked = ItemTable.from_arrays(catalog_of(*"abcde"), vectors, present, FINGERPRINT)
    assert not masked.vectors["image"][4].any()


def test_other_shapes_and_dtypes_are_refused() -> None:
    catalog = catalog_of(*"abcde")
    vectors, present = arrays(5)
    for change, match in [
        ({"text": vectors["text"][:-1]}, r"\(6, F\), got \(5, 6\)"),
        ({"text": vectors["text"].double()}, "float16 or float32"),
        ({"text": vectors["text"][:, 0]}, r"\(6, F\)"),
    ]:
        with pytest.raises(DataError, match=match):
            ItemTable.from_arrays(catalog, {**vectors, **change}, present, FINGERPRINT)
    for change, match in [
        ({"text": present["text"].long()}, "bool"),
        ({"text": torch.ones(6, dtype=torch.bool)}, "padding"),
        ({"text": torch.zeros(6, dtype=torch.bool)}, "At least one item"),
    ]:
        with pytest.raises(DataError, match=match):
            ItemTable.from_arrays(catalog, vectors, {**present, **change}, FINGERPRINT)
    with pytest.raises(DataError, match="equal modalities"):
        ItemTable.from_arrays(catalog, vectors, {"text": present["text"]}, FINGERPRINT)
    with pytest.raises(DataError, match="at least one modality"):
        ItemTable.from_arrays(catalog, {}, {}, FINGERPRINT)


def test_one_item_is_a_table() -> None:
    vectors, present = arrays(1)
    table = ItemTable.from_arrays(catalog_of("a"), {"text": vectors["text"]}, {"text": present["text"]}, {})
    assert torch.isfinite(table.gather(torch.tensor([1]))["text"][0]).all()


def test_append_adds_rows_and_keeps_the_centre(table: ItemTable) -> None:
    grown_catalog = table.catalog.with_items(pl.DataFrame({"item_id": ["f", "g"], "title": ["new", "newer"]}))
    new = np.full((2, 6), 100.0, dtype=np.float32)
    grown = table.append(grown_catalog, {"text": new}, {"text": np.array([True, False])})
    assert len(grown) == 7
    assert len(table) == 5
    assert torch.equal(grown.center["text"], table.center["text"])
    assert torch.equal(grown.whitening["text"], table.whitening["text"])
    old_rows = torch.arange(6)
    for name, (values, mask) in table.gather(old_rows).items():
        assert torch.equal(grown.gather(old_rows)[name][0], values)
        assert torch.equal(grown.gather(old_rows)[name][1], mask)
    text, has_text = grown.gather(torch.tensor([6, 7]))["text"]
    assert has_text.tolist() == [True, False]
    expected = (100.0 - table.center["text"]) @ table.whitening["text"]
    assert torch.allclose(text[0], expected, rtol=2e-3, atol=0.05)
    assert grown.gather(torch.tensor([6, 7]))["image"][1].tolist() == [False, False]


def test_append_refuses_what_does_not_fit(table: ItemTable) -> None:
    grown = table.catalog.with_items(pl.DataFrame({"item_id": ["f"], "title": ["new"]}))
    mask = {"text": np.array([True])}
    with pytest.raises(DataError, match="6 wide, got 5"):
        table.append(grown, {"text": np.zeros((1, 5), np.float16)}, mask)
    with pytest.raises(DataError, match="item 'f'"):
        table.append(grown, {"text": np.full((1, 6), np.nan, np.float32)}, mask)
    with pytest.raises(DataError, match="finite"):
        table.append(grown, {"text": np.full((1, 6), 1e6, np.float32)}, mask)
    with pytest.raises(DataError, match="need masks"):
        table.append(grown, {"text": np.zeros((1, 6), np.float16)}, {})
    with pytest.raises(DataError, match="mask alone"):
        table.append(grown, {}, mask)
    with pytest.raises(DataError, match="new ones after them"):
        table.append(catalog_of(*"abcdXf"), {}, {})


def test_a_modality_that_the_table_does_not_hold_is_ignored_and_logged(
    table: ItemTable, caplog: pytest.LogCaptureFixture
) -> None:
    grown = table.catalog.with_items(pl.DataFrame({"item_id": ["f"], "title": ["new"]}))
    new = {"audio": np.zeros((1, 5), np.float16)}
    assert table.append(grown, new, {"audio": np.array([True])}).modalities == ("text", "image")
    assert "audio vectors are ignored" in caplog.text


def test_a_table_of_ids_alone(tmp_path: Path) -> None:
    table = ItemTable.of_ids(catalog_of("a", "b"))
    assert table.gather(torch.tensor([1, 2])) == {}
    assert "ids alone" in repr(table)
    table.save(tmp_path)
    assert ItemTable.load(tmp_path, table.catalog).modalities == ()
    grown = table.catalog.with_items(pl.DataFrame({"item_id": ["c"], "title": ["new"]}))
    assert len(table.append(grown, {}, {})) == 3


def test_update_replaces_rows(table: ItemTable) -> None:
    new = torch.ones(1, 4)
    changed = table.update(table.catalog, [2], {"image": new}, {"image": torch.tensor([True])})
    assert changed.present["image"][2]
    assert not table.present["image"][2]
    expected = (1 - table.center["image"]) @ table.whitening["image"]
    assert torch.allclose(changed.vectors["image"][2].float(), expected, atol=5e-3)
    assert torch.equal(changed.vectors["text"], table.vectors["text"])
    assert torch.equal(changed.center["image"], table.center["image"])
    gone = table.update(table.catalog, [1], {}, {"image": torch.tensor([False])})
    assert not gone.present["image"][1]
    assert not gone.vectors["image"][1].any()
    assert gone.present["text"][1]
    with pytest.raises(DataError, match="1 … 5"):
        table.update(table.catalog, [0], {"image": new}, {"image": torch.tensor([True])})


def test_saved_and_loaded_it_gathers_the_same(table: ItemTable, tmp_path: Path) -> None:
    table.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fingerprint.json",
        "image.safetensors",
        "text.safetensors",
    ]
    loaded = ItemTable.load(tmp_path, catalog_of(*"abcde"), FINGERPRINT)
    rows = torch.arange(6)
    for name, (values, mask) in table.gather(rows).items():
        assert torch.equal(loaded.gather(rows)[name][0], values)
        assert torch.equal(loaded.gather(rows)[name][1], mask)
    assert loaded.fingerprint == FINGERPRINT
    loaded.save(tmp_path)  # over the very file that is mapped
    assert torch.equal(ItemTable.load(tmp_path, loaded.catalog).vectors["text"], table.vectors["text"])


def test_loaded_vectors_stay_on_disk(tmp_path: Path) -> None:
    num_items, size = 60_000, 512
    vectors = torch.ones(num_items + 1, size, dtype=torch.float16)
    vectors[1::2] = 2
    present = torch.ones(num_items + 1, dtype=torch.bool)
    present[0] = False
    catalog = Catalog.from_frame(pl.DataFrame({"item_id": list(range(num_items)), "title": ["a"] * num_items}))
    catalog.frame.write_parquet(tmp_path / "items.parquet")
    ItemTable.from_arrays(catalog, {"text": vectors}, {"text": present}, {}).save(tmp_path)
    script = (
        "import resource, sys, torch\n"
        "from hfrec.data.catalog import Catalog\n"
        "from hfrec.items.table import ItemTable\n"
        "catalog = Catalog.from_file(sys.argv[1] + '/items.parquet')\n"
        "catalog.item_ids\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "table = ItemTable.load(sys.argv[1], catalog)\n"
        "table.gather(torch.tensor([5, 50_000]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < vectors.nbytes / 2


def test_another_encoder_is_refused(table: ItemTable, tmp_path: Path) -> None:
    table.save(tmp_path)
    with pytest.raises(DataError, match=r"another encoder: \['image'\]"):
        ItemTable.load(tmp_path, table.catalog, {**FINGERPRINT, "image": {"encoder": "other"}})


def test_another_catalogue_is_refused(table: ItemTable, tmp_path: Path) -> None:
    table.save(tmp_path)
    for names in ("abcd", "abced", "abcdx"):
        with pytest.raises(DataError, match="in this order"):
            ItemTable.load(tmp_path, catalog_of(*names))


def test_damaged_folders_are_refused_by_name(table: ItemTable, tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(DataError, match=match):
            ItemTable.load(tmp_path, table.catalog)

    refused(r"lacks fingerprint\.json")
    table.save(tmp_path)
    text = tmp_path / "text.safetensors"
    whole = text.read_bytes()
    text.write_bytes(whole[:-5])
    refused(r"text\.safetensors cannot be read")
    text.unlink()
    refused(r"lacks the file .*text\.safetensors")
    text.write_bytes(whole)

    tensors = load_file(text)
    save_file({**tensors, "vectors": tensors["vectors"][:-1].clone()}, text)
    refused(r"`vectors` in .*text\.safetensors must be \[6, 6\]")
    save_file({**tensors, "vectors": tensors["vectors"].long()}, text)
    refused("F16 or F32")
    save_file({**tensors, "center": tensors["center"][:-1].clone()}, text)
    refused("`center`")
    save_file({**tensors, "center": tensors["center"] + 1}, text)
    refused("two tables")
    save_file({**tensors, "whitening": tensors["whitening"] * torch.nan}, text)
    refused("finite")
    save_file({"vectors": tensors["vectors"]}, text)
    refused("must hold")
    text.write_bytes(whole)

    content = json.loads((tmp_path / "fingerprint.json").read_text())
    (tmp_path / "fingerprint.json").write_text(json.dumps({**content, "modalities": ["../text"]}))
    refused("plain name")
    (tmp_path / "fingerprint.json").write_text("{")
    refused(r"fingerprint\.json is not what")


def test_a_header_that_promises_too_much_allocates_nothing(table: ItemTable, tmp_path: Path) -> None:
    table.save(tmp_path)
    header = json.dumps({"vectors": {"dtype": "F16", "shape": [6, 10**12], "data_offsets": [0, 12 * 10**12]}}).encode()
    (tmp_path / "text.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"text\.safetensors"):
        ItemTable.load(tmp_path, table.catalog)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
