"""Datasets: load images by name, split them, and feed batches to the device."""
