"""The cards of what is shared alone: an adapter, an item encoder."""

from __future__ import annotations

from pathlib import Path
from string import Template

_ADAPTER, _ENCODER = Path(__file__).with_name("adapter.md"), Path(__file__).with_name("encoder.md")


def render_adapter_card(repo_id: str, base: str | None) -> str:
    """The card of the adapter in `repo_id`, which goes on `base`, a Hub id where that is known."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name="peft",
        base_model=base,
        base_model_relation="adapter" if base else None,
        pipeline_tag="other",
        tags=["recommendation", "hfrec", "lora"],
    )
    return Template(_ADAPTER.read_text(encoding="utf-8")).substitute(
        metadata=data.to_yaml(), repo_id=repo_id, base=base or "path/to/the/base"
    )


def render_encoder_card(repo_id: str, encoders: dict[str, str]) -> str:
    """The card of an item encoder in `repo_id`, which stands on the `encoders` of each modality."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(library_name="hfrec", pipeline_tag="other", tags=["recommendation", "hfrec", "item-encoder"])
    reads = "\n".join(f"* {modality} is read by `{name}`" for modality, name in encoders.items())
    return Template(_ENCODER.read_text(encoding="utf-8")).substitute(
        metadata=data.to_yaml(), repo_id=repo_id, encoders=reads
    )
