"""Vectors and what belongs to them in a safetensors file, judged by its header before anything of it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hfrec.data.schema import DataError

VECTORS = "vectors"
VECTOR_DTYPES = {"F16": torch.float16, "F32": torch.float32}
_KINDS = {VECTORS: tuple(VECTOR_DTYPES), "present": ("BOOL",)}


def read_tensors(file: Path, wanted: Mapping[str, Sequence[int | None]], of: str) -> dict[str, Tensor]:
    """The tensors of `file` by name: `vectors` memory-mapped, `present` boolean, and others, which are float32.

    Args:
        wanted: their shapes; `None` stands for the width of the `vectors`, whatever that is.
        of: what they must fit, for messages.

    Raises:
        DataError: the file is missing or cut short, holds something else, or what is small is not finite.
    """
    try:
        with safe_open(str(file), framework="pt") as opened:
            if set(opened.keys()) != set(wanted):
                raise DataError(f"The file {file} must hold {sorted(wanted)}, got {sorted(opened.keys())}.")
            shapes = {name: list(opened.get_slice(name).get_shape()) for name in wanted}
            dtypes = {name: opened.get_slice(name).get_dtype() for name in wanted}
            width = shapes[VECTORS][-1] if shapes[VECTORS] else 0
            for name, shape in wanted.items():
                needed = [width if size is None else size for size in shape]
                kinds = _KINDS.get(name, ("F32",))
                if shapes[name] != needed or dtypes[name] not in kinds:
                    raise DataError(
                        f"`{name}` in {file} must be {needed} of {' or '.join(kinds)} for {of}, got {shapes[name]} of "
                        f"{dtypes[name]}."
                    )
            found = {name: opened.get_tensor(name).clone() for name in wanted if name != VECTORS}
            if not all(bool(torch.isfinite(value).all()) for value in found.values()):
                named = " and ".join(name for name in found if name != "present")
                raise DataError(f"{named.capitalize()} in {file} must be finite.")
            return {VECTORS: opened.get_tensor(VECTORS), **found}
    except FileNotFoundError as error:
        raise DataError(f"The item table lacks the file {file}.") from error
    except (SafetensorError, OSError) as error:
        raise DataError(f"The file {file} cannot be read, it may be cut short: {error}") from error
