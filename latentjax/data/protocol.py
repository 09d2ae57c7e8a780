"""What every run does alike, so that their numbers compare: which images are held out, and what is drawn once.

Shapes: M images in a split, H W C image.
"""

import jax
import numpy as np

from latentjax.data import scenes
from latentjax.data.splits import LABELS, SPLITS, Splits
from latentjax.errors import UsageError

HELD_OUT = 10_000  # images of train that become a split which a set lacks
SEED = 0  # of splits, of fixed scenes and of fixed binarisation


def hold_out(splits: Splits) -> Splits:
  """Completes a set without validation or test: each is the last 10,000 of what a seeded permutation leaves of train.

  From a set of fewer than 50,000 images each takes a fifth instead. Labels go with their images.
  """
  if "train" not in splits:
    raise UsageError(f"the dataset has no train split, only {', '.join(splits)}")
  num_train = len(splits["train"])
  order = np.random.default_rng(SEED).permutation(num_train)
  count = min(HELD_OUT, max(1, num_train // 5))

  def of(split):
    return {kind: splits[split + kind] for kind in ("", LABELS) if split + kind in splits}

  completed = {}
  for split in ("validation", "test"):
    if split in splits:
      completed[split] = of(split)
    else:
      order, last = order[:-count], order[-count:]
      completed[split] = {kind: array[last] for kind, array in of("train").items()}
  completed["train"] = of("train")
  if len(order) < num_train:
    completed["train"] = {kind: array[order] for kind, array in completed["train"].items()}
  return {split + kind: array for split, arrays in completed.items() for kind, array in arrays.items()}


def compose_once(images: np.ndarray, split: str) -> np.ndarray:
  """A scene for each of the images [M, H, W, C] of a split, the same at every call."""
  key = jax.random.fold_in(jax.random.key(SEED), SPLITS.index(split))
  return np.asarray(jax.jit(scenes.compose)(key, images))


def binarize_once(images: np.ndarray, split: str) -> np.ndarray:
  """Images [M, H, W, C] in 0 and 255, each pixel white with probability value / 255, the same at every call."""
  generator = np.random.default_rng([SEED, *split.encode()])
  drawn = np.empty_like(images)
  for start in range(0, len(images), 1000):  # a large set's random numbers would not fit in memory at once
    grey = images[start : start + 1000]
    drawn[start : start + 1000] = 255 * (generator.random(grey.shape, dtype=np.float32) * 255 < grey)
  return drawn
