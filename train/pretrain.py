"""Train a foundation: `accelerate launch train/pretrain.py --config configs/foundation_movies_sports.yaml`."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_pretraining_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        hfrec.run_pretraining(build_pretraining_parser().parse_args())
