"""Train the same model with each loss: `python train/compare_losses.py --config configs/losses_beauty.yaml`."""

from __future__ import annotations

from hfrec.cli import build_losses_parser

if __name__ == "__main__":
    import hfrec

    print(hfrec.losses_table(hfrec.compare_losses(build_losses_parser().parse_args())))
