"""What FP16 and INT8 do to the tiny pack's meaning: python -m tests.benchmark.build_meaning --write FILE.json

The figures of python -m build_engines.meaning; each precision carries the conditions it was measured under. With
--precision, the others stay in the file as they are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from build_engines.meaning import PRECISIONS, meaning_of
from tests.benchmark.conditions import conditions


def main() -> None:
    """Measure, and write the figures as each precision is done."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.build_meaning", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the samples")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="default: all")
    parser.add_argument("--write", type=Path, required=True)
    chosen = parser.parse_args()
    known = json.loads(chosen.write.read_text())["precisions"] if chosen.write.exists() else []
    by_precision = {one["precision"]: one for one in known}
    for precision in chosen.precision or PRECISIONS:
        by_precision[precision] = {
            **vars(meaning_of(precision, share=chosen.share, say=print)),
            "conditions": conditions(
                what="simulated: every rounding of the typed graph in its place, computed in FP32 on a CPU",
                share=chosen.share,
            ),
        }
        measured = {"precisions": [by_precision[name] for name in PRECISIONS if name in by_precision]}
        chosen.write.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
