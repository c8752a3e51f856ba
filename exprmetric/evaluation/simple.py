"""`exprmetric.compare` and `exprmetric.embed`: the commands of the same names, in Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.evaluation.compare import Comparison
from exprmetric.evaluation.compare import compare as compare_models
from exprmetric.evaluation.contestants import contestants, load_contestants
from exprmetric.evaluation.given import as_image
from exprmetric.evaluation.reading import lone_face
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.session import Session, Settings
from exprmetric.faces.point_models import DEFAULT

if TYPE_CHECKING:
    from exprmetric.io.images import ImageSource


def compare(
    *results: EvaluationResult | str | os.PathLike[str] | Mapping[str, EvaluationResult],
    methods: Sequence[str] = (),
    score: str = "",
    match: str = "content",
    seed: int = 0,
) -> Comparison:
    """Models on the same targets and sources: paired differences with intervals.

    Args:
        results: what `evaluate` returned (called A, B, …), folders that it wrote, or one mapping of results by name.
        methods: those that are compared, the first of them primary. Without any: all.
        score: the primary score: `kept`, `mean_t2c`, `l2_error` or `ratio`; '' for the default.
        match: what makes two targets the same: `content` or `path`.
        seed: of intervals and sign flips.

    Raises:
        InputError: there are fewer than two models, or something else is given.
    """
    named: dict[str, EvaluationResult] = {}
    folders: list[Path] = []
    for i, given in enumerate(results):
        if isinstance(given, EvaluationResult):
            named[chr(ord("A") + i) if i < 26 else f"result {i}"] = given
        elif isinstance(given, Mapping):
            named |= given
        elif isinstance(given, str | os.PathLike):
            folders.append(Path(given))
        else:
            raise InputError(f"a result is what `evaluate` returned, or its folder, not {type(given).__name__}")
    if named and folders:
        named |= {str(folder): EvaluationResult.load(folder) for folder in folders}
    models = contestants(named) if named else load_contestants(folders)
    if len(models) < 2:
        raise InputError("a comparison needs two models or more")
    return compare_models(models, match=match, methods=methods, score=score, seed=seed)


def embed(
    images: ImageSource | Sequence[ImageSource],
    method: str = "default",
    *,
    detector: str = "auto",
    face: str = "largest",
    provider: str = "cpu",
    landmarks: str = DEFAULT,
    commercial_only: bool = False,
) -> npt.NDArray[np.float32]:
    """Vectors of faces.

    Args:
        images: one image or several: paths, RGB uint8 (H, W, 3) arrays, Pillow images.
        method: a name for `load_method`.
        detector: as in `evaluate`.
        face: which of several faces: `largest`, `center`, `error`.
        provider: as in `evaluate`.
        landmarks: as in `evaluate`.
        commercial_only: as in `evaluate`.

    Returns:
        (N, D) float32, a row an image; (D,) for one image.

    Raises:
        UnreadableImageError, NoFaceError, SeveralFacesError, LowQualityError: an image has no vector.
        InputError: something that is no image is given.
    """
    one = isinstance(images, str | os.PathLike) or not isinstance(images, Sequence | np.ndarray) or _is_one(images)
    listed: list[Any] = [images] if one else list(images)  # type: ignore[arg-type]
    session = Session(Settings((method,), detector, face, provider, False, landmarks, commercial_only))
    session.reader.only = session.finder.choose
    read = [session.reader.read(as_image(image)) for image in listed]
    vectors = []
    for outcome in session.reader.represent(read):
        found = lone_face(outcome)
        if isinstance(found, Exception):
            raise found
        vectors.append(found.vectors[method])
    return np.asarray(vectors[0] if one else np.stack(vectors), np.float32)


def _is_one(images: Any) -> bool:
    return isinstance(images, np.ndarray) and images.ndim < 4
