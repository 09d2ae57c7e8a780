"""The page computes the same as the Python model, for every model and variant."""

import numpy as np
import pages
import pytest

from latentjax.inference.explore.page import generative_arrays, to_float16
from latentjax.runtime.errors import RunError

VARIANTS = {
  "dense": ("vae", {}),
  "tanh": ("vae", {"activation": "tanh", "hidden_dims": (4,)}),
  "silu": ("vae", {"activation": "silu", "image_shape": (3, 4, 3)}),
  "residual": ("vae", {"network": "residual", "activation": "silu"}),
  "ladder": ("ladder_vae", {}),
  "skips": ("ladder_vae", {"skips": True, "mlp_depth": 2}),
  "bottom up": ("ladder_vae", {"inference": "bottom_up", "mlp_depth": 2, "image_shape": (4, 3, 3)}),
  "convolutions": ("conv_ladder", {"image_shape": (6, 9, 3)}),
  "convolutions, precision": ("conv_ladder", {"merge": "precision", "levels": "2:1x4z2 6:1x3z1"}),
  "mixture": ("vae", {"likelihood": "logistic_mixture"}),
  "convolutions, mixture": ("conv_ladder", {"likelihood": "logistic_mixture", "image_shape": (6, 9, 3)}),
  "no attention": ("draw", {"attention": "none"}),
  "no attention, learned prior, layer norm": ("draw", {"attention": "none", "prior": "learned", "layer_norm": True}),
  "attention": ("draw", {"layer_norm": True}),
  "attention, learned prior, colour": ("draw", {"prior": "learned", "init_write_gain": 3.0, "image_shape": (6, 9, 3)}),
  "one filter": ("draw", {"write_size": 1, "prior": "learned"}),
}


def expected(model, name, variables, latents):
  """[stages, B, H, W, C] and, where there are some, the windows."""
  if name == "draw":
    drawing = model.apply(variables, np.stack(latents), method="draw_latents")
    return drawing.canvases, drawing.write
  stages = [[z if index >= top else 0 * z for index, z in enumerate(latents)] for top in range(len(latents))]
  return np.stack([model.apply(variables, stage, method="decode") for stage in stages[::-1]]), None


@pytest.mark.parametrize("variant", VARIANTS)
def test_pixels_and_windows_are_those_of_the_model(variant, tmp_path):
  name, fields = VARIANTS[variant]
  model, fields, variables = pages.create(name, **fields)
  latents = pages.draw_latents(model)
  examples = pages.decoded(pages.write_page(tmp_path / "page.html", model, fields, variables), latents)
  images, windows = expected(model, name, pages.half(variables), latents)
  for index, stages in enumerate(examples):
    for time, stage in enumerate(stages):
      image = np.reshape(stage["image"], model.image_shape)
      np.testing.assert_allclose(image, images[time, index], atol=1e-4)
      if windows is not None:
        names = {"x": "center_x", "y": "center_y", "stride": "stride", "variance": "variance"}
        for short, field in names.items():
          assert stage["window"][short] == pytest.approx(
            float(getattr(windows, field)[time, index]), rel=1e-3, abs=1e-3
          )
  exact, _ = expected(model, name, variables, latents)
  assert np.abs(exact - images).max() < 0.02  # rounding of weights this large
  assert np.asarray(images).std() > 0.05


def test_the_discretized_logistic_has_its_own_mean(tmp_path):
  model, fields, variables = pages.create("vae")
  variables["params"]["pixels"]["kernel"] *= 2
  latents = pages.draw_latents(model)
  logits, means = (
    np.array([stages[-1]["image"] for stages in pages.decoded(page, latents)])
    for page in (
      pages.write_page(tmp_path / f"{likelihood}.html", model, fields | {"likelihood": likelihood}, variables)
      for likelihood in ("bernoulli", "discretized_logistic")
    )
  )
  logits = np.log(logits / (1 - logits))
  assert (means.min(), means.max()) == (0, 1)
  np.testing.assert_allclose(means, np.clip(0.5 + logits / 4, 0, 1), atol=1e-4)


def test_half_precision_round_trip(tmp_path):
  """Every kind of float16: the largest, the smallest, and subnormals."""
  model, fields, variables = pages.create("vae", hidden_dims=(2,), image_shape=(3, 4, 1))
  numbers = [0.0, 65504.0, -65504.0, 6e-8, 6.1e-5, 1e-5, 1.0, -1.0, 0.1, -3.14159, 1023.5, 2.0**-14]
  params = variables["params"]
  params["pixels"] = {"kernel": np.zeros((2, 12), np.float32), "bias": np.array(numbers, np.float32)}
  page = pages.write_page(tmp_path / "page.html", model, fields | {"likelihood": "bernoulli"}, variables)
  page.write_text(page.read_text().replace("logits.map(sigmoid)", "logits"))
  (stages,) = pages.decoded(page, pages.draw_latents(model, 1))
  np.testing.assert_array_equal(stages[0]["image"], np.array(numbers, np.float16).astype(np.float32))


def test_values_beyond_half_precision_are_refused():
  with pytest.raises(RunError, match="pixels/kernel has values beyond half precision"):
    to_float16("pixels/kernel", np.array([1.0, 70000.0]))


def test_page_has_only_generative_arrays():
  _, _, variables = pages.create("draw", prior="learned")
  names = set(generative_arrays("draw", variables))
  assert not any("encoder" in name or "posterior" in name or "read" in name for name in names)
  for name in ("vae", "ladder_vae"):
    _, _, variables = pages.create(name)
    assert {path.split("/")[0].split("_")[0] for path in generative_arrays(name, variables)} <= {
      "decoder",
      "decoders",
      "priors",
      "pixels",
    }
  _, _, variables = pages.create("conv_ladder")
  names = set(generative_arrays("conv_ladder", variables))
  assert not any("up_" in name or "merge" in name or "posterior" in name for name in names)
