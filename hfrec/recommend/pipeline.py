"""`transformers.pipeline("recommendation", model=…)`: histories of item ids become lists of items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from hfrec.data.histories import Histories
from hfrec.recommend.recommender import Recommender

TASK = "recommendation"


class RecommendationPipeline(Pipeline):
    """Recommends after one history, a list of item ids, or after many, a list of such lists.

    ```python
    import hfrec, transformers
    recommend = transformers.pipeline("recommendation", model="me/shop-rec")
    recommend(["sku-17", "sku-99"], top_k=10)     # [{"item_id": …, "score": …, "title": …}, …]
    ```
    """

    _load_processor = _load_image_processor = _load_video_processor = _load_feature_extractor = _load_tokenizer = False

    def __init__(self, model: Any, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self.recommender = Recommender(model)

    def __call__(self, inputs: Sequence[Any] | Histories, **kwargs: Any) -> Any:
        """Lists of `{"item_id", "score", "title"}`, best first.

        Args:
            inputs: one history or many, as `Recommender.recommend` takes them.
            kwargs: `top_k`, by default 10, and `exclude_seen`, `candidates`, `filter` and `adapter` of
                `Recommender.recommend`.
        """
        return self.run_single(inputs, *self._merged(kwargs))

    def _merged(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        given = self._sanitize_parameters(**kwargs)
        kept = (self._preprocess_params, self._forward_params, self._postprocess_params)
        return tuple({**before, **now} for before, now in zip(kept, given, strict=True))

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = ("top_k", "exclude_seen", "candidates", "filter", "adapter")
        unknown = sorted(kwargs.keys() - set(known))
        if unknown:
            raise ValueError(f"A recommendation takes {', '.join(f'`{name}`' for name in known)}, got {unknown}.")
        return {}, kwargs, {}

    def preprocess(self, inputs: Any) -> dict[str, Any]:
        return {"history": inputs}

    def _forward(self, inputs: dict[str, Any], top_k: int = 10, **kwargs: Any) -> Any:
        found = self.recommender.recommend(inputs["history"], top_k, **kwargs)
        if found and isinstance(found[0], list):
            return [[one._asdict() for one in each] for each in found]
        return [one._asdict() for one in found]

    def postprocess(self, outputs: Any) -> Any:
        return outputs


PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=RecommendationPipeline, pt_model=AutoModel)
