"""Open what a catalogue calls a sound: one channel, at the rate that an encoder hears."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from hfrec.items.pictures import PictureError, file_bytes

MAX_SECONDS = 30
"""What comes later in a sound is not heard."""
MAX_MEDIA_BYTES = 500_000_000


def open_sound(cell: Any, root: str | Path | None, rate: int) -> np.ndarray:
    """The first 30 seconds of the sound in `cell` as one channel (samples,) float32 of `rate` samples a second.

    WAV is read as it is; other kinds (FLAC, OGG, MP3) need the package soundfile.

    Args:
        cell: bytes, a path relative to `root`, or a dict of `array` and `sampling_rate`.
        root: the folder that a path must stay inside.

    Raises:
        PictureError: not a sound, cut short or without a sample, or refused by `file_bytes`.
        ImportError: it is no WAV, and soundfile is not installed.
    """
    if isinstance(cell, dict) and "array" in cell:
        samples, own_rate = np.asarray(cell["array"]), cell.get("sampling_rate", rate)
    else:
        samples, own_rate = _decoded(file_bytes(cell, root, MAX_MEDIA_BYTES))
    if samples.ndim > 1:
        samples = samples.mean(axis=1 if samples.shape[0] > samples.shape[1] else 0)
    if not isinstance(own_rate, int | np.integer) or not 100 <= own_rate <= 1_000_000 or not len(samples):
        raise PictureError(f"A sound must have samples, so many a second; got {samples.shape} at {own_rate!r}.")
    samples = samples[: MAX_SECONDS * int(own_rate)].astype(np.float32)
    if not np.isfinite(samples).all():
        raise PictureError("The samples of a sound must be finite, got NaN or infinity.")
    return samples if own_rate == rate else _resampled(samples, int(own_rate), rate)


def _decoded(content: bytes) -> tuple[np.ndarray, int]:
    """Samples (n,) or (n, channels), between -1 and 1, and their rate."""
    if content[:4] == b"RIFF":
        from scipy.io import wavfile

        try:
            rate, samples = wavfile.read(io.BytesIO(content))
        # Of a damaged file scipy says ValueError, struct.error, and more.
        except Exception as error:
            raise PictureError(f"The sound cannot be decoded: {error}") from error
        if samples.dtype.kind == "f":
            return samples, rate
        whole = np.iinfo(samples.dtype)
        return (samples.astype(np.float32) - (128 if whole.min == 0 else 0)) / (whole.max if whole.min else 128), rate
    try:
        import soundfile
    except ImportError as error:
        raise ImportError("A sound that is no WAV needs soundfile: pip install soundfile, or convert it.") from error
    try:
        return soundfile.read(io.BytesIO(content), dtype="float32")
    except (RuntimeError, ValueError) as error:
        raise PictureError(f"The sound cannot be decoded: {error}") from error


def _resampled(samples: np.ndarray, own_rate: int, rate: int) -> np.ndarray:
    from math import gcd

    from scipy.signal import resample_poly

    common = gcd(own_rate, rate)
    return resample_poly(samples, rate // common, own_rate // common).astype(np.float32)
