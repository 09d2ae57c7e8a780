"""DRAW: the model, its step as written in the paper, and the same step optimized for speed."""
