"""Versions of everything that can change a number."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from exprmetric._version import __version__

PACKAGES = (
    "exprmetric",
    "numpy",
    "scipy",
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "pillow",
    "onnxruntime",
    "onnxruntime-gpu",
    "ai-edge-litert",
    "insightface",
    "dlib-bin",
    "dlib",
    "av",
)
"""Whatever decodes, warps or computes: another version may give another last digit."""


def environment() -> dict[str, str]:
    """Python, platform, and the versions of the installed packages that take part."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        version = package_version(name)
        if version:
            found[name] = version
    return found


def stamp(schema_version: int) -> dict[str, Any]:
    """How every result begins: `schema_version`, `exprmetric_version`, and `created`, an ISO 8601 time."""
    return {
        "schema_version": schema_version,
        "exprmetric_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def versions(found: dict[str, str]) -> dict[str, str]:
    """The part of an environment on which numbers depend: a new kernel must not stop a run from going on."""
    return {name: version for name, version in found.items() if name not in ("python", "platform")}


def package_version(name: str) -> str:
    """The installed version, '' when the package is not installed."""
    if name == "exprmetric":  # what runs, installed or not
        return __version__
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
