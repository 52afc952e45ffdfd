"""Search for the settings of a run: `python train/search.py --config configs/search_beauty.yaml`; again, it goes on."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_search_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        config = build_search_parser().parse_args()
        print(hfrec.search_table(hfrec.run_search(config)), config.training.output_dir, sep="\n\n")
