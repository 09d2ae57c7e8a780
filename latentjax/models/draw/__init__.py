"""DRAW: the model, its step as the paper has it, and the same step made fast."""

from latentjax.models.draw.model import DRAW, Drawing

__all__ = ["DRAW", "Drawing"]
