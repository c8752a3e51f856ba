"""Versions of everything that can change a number."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = (
    "exprmetric",
    "numpy",
    "scipy",
    "opencv-python",
    "pillow",
    "onnxruntime",
    "onnxruntime-gpu",
    "insightface",
    "dlib-bin",
    "dlib",
    "av",
)


def environment() -> dict[str, str]:
    """Python, platform, and the versions of the installed packages that take part."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        version = package_version(name)
        if version:
            found[name] = version
    return found


def package_version(name: str) -> str:
    """The installed version, '' when the package is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
