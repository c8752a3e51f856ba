"""Build step: `weights_manifest.json` stands at the top of the repository and is installed inside the package."""

import shutil
from pathlib import Path

from setuptools.command.build_py import build_py  # type: ignore[import-untyped]

MANIFEST = "weights_manifest.json"


class BuildPy(build_py):  # type: ignore[misc]
    """`build_py` that also puts the weights manifest beside the package's modules."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable install reads the file at the top of the checkout
            shutil.copyfile(MANIFEST, Path(self.build_lib) / "exprmetric" / MANIFEST)

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), MANIFEST]
