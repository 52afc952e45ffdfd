"""Train the same model with each loss: `python train/compare_losses.py --config configs/losses_beauty.yaml`."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_losses_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        config = build_losses_parser().parse_args()
        print(hfrec.losses_table(hfrec.compare_losses(config)))
