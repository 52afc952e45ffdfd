"""hfrec: the first recommender that you can `from_pretrained`.

Everything named here is loaded when it is first used. transformers' Auto classes and its `pipeline` know hfrec's models
from the import on: what they need of hfrec is loaded when they are.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from hfrec.registration import when_imported

__version__ = "0.1.0"

# oneDNN, by which torch multiplies on a CPU, keeps a kernel for each shape that it meets, 1,024 in each of two caches;
# of products by bfloat16 about 1 MB each. A training meets new shapes in every step, and hardly an old one again.
for _cache in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "32")

_EXPORTS = {
    "Catalog": "hfrec.data.catalog",
    "CountingTransitions": "hfrec.models.transitions",
    "Crop": "hfrec.data.augmentation",
    "EndToEndTrainer": "hfrec.training.end_to_end",
    "FoundationTrainer": "hfrec.training.foundation",
    "Histories": "hfrec.data.histories",
    "HubTable": "hfrec.data.hub",
    "Hybrid": "hfrec.models.hybrid",
    "Item2Vec": "hfrec.models.item2vec",
    "ItemEncoder": "hfrec.items.encoder",
    "ItemKNN": "hfrec.models.item_knn",
    "ItemTable": "hfrec.items.table",
    "Mask": "hfrec.data.augmentation",
    "MatrixFactorization": "hfrec.models.matrix_factorization",
    "Mixture": "hfrec.training.mixture",
    "OneOf": "hfrec.data.augmentation",
    "PictureAugmentation": "hfrec.items.augmentation",
    "Popularity": "hfrec.models.popularity",
    "Projector": "hfrec.items.projector",
    "PureSVD": "hfrec.models.matrix_factorization",
    "RecConfig": "hfrec.models",
    "RecModel": "hfrec.models",
    "RecProcessor": "hfrec.models",
    "RecTrainer": "hfrec.training.trainer",
    "RecTrainingArguments": "hfrec.training.arguments",
    "Recommendation": "hfrec.recommend.recommender",
    "Recommender": "hfrec.recommend.recommender",
    "Reorder": "hfrec.data.augmentation",
    "Source": "hfrec.training.mixture",
    "Splits": "hfrec.data.splits",
    "Substitute": "hfrec.data.augmentation",
    "Targets": "hfrec.data.histories",
    "TextAugmentation": "hfrec.items.augmentation",
    "TextNeighbours": "hfrec.models.neighbours",
    "VectorNeighbours": "hfrec.models.neighbours",
    "benchmark_table": "hfrec.training.benchmark_page",
    "compare_languages": "hfrec.training.compare_languages",
    "compare_losses": "hfrec.training.compare",
    "compare_modalities": "hfrec.training.compare_modalities",
    "compare_updates": "hfrec.training.compare_updates",
    "evaluate": "hfrec.evaluation.evaluator",
    "few_shot_tables": "hfrec.training.few_shot",
    "fit_projector": "hfrec.training.aligning",
    "languages_table": "hfrec.training.compare_languages",
    "load_interactions": "hfrec.data.interactions",
    "lora_targets": "hfrec.models.lora_targets",
    "losses_table": "hfrec.training.compare",
    "make_captions": "hfrec.data.synthetic",
    "make_shop": "hfrec.data.synthetic",
    "modalities_table": "hfrec.training.compare_modalities",
    "push_folder": "hfrec.data.repository",
    "push_table": "hfrec.items.sharing",
    "run_adaptation": "hfrec.training.adapt",
    "run_baselines": "hfrec.training.baseline_run",
    "run_benchmark": "hfrec.training.benchmark",
    "run_few_shot": "hfrec.training.few_shot",
    "run_pretraining": "hfrec.training.pretrain",
    "run_search": "hfrec.training.search",
    "run_training": "hfrec.training.run",
    "run_update": "hfrec.training.update_run",
    "search_table": "hfrec.training.search",
    "serving_table": "hfrec.serving.timing",
    "split_by_time": "hfrec.data.splits",
    "split_cold_items": "hfrec.data.splits",
    "split_leave_last": "hfrec.data.splits",
    "split_new_events": "hfrec.data.splits",
    "time_serving": "hfrec.serving.timing",
    "train_clip": "hfrec.training.contrastive",
    "updates_table": "hfrec.training.compare_updates",
    "with_languages": "hfrec.items.languages",
    "with_variants": "hfrec.items.augmentation",
}

__all__ = sorted([*_EXPORTS, "losses"])


when_imported("transformers.models.auto.modeling_auto", "hfrec.models")
when_imported("transformers.pipelines", "hfrec.recommend.pipeline")


def __getattr__(name: str) -> Any:
    if name == "losses":
        return importlib.import_module("hfrec.losses")
    if name not in _EXPORTS:
        raise AttributeError(f"hfrec has no attribute {name!r}; it has {', '.join(__all__)}.")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
