"""Fixtures that several test files share: photographs that come with packages, and the data folder."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import os
import pickle
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# no deadline: decoding and disks are slow on shared machines
settings.register_profile("exprmetric", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None)
settings.register_profile("mutation", deadline=None, derandomize=True, max_examples=20)  # thousands of runs
settings.load_profile("exprmetric")


def _use_checkout() -> None:
    """Let the tests run in a checkout that isn't installed, where cli/ is not yet known as exprmetric_cli."""
    if importlib.util.find_spec("exprmetric") is None:
        sys.path.insert(0, str(ROOT))
    if importlib.util.find_spec("exprmetric_cli") is None:
        spec = importlib.util.spec_from_file_location(
            "exprmetric_cli", ROOT / "cli" / "__init__.py", submodule_search_locations=[str(ROOT / "cli")]
        )
        assert spec is not None and spec.loader is not None
        sys.modules["exprmetric_cli"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


_use_checkout()

TORCH = all(importlib.util.find_spec(name) for name in ("torch", "timm", "torchmetrics"))


def pytest_report_header() -> str:
    """Said once, instead of a reason in each file."""
    return "" if TORCH else "files marked `torch` are left out: the torch extra is not installed"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """A file whose `pytestmark` has `torch` imports it on top; without the extra it is not looked at."""
    if TORCH or collection_path.suffix != ".py":
        return None
    marked = re.search(r"^pytestmark = [^=]*mark\.torch\b", collection_path.read_text(encoding="utf-8"), re.MULTILINE)
    return True if marked else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `torch` in a file without the mark. It is not asked by an import: torchvision's may fail beside
    another build of torch, which the package itself bears."""
    if not TORCH and item.get_closest_marker("torch"):
        pytest.skip("needs the torch extra")


def _one_click() -> None:
    """Click 8.1's `CliRunner` keeps stderr apart, as that of Click 8.2 always does."""
    if "mix_stderr" in inspect.signature(click.testing.CliRunner).parameters:
        click.testing.CliRunner.__init__ = functools.partialmethod(click.testing.CliRunner.__init__, mix_stderr=False)
        click.testing.Result.output = property(lambda result: result.stdout + result.stderr)


_one_click()


def _package_file(package: str, *parts: str) -> Path:
    """A file inside an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent.joinpath(*parts)


LOOKS_ANEW = ("test_detection", "test_hard_inputs", "test_fuzz")
"""Files whose tests are about detection itself, or about what an image costs."""


@pytest.fixture(scope="module", autouse=True)
def dlib_looks_at_an_image_once(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """dlib's detector takes 0.2 s an image, and the tests show it the same ones again and again: what it finds in one
    is kept for the session, where forks of this process find it too."""
    if request.module.__name__ in LOOKS_ANEW:
        yield
        return
    from exprmetric.faces.detection import DlibDetector

    folder = tmp_path_factory.getbasetemp() / "dlib"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("detect", "glance"):
            patch.setattr(DlibDetector, name, _kept(folder, name, getattr(DlibDetector, name)))
        yield


def _kept(folder: Path, name: str, look: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    from exprmetric.io.files import write_whole

    def detect(self: Any, image: Any) -> Any:
        key = hashlib.sha256(f"{name} {image.shape} {image.dtype}".encode() + image.tobytes()).hexdigest()
        path = folder / key
        if path.is_file():
            return pickle.loads(path.read_bytes())
        found = look(self, image)
        write_whole(path, lambda file: file.write(pickle.dumps(found)))
        return found

    return detect


@pytest.fixture(scope="session")
def portrait_photo() -> Path:
    """A frontal portrait, one face, RGB PNG 512 x 512."""
    return _package_file("skimage", "data", "astronaut.png")


@pytest.fixture(scope="session")
def group_photo() -> Path:
    """Six people, JPEG 1280 x 886."""
    return _package_file("insightface", "data", "images", "t1.jpg")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with data/, weights/ and papers/; tests that need it are marked `shared`."""
    folder = Path(os.environ.get("EXPRMETRIC_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no data folder at {folder}; name it in EXPRMETRIC_SHARED")
    return folder


@pytest.fixture(scope="session")
def outside() -> Path:
    """The folder of data sets whose terms forbid passing them on; tests that need it skip where it is absent."""
    folder = os.environ.get("EXPRMETRIC_OUTSIDE")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no outside data sets; name their folder in EXPRMETRIC_OUTSIDE")
    return Path(folder)


@pytest.fixture(scope="session")
def shared_data(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`shared_data("swaps_dev")` is a folder with what is in data/swaps_dev.zip, unpacked once a session."""
    folders: dict[str, Path] = {}

    def unpack(name: str) -> Path:
        if name not in folders:
            archive = shared / "data" / f"{name}.zip"
            if not archive.is_file():
                pytest.skip(f"no {archive}")
            folder = tmp_path_factory.mktemp(name)
            with zipfile.ZipFile(archive) as file:
                file.extractall(folder)
            folders[name] = folder
        return folders[name]

    return unpack


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread: threads that wait for each other make small networks slow on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
