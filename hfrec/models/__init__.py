"""A history becomes a score for every item; and the folder in which a recommender is saved.

Letters for shapes, here and everywhere: B batch, L history length, N items, D model width, F item-feature width, K list
length, P positions that have a label, C candidates.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from hfrec.models.configuration import RecConfig
from hfrec.models.modeling import RecModel
from hfrec.models.processing import RecProcessor

AutoConfig.register(RecConfig.model_type, RecConfig, exist_ok=True)
AutoModel.register(RecConfig, RecModel, exist_ok=True)
AutoFeatureExtractor.register(RecConfig, RecProcessor, exist_ok=True)

__all__ = ["RecConfig", "RecModel", "RecProcessor"]
