"""Judge variants of a run under several seeds: `python train/benchmark.py --config configs/benchmark_beauty.yaml`."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_benchmark_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        print(hfrec.benchmark_table(hfrec.run_benchmark(build_benchmark_parser().parse_args())))
