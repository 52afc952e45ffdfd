"""Train a small CLIP on the captions of a shop, for the demo: it sees without the Hub."""

from __future__ import annotations

from pathlib import Path

import hfrec
from hfrec.cli import build_clip_parser, make_once, one_line_errors


def train(output: Path) -> None:
    shop = hfrec.make_shop(config.seed, config.num_items, num_users=0)
    captions = hfrec.Catalog.from_frame(hfrec.make_captions(shop))
    hfrec.train_clip(captions, output, steps=config.steps, seed=config.seed)


if __name__ == "__main__":
    with one_line_errors():
        config = build_clip_parser().parse_args()
        settings = f"seed {config.seed}, {config.num_items} items, {config.steps} steps"
        make_once(Path(config.output), settings, train)
