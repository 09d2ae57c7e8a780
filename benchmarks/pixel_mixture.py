"""Prints the bits per dimension of a mixture of logistics without latents, which is the same for every pixel.

    python -m benchmarks.pixel_mixture [--data photo_patches] [--components 10] [--steps 3000] [--seed 0]

One set of parameters of `model.likelihood = logistic_mixture` is fitted to all training pixels by Adam with a cosine
decay. A model with latents should have fewer.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import create_parser, positive
from latentjax.data.dataset import load_dataset
from latentjax.models.likelihoods import LogisticMixture
from latentjax.runtime.errors import RunError, UsageError

BATCH_SIZE = 4096  # pixels


def main() -> None:
  parser = create_parser(__doc__)
  parser.add_argument("--data", default="photo_patches", metavar="NAME", help="as data.name")
  parser.add_argument("--components", type=positive, default=10)
  parser.add_argument("--steps", type=positive, default=3000)
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args()
  try:
    data = load_dataset(options.data, "none")
  except (RunError, UsageError) as error:
    parser.error(str(error))
  likelihood = LogisticMixture(options.components)
  train, test = (images.reshape(-1, 1, 1, images.shape[-1]) for images in (data.train, data.test))  # of one pixel
  fitted = fit(likelihood, train, options.steps, options.seed)
  print(f"{options.data}, {options.components} components, bits/dim:")
  for split, pixels in (("train", train), ("test", test)):
    print(f"  {split} {evaluate(likelihood, fitted, pixels):.3f}")


def fit(likelihood: LogisticMixture, pixels: np.ndarray, steps: int, seed: int) -> tuple[jax.Array, jax.Array]:
  """Returns parameters [P] and log_scale [C]; the components start at the colors of random pixels."""
  generator = np.random.default_rng(seed)
  sample = pixels[generator.integers(0, len(pixels), 10_000)] / np.float32(255)
  means = sample[: likelihood.num_components, 0, 0]  # [K, C]
  params = likelihood.init_params(jnp.array(sample.mean(0)))[0, 0].reshape(-1, likelihood.num_components)
  params = params.at[1 : 1 + means.shape[1]].set(4 * (means.T - 0.5)).ravel()
  state = params, likelihood.init_log_scale(jnp.array(sample.std((0, 1, 2))))["log_scale"]
  optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))

  @jax.jit
  def step(state, optimizer_state, batch):
    gradients = jax.grad(lambda state: -log_prob(likelihood, state, batch).mean())(state)
    updates, optimizer_state = optimizer.update(gradients, optimizer_state)
    return optax.apply_updates(state, updates), optimizer_state

  optimizer_state = optimizer.init(state)
  for _ in range(steps):
    state, optimizer_state = step(state, optimizer_state, pixels[generator.integers(0, len(pixels), BATCH_SIZE)])
  return state


def log_prob(likelihood: LogisticMixture, state: tuple[jax.Array, jax.Array], pixels: jax.Array) -> jax.Array:
  """Returns log p of pixels [N, 1, 1, C] of uint8, [N]."""
  params, log_scale = state
  return likelihood.log_prob(jnp.broadcast_to(params, (*pixels.shape[:3], params.size)), pixels / 255, log_scale)


def evaluate(likelihood: LogisticMixture, state: tuple[jax.Array, jax.Array], pixels: np.ndarray) -> float:
  """Returns bits per dimension, of at most the first million pixels."""
  pixels = pixels[:1_000_000]
  batches = np.array_split(pixels, max(1, len(pixels) // BATCH_SIZE))
  mean = jax.jit(lambda batch: log_prob(likelihood, state, batch).sum())
  return -sum(float(mean(batch)) for batch in batches) / pixels.size / np.log(2)


if __name__ == "__main__":
  main()
