"""What FP16 and INT8 do to the tiny pack's meaning: python -m tests.benchmark.build_meaning --write FILE.json

The figures of python -m build_engines.meaning, with the conditions they were measured under.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from build_engines.meaning import all_of
from tests.benchmark.conditions import conditions


def main() -> None:
    """Measure all precisions, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.build_meaning", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the samples")
    parser.add_argument("--write", type=Path, required=True)
    chosen = parser.parse_args()
    measured = {
        "precisions": [vars(one) for one in all_of(share=chosen.share, say=print)],
        "conditions": conditions(
            what="simulated: every rounding of the typed graph in its place, computed in FP32 on a CPU",
            share=chosen.share,
        ),
    }
    text = json.dumps(measured, indent=1)
    chosen.write.write_text(text + "\n", encoding="utf-8")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
