"""The models in PyTorch compute what latentjax computes; skipped without PyTorch, which `make benchmark` installs."""

import importlib
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from benchmarks.common import load_config
from latentjax import models

torch = pytest.importorskip("torch")
torch_models = importlib.import_module("benchmarks.torch_models")
torch_training = importlib.import_module("benchmarks.torch_training")

SHAPE, BATCH = (7, 6, 1), 4
KEY = 3


def get_config(file: str, variant: str, **changes):
  config = load_config(f"{file}:{variant}")
  small = {"num_steps": 3, "hidden_dim": 6, "hidden_dims": (8, 6), "latent_dim": 3, "read_size": 2, "write_size": 3}
  config.model.update({key: value for key, value in small.items() if key in config.model} | changes)
  return config


def random_variables(model):
  """Returns normal weights everywhere, also for biases and initial states."""
  start = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *model.image_shape)), jax.random.key(1))
  generator = np.random.default_rng(0)
  return start | jax.tree.map(
    lambda x: jnp.array(generator.normal(0, 0.4, x.shape), jnp.float32), {"params": start["params"]}
  )


def linear(layer, weights) -> None:
  with torch.no_grad():
    layer.weight.copy_(torch.tensor(np.asarray(weights["kernel"]).T))
    if "bias" in weights:
      layer.bias.copy_(torch.tensor(np.asarray(weights["bias"])))


def copy_vae(peer, params) -> None:
  for name in ("encoder", "decoder"):
    for index, layer in enumerate(params[name].values()):
      linear(getattr(peer, name)[2 * index], layer)
  for name in ("posterior", "pixels"):
    linear(getattr(peer, name), params[name])


def copy_ladder(peer, params) -> None:
  def normalised(layers, weights):
    linear(layers[0], weights["Dense_0"])
    with torch.no_grad():
      layers[1].weight.copy_(torch.tensor(np.asarray(weights["BatchNorm_0"]["scale"])))
      layers[1].bias.copy_(torch.tensor(np.asarray(weights["BatchNorm_0"]["bias"])))

  for index in range(len(peer.up)):
    normalised(peer.up[index], params[f"encoders_{index}"])
    linear(peer.upward[index], params[f"evidence_{index}"]["Dense_0"])
  for index in range(len(peer.down)):
    normalised(peer.down[index], params[f"decoders_{index + 1}"])
    linear(peer.downward[index], params[f"priors_{index}"]["Dense_0"])
  normalised(peer.decoder, params["decoders_0"])
  linear(peer.pixels, params["pixels"])


def copy_draw(peer, params) -> None:
  weights = params["weights"]
  for name in ("decoder", "posterior"):
    linear(getattr(peer, name), weights[name])
  kernel, bias = weights["encoder"]["kernel"], weights["encoder"]["bias"]
  constant = len(kernel) - peer.encoder.in_features  # inputs that are constant over steps
  linear(peer.encoder, {"kernel": kernel[constant:], "bias": bias})
  if constant:
    linear(peer.image, {"kernel": kernel[:constant]})
  for name, head in weights["attention"].items():
    linear(getattr(peer, name), head)
  if "prior" in weights:
    linear(peer.prior, weights["prior"])
  initial = weights["initial"]
  states = (initial.encoder.hidden, initial.encoder.cell, initial.decoder.hidden, initial.decoder.cell)
  with torch.no_grad():
    peer.canvas.copy_(torch.tensor(np.asarray(initial.canvas)))
    peer.states.copy_(torch.tensor(np.stack(states)))


def copy_conv_ladder(peer, params) -> None:
  """PyTorch orders the pixels of a patch by channel first; latentjax, row by row."""

  def convolution(layer, weights, inputs: int = 1, outputs: int = 1):  # pixels of a patch
    kernel, bias = (np.asarray(weights[name]) for name in ("kernel", "bias"))
    kernel = kernel if kernel.ndim == 4 else kernel[None, None]
    kernel = kernel.reshape(*kernel.shape[:2], inputs, kernel.shape[2] // inputs, outputs, -1)
    kernel = kernel.transpose(5, 4, 3, 2, 0, 1).reshape(layer.weight.shape)
    with torch.no_grad():
      layer.weight.copy_(torch.tensor(kernel))
      layer.bias.copy_(torch.tensor(bias.reshape(outputs, -1).T.ravel()))

  def block(peer, weights):
    convolution(peer.convs[1], weights["Conv_1"])  # Flax counts from the last
    convolution(peer.convs[3], weights["Conv_0"])

  for index, (up, down, layers) in enumerate(zip(peer.up, peer.down, peer.layers, strict=True)):
    patch = up[0].downscale_factor ** 2
    convolution(up[1], params[f"up_in_{index}"], inputs=patch)
    block(up[2], params[f"up_blocks_{index}"])
    name = "pixels" if index == len(peer.down) - 1 else f"down_out_{index}"
    convolution(down[1], params[name], outputs=patch)
    with torch.no_grad():
      peer.maps[index].copy_(torch.tensor(np.asarray(params[f"map_{index}"])).permute(2, 0, 1))
    for number, layer in enumerate(layers):
      weights = params[f"layers_{index}_{number}"]
      for part in ("prior", "posterior", "merge_h", "merge_d", "z"):
        convolution(getattr(layer, part), weights[part])
      block(layer.block, weights["block"])
  with torch.no_grad():
    peer.offset.copy_(torch.tensor(np.asarray(params["offset"])).permute(2, 0, 1))


@pytest.mark.parametrize(
  ("file", "variant", "changes", "copy", "shape"),
  [
    ("vae", "default", {"activation": "tanh"}, copy_vae, SHAPE),
    ("ladder_vae", "default", {"hidden_dims": (8, 6, 5), "latent_dims": (4, 3, 2)}, copy_ladder, SHAPE),
    ("conv_ladder", "demo", {"levels": "1:1x5z2 4:2x3z1"}, copy_conv_ladder, (8, 8, 3)),
    ("draw", "base", {}, copy_draw, SHAPE),
    ("draw", "filterbank", {}, copy_draw, (6, 7, 3)),
    ("draw", "filterbank", {"prior": "learned"}, copy_draw, (6, 7, 3)),
  ],
)
def test_the_terms_are_the_same_with_the_same_weights_and_noise(file, variant, changes, copy, shape):
  config = get_config(file, variant, **changes)
  model = models.create_model(config.model, shape)
  variables = random_variables(model)
  params = variables["params"]
  images = (np.random.default_rng(1).random((BATCH, *shape)) < 0.5).astype(np.float32)
  apply = jax.jit(partial(model.apply, mutable=["batch_stats"]))  # batch norm as in training
  terms, _ = apply(variables, images, jax.random.key(KEY))

  peer = torch_models.create(config.model, shape)
  copy(peer, params)
  sizes = peer.noise_shapes(BATCH)
  widths = [size[-1] for size in sizes]  # of layers, whose noise is drawn at once
  noise = torch.tensor(np.asarray(jax.random.normal(jax.random.key(KEY), (*sizes[0][:-1], sum(widths)))))
  log_px, kl = peer(torch.tensor(images), noise.split(widths, dim=-1))
  np.testing.assert_allclose(log_px.detach(), terms.log_px, rtol=1e-4)
  np.testing.assert_allclose(kl.detach(), terms.kl, rtol=1e-3, atol=1e-5)
  assert sum(p.numel() for p in peer.parameters()) == sum(leaf.size for leaf in jax.tree.leaves(params))


def test_the_posterior_of_the_ladder_is_its_prior_without_evidence():
  """An infinite bottom-up variance leaves the prior, and no KL below the top."""
  fields = {"hidden_dims": (8, 6, 6), "latent_dims": (4, 3, 2)}
  peer = torch_models.create(ConfigDict({"name": "ladder_vae", **fields}), SHAPE)
  noise = [torch.randn(shape) for shape in peer.noise_shapes(BATCH)]
  log_px, kl = peer(torch.rand(BATCH, *SHAPE).round(), noise)
  assert (log_px.shape, kl.shape) == ((BATCH,), (BATCH, 3))
  assert (kl > 0).all()
  assert (log_px < 0).all()
  with torch.no_grad():
    for head, z in zip(peer.upward[:-1], fields["latent_dims"], strict=False):
      head.weight.zero_()
      head.bias[z:] = 1e9
  _, kl = peer(torch.rand(BATCH, *SHAPE).round(), noise)
  np.testing.assert_allclose(kl[:, :-1].detach(), 0, atol=1e-4)
  assert (kl[:, -1] > 0).all()


@pytest.mark.parametrize(
  ("file", "variant", "optimizer"),
  [("vae", "default", "plain"), ("vae", "default", "eager"), ("draw", "filterbank", "eager")],
)
def test_an_eager_step_learns(file, variant, optimizer):
  config = get_config(file, variant, **({"init_scale": 0.4} if file == "draw" else {}))
  config.train.learning_rate = 1e-2
  config.data.binarization = "static"
  images = np.tile(255 * np.random.default_rng(0).integers(0, 2, (4, *SHAPE), np.uint8), (2, 1, 1, 1))
  training = torch_training.Training(config, images, BATCH, optimizer)
  first = [parameter.detach().clone() for parameter in training.params]
  training.call(10)
  early = training.total.clone()
  training.call(40)
  training.total.zero_()
  training.call(10)
  assert training.total[0] < 0.9 * early[0]
  assert training.total[0] == pytest.approx(float(training.total[1] + training.total[2]), rel=1e-4)
  assert not any(average.requires_grad for average in training.average)
  for average, parameter, before in zip(training.average, training.params, first, strict=True):
    assert not torch.equal(average, parameter)
    assert not torch.equal(average, before)


@pytest.mark.parametrize("file", ["vae", "ladder_vae", "draw"])
def test_seeds_together_are_each_seed_by_itself(file):
  """The same loss and clipped gradient as the model of each seed alone, from its own weights, pixels and noise."""
  changes = {"latent_dims": (3, 2)} if file == "ladder_vae" else {}
  config = get_config(file, "filterbank" if file == "draw" else "default", **changes)
  config.train.num_seeds, config.train.clip_norm = 3, 0.1
  images = np.random.default_rng(0).integers(0, 256, (2 * BATCH, *SHAPE), np.uint8)
  training = torch_training.Training(config, images, BATCH, "eager")
  assert training.order.shape == (2, 3, BATCH)
  pixels = torch.rand(3, BATCH, *SHAPE).round()
  noise = [torch.randn(3, *shape) for shape in training.model.noise_shapes(BATCH)]
  loss, metrics = training.loss(pixels, noise)
  loss.backward()
  training.clip()

  losses, norms = [], []
  for seed in range(3):
    alone = torch_models.create(config.model, SHAPE)
    alone.load_state_dict({name: weight[seed].detach() for name, weight in training.stacked.items()}, strict=False)
    value, _ = training.bound(*alone(pixels[seed], [each[seed] for each in noise]))
    value.backward()
    norms.append(torch.nn.utils.clip_grad_norm_(alone.parameters(), 0.1))
    losses.append(value.item())
    for name, parameter in alone.named_parameters():
      np.testing.assert_allclose(training.stacked[name].grad[seed], parameter.grad, rtol=1e-3, atol=1e-6)
  assert min(norms) > 0.1  # the gradients are clipped
  np.testing.assert_allclose(loss.item(), sum(losses), rtol=1e-5)
  np.testing.assert_allclose(metrics[0], np.mean(losses), rtol=1e-5)


def test_free_bits_are_per_group():
  config = load_config("conv_ladder:demo", ["train.free_bits=2.0", "train.beta=0.5"])
  training = SimpleNamespace(config=config.train)
  log_px, kl = torch.tensor([-3.0, -5.0]), torch.tensor([[1.0, 4.0], [2.0, 6.0]])  # means of the groups: 1.5 and 5
  _, metrics = torch_training.Training.bound(training, log_px, kl)
  assert metrics.tolist() == [4 + 0.5 * (2 + 5), 4, 6.5]


def test_a_step_of_several_seeds_moves_every_one():
  config = get_config("ladder_vae", "default", latent_dims=(3, 2))
  config.train.num_seeds = 2
  training = torch_training.Training(config, np.full((3 * BATCH, *SHAPE), 128, np.uint8), BATCH, "eager")
  before = [parameter.detach().clone() for parameter in training.params]
  training.call(2)
  for old, new in zip(before, training.params, strict=True):
    assert (old != new).flatten(1).any(1).all()
