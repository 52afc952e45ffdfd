"""A repository on the Hub: fetched file by file, as they are needed; and a folder pushed to one in one commit."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from hfrec.data.files import read_json
from hfrec.data.hub import hub_errors
from hfrec.data.manifest import DOCUMENTS, MANIFEST, check_files, read_manifest
from hfrec.data.schema import DataError
from hfrec.model_card import FOLDER, render_plain_card

DOWNLOAD = ("revision", "token", "cache_dir", "force_download", "local_files_only")
"""What says how a repository is fetched, named as in transformers."""
CARD, ENCODER_FILE = "README.md", "encoder.json"
_AT_ONCE = 8


@dataclass(frozen=True)
class Repository:
    """A model repository at one commit, with a list of its files.

    Attributes:
        name: `owner/name`.
        folder: where its files are on this machine, those that were fetched.
        download: of `DOWNLOAD`, as `huggingface_hub.hf_hub_download` takes them.
    """

    name: str
    folder: Path
    download: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, name: str, **download: Any) -> Repository:
        """The repository `name` at the commit that `revision` means now; only its list of files is fetched.

        Raises:
            DataError: it is not there, not to be seen with this token, not reached, or no recommender's.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        with hub_errors(name, **download):
            try:
                manifest = Path(hf_hub_download(name, MANIFEST, **download))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError as error:
                raise DataError(f"{name!r} is no hfrec recommender: {_what_it_is(name, download)}") from error
        return cls(name, manifest.parent, {**download, "revision": manifest.parent.name})

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch those of the files that are not here yet.

        Raises:
            DataError: one cannot be had.
        """
        from huggingface_hub import hf_hub_download

        missing = [name for name in names if not (self.folder / name).exists()]
        with hub_errors(self.name, **self.download), ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda name: hf_hub_download(self.name, name, **self.download), missing))


def fetched_folder(name: str, **download: Any) -> Path:
    """The folder of the repository `name` with all its files but documents, each checked.

    Raises:
        DataError: as `Repository.open`; a file is missing or changed.
    """
    repository = Repository.open(name, **download)
    manifest = read_manifest(repository.folder)
    names = [name for name in manifest if not name.endswith(DOCUMENTS)]
    repository.fetch(names)
    check_files(repository.folder, manifest, names)
    return repository.folder


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    path_in_repo: str = "",
    card: str | None = None,
) -> Any:
    """Push a saved folder to the model repository `repo_id`, which is made if need be: its listed files, in one commit.

    What a cut connection left behind is invisible, and does not have to be sent again by the next push. Files of an
    earlier push that the folder no longer has go.

    Args:
        private: whether the repository is, if it is made now; `None` for the account's default.
        token: by default that of `hf auth login` or HF_TOKEN.
        revision: the branch, made if need be; by default `main`.
        path_in_repo: a folder of the repository, for a run's checkpoint; a recommender stands at its root.
        card: for a folder without one; by default one without figures.

    Returns:
        huggingface_hub's `CommitInfo`.

    Raises:
        DataError: the folder is not complete; the Hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    folder, api = Path(folder), HfApi(token=token)
    start = f"{path_in_repo}/" if path_in_repo else ""
    manifest = read_manifest(folder, of_ours=bool(start))
    with hub_errors(repo_id, revision, token, writes=True):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision not in (None, "main"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        contents: dict[str, Any] = {f"{start}{name}": folder / name for name in (*manifest, MANIFEST)}
        if not start:
            contents |= _rewritten(folder, manifest, repo_id, card)
        operations: list[Any] = [CommitOperationAdd(name, content) for name, content in contents.items()]
        gone = _pushed_before(api, repo_id, revision, start) - contents.keys()
        operations += [CommitOperationDelete(name) for name in sorted(gone)]
        with warnings.catch_warnings():
            # The catalogue is Parquet, and belongs to the model.
            warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
            return api.create_commit(
                repo_id,
                operations,
                commit_message=commit_message or "Upload recommender",
                revision=revision,
                create_pr=create_pr,
            )


def _rewritten(folder: Path, manifest: dict[str, Any], repo_id: str, card: str | None) -> dict[str, bytes]:
    """What is pushed otherwise than it is in the folder: the card and the encoders' names; and the list of files."""
    if (folder / CARD).exists():
        card = (folder / CARD).read_text(encoding="utf-8")
    elif card is None:
        config = read_json(folder / "config.json")
        card = render_plain_card(str(config.get("model_type")), config.get("encoders") or {})
    contents = {CARD: card.replace(FOLDER, repo_id).encode()}
    for name in manifest:
        if PurePosixPath(name).name == ENCODER_FILE:
            contents[name] = json.dumps(
                _without_places(read_json(folder / name)), indent=2, ensure_ascii=False
            ).encode()
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    return contents | {MANIFEST: json.dumps(manifest | listed, indent=1, sort_keys=True).encode()}


def _without_places(encoder: dict[str, Any]) -> dict[str, Any]:
    """An encoder's settings with a local folder named as its fingerprint has it: where it lies is nobody's business."""
    labels = {modality: of["encoder"] for modality, of in encoder["fingerprint"].items()}
    return encoder | {"encoders": {name: labels.get(name, place) for name, place in encoder["encoders"].items()}}


def _pushed_before(api: Any, repo_id: str, revision: str | None, start: str) -> set[str]:
    """Files in the repository that an earlier push's list names."""
    there = set(api.list_repo_files(repo_id, revision=revision))
    if f"{start}{MANIFEST}" not in there:
        return set()
    before = read_json(Path(api.hf_hub_download(repo_id, f"{start}{MANIFEST}", revision=revision)))
    return {f"{start}{name}" for name in before} & there


def _what_it_is(name: str, download: dict[str, Any]) -> str:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        kind = read_json(Path(hf_hub_download(name, "config.json", **download))).get("model_type")
    except EntryNotFoundError:
        return f"it has no {MANIFEST}, or its first push did not end. Push it with `hfrec push` or `push_to_hub`."
    return f"it has no {MANIFEST}, and its config.json says `model_type` {kind!r}. Load it with the library it is of."
