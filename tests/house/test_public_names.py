"""What `import hfrec` offers, what it costs, and how fast the command line answers."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PUBLIC_NAMES = [
    "Catalog",
    "CountingTransitions",
    "Crop",
    "EndToEndTrainer",
    "FoundationTrainer",
    "Histories",
    "HubTable",
    "Hybrid",
    "Item2Vec",
    "ItemEncoder",
    "ItemKNN",
    "ItemTable",
    "Mask",
    "MatrixFactorization",
    "Mixture",
    "OneOf",
    "PictureAugmentation",
    "Popularity",
    "Projector",
    "PureSVD",
    "RecConfig",
    "RecModel",
    "RecProcessor",
    "RecTrainer",
    "RecTrainingArguments",
    "Recommendation",
    "Recommender",
    "Reorder",
    "Source",
    "Splits",
    "Substitute",
    "Targets",
    "TextAugmentation",
    "TextNeighbours",
    "VectorNeighbours",
    "benchmark_table",
    "compare_languages",
    "compare_losses",
    "compare_modalities",
    "compare_updates",
    "evaluate",
    "few_shot_tables",
    "fit_projector",
    "languages_table",
    "load_interactions",
    "lora_targets",
    "losses",
    "losses_table",
    "make_captions",
    "make_shop",
    "modalities_table",
    "push_folder",
    "push_table",
    "run_adaptation",
    "run_baselines",
    "run_benchmark",
    "run_few_shot",
    "run_pretraining",
    "run_search",
    "run_training",
    "run_update",
    "search_table",
    "serving_table",
    "split_by_time",
    "split_cold_items",
    "split_leave_last",
    "split_new_events",
    "time_serving",
    "train_clip",
    "updates_table",
    "with_languages",
    "with_variants",
]

# Runs `hfrec <argument>` as the console script does, then says on stderr whether torch came along.
COMMAND = """
import sys
from hfrec.cli import main
try:
    status = main()
except SystemExit as end:
    status = end.code
print("torch" in sys.modules, file=sys.stderr)
sys.exit(status)
"""


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def test_public_names_are_exactly_these() -> None:
    import hfrec

    assert sorted(hfrec.__all__) == PUBLIC_NAMES


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_name_resolves(name: str) -> None:
    import hfrec

    assert getattr(hfrec, name) is not None
    assert name in dir(hfrec)


def test_unknown_name_is_an_attribute_error_that_names_it() -> None:
    import hfrec

    with pytest.raises(AttributeError, match="Recomender"):
        _ = hfrec.Recomender


def test_import_alone_leaves_the_slow_libraries_out() -> None:
    slow = ("sentence_transformers", "peft", "transformers.trainer", "datasets", "torchvision")
    loaded = _python(f"import hfrec, sys; print([name for name in {slow} if name in sys.modules])").stdout
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_command_line_answers_without_torch_and_within_a_second(flag: str) -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        answer = _python(COMMAND, flag)
        seconds.append(time.perf_counter() - start)
    assert answer.stderr.split() == ["False"], "torch was imported, or something was written to stderr"
    if flag == "--version":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert project["version"] in answer.stdout
    else:
        assert "recommend" in answer.stdout
    assert min(seconds) < 1.0, f"`hfrec {flag}` took {min(seconds):.2f} s, the best of three"
