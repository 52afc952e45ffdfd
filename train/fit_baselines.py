"""Fit, judge and save every baseline: `python train/fit_baselines.py --config configs/demo.yaml`, as train.py."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_run_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        hfrec.run_baselines(build_run_parser().parse_args())
