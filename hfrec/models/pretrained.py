"""What `from_pretrained`, `save_pretrained` and `push_to_hub` mean for a RecModel: weights, catalogue and adapters."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

from hfrec.data.repository import DOWNLOAD, push_folder
from hfrec.data.schema import DataError
from hfrec.items.adapter import WEIGHTS_FILE
from hfrec.items.projector import Projector
from hfrec.models.adapters import Adapters
from hfrec.models.artifact import (
    ADAPTERS,
    ITEM_ENCODER,
    Artifact,
    CatalogFiles,
    read_catalog,
    save_folder,
    write_catalog,
)
from hfrec.models.base_weights import base_weights, without_adapters
from hfrec.models.documents import carry_documents
from hfrec.models.late_encoder import EncoderSlot, LateEncoder
from hfrec.models.processing import RecProcessor
from hfrec.models.weights import check_weights


class PretrainedFolder(Adapters):
    """What `RecModel` is before it is a `PreTrainedModel`: a folder of more than weights.

    The base's weights go to the root of the folder and each adapter to `adapters/<name>/`, in PEFT's own format.

    Attributes:
        item_encoder: how new items are read; that of a folder is fetched and loaded when it is first wanted.
        artifact: where the model was loaded from, if it was.
        projector: a space that the catalogue's modalities share, if one was fitted.
    """

    item_encoder = EncoderSlot()
    projector: Projector | None = None

    @property
    def named_encoders(self) -> dict[str, str]:
        """The item encoder of each modality that a folder of this model may load."""
        return self.config.encoders

    @named_encoders.setter
    def named_encoders(self, encoders: dict[str, str]) -> None:
        self.config.encoders = encoders

    def save_pretrained(self, save_directory: str | Path, catalog: bool = True, **kwargs: Any) -> None:
        """Write weights, configuration, processor and adapters, and, unless `catalog` is false, catalogue and counts.

        Args:
            kwargs: as in transformers: `max_shard_size`, `state_dict` …
        """
        weights = base_weights(self, kwargs.pop("state_dict", None))
        self.config.active_adapters = self.active_adapters()

        def write(folder: Path) -> None:
            with without_adapters(self):
                super(PretrainedFolder, self).save_pretrained(folder, state_dict=dict(weights), **kwargs)
            self.processor.save_pretrained(folder)
            self.write_adapters(folder / ADAPTERS)
            encoder = EncoderSlot.held(self)
            if catalog and self.items is not None:
                assert self.statistics is not None
                files = CatalogFiles(self.items, self.statistics, self.text_index, encoder, self.projector)
                write_catalog(folder, files)
            elif catalog and encoder is not None:
                # A foundation: which items it will read is open, by which encoder is not.
                encoder.save_pretrained(folder / ITEM_ENCODER)

        if kwargs.get("is_main_process", True):
            save_folder(save_directory, write)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | Artifact,
        *args: Any,
        images: str | Path | None = None,
        adapter: str | Path | Sequence[str | Path] | None = None,
        encoders: Collection[str] = (),
        **kwargs: Any,
    ) -> Self:
        """The model of a folder or a Hub id, with the catalogue that was saved with it.

        Of a repository what recommending needs is fetched: pictures and item encoder follow when they are wanted, and
        of its adapters all but those that were switched on when it was saved.

        Args:
            images: the folder in which the catalogue's relative picture paths start.
            adapter: one of the adapters that were saved with it, or the folder or Hub id of another, in place of those
                that were switched on; or several, or `[]` for the base alone.
            encoders: item encoders that may be loaded though the configuration does not name them.
            kwargs: `revision`, `token`, `cache_dir` … as in transformers.

        Raises:
            DataError: it is not there, no recommender's, or a file is missing, changed or broken; it is named.
        """
        download = {key: kwargs.pop(key) for key in DOWNLOAD if key in kwargs}
        artifact = Artifact.open(name, **download)
        folder = str(artifact.folder)
        check_weights(cls, artifact)
        # None of the folder's code runs, whatever a caller, such as an Auto class, passes on.
        safely = {**kwargs, "use_safetensors": True, "trust_remote_code": False}
        loaded = super().from_pretrained(folder, *args, **safely)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.artifact = artifact
        # Loading makes every weight anew, also those that do not learn by the loss.
        model._freeze()
        model.id_table_ids = list(RecProcessor.from_pretrained(folder).item_ids)
        if len(model.id_table_ids) != model.config.num_item_ids:
            raise DataError(
                f"preprocessor_config.json names {len(model.id_table_ids)} items, the id table of model.safetensors "
                f"has {model.config.num_item_ids} rows: the files are of two models."
            )
        model._load_adapters(adapter, download)
        files = read_catalog(artifact, images, encoders)
        if files is None and artifact.has(ITEM_ENCODER):
            model.item_encoder = LateEncoder(artifact, frozenset(encoders))
        if files is not None:
            model.item_encoder, model.projector = files.item_encoder, files.projector
            model.attach(files.items, files.statistics, files.text_index)
        return loaded

    def push_to_hub(
        self, repo_id: str, *, catalog: bool = True, max_shard_size: int | str | None = None, **kwargs: Any
    ) -> Any:
        """Push the model with its catalogue in one commit; with it, unless it was changed, the documents of its folder.

        Args:
            catalog, max_shard_size: as `save_pretrained` takes them.
            kwargs: of `push_folder`, such as `private`, `token`, `revision`, `commit_message`.

        Returns:
            huggingface_hub's `CommitInfo`.

        Raises:
            DataError: the Hub refuses or cannot be reached.
        """
        sharded = {} if max_shard_size is None else {"max_shard_size": max_shard_size}
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, catalog, **sharded)
            carry_documents(self.artifact, Path(folder))
            return push_folder(folder, repo_id, **kwargs)

    def _load_adapters(self, adapter: str | Path | Sequence[str | Path] | None, download: dict[str, Any]) -> None:
        """Switch on the adapters that `from_pretrained` is asked for, by default those that were when it was saved."""
        assert self.artifact is not None
        own = [
            parts[1]
            for name in self.artifact.manifest
            if (parts := name.split("/"))[0] == ADAPTERS and parts[2:] == [WEIGHTS_FILE]
        ]
        self.waiting = tuple(sorted(own))
        asked = [adapter] if isinstance(adapter, str | Path) else adapter
        wanted = self.config.active_adapters if asked is None else asked
        names: list[str] = []
        for one in wanted:
            name = str(one)
            if name not in own:
                # What a folder's configuration names is of the folder: it does not send for anything else.
                if adapter is None:
                    raise DataError(
                        f"`active_adapters` in {self.artifact.folder / 'config.json'} names {one!r}, not there."
                    )
                name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(one).name)
                self.waiting = tuple(other for other in self.waiting if other != name)
                self.load_adapter(one, name, **{key: value for key, value in download.items() if key != "revision"})
            names.append(name)
        if names:
            self.set_adapter(names)
