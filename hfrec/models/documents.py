"""The card and the figures of a recommender go with it, as long as it is what they were measured on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from hfrec.data.files import read_arrays, read_json
from hfrec.data.manifest import DOCUMENTS
from hfrec.data.repository import CARD
from hfrec.model_card import FOLDER
from hfrec.models.artifact import Artifact, write_documents

logger = logging.getLogger(__name__)

_WRITTEN_OR_NOT = frozenset({"transformers_version", "dtype", "_name_or_path", "use_cache"})
"""What transformers writes into a `config.json` now and then, of one and the same model."""


def carry_documents(artifact: Artifact | None, folder: Path) -> None:
    """Write the documents of `artifact`, from which a recommender was loaded, beside what was saved of it in `folder`.

    Of one that has been changed since they are left out, which is logged: they would be another's.
    """
    names = [] if artifact is None else [name for name in artifact.manifest if name.endswith(DOCUMENTS)]
    if artifact is None or not names:
        return
    if not _same_model(artifact.folder, folder):
        logger.warning(
            "%s is not carried along: the recommender is no longer the one of %s.", ", ".join(names), artifact.folder
        )
        return
    source = artifact.require(*names)
    documents = {name: (source / name).read_bytes() for name in names}
    if artifact.repository is not None and CARD in documents:
        # Its snippet names the repository; it will name the next.
        documents[CARD] = documents[CARD].replace(f'"{artifact.repository.name}"'.encode(), f'"{FOLDER}"'.encode())
    write_documents(folder, documents)


def _same_model(before: Path, after: Path) -> bool:
    """Whether two folders have the same configuration and weights, in one file or in shards."""
    configs = [_settings(read_json(folder / "config.json")) for folder in (before, after)]
    if configs[0] != configs[1]:
        return False
    mine, others = _arrays(before), _arrays(after)
    return mine.keys() == others.keys() and all(np.array_equal(mine[name], others[name]) for name in mine)


def _settings(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {key: _settings(value) for key, value in config.items() if key not in _WRITTEN_OR_NOT}


def _arrays(folder: Path) -> dict[str, Any]:
    return {name: array for path in sorted(folder.glob("*.safetensors")) for name, array in read_arrays(path).items()}
