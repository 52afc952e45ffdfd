from __future__ import annotations

import json
from math import log, sqrt

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

from hfrec.data.catalog import Catalog
from hfrec.data.schema import DataError
from hfrec.items.lexical import ASCII_WORDS, VECTORS_FILE, VOCABULARY_FILE, TextIndex

TEXTS = ["Red shoe, red SHOE red", None, "red boot", "", "a lamp"]


def dense(index: TextIndex) -> list[dict[str, float]]:
    """The entries that are not 0, by word, of every row."""
    words = sorted(index.vocabulary, key=index.vocabulary.__getitem__)
    return [{words[c]: row[c] for c in np.flatnonzero(row)} for row in index.vectors.toarray()]


def words_of(text: str, pattern: str | None = None) -> set[str]:
    return set((TextIndex.fit([text]) if pattern is None else TextIndex.fit([text], pattern)).vocabulary)


def test_tf_idf_by_hand():
    # n = 5; df: red 2, shoe 1, boot 1, a 1, lamp 1.
    common, rare = log(6 / 3), log(6 / 2)
    red, shoe = (1 + log(3)) * common, (1 + log(2)) * rare
    index = TextIndex.fit(TEXTS)
    padding, first, second, third, fourth, fifth = dense(index)
    assert padding == second == fourth == {}
    assert first == pytest.approx({"red": red / sqrt(red**2 + shoe**2), "shoe": shoe / sqrt(red**2 + shoe**2)})
    length = sqrt(common**2 + rare**2)
    assert third == pytest.approx({"red": common / length, "boot": rare / length})
    assert fifth == pytest.approx({"a": sqrt(0.5), "lamp": sqrt(0.5)})
    assert index.idf[index.vocabulary["red"]] == pytest.approx(common)
    assert index.vectors.shape == (6, 5) and index.vectors.dtype == np.float32
    assert repr(index) == "TextIndex(5 items, 5 words)"


def test_vectors_have_length_one_or_zero():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 40, size)) for size in rng.integers(0, 30, 50)]
    lengths = np.linalg.norm(TextIndex.fit(texts).vectors.toarray(), axis=1)
    expected = [0.0, *(1.0 if text else 0.0 for text in texts)]
    np.testing.assert_allclose(lengths, expected, atol=1e-6)


def test_a_word_of_every_text_weighs_nothing():
    vectors = TextIndex.fit(["red", "red boot"]).vectors.toarray()
    assert np.isfinite(vectors).all()
    assert dense(TextIndex.fit(["red", "red boot"]))[1:] == [{}, {"boot": pytest.approx(1.0)}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Красная обувь, ОБУВЬ!", {"красная", "обувь"}),
        ("Ёлка и чай", {"ёлка", "и", "чай"}),
        ("紅い靴", {"紅", "い", "靴"}),
        ("iPhone手机壳 15", {"iphone", "手", "机", "壳", "15"}),
        ("カメラbag", {"カ", "メ", "ラ", "bag"}),
        ("신발", {"신", "발"}),
        ("crème brûlée_2 x-y", {"crème", "brûlée", "2", "x", "y"}),
        ("حذاء أحمر", {"حذاء", "أحمر"}),
    ],
)
def test_words_of_every_script(text, words):
    assert words_of(text) == words


def test_ascii_words_are_those_of_the_benchmarks():
    assert words_of("Crème X-9, красная", ASCII_WORDS) == {"cr", "me", "x", "9"}


@pytest.mark.parametrize("texts", [[], [None, ""], ["...", "_ !"]])
def test_an_index_needs_words(texts):
    with pytest.raises(DataError, match=f"needs items with words; none of the {len(texts)} texts has one"):
        TextIndex.fit(texts)


def test_transform_of_the_own_texts_is_the_index_and_new_words_are_left_out():
    index = TextIndex.fit(TEXTS)
    assert np.array_equal(index.transform(TEXTS).toarray(), index.vectors.toarray()[1:])
    assert np.array_equal(index.transform(["red boot unheard"]).toarray()[0], index.vectors.toarray()[3])
    assert index.transform(["unheard", None]).nnz == 0


def catalog(texts: list[str | None], ids: str) -> Catalog:
    return Catalog.from_frame(pl.DataFrame({"item_id": list(ids), "title": texts}))


def test_carried_to_another_catalogue_it_follows_the_items():
    index = TextIndex.fit(TEXTS)
    before = index.vectors.toarray()
    old = catalog(TEXTS, "abcde")
    new = index.carried_to(old, catalog(["red boot", "a lamp", "a lamp red", None, "red boot"], "xeacb"))
    after = new.vectors.toarray()
    assert after.shape == (6, 5) and new.vectors.dtype == np.float32
    assert np.array_equal(after[[1, 2]], before[[3, 5]]), "a new item with a known text; an item that moved"
    assert np.array_equal(after[3], index.transform(["a lamp red"]).toarray()[0]), "a changed text is read anew"
    assert not after[[0, 4]].any(), "a text that is gone"
    assert np.array_equal(after[5], before[3])
    assert new.vectors.nnz == np.count_nonzero(after)
    assert np.array_equal(index.vectors.toarray(), before)
    assert new.vocabulary == index.vocabulary and np.array_equal(new.idf, index.idf)


def test_neighbours_are_the_nearest_of_either_side():
    rng = np.random.default_rng(0)
    words = np.array(["red", "blue", "shoe", "boot", "lamp", "old", "new"])
    index = TextIndex.fit([" ".join(rng.choice(words, 3)) for _ in range(40)])
    cosines = index.vectors.toarray() @ index.vectors.toarray().T
    np.fill_diagonal(cosines, 0)
    np.testing.assert_allclose(index.neighbours(1000).toarray(), cosines, atol=1e-6)
    few = index.neighbours(3).toarray()
    assert np.array_equal(few, few.T)
    least = np.sort(cosines, axis=1)[:, -3]
    wanted = (cosines >= least[:, None]) | (cosines >= least[None, :])
    np.testing.assert_allclose(few, np.where(wanted, cosines, 0), atol=1e-6)


@pytest.mark.parametrize("pattern", [None, ASCII_WORDS])
def test_save_and_load(tmp_path, pattern):
    texts = [*TEXTS, "красная 靴 x"]
    index = TextIndex.fit(texts) if pattern is None else TextIndex.fit(texts, pattern)
    index.save(tmp_path)
    again = TextIndex.load(tmp_path, 7)
    assert np.array_equal(again.vectors.toarray(), index.vectors.toarray())
    assert again.vocabulary == index.vocabulary and again.pattern == index.pattern
    assert np.array_equal(again.transform(texts).toarray(), index.vectors.toarray()[1:])


def test_files_that_do_not_fit_are_named(tmp_path):
    index = TextIndex.fit(TEXTS)
    index.save(tmp_path)
    with pytest.raises(DataError, match=rf"`indptr` in .*{VECTORS_FILE} must have the shape \(10\), got \(7,\)"):
        TextIndex.load(tmp_path, 9)
    arrays = load_file(tmp_path / VECTORS_FILE)
    for broken, said in (
        ({**arrays, "idf": arrays["idf"][:-1]}, "cannot be read.*idf"),
        ({name: array for name, array in arrays.items() if name != "idf"}, "must hold `idf`"),
    ):
        save_file(broken, tmp_path / VECTORS_FILE)
        with pytest.raises(DataError, match=f"{VECTORS_FILE} {said}"):
            TextIndex.load(tmp_path, 6)
    index.save(tmp_path)
    (tmp_path / VOCABULARY_FILE).write_text(json.dumps({"words": "x"})[:-3])
    with pytest.raises(DataError, match=f"{VOCABULARY_FILE} cannot be read"):
        TextIndex.load(tmp_path, 6)
    (tmp_path / VOCABULARY_FILE).unlink()
    with pytest.raises(DataError, match=f"{VOCABULARY_FILE} cannot be read"):
        TextIndex.load(tmp_path, 6)


def test_dense_vectors_keep_what_tells_texts_apart(tmp_path):
    texts = ["red shoe", "red boot", "blue lamp", "blue desk", None]
    index = TextIndex.fit(texts, num_axes=3)
    vectors = index.dense()
    assert vectors.shape == (6, 3) and vectors.dtype == np.float32 and not vectors[[0, 5]].any()
    assert (np.linalg.norm(vectors[1:5], axis=1) ** 2).mean() == pytest.approx(1)
    cosines = vectors @ vectors.T
    assert cosines[1, 2] > 0.5 > abs(cosines[1, 3])
    index.save(tmp_path)
    np.testing.assert_array_equal(TextIndex.load(tmp_path, 6).dense(), vectors)


def test_dense_vectors_of_a_grown_catalogue_are_along_the_same_axes():
    old = Catalog.from_frame(pl.DataFrame({"item_id": [1, 2, 3], "title": ["red shoe", "red boot", "blue lamp"]}))
    new = old.with_items(pl.DataFrame({"item_id": [4, 5], "title": ["red shoe", "unheard"]}))
    index = TextIndex.fit(old.texts(), num_axes=2)
    grown = index.carried_to(old, new).dense()
    np.testing.assert_allclose(grown[:4], index.dense(), atol=1e-6)
    np.testing.assert_allclose(grown[4], grown[1], atol=1e-6)
    assert not grown[5].any()


def test_more_axes_than_words_are_zeros():
    index = TextIndex.fit(["red shoe", "blue shoe"], num_axes=9)
    assert index.dense().shape == (3, 9) and not index.dense()[:, 3:].any()


def test_axes_of_another_vocabulary_are_refused(tmp_path):
    TextIndex.fit(TEXTS, num_axes=2).save(tmp_path)
    arrays = load_file(tmp_path / VECTORS_FILE)
    save_file(arrays | {"axes": arrays["axes"][1:]}, tmp_path / VECTORS_FILE)
    with pytest.raises(DataError, match="cannot be read: 5 idf for 5 words"):
        TextIndex.load(tmp_path, 6)
