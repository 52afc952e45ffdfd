"""The command line, as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl

from hfrec.data.synthetic import Shop


def hfrec_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from hfrec.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)


def test_recommend_for_users_of_a_log_with_a_sheet(trained_folder: Path, shop: Shop, tmp_path: Path) -> None:
    shop.interactions.write_parquet(tmp_path / "log.parquet")
    sheet = tmp_path / "sheet.png"
    log = str(tmp_path / "log.parquet")
    ran = hfrec_command(
        "recommend", "--model", str(trained_folder), "--sample-users", "2", "--interactions", log, "--sheet", str(sheet)
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("\nuser ") == 2 and ran.stdout.count("  1. ") == 2 and sheet.stat().st_size > 1000


def test_recommend_many_into_parquet(trained_folder: Path, shop: Shop, tmp_path: Path) -> None:
    item_id = shop.items["item_id"][0]
    (tmp_path / "h.jsonl").write_text(f'{{"user_id": 7, "item_ids": ["{item_id}"]}}\n', encoding="utf-8")
    out = str(tmp_path / "lists.parquet")
    ran = hfrec_command(
        "recommend", "--model", str(trained_folder), "--histories", str(tmp_path / "h.jsonl"), "--out", out, "--k", "4"
    )
    assert ran.returncode == 0, ran.stderr
    assert pl.read_parquet(out)["rank"].to_list() == [1, 2, 3, 4]


def test_similar_items(trained_folder: Path, shop: Shop) -> None:
    ran = hfrec_command("similar", "--model", str(trained_folder), "--item", shop.items["item_id"][3], "--k", "3")
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.strip().splitlines()) == 3


def test_an_error_is_one_line_and_status_2(tmp_path: Path) -> None:
    ran = hfrec_command("recommend", "--model", str(tmp_path), "--history", "a")
    assert ran.returncode == 2 and "manifest.json is missing" in ran.stderr and "Traceback" not in ran.stderr
