"""Scores of swapped videos."""
