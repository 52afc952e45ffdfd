"""Train a recommender: `accelerate launch train/train.py --config configs/demo.yaml`, with dotted overrides."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_run_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        hfrec.run_training(build_run_parser().parse_args())
