"""What is known of an item, and what it is worth:
`python train/compare_modalities.py --config configs/modalities_movielens_1m.yaml`.
"""

from __future__ import annotations

import hfrec
from hfrec.cli import build_modalities_parser, one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        print(hfrec.modalities_table(hfrec.compare_modalities(build_modalities_parser().parse_args())))
