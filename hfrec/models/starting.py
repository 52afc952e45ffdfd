"""A fresh RecModel whose sequence Transformer is a pretrained decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hfrec.models.backbone import Decoder
from hfrec.models.configuration import RecConfig
from hfrec.models.lora_targets import learn_by_lora
from hfrec.models.quantization import bits_of

if TYPE_CHECKING:
    from hfrec.models.modeling import RecModel


def started_from(model_class: type[RecModel], name: str, config: RecConfig) -> RecModel:
    """A fresh model of `config`, which was made for the decoder `name`, with that decoder's weights.

    Raises:
        DataError, ImportError: as of `Decoder.load`.
    """
    backbone, size = Decoder.find(name, config.backbone_revision).load(config)
    config.backbone_config = backbone.config
    model = model_class(config, backbone)
    with torch.no_grad():
        # Events come in as large as words do: what the decoder's layers add to them is as much as they have learned.
        model.input_norm.weight.fill_(size)
    if bits := bits_of(backbone):
        # By these names PEFT knows which of its layers to put on.
        model.is_loaded_in_4bit, model.is_loaded_in_8bit = bits == 4, bits == 8
    if config.lora_rank:
        learn_by_lora(model, config.lora_rank)
    return model
