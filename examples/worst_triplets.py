"""The triplets whose expression was kept worst, from Python.

python examples/worst_triplets.py swaps/
"""

from __future__ import annotations

import sys

import exprmetric

if __name__ == "__main__":
    result = exprmetric.evaluate(sys.argv[1], methods=["default"])
    coverage = result.summary["coverage"]
    print(f"{coverage['ok']} of {coverage['triplets']} measured, failed: {coverage['failed']}")
    measured = [t for t in result.triplets if t["status"] == "ok"]
    for triplet in sorted(measured, key=lambda t: -t["default.t2c"])[:10]:
        print(f"{triplet['default.t2c']:.3f}  {triplet['id']}  {triplet['swapped']}")
