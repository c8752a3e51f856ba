"""exprmetric"""
