"""The oldest versions that pyproject.toml allows, as constraints for pip: of all dependencies and the extra `test`.

Run it where exprmetric is installed with that extra; see `.ci/oldest`.
"""

from importlib.metadata import requires

from packaging.requirements import Requirement

for line in requires("exprmetric") or ():
    needed = Requirement(line)
    if needed.marker is None or needed.marker.evaluate({"extra": "test"}):
        (oldest,) = (bound.version for bound in needed.specifier if bound.operator == ">=")
        print(f"{needed.name}=={oldest}")
