"""The words of the items: TF-IDF vectors over real words, which keep what averaged sentence vectors lose."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from hfrec.data.catalog import Catalog
from hfrec.data.files import JSON_BYTES, read_arrays, read_json
from hfrec.data.schema import DataError
from hfrec.items.nearest import NEIGHBOURS, nearest_pairs

WORDS = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
"""A word in any script; scripts written without spaces are read sign by sign."""
ASCII_WORDS = r"[a-z0-9]+"
"""The words of BENCHMARKS protocol e."""

VOCABULARY_FILE, VECTORS_FILE = "text_index.json", "text_index.safetensors"


class TextIndex:
    """TF-IDF vectors of a catalogue's texts: (1 + ln tf) · ln((1 + n) / (1 + df)), each of length 1 or 0.

    Attributes:
        vectors: `(N + 1, V)` CSR float32; row 0 and items without text are empty.
        vocabulary: word → column.
        idf: `(V,)` float32.
        axes: `(V, F)` float32: `dense` vectors are `vectors @ axes`.
    """

    def __init__(
        self,
        vectors: sparse.csr_array,
        vocabulary: dict[str, int],
        idf: np.ndarray,
        pattern: str,
        axes: np.ndarray | None = None,
    ) -> None:
        self.vectors = vectors
        self.vocabulary = vocabulary
        self.idf = idf
        self.pattern = pattern
        self.axes = np.zeros((len(idf), 0), np.float32) if axes is None else axes
        self._neighbours: tuple[int, sparse.csr_array] | None = None

    @classmethod
    def fit(cls, texts: Sequence[str | None], pattern: str = WORDS, num_axes: int = 0) -> TextIndex:
        """Index the texts `(N,)` of a catalogue.

        Args:
            pattern: of a word.
            num_axes: width F of `dense` vectors.

        Raises:
            DataError: there is not one word in all texts.
        """
        from sklearn.feature_extraction.text import CountVectorizer

        counter = CountVectorizer(token_pattern=pattern, lowercase=True, dtype=np.float32)
        try:
            counts = counter.fit_transform([text or "" for text in texts])
        except ValueError as error:
            raise DataError(f"A text index needs items with words; none of the {len(texts)} texts has one.") from error
        documents = np.bincount(counts.indices, minlength=counts.shape[1])
        idf = np.log((1 + len(texts)) / (1 + documents)).astype(np.float32)
        vocabulary = {word: int(column) for word, column in counter.vocabulary_.items()}
        padding = sparse.csr_array((1, len(idf)), dtype=np.float32)
        vectors = sparse.vstack([padding, _weighted(counts, idf)], format="csr")
        return cls(vectors, vocabulary, idf, pattern, _axes(vectors, num_axes))

    def __repr__(self) -> str:
        return f"TextIndex({self.vectors.shape[0] - 1} items, {len(self.idf)} words)"

    def transform(self, texts: Sequence[str | None]) -> sparse.csr_array:
        """Vectors `(n, V)` of new texts; words that the catalogue never used are left out."""
        from sklearn.feature_extraction.text import CountVectorizer

        counter = CountVectorizer(
            token_pattern=self.pattern, lowercase=True, vocabulary=self.vocabulary, dtype=np.float32
        )
        return _weighted(counter.transform([text or "" for text in texts]), self.idf)

    def carried_to(self, old: Catalog, new: Catalog) -> TextIndex:
        """The index of a catalogue that was `old` and is `new`; words, idf and axes stay as they were fitted."""
        if old is new:
            return self
        sources = new.rows_in(old)
        before, after = [None, *old.texts()], [None, *new.texts()]
        changed = [row for row in range(1, new.num_rows) if after[row] != before[sources[row]]]
        sources[changed] = 0
        texts = self.transform([after[row] for row in changed])
        vectors = (_selection(sources, old.num_rows) @ self.vectors).tocsr()
        shape = (new.num_rows, len(changed))
        placed = sparse.csr_array((np.ones(len(changed)), (changed, np.arange(len(changed)))), shape)
        vectors = (vectors + placed @ texts).tocsr().astype(np.float32)
        vectors.eliminate_zeros()
        return TextIndex(vectors, self.vocabulary, self.idf, self.pattern, self.axes)

    def neighbours(self, num_neighbours: int = NEIGHBOURS) -> sparse.csr_array:
        """Cosines `(N + 1, N + 1)` CSR of the pairs of which one is among the other's `num_neighbours` nearest; an
        item is no neighbour of its own. Counted at the first call, then kept."""
        if self._neighbours is None or self._neighbours[0] != num_neighbours:
            vectors = self.vectors

            def cosines(rows: np.ndarray) -> np.ndarray:
                found: np.ndarray = (vectors[rows] @ vectors.T).toarray()
                return found

            self._neighbours = num_neighbours, nearest_pairs(cosines, vectors.shape[0], num_neighbours)
        return self._neighbours[1]

    def dense(self) -> np.ndarray:
        """Vectors `(N + 1, F)` float32 of a root mean square length of 1 over the texts that were indexed: TF-IDF
        vectors along their F largest singular directions, those of large variance shrunk by its square root."""
        found: np.ndarray = self.vectors @ self.axes
        return found

    def save(self, folder: Path) -> None:
        """Write `text_index.json` (words, in column order) and `text_index.safetensors`."""
        from safetensors.numpy import save_file

        words = sorted(self.vocabulary, key=self.vocabulary.__getitem__)
        content = {"pattern": self.pattern, "words": words}
        (folder / VOCABULARY_FILE).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        arrays = {
            "idf": self.idf,
            "indptr": self.vectors.indptr.astype(np.int64),
            "indices": self.vectors.indices.astype(np.int32),
            "data": self.vectors.data.astype(np.float32),
            "axes": self.axes,
        }
        save_file(arrays, folder / VECTORS_FILE)

    @classmethod
    def load(cls, folder: Path, num_rows: int) -> TextIndex:
        """Read what `save` wrote; a file that is missing or does not fit the catalogue is named in the `DataError`."""
        path = folder / VECTORS_FILE
        shapes = {"idf": (None,), "indptr": (num_rows + 1,), "indices": (None,), "data": (None,), "axes": (None, None)}
        arrays = read_arrays(path, shapes)
        # A word takes more in the one file than its weight does in the other, but not by very much.
        content = read_json(folder / VOCABULARY_FILE, max(JSON_BYTES, 64 * arrays["idf"].nbytes))
        try:
            words, pattern = content["words"], content["pattern"]
            vocabulary = {str(word): column for column, word in enumerate(words)}
            if not len(vocabulary) == len(words) == len(arrays["idf"]) == len(arrays["axes"]):
                raise ValueError(f"{len(arrays['idf'])} idf for {len(vocabulary)} words")
            re.compile(pattern)
            shape = (num_rows, len(words))
            vectors = sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
            vectors.check_format(full_check=True)
        except (KeyError, ValueError, TypeError, re.error) as error:
            raise DataError(f"The text index {path} cannot be read: {error}") from error
        return cls(vectors, vocabulary, arrays["idf"], pattern, arrays["axes"])


def _axes(vectors: sparse.csr_array, number: int) -> np.ndarray:
    """The `axes` `(V, number)`; those that there are no dimensions for are 0."""
    from sklearn.utils.extmath import randomized_svd

    axes = np.zeros((vectors.shape[1], number), np.float32)
    most = min(number, *vectors.shape)
    if not most or not vectors.nnz:
        return axes
    _, values, directions = randomized_svd(vectors, n_components=most, random_state=0)
    axes[:, :most] = directions.T / np.sqrt(np.maximum(values, values.max() * 1e-3))
    lengths = np.linalg.norm(vectors @ axes, axis=1)
    return (axes / np.sqrt((lengths**2).sum() / np.count_nonzero(lengths))).astype(np.float32)


def _selection(sources: np.ndarray, num_rows: int) -> sparse.csr_array:
    chosen = np.flatnonzero(sources)
    return sparse.csr_array((np.ones(len(chosen)), (chosen, sources[chosen])), shape=(len(sources), num_rows))


def _weighted(counts: sparse.sparray, idf: np.ndarray) -> sparse.csr_array:
    weighted = sparse.csr_array(counts, dtype=np.float32)
    weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    return (sparse.diags_array(scale) @ weighted).tocsr().astype(np.float32)
