"""Train a small CLIP on the captions of a shop, for the demo: it sees without the Hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import hfrec
from hfrec.cli import build_clip_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        config = build_clip_parser().parse_args()
        output = Path(config.output)
        settings = f"seed {config.seed}, {config.num_items} items, {config.steps} steps\n"
        made = output / "settings.txt"
        if made.exists() and made.read_text() == settings:
            print(f"{output} is there already: {settings}", end="")
        else:
            shutil.rmtree(output, ignore_errors=True)
            shop = hfrec.make_shop(config.seed, config.num_items, num_users=0)
            captions = hfrec.Catalog.from_frame(hfrec.make_captions(shop))
            hfrec.train_clip(captions, output, steps=config.steps, seed=config.seed)
            made.write_text(settings)
            print(f"a CLIP of {len(captions)} captioned pictures written to {output}")
