"""What is installed, what is found, what is in conflict, and what to do about each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from exprmetric.io.environment import environment, package_version

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, and what to do ('' when nothing)."""

    level: Level
    topic: str
    found: str
    advice: str = ""


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    yield Finding("ok" if supported else "problem", "python", version, "" if supported else "use Python 3.10 to 3.13")


def _versions() -> Iterator[Finding]:
    for name, version in environment().items():
        if name not in ("python", "platform"):
            yield Finding("ok", name, version)


def _onnxruntime() -> Iterator[Finding]:
    both = package_version("onnxruntime") and package_version("onnxruntime-gpu")
    if both:
        yield Finding(
            "problem",
            "onnxruntime",
            "onnxruntime and onnxruntime-gpu are both installed; they overwrite each other's files",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
        )
    try:
        import onnxruntime

        yield Finding("ok", "providers", ", ".join(onnxruntime.get_available_providers()))
    except Exception as error:  # a broken install raises whatever its libraries raise
        yield Finding(
            "problem", "onnxruntime", f"can't be imported: {error}", "pip install --force-reinstall onnxruntime"
        )


def _opencv() -> Iterator[Finding]:
    variants = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    installed = [n for n in variants if package_version(n)]
    if len(installed) > 1:
        yield Finding(
            "problem",
            "opencv",
            f"{' and '.join(installed)} share one folder and overwrite each other",
            f"pip uninstall -y {' '.join(installed)} && pip install opencv-python",
        )
    try:
        import cv2

        missing = [n for n in ("FaceDetectorYN", "warpAffine") if not hasattr(cv2, n)]
        if missing:
            yield Finding(
                "problem", "opencv", f"{cv2.__version__} lacks {', '.join(missing)}", "pip install -U opencv-python"
            )
    except ImportError as error:
        advice = "apt-get install libgl1 libglib2.0-0, or: pip install opencv-python-headless instead of opencv-python"
        yield Finding("problem", "opencv", f"can't be imported: {error}", advice)


def _dlib() -> Iterator[Finding]:
    if package_version("dlib") and package_version("dlib-bin"):
        advice = "pip uninstall -y dlib dlib-bin && pip install dlib-bin"
        yield Finding("problem", "dlib", "dlib and dlib-bin are both installed and share one module", advice)
    try:
        import dlib  # noqa: F401
    except ImportError as error:
        yield Finding("problem", "dlib", f"can't be imported: {error}", "pip install --force-reinstall dlib-bin")


def _detectors() -> Iterator[Finding]:
    from exprmetric.faces.detection import AUTO_ORDER, DETECTORS, available_detectors

    present = available_detectors()
    for name, here in present.items():
        entry = DETECTORS[name].weights
        found = "ready" if here else f"weights {entry} are not here"
        yield Finding(
            "ok" if here else "note", f"detector {name}", found, "" if here else f"exprmetric weights pull {entry}"
        )
    yield Finding("ok", "detector auto", f"is {next(n for n in AUTO_ORDER if present[n])}")


def _plugins() -> Iterator[Finding]:
    from exprmetric.errors import PluginError
    from exprmetric.methods.plugins import find_plugins, load_plugin, origin
    from exprmetric.methods.registry import shadowed_plugins

    shadowed = shadowed_plugins()
    for name, points in find_plugins().items():
        topic, package = f"plug-in {name}", points[0].dist.name if points[0].dist else "its package"
        if name in shadowed:
            found = f"{origin(points[0])} offers it under the name of a method of exprmetric's own, which runs instead"
            yield Finding("problem", topic, found, f"pip uninstall {package}, or ask its authors for another name")
            continue
        try:
            load_plugin(name, points)
            yield Finding("ok", topic, f"of {origin(points[0])}")
        except PluginError as error:
            yield Finding("problem", topic, str(error), f"pip install -U {package}, or pip uninstall {package}")


def _weights() -> Iterator[Finding]:
    from exprmetric.errors import WeightsError
    from exprmetric.weights import store as weights

    folder = os.environ.get("EXPRMETRIC_WEIGHTS")
    if folder:
        yield Finding("ok", "EXPRMETRIC_WEIGHTS", folder)
    yield Finding("ok", "cache", str(weights.cache_dir()))
    for name in weights.entries():
        try:
            if not weights.is_present(name):
                yield Finding("note", f"weights {name}", "not here", f"exprmetric weights pull {name}")
                continue
            yield Finding("ok", f"weights {name}", f"{weights.find(name)} (hash verified)")
        except WeightsError as error:
            yield Finding("problem", f"weights {name}", str(error), f"exprmetric weights pull {name}")


def _torch() -> Iterator[Finding]:
    version = package_version("torch")
    if not version:
        yield Finding(
            "note",
            "torch",
            "not installed; exprmetric.torch (metric and loss), train, export, and probes of checkpoints need it",
            "pip install 'exprmetric[torch]', in a clone pip install -e '.[torch]'",
        )
        return
    for name in ("torch", "timm", "torchmetrics", "tensorboard"):
        found = package_version(name)
        if found:
            yield Finding("ok", name, found)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _versions, _onnxruntime, _opencv, _dlib, _torch, _detectors, _plugins, _weights,
)  # fmt: skip


def examine() -> list[Finding]:
    """All findings; a check that breaks is a finding itself."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check()
        except Exception as error:  # the doctor must finish whatever is broken
            findings.append(Finding("problem", check.__name__.lstrip("_"), f"{type(error).__name__}: {error}"))
    return findings


def as_records(findings: list[Finding]) -> list[dict[str, Any]]:
    """Plain values for JSON."""
    return [vars(f) for f in findings]
