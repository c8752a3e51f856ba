"""Weights: which files there are, where they stand, and whether they are the pinned ones."""

from exprmetric.weights.store import add, cache_dir, entries, entry, find, is_present, locate, places, pull, remove

__all__ = ["add", "cache_dir", "entries", "entry", "find", "is_present", "locate", "places", "pull", "remove"]
