"""Fit a foundation to a shop: `accelerate launch train/adapt.py --config configs/adapt_beauty.yaml`."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_adaptation_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        hfrec.run_adaptation(build_adaptation_parser().parse_args())
