"""Judge ways to learn from few users: `python train/few_shot.py --config configs/few_shot_beauty.yaml`."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_few_shot_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        print(hfrec.few_shot_tables(hfrec.run_few_shot(build_few_shot_parser().parse_args())))
