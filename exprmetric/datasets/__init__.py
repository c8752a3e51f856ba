"""Data sets of faces to learn from and to judge by."""
