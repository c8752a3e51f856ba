"""Evaluation: plan → faces → vectors → distances → `EvaluationResult`."""
