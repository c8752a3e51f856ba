"""The version of exprmetric."""

__version__ = "0.1.0"
