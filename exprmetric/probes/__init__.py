"""Instruments that show how good an expression space is, for any registered method."""
