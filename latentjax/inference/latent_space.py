"""Interpolations, traversals and the KL of every latent.

Shapes: M images, H W C image, Z_l latents of a group.
"""

import jax
import numpy as np

from latentjax.inference.trained_model import TrainedModel

NUM_INTERPOLATIONS, INTERPOLATION_STEPS = 8, 10  # interpolations, and the images of each

NUM_TRAVERSED_UNITS, TRAVERSAL_VALUES = (
  10,
  np.linspace(-3, 3, 13),
)  # traversals, and where each stops, in units of the prior


def interpolate(trained: TrainedModel, images: np.ndarray) -> np.ndarray:
  """[M // 2, STEPS + 2, H, W, C]: image 2i, the way between the latents of 2i and 2i + 1, and image 2i + 1.

  The way is straight in the posterior means in units of their priors, all groups of latents at once.

  Args:
    images: [M, H, W, C] uint8; an odd last one is left out.
  """
  images = images[: len(images) // 2 * 2]
  between = np.linspace(0.0, 1.0, INTERPOLATION_STEPS, dtype=np.float32)[None, :, None]

  def along(group: np.ndarray) -> np.ndarray:  # [M, Z] -> [M // 2 * STEPS, Z]
    start, end = group[0::2, None], group[1::2, None]
    return ((1 - between) * start + between * end).reshape(-1, group.shape[-1])

  latents = [along(group) for group in jax.device_get(trained.inference.encode(trained.variables, images))]
  decoded = jax.device_get(trained.inference.decode(trained.variables, latents))
  pixels = images[:, None] / 255
  return np.concatenate(
    [pixels[0::2], decoded.reshape(-1, INTERPOLATION_STEPS, *images.shape[1:]), pixels[1::2]], axis=1
  )


def traverse(trained: TrainedModel, images: np.ndarray | jax.Array) -> tuple[np.ndarray, list[str]]:
  """One unit after the other changed, all else left at the posterior means of the first image.

  Args:
    images: [M, H, W, C] as `inference.evaluate` takes them.

  Returns:
    [R, len(VALUES), H, W, C] for the R units of the largest KL, averaged over the images; and what they are.
  """
  inference, variables, kl = trained.inference, trained.variables, kl_per_latent(trained, images)
  every = [(group, unit) for group, of_group in enumerate(kl) for unit in range(len(of_group))]
  units = sorted(every, key=lambda place: -kl[place[0]][place[1]])[:NUM_TRAVERSED_UNITS]
  means = jax.device_get(inference.encode(variables, images))  # of all, which --mode=evaluate compiles, too
  latents = [np.tile(group[0], (len(units), len(TRAVERSAL_VALUES), 1)) for group in means]
  for row, (group, unit) in enumerate(units):
    latents[group][row, :, unit] = TRAVERSAL_VALUES
  decoded = jax.device_get(inference.decode(variables, [group.reshape(-1, group.shape[-1]) for group in latents]))
  titles = [f"z{group + 1}, unit {unit + 1}\n{kl[group][unit]:.2f} nats" for group, unit in units]
  return decoded.reshape(len(units), len(TRAVERSAL_VALUES), *decoded.shape[1:]), titles


def kl_per_latent(trained: TrainedModel, images: np.ndarray | jax.Array) -> list[np.ndarray]:
  """L arrays [Z_l] of nats: the KL of every latent, averaged over uint8 images [M, H, W, C], with one sample each."""
  key = jax.random.fold_in(trained.keys.evaluate, 0)  # of the first batch of --mode=evaluate
  return [np.asarray(group).mean(0) for group in trained.inference.kl_per_unit(trained.variables, images, key)]
