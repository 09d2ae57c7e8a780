"""Inference with a trained model: encode, decode, sample, evaluate, export and explore."""
