"""`exprmetric.compare`: the command of the same name, in Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from exprmetric.comparing.compare import Comparison
from exprmetric.comparing.compare import compare as compare_models
from exprmetric.comparing.contestants import contestants, load_contestants
from exprmetric.errors import InputError
from exprmetric.evaluation.result import EvaluationResult


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
