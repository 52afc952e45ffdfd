"""Write the synthetic shop: `python train/make_shop.py --config configs/demo_shop.yaml`."""

from __future__ import annotations

from pathlib import Path

import hfrec
from hfrec.cli import build_shop_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        config = build_shop_parser().parse_args()
        output = Path(config.output)
        settings = f"seed {config.seed}, {config.num_items} items, {config.num_users} users\n"
        made = output / "settings.txt"
        if made.exists() and made.read_text() == settings:
            print(f"{output} is there already: {settings}", end="")
        else:
            made.unlink(missing_ok=True)
            shop = hfrec.make_shop(config.seed, config.num_items, config.num_users)
            shop.save(output)
            made.write_text(settings)
            print(f"{shop} written to {output}")
