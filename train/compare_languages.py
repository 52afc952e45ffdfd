"""Swapped titles: `python train/compare_languages.py --config configs/languages_movielens_1m.yaml`."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_languages_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        print(hfrec.languages_table(hfrec.compare_languages(build_languages_parser().parse_args())))
