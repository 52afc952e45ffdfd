"""Every YAML in `configs/` says how it is run and what came of it, and its reader accepts nothing else."""

from __future__ import annotations

import re
from argparse import ArgumentError
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
LAUNCHERS = sorted((ROOT / "configs/accelerate").glob("*.yaml"))

# The command in a header names who reads the file; here stands the function of `hfrec.cli` that parses it.
# A new script of train/ that takes a config is added here, and its parser there.
PARSERS = {
    "train/train.py": "build_run_parser",
    "train/fit_baselines.py": "build_run_parser",
    "train/make_shop.py": "build_shop_parser",
    "train/pretrain_clip.py": "build_clip_parser",
    "train/compare_losses.py": "build_losses_parser",
    "train/compare_modalities.py": "build_modalities_parser",
    "train/compare_languages.py": "build_languages_parser",
    "train/update.py": "build_update_parser",
    "train/compare_updates.py": "build_updates_parser",
    "train/search.py": "build_search_parser",
    "train/benchmark.py": "build_benchmark_parser",
    "train/few_shot.py": "build_few_shot_parser",
    "train/time_serving.py": "build_serving_parser",
    "train/pretrain.py": "build_pretraining_parser",
    "train/adapt.py": "build_adaptation_parser",
}
HEADER_KEYS = ("command", "hardware", "minutes", "result")
MISSPELT = "num_epohcs"


def header_of(text: str) -> dict[str, str]:
    """The comment block that opens a config, as {key: value}; a value goes on until the next key."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    fields = re.split(rf"^({'|'.join(HEADER_KEYS)}):", "\n".join(lines), flags=re.MULTILINE)
    return {key: " ".join(value.split()) for key, value in zip(fields[1::2], fields[2::2], strict=True)}


def parser_name(command: str) -> str:
    """The name in `hfrec.cli` of the parser for what `command` runs."""
    for script, name in PARSERS.items():
        if script in command:
            return name
    raise LookupError(f"`command:` must name one of {', '.join(PARSERS)}, got {command!r}")


def parse(path: Path, name: str) -> object:
    """Parse `path` by the parser `hfrec.cli.<name>`, from the repository's root.

    Raises: ArgumentError, with the parser's own message.
    """
    from hfrec import cli

    parser = getattr(cli, name)()
    parser.exit_on_error = False
    return parser.parse_args(["--config", str(path)])


def with_misspelt_key(text: str, section: str | None) -> str:
    """`text` with a key that no parser knows, in `section` or at the root."""
    if section is None:
        return f"{text.rstrip()}\n{MISSPELT}: 1\n"
    head, indent, tail = re.split(rf"(?<=^{section}:)[^\n]*\n(?:[ ]*#[^\n]*\n|\n)*([ ]+)", text, maxsplit=1, flags=re.M)
    return f"{head}\n{indent}{MISSPELT}: 1\n{indent}{tail}"


def sections_of(text: str) -> list[str]:
    """The top-level keys that hold a block mapping; of those whose keys are names none is misspelt."""
    found = re.findall(r"^(\w+):[ ]*(?:#[^\n]*)?\n(?:[ ]*#[^\n]*\n|\n)*[ ]+\w+:", text, flags=re.MULTILINE)
    return [name for name in found if name not in ("variants", "missing")]


def test_there_are_configs() -> None:
    assert {"demo.yaml", "demo_shop.yaml", "demo_clip.yaml"} <= {path.name for path in CONFIGS}
    assert {"one_gpu", "two_cpu_processes", "ddp", "fsdp2"} == {path.stem for path in LAUNCHERS}


@pytest.mark.parametrize("path", [*CONFIGS, *LAUNCHERS], ids=lambda path: path.name)
def test_header_is_complete(path: Path) -> None:
    header = header_of(path.read_text(encoding="utf-8"))
    assert [key for key in HEADER_KEYS if not header.get(key)] == [], "missing or empty in the header"
    assert str(path.relative_to(ROOT)) in header["command"], "the command must be the one that runs this file"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config_parses_and_a_misspelt_key_is_named(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = path.read_text(encoding="utf-8")
    name = parser_name(header_of(text).get("command", ""))
    parse(path, name)
    for section in (None, *sections_of(text)):
        broken = tmp_path / path.name
        broken.write_text(with_misspelt_key(text, section), encoding="utf-8")
        with pytest.raises(ArgumentError, match=MISSPELT):
            parse(broken, name)


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_accelerate_launches_by_it_and_a_misspelt_key_is_named(path: Path, tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    command = ["--config_file", str(path), "train/train.py"]
    arguments, config, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    assert arguments.num_processes == config.num_processes >= 1
    # `multi_gpu` and `use_fsdp` alone start several processes.
    assert (arguments.multi_gpu or arguments.use_fsdp) == (config.num_processes > 1)
    unknown = set(config.fsdp_config) - set(vars(arguments))
    assert unknown == set(), "settings of FSDP that the launcher does not know"
    broken = tmp_path / path.name
    broken.write_text(with_misspelt_key(path.read_text(encoding="utf-8"), None), encoding="utf-8")
    with pytest.raises(ValueError, match=MISSPELT):
        load_config_from_file(str(broken))


SAMPLE = """# A line about the run.
# command: accelerate launch train/train.py \\
#   --config configs/demo.yaml
# hardware: 2 CPU cores
# minutes: 1
# result: NDCG@10 .1
data:  # the shop
  # comment
  path: runs/demo
seed: 3

model:

    hidden_size: 8
"""


def test_a_header_is_read_over_several_lines() -> None:
    header = header_of(SAMPLE)
    assert header["command"].endswith("--config configs/demo.yaml")
    assert header["result"] == "NDCG@10 .1"
    assert parser_name(header["command"]) == "build_run_parser"
    assert header_of("seed: 3\n# command: x\n") == {}


def test_a_misspelt_key_lands_where_it_is_put() -> None:
    import yaml

    assert sections_of(SAMPLE) == ["data", "model"]
    plain = yaml.safe_load(SAMPLE)
    assert yaml.safe_load(with_misspelt_key(SAMPLE, None)) == plain | {MISSPELT: 1}
    for section in ("data", "model"):
        changed = yaml.safe_load(with_misspelt_key(SAMPLE, section))
        assert changed == plain | {section: plain[section] | {MISSPELT: 1}}
