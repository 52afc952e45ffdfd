"""Time what a foundation takes to serve: `python train/time_serving.py --config configs/serving_movielens_1m.yaml`."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_serving_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        print(hfrec.serving_table(hfrec.time_serving(build_serving_parser().parse_args())))
