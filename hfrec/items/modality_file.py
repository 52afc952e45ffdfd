"""The file of one modality of an item table: its header is looked at before its numbers."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hfrec.data.schema import DataError

DTYPES = {"F16": torch.float16, "F32": torch.float32}


def read_modality(file: Path, num_rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors, memory-mapped, mask, centre and whitening of a table of `num_rows`.

    Raises:
        DataError: the file is missing, cut short or of another shape; centre or whitening are not finite.
    """
    try:
        with safe_open(str(file), framework="pt") as opened:
            names = {"vectors", "present", "center", "whitening"}
            if set(opened.keys()) != names:
                raise DataError(f"The file {file} must hold {sorted(names)}, got {sorted(opened.keys())}.")
            shapes = {name: list(opened.get_slice(name).get_shape()) for name in names}
            dtypes = {name: opened.get_slice(name).get_dtype() for name in names}
            width = shapes["vectors"][-1] if shapes["vectors"] else 0
            wanted = {
                "vectors": [num_rows, width],
                "present": [num_rows],
                "center": [width],
                "whitening": [width, width],
            }
            kinds = {"vectors": tuple(DTYPES), "present": ("BOOL",), "center": ("F32",), "whitening": ("F32",)}
            for name in wanted:
                if shapes[name] != wanted[name] or dtypes[name] not in kinds[name]:
                    raise DataError(
                        f"`{name}` in {file} must be {wanted[name]} of {' or '.join(kinds[name])} for a "
                        f"catalogue of {num_rows - 1} items, got {shapes[name]} of {dtypes[name]}."
                    )
            center, whitening = (opened.get_tensor(name).clone() for name in ("center", "whitening"))
            if not (bool(torch.isfinite(center).all()) and bool(torch.isfinite(whitening).all())):
                raise DataError(f"Centre and whitening in {file} must be finite.")
            return opened.get_tensor("vectors"), opened.get_tensor("present").clone(), center, whitening
    except FileNotFoundError as error:
        raise DataError(f"The item table lacks the file {file}.") from error
    except (SafetensorError, OSError) as error:
        raise DataError(f"The file {file} cannot be read, it may be cut short: {error}") from error
