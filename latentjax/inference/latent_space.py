"""Latent interpolations, traversals, and the KL of every latent.

Shapes: M images, H W C image, L latent groups, Z_l latents of a group.
"""

import jax
import numpy as np

from latentjax.inference.trained_model import TrainedModel

NUM_INTERPOLATIONS, INTERPOLATION_STEPS = 8, 10
NUM_TRAVERSED_UNITS, TRAVERSAL_VALUES = 10, np.linspace(-3, 3, 13)  # in units of the prior


def interpolate(trained: TrainedModel, images: np.ndarray) -> np.ndarray:
  """Interpolates between pairs of images, linearly in the posterior means (in units of the prior) of all groups.

  Returns [M // 2, INTERPOLATION_STEPS + 2, H, W, C]: image 2i, the interpolation, and image 2i + 1, for images
  [M, H, W, C] of uint8. An odd last one is ignored.
  """
  images = images[: len(images) // 2 * 2]
  between = np.linspace(0.0, 1.0, INTERPOLATION_STEPS, dtype=np.float32)[None, :, None]

  def along(group: np.ndarray) -> np.ndarray:  # [M, Z] -> [M // 2 * INTERPOLATION_STEPS, Z]
    start, end = group[0::2, None], group[1::2, None]
    return ((1 - between) * start + between * end).reshape(-1, group.shape[-1])

  latents = [along(group) for group in jax.device_get(trained.inference.encode(trained.variables, images))]
  decoded = jax.device_get(trained.inference.decode(trained.variables, latents))
  pixels = images[:, None] / 255
  return np.concatenate(
    [pixels[0::2], decoded.reshape(-1, INTERPOLATION_STEPS, *images.shape[1:]), pixels[1::2]], axis=1
  )


def traverse(trained: TrainedModel, images: np.ndarray | jax.Array) -> tuple[np.ndarray, list[str]]:
  """Varies one unit at a time, with all others at the posterior means of the first of the images [M, H, W, C].

  Returns [R, len(TRAVERSAL_VALUES), H, W, C] for the R units of the largest KL averaged over the images, and R titles.
  """
  inference, variables, kl = trained.inference, trained.variables, kl_per_latent(trained, images)
  all_units = [(group, unit) for group, values in enumerate(kl) for unit in range(len(values))]
  units = sorted(all_units, key=lambda unit: -kl[unit[0]][unit[1]])[:NUM_TRAVERSED_UNITS]
  means = jax.device_get(inference.encode(variables, images))  # of the whole batch, for which it is already compiled
  latents = [np.tile(group[0], (len(units), len(TRAVERSAL_VALUES), 1)) for group in means]
  for row, (group, unit) in enumerate(units):
    latents[group][row, :, unit] = TRAVERSAL_VALUES
  decoded = jax.device_get(inference.decode(variables, [group.reshape(-1, group.shape[-1]) for group in latents]))
  titles = [f"z{group + 1}, unit {unit + 1}\n{kl[group][unit]:.2f} nats" for group, unit in units]
  return decoded.reshape(len(units), len(TRAVERSAL_VALUES), *decoded.shape[1:]), titles


def kl_per_latent(trained: TrainedModel, images: np.ndarray | jax.Array) -> list[np.ndarray]:
  """Returns L arrays [Z_l] in nats: the KL of every latent, averaged over images [M, H, W, C], one sample each."""
  key = jax.random.fold_in(trained.keys.evaluate, 0)  # as the first batch of `latentjax evaluate`
  return [np.asarray(group).mean(0) for group in trained.inference.kl_per_unit(trained.variables, images, key)]
