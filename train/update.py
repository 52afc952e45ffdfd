"""Go on with new events and items: `accelerate launch train/update.py --config configs/update_demo.yaml`."""

from __future__ import annotations

import hfrec
from hfrec.cli import build_update_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        hfrec.run_update(build_update_parser().parse_args())
