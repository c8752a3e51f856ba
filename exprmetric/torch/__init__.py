"""Inside a training loop: the metric that syncs over ranks, the loss that teaches, and the encoder under both.

    from exprmetric.torch import ExpressionLoss, ExpressionPreservation

Needs the extra `torch`.
"""

from __future__ import annotations

from importlib.util import find_spec

from exprmetric.errors import MissingPackageError

_missing = [name for name in ("torch", "timm", "torchmetrics") if find_spec(name) is None]
if _missing:
    raise MissingPackageError(f"exprmetric.torch needs {', '.join(_missing)}: pip install 'exprmetric[torch]'")

from exprmetric.encoder.models import import_timm  # noqa: E402

import_timm()  # before torchmetrics, which imports torchvision too and can't mend it

from exprmetric.encoder.onnx_file import Architecture  # noqa: E402
from exprmetric.torch.encoder import ExpressionEncoder  # noqa: E402
from exprmetric.torch.loss import ExpressionLoss  # noqa: E402
from exprmetric.torch.metric import ExpressionPreservation  # noqa: E402

__all__ = ["Architecture", "ExpressionEncoder", "ExpressionLoss", "ExpressionPreservation"]
