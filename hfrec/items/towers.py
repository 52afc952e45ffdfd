"""A loaded encoder of one modality: inputs in, vectors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hfrec.data.schema import DataError
from hfrec.items.adapter import add_adapter
from hfrec.items.pictures import PictureError, open_picture, resolve_inside
from hfrec.items.sounds import open_sound
from hfrec.items.sources import EncoderSource

ADAPTER = "default"
"""What the adapter of an encoder is called, as PEFT calls the only one."""

Encoded = tuple[np.ndarray, list[str | None]]
"""Vectors (n, F) of the n inputs that opened, and for each of the B inputs why it did not, or `None`."""


@dataclass(frozen=True)
class TowerSpec:
    """All that another process needs to load the same tower.

    Attributes:
        adapter: the folder of a PEFT adapter that goes on it.
        layer_step: read every so many-th layer, too, see `LayerTower`; 0 for the encoder's own vectors alone.
    """

    source: EncoderSource
    modality: str
    prompt: str = ""
    max_tokens: int = 128
    device: str = "cpu"
    adapter: Path | None = None
    layer_step: int = 0


class Tower(ABC):
    """One modality of one loaded encoder.

    Attributes:
        model: the torch module, in float32 on its device; two towers of one encoder share it.
        modality: `text`, `image`, `audio` or `video`.
    """

    def __init__(self, model: nn.Module, spec: TowerSpec) -> None:
        self.model = model
        self.spec = spec
        self.modality = spec.modality

    @abstractmethod
    def preprocess(self, inputs: list[Any], prompt: str | None = None) -> dict[str, Any]:
        """`inputs` (B strings, RGB pictures …) as the model's tensors, on its device."""

    @abstractmethod
    def forward(self, features: dict[str, Any]) -> Tensor:
        """Vectors (B, F) of preprocessed inputs, with gradient."""

    def encode(self, inputs: list[Any], prompt: str | None = None) -> np.ndarray:
        """Vectors (B, F) float32 of `inputs`, without gradient, in evaluation mode."""
        self.model.eval()
        with torch.inference_mode():
            return self.forward(self.preprocess(inputs, prompt)).float().cpu().numpy()

    def _on_device(self, features: Any) -> dict[str, Any]:
        device = next(self.model.parameters()).device
        return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in features.items()}


class SentenceTower(Tower):
    """A sentence-transformers model; it knows its own pooling."""

    def preprocess(self, inputs: list[Any], prompt: str | None = None) -> dict[str, Any]:
        chosen = self.spec.prompt if prompt is None else prompt
        return self._on_device(self.model.preprocess(inputs, prompt=chosen if self.modality == "text" else None))

    def forward(self, features: dict[str, Any]) -> Tensor:
        return self.model(features)["sentence_embedding"]


class TextTower(Tower):
    """A plain transformers model: its text features where it has them (CLIP), else the mean over the mask."""

    def __init__(self, model: nn.Module, spec: TowerSpec) -> None:
        from transformers import AutoTokenizer

        super().__init__(model, spec)
        self.tokenizer = AutoTokenizer.from_pretrained(
            spec.source.folder, trust_remote_code=False, local_files_only=True
        )
        config = getattr(model.config, "text_config", None) or model.config
        positions = getattr(config, "max_position_embeddings", None) or spec.max_tokens
        self.max_tokens = min(spec.max_tokens, positions, self.tokenizer.model_max_length)

    def preprocess(self, inputs: list[Any], prompt: str | None = None) -> dict[str, Any]:
        chosen = self.spec.prompt if prompt is None else prompt
        texts = [chosen + text for text in inputs]
        features = self.tokenizer(texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        return self._on_device(features)

    def forward(self, features: dict[str, Any]) -> Tensor:
        if hasattr(self.model, "get_text_features"):
            return _pooled(self.model.get_text_features(**features))
        states = self.model(**features).last_hidden_state
        mask = features["attention_mask"].unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1).clamp(min=1)


class ImageTower(Tower):
    """A plain transformers model: its image features (CLIP), its pooled output, or the mean over places."""

    def __init__(self, model: nn.Module, spec: TowerSpec, pooler_is_trained: bool = True) -> None:
        from transformers import AutoImageProcessor

        super().__init__(model, spec)
        self.pooler_is_trained = pooler_is_trained
        self.processor = AutoImageProcessor.from_pretrained(
            spec.source.folder, trust_remote_code=False, local_files_only=True
        )

    def preprocess(self, inputs: list[Any], prompt: str | None = None) -> dict[str, Any]:
        return self._on_device(self.processor(images=inputs, return_tensors="pt"))

    def forward(self, features: dict[str, Any]) -> Tensor:
        if hasattr(self.model, "get_image_features"):
            return _pooled(self.model.get_image_features(**features))
        output = self.model(**features)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None and self.pooler_is_trained:
            return pooled.flatten(1)
        states = output.last_hidden_state
        return states.mean((2, 3)) if states.ndim == 4 else states.mean(1)


class AudioTower(Tower):
    """A plain transformers model that hears: its audio features (CLAP), its pooled output, or the mean over time.

    Of one that also writes (Whisper) the encoder alone is asked.
    """

    def __init__(self, model: nn.Module, spec: TowerSpec) -> None:
        from transformers import AutoFeatureExtractor

        super().__init__(model, spec)
        self.extractor = AutoFeatureExtractor.from_pretrained(
            spec.source.folder, trust_remote_code=False, local_files_only=True
        )

    def preprocess(self, inputs: list[Any], prompt: str | None = None) -> dict[str, Any]:
        rate = self.extractor.sampling_rate
        sounds = [_heard(one, rate) for one in inputs]
        shape = {"padding": True} if self.model.main_input_name == "input_values" else {}
        return self._on_device(self.extractor(sounds, sampling_rate=rate, return_tensors="pt", **shape))

    def forward(self, features: dict[str, Any]) -> Tensor:
        if hasattr(self.model, "get_audio_features"):
            return _pooled(self.model.get_audio_features(**features))
        hearing = self.model.get_encoder() if self.model.config.is_encoder_decoder else self.model
        output = hearing(**features)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled
        states, heard = output.last_hidden_state, features.get("attention_mask")
        if heard is None:
            return states.mean(1)
        # A state stands for several samples: it is there where the first of them is.
        places = torch.arange(states.shape[1], device=states.device) * heard.shape[1] // states.shape[1]
        mask = heard[:, places].unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1).clamp(min=1)


def _heard(cell: Any, rate: int) -> np.ndarray:
    """The samples of a sound that `_open` let in: a dict, or the path of a file inside the catalogue's root."""
    if isinstance(cell, dict):
        return open_sound(cell, None, rate)
    return open_sound(Path(cell).name, Path(cell).parent, rate)


def _pooled(output: Any) -> Tensor:
    # transformers 5 returns an output object where 4 returned the tensor.
    return output if isinstance(output, Tensor) else output.pooler_output


class LayerTower(Tower):
    """An encoder read in several depths: below its own vector the means of every k-th layer, counted from the top.

    The lowest layer comes first. A mean is over the mask of a text, over the places of a picture.
    """

    def __init__(self, tower: Tower) -> None:
        super().__init__(tower.model, tower.spec)
        self.tower = tower
        layers, step = layer_stack(tower.model, self.modality), self.spec.layer_step
        if step >= len(layers):
            raise DataError(
                f"`layer_step` must be below the number of layers of the {self.modality} encoder "
                f"{self.spec.source.name!r} ({len(layers)}), got {step}."
            )
        self.layers = [layers[place] for place in range(len(layers) - 1 - step, -1, -step)][::-1]

    def preprocess(self, inputs: list[Any], prompt: str | None = None) -> dict[str, Any]:
        return self.tower.preprocess(inputs, prompt)

    def forward(self, features: dict[str, Any]) -> Tensor:
        return torch.cat(self.parts(features), dim=1)

    def parts(self, features: dict[str, Any]) -> list[Tensor]:
        """Vectors `(B, F)` of each layer that is read, the encoder's own last."""
        found: list[Tensor] = []
        mask = features.get("attention_mask") if self.modality == "text" else None

        def read(layer: nn.Module, given: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            found.append(_mean(states, mask))

        hooks = [layer.register_forward_hook(read) for layer in self.layers]
        try:
            own = self.tower.forward(features)
        finally:
            for hook in hooks:
                hook.remove()
        return [*found, own]


def layer_stack(model: nn.Module, modality: str) -> nn.ModuleList:
    """The layers that an encoder of `modality` is made of, the lowest first; empty where it has no list of them."""
    part = getattr(model, {"text": "text_model", "image": "vision_model"}.get(modality, ""), None)
    lists = [one for one in (part or model).modules() if isinstance(one, nn.ModuleList)]
    return max(lists, key=len, default=nn.ModuleList())


@cache
def layer_widths(spec: TowerSpec) -> list[int]:
    """How wide the parts of a vector are of an encoder that is read in layers; it reads one blank input."""
    tower = load_tower(spec, {})
    assert isinstance(tower, LayerTower)
    blank: Any = "a" if tower.modality == "text" else Image.new("RGB", (64, 64))
    tower.model.eval()
    with torch.inference_mode():
        return [part.shape[1] for part in tower.parts(tower.preprocess([blank]))]


def _mean(states: Tensor, mask: Tensor | None) -> Tensor:
    if states.ndim == 4:
        return states.mean((2, 3))
    if mask is None:
        return states.mean(1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def load_tower(spec: TowerSpec, loaded: dict[Any, Any]) -> Tower:
    """The tower of `spec`; its model is taken from `loaded`, or loaded and put there for other modalities.

    Raises:
        DataError: the encoder cannot read this modality, its folder lacks weights that its vectors need, or it has not
            as many layers as are to be read.
    """
    tower = _load_tower(spec, loaded)
    return LayerTower(tower) if spec.layer_step else tower


def _load_tower(spec: TowerSpec, loaded: dict[Any, Any]) -> Tower:
    source, modality = spec.source, spec.modality
    as_sentences = source.is_sentence_transformer or modality == "video"
    key = (str(source.folder), as_sentences, spec.device, spec.adapter)
    if key not in loaded:
        loaded[key] = _load_sentences(spec) if as_sentences else _load_plain(spec)
        if spec.adapter is not None:
            add_adapter(loaded[key][0], spec.adapter, ADAPTER)
    model, untrained = loaded[key]
    if as_sentences:
        if not model.supports(modality):
            raise DataError(
                f"The encoder {source.name!r} must read {modality} to be the {modality} encoder; it reads "
                f"{sorted(str(name) for name in model.modalities)}."
            )
        return SentenceTower(model, spec)
    if modality == "text":
        if not (hasattr(model, "get_text_features") or model.main_input_name == "input_ids"):
            raise DataError(f"The encoder {source.name!r} must read text, got {type(model).__name__}.")
        return TextTower(model, spec)
    if modality == "audio":
        if not (hasattr(model, "get_audio_features") or model.main_input_name in ("input_values", "input_features")):
            raise DataError(f"The encoder {source.name!r} must read sound, got {type(model).__name__}.")
        return AudioTower(model, spec)
    if not (hasattr(model, "get_image_features") or model.main_input_name == "pixel_values"):
        raise DataError(f"The encoder {source.name!r} must read pictures, got {type(model).__name__}.")
    return ImageTower(model, spec, pooler_is_trained=not untrained)


def _load_sentences(spec: TowerSpec) -> tuple[Any, bool]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(spec.source.folder),
        device=spec.device,
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": torch.float32},
    ).float()
    if model.supports("text"):
        model.max_seq_length = min(model.max_seq_length or spec.max_tokens, spec.max_tokens)
    return model, False


def _load_plain(spec: TowerSpec) -> tuple[Any, bool]:
    from transformers import AutoModel

    model, report = AutoModel.from_pretrained(
        spec.source.folder,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    # Weights that the folder lacks are noise, new on every load: allowed in an unused pooler only.
    missing = sorted(name for name in report["missing_keys"])
    needed = [name for name in missing if not name.startswith("pooler.")]
    if needed:
        raise DataError(
            f"The encoder {spec.source.name!r} lacks weights that its vectors need: {needed[:5]}. "
            "Pass a folder that was saved whole."
        )
    return model.float().to(spec.device), bool(missing)


def encode_batch(tower: Callable[[], Tower], modality: str, batch: list[Any], root: Path | None) -> Encoded:
    """Open the inputs of `batch` and encode those that open; `tower` is asked for only if one does."""
    opened: list[Any] = []
    reasons: list[str | None] = []
    for cell in batch:
        try:
            opened.append(open_input(modality, cell, root))
            reasons.append(None)
        except PictureError as error:
            reasons.append(str(error))
    if not opened:
        return np.empty((0, 0), dtype=np.float32), reasons
    if modality in ("text", "image"):
        return tower().encode(opened), reasons
    return _encode_one_by_one(tower(), opened, reasons)


def _encode_one_by_one(tower: Tower, opened: list[Any], reasons: list[str | None]) -> Encoded:
    # Sound and video are decoded inside the encoder's processor: a damaged file shows only there.
    vectors = []
    fine = [place for place, reason in enumerate(reasons) if reason is None]
    for place, value in zip(fine, opened, strict=True):
        try:
            vectors.append(tower.encode([value])[0])
        except ImportError:
            raise
        except Exception as error:
            reasons[place] = f"The {tower.modality} cannot be encoded: {error}"
    return np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32), reasons


def open_input(modality: str, cell: Any, root: Path | None) -> Any:
    """What an encoder of `modality` reads of a `cell` of the catalogue.

    Raises:
        PictureError: it cannot be opened.
    """
    if modality == "text":
        return cell
    if modality == "image":
        return open_picture(cell, root)
    if isinstance(cell, dict) and "array" in cell:
        return cell
    if isinstance(cell, dict):
        cell = cell.get("path")
    if isinstance(cell, str | Path):
        return str(resolve_inside(cell, root))
    raise PictureError(f"The {modality} must be a path or a dict of `array` and its rate, got {type(cell).__name__}.")
