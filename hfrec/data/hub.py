"""The Hub as the data see it: a table there is a data set, and what goes wrong is said together with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from hfrec.data.schema import DataError

_LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN to a token of https://huggingface.co/settings/tokens."


@dataclass(frozen=True)
class HubTable:
    """A table that is a data set on the Hub; stands wherever a table is asked for.

    Attributes:
        repo_id: `owner/name`.
        revision: branch, tag or commit.
        split: which part of the data set.
        token: by default that of `hf auth login` or HF_TOKEN.
    """

    repo_id: str
    revision: str | None = None
    split: str = "train"
    token: bool | str | None = field(default=None, repr=False)

    def read(self, table: str = "data") -> pl.DataFrame:
        """The rows as a frame; pictures are `{bytes, path}` cells.

        Args:
            table: what the table is called in error messages.

        Raises:
            DataError: it is not there, not to be seen with this token, or no table.
        """
        from datasets import load_dataset
        from huggingface_hub import HfApi

        try:
            dataset = load_dataset(self.repo_id, split=self.split, revision=self.revision, token=self.token)
        except Exception as error:
            # The Hub's own answer says more than what the library makes of it.
            with hub_errors(self.repo_id, self.revision, self.token, repo_type="dataset"):
                HfApi(token=self.token).dataset_info(self.repo_id, revision=self.revision)
            raise DataError(
                f"The {table} table {self.repo_id!r} is neither a file here nor a data set that can be read: {error}"
            ) from error
        opened = dataset.to_polars()
        return opened if isinstance(opened, pl.DataFrame) else pl.concat(list(opened))


@contextmanager
def hub_errors(
    name: str,
    revision: str | None = None,
    token: bool | str | None = None,
    writes: bool = False,
    repo_type: str = "model",
    **download: Any,
) -> Iterator[None]:
    """Make of whatever goes wrong with the repository `name` inside a `DataError` that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    found_nothing = _found_nothing(name, repo_type)
    try:
        yield
    except DataError:
        raise
    except HFValidationError as error:
        raise DataError(f"{found_nothing}, which is named `owner/name`.") from error
    except RevisionNotFoundError as error:
        raise DataError(
            f"The repository {name!r} has no revision {revision!r}{_revisions(name, token, repo_type)}"
        ) from error
    except GatedRepoError as error:
        raise DataError(f"Access to {name!r} must be asked for, at {constants.ENDPOINT}/{name}.") from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"{found_nothing}: {constants.ENDPOINT} has none of that name, or it is private and not shown to this "
            f"token. {_LOG_IN}"
        ) from error
    except (_client_error(), OSError, RuntimeError) as error:
        raise DataError(_advice(error, name, repo_type, writes)) from error


def _found_nothing(name: str, repo_type: str) -> str:
    looked_for = "file nor a data set" if repo_type == "dataset" else "folder nor a repository"
    return f"{name!r} is neither a {looked_for} that can be fetched"


def _advice(error: BaseException, name: str, repo_type: str, writes: bool) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HfHubHTTPError):
        cause = cause.__cause__
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
    if status == 401:
        return f"{constants.ENDPOINT} does not know this token, or needs one. {_LOG_IN}"
    if status == 403:
        return f"This token may not {'write to' if writes else 'read'} {name!r}: take one that may. {_LOG_IN}"
    if writes:
        what = f"answered {status}" if status else "was cut off or not reached"
        return (
            f"{name!r} could not be pushed: {constants.ENDPOINT} {what} ({_first_line(error)}). Nothing of the push is "
            "visible. Push again: what has arrived is not sent twice."
        )
    return (
        f"{_found_nothing(name, repo_type)}: {constants.ENDPOINT} was not reached and the cache has not all of it "
        f"({_first_line(error)}). Check the name and the connection."
    )


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _revisions(name: str, token: Any, repo_type: str) -> str:
    """What revisions there are, where the Hub says so."""
    from huggingface_hub import list_repo_refs

    try:
        refs = list_repo_refs(name, token=token, repo_type=repo_type)
    except (_client_error(), OSError):
        return ". Check the name of the branch or tag, or the commit."
    return f"; it has {', '.join(one.name for one in [*refs.branches, *refs.tags])}, and commits by their hash."


def _client_error() -> type[Exception]:
    """What the HTTP client raises where there is no answer: httpx or httpx2, by the release of huggingface_hub."""
    from huggingface_hub.errors import HfHubHTTPError

    client_error: type[Exception] = HfHubHTTPError.__bases__[0]
    return client_error
