"""What an update is worth: `python train/compare_updates.py --config configs/update_movielens_1m.yaml`."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_updates_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        print(hfrec.updates_table(hfrec.compare_updates(build_updates_parser().parse_args())))
