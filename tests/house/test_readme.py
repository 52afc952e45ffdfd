"""The README's Python runs as a newcomer would paste it: block after block, in an empty folder, offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_hub import LocalHub

ROOT = Path(__file__).parents[2]
NOT_RUN = re.compile(r"<!--\s*not run:(?P<reason>.*?)-->")


@dataclass(frozen=True)
class Block:
    """A fenced Python block: the line its code starts on (from 1), its code, and why it is not run, if so."""

    line: int
    source: str
    not_run: str | None = None


def python_blocks(text: str) -> list[Block]:
    """The ```python blocks of a Markdown text; `<!-- not run: reason -->` above a block marks it."""
    blocks: list[Block] = []
    lines = text.splitlines()
    number, last = 0, ""  # last: the nearest line above that is not blank
    while number < len(lines):
        line = lines[number]
        if line.startswith("```"):
            end = next((n for n in range(number + 1, len(lines)) if lines[n].startswith("```")), None)
            if end is None:
                raise ValueError(f"line {number + 1}: the block is never closed")
            if line.strip() == "```python":
                mark = NOT_RUN.search(last)
                reason = mark["reason"].strip() if mark else None
                if reason == "":
                    raise ValueError(f"line {number + 1}: `not run` needs a reason")
                blocks.append(Block(number + 2, "\n".join(lines[number + 1 : end]) + "\n", reason))
            number = end
            line = "```"
        if line.strip():
            last = line
        number += 1
    return blocks


def as_script(blocks: list[Block]) -> str:
    """One script of the blocks that are run, each on the lines where it stands: so tracebacks give them."""
    script = ""
    for block in blocks:
        if block.not_run is None:
            script += "\n" * (block.line - 1 - script.count("\n")) + block.source
    return script


def run_blocks(blocks: list[Block], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run them in `folder`, sharing one namespace, without the Hub and without the real data."""
    script = folder / "readme.py"
    script.write_text(as_script(blocks), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HFREC_")}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, script.name],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_readme_compiles_and_runs(tmp_path: Path) -> None:
    blocks = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    for block in blocks:
        compile("\n" * (block.line - 1) + block.source, "README.md", "exec")
    assert any(block.not_run is None for block in blocks), "the README shows no Python that is run"
    run = run_blocks(blocks, tmp_path)
    assert run.returncode == 0, run.stderr[-4000:]


def test_what_needs_the_hub_runs_on_one_of_our_own(
    run_client: Callable[..., subprocess.CompletedProcess[str]], trained_folder: Path, tmp_path: Path
) -> None:
    blocks = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    (block,) = [block for block in blocks if block.not_run and "Hub" in block.not_run]
    (tmp_path / "out").symlink_to(trained_folder)
    # A Hub without anything on it: the names of the README are taken on that of the other tests.
    with LocalHub().served() as hub:
        ran = run_client(f"import os\nos.chdir({str(tmp_path)!r})\n{block.source}", at=hub)
    assert ran.returncode == 0, ran.stderr[-4000:]
    *_, adapters, length, again = ran.stdout.splitlines()
    assert adapters == "['summer']" and length == again == "120"


def test_readme_shows_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text


SAMPLE = """# Title
```python
first = 1
```
```sh
not python
```
<!-- not run: needs the Hub -->

```python
raise RuntimeError
```
Prose ends what the comment above was about.
```python
open("seen.txt", "w").write(str(first + 1))
```
"""


def test_blocks_share_a_namespace_and_marked_ones_are_left_out(tmp_path: Path) -> None:
    blocks = python_blocks(SAMPLE)
    assert [(block.line, block.not_run) for block in blocks] == [(3, None), (11, "needs the Hub"), (15, None)]
    assert run_blocks(blocks, tmp_path).returncode == 0
    assert (tmp_path / "seen.txt").read_text() == "2"


def test_a_failing_block_is_found_with_its_line(tmp_path: Path) -> None:
    run = run_blocks(python_blocks(SAMPLE.replace("first + 1", "firts + 1")), tmp_path)
    assert run.returncode != 0
    assert "line 15" in run.stderr
    assert "firts" in run.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("<!-- not run: -->\n```python\nx\n```\n", "needs a reason"), ("```python\nx\n", "never closed")],
)
def test_a_malformed_readme_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        python_blocks(text)
