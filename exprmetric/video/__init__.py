"""Videos: frames, faces followed through them, and what can be said of expressions over time (paper 004)."""
