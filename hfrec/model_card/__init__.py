"""Facts gathered on the way become a Hub model card, and a card is held against what the Hub documents."""

from __future__ import annotations

from hfrec.model_card.adapter import render_adapter_card, render_encoder_card
from hfrec.model_card.fields import metadata_problems
from hfrec.model_card.foundation import render_foundation_card
from hfrec.model_card.render import CURVE_FILE, FOLDER, SLICES, SLICES_FILE, judged_part, render_card, render_plain_card

__all__ = [
    "CURVE_FILE",
    "FOLDER",
    "SLICES",
    "SLICES_FILE",
    "judged_part",
    "metadata_problems",
    "render_adapter_card",
    "render_card",
    "render_encoder_card",
    "render_foundation_card",
    "render_plain_card",
]
