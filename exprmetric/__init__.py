"""exprmetric: how well does a face-swap or anonymization model keep the facial expression?

    import exprmetric
    result = exprmetric.evaluate("swaps/")
    result.summary["methods"]["default"]["mean_t2c"]

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exprmetric._version import __version__

if TYPE_CHECKING:
    from exprmetric.comparing.reproduce import reproduce
    from exprmetric.comparing.results import compare
    from exprmetric.errors import ExprmetricError
    from exprmetric.evaluation.align import align
    from exprmetric.evaluation.embed import embed
    from exprmetric.evaluation.evaluate import evaluate, evaluate_triplet
    from exprmetric.evaluation.evaluator import Evaluator
    from exprmetric.evaluation.result import EvaluationResult
    from exprmetric.inputs.pairs import draw_pairs
    from exprmetric.io.images import read_image
    from exprmetric.methods.base import Method
    from exprmetric.methods.registry import available_methods, load_method, register_method
    from exprmetric.video.scores.evaluate import evaluate_video

_LAZY = {
    "align": "exprmetric.evaluation.align",
    "compare": "exprmetric.comparing.results",
    "draw_pairs": "exprmetric.inputs.pairs",
    "embed": "exprmetric.evaluation.embed",
    "evaluate_video": "exprmetric.video.scores.evaluate",
    "Evaluator": "exprmetric.evaluation.evaluator",
    "EvaluationResult": "exprmetric.evaluation.result",
    "ExprmetricError": "exprmetric.errors",
    "evaluate": "exprmetric.evaluation.evaluate",
    "evaluate_triplet": "exprmetric.evaluation.evaluate",
    "Method": "exprmetric.methods",
    "available_methods": "exprmetric.methods",
    "load_method": "exprmetric.methods",
    "register_method": "exprmetric.methods",
    "reproduce": "exprmetric.comparing.reproduce",
    "read_image": "exprmetric.io.images",
}

__all__ = [
    "EvaluationResult",
    "Evaluator",
    "ExprmetricError",
    "Method",
    "__version__",
    "align",
    "available_methods",
    "compare",
    "draw_pairs",
    "embed",
    "evaluate",
    "evaluate_triplet",
    "evaluate_video",
    "load_method",
    "read_image",
    "register_method",
    "reproduce",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'exprmetric' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
