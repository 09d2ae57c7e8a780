"""What every source of images gives, and by which names."""

import numpy as np

SPLITS = ("train", "validation", "test")
LABELS = "_labels"  # after a split's name
NAMES = "label_names"

# Of each split uint8 images [M, H, W, C]. Where labels are known int64 `train_labels` [M] and so on, negative where
# an image has none; where they have names, `label_names` of 0, 1 ...
Splits = dict[str, np.ndarray]
