"""Inference with a trained model: encode, decode, sample, evaluate, draw pictures and explore."""
