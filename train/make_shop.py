"""Write the synthetic shop: `python train/make_shop.py --config configs/demo_shop.yaml`."""

from __future__ import annotations

from pathlib import Path

import hfrec
from hfrec.cli import build_shop_parser, make_once, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        config = build_shop_parser().parse_args()
        settings = f"seed {config.seed}, {config.num_items} items, {config.num_users} users"
        sizes = (config.seed, config.num_items, config.num_users)
        make_once(Path(config.output), settings, lambda output: hfrec.make_shop(*sizes).save(output))
