"""Methods: expression encoders, landmarks, the identity control; `load_method(name)` gives one."""

from importlib import import_module

from exprmetric.methods.base import NOT_COMPARABLE, Method
from exprmetric.methods.registry import METHODS, available_methods, load_method, register_method

for _name in (
    "blendshapes",
    "compatibility",
    "gaze",
    "identity",
    "landmarks",
    "pose",
    "threedmm",
):  # each registers its methods
    import_module(f"{__name__}.{_name}")

__all__ = ["METHODS", "NOT_COMPARABLE", "Method", "available_methods", "load_method", "register_method"]
