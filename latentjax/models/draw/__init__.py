"""DRAW: the model, its step as the paper has it, and the same step made fast."""

__all__ = ["DRAW", "Drawing"]
