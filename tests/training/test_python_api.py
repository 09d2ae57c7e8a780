"""`latentjax.train`: the same run as on the command line, on images in memory too, and nothing else changed."""

import copy
import inspect
import json
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import command
import jax
import matplotlib
import numpy as np
import pytest
import tiny

import latentjax
from latentjax.data.dataset import load_dataset
from latentjax.runtime.jax_settings import pinned_settings
from latentjax.workdir.metrics_log import read_metrics
from latentjax.workdir.run import Run, RunStatus

TIMINGS = ("images_per_second", "seconds")
SETTINGS = {  # of the caller, any of which would change the numbers or stop the training
  "jax_threefry_partitionable": False,
  "jax_default_prng_impl": "rbg",
  "jax_random_seed_offset": 3,
  "jax_enable_x64": True,
  "jax_numpy_dtype_promotion": "strict",
  "jax_transfer_guard": "disallow",
  "jax_default_matmul_precision": "bfloat16",
  "jax_disable_jit": True,
}


@contextmanager
def odd_settings() -> Iterator[None]:
  before = {name: jax.config.values[name] for name in SETTINGS}
  for name, value in SETTINGS.items():
    jax.config.update(name, value)
  try:
    yield
  finally:
    for name, value in before.items():
      jax.config.update(name, value)


def surroundings() -> tuple:
  """Everything of the process that a training must leave alone."""
  handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
  return dict(jax.config.values), handlers, matplotlib.get_backend(), dict(matplotlib.rcParams)


def test_the_weights_are_those_of_the_command_line_bit_for_bit(trained_run, tmp_path, monkeypatch):
  """With batch norm, whose statistics are computed again; without a workdir, no file is left."""
  workdir, config = trained_run("ladder_vae"), tiny.create_config("ladder_vae")
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
  monkeypatch.chdir(tmp_path)
  rows, handlers, unchanged = [], [], config.to_dict()

  def callback(row: dict) -> None:
    rows.append(copy.deepcopy(row) | dict.fromkeys(TIMINGS))
    handlers.append(signal.getsignal(signal.SIGINT))
    row["validation"].clear()  # the callback's own copy

  with odd_settings():
    before = surroundings()
    model = latentjax.train(config, epochs=2, callback=callback)
    assert surroundings() == before
  assert set(handlers) == {signal.getsignal(signal.SIGINT)}
  assert list(tmp_path.iterdir()) == []
  assert config.to_dict() == unchanged
  expected = latentjax.load(workdir)
  assert model.step == expected.step
  jax.tree.map(np.testing.assert_array_equal, model.variables, expected.variables)
  assert rows == [line | dict.fromkeys(TIMINGS) for line in read_metrics(workdir)]


def test_a_compiled_program_runs_whatever_the_caller_has_set():
  """Its first call would fail without jit; later ones would not."""
  program = jax.jit(lambda x: x + 1).lower(1.0).compile()
  with odd_settings(), pinned_settings():
    assert program(1.0) == 2


def test_a_run_on_images_in_memory_is_stopped_resumed_and_evaluated(tmp_path, tiny_cache):
  """With a workdir that all commands use; it has the images, too."""
  with np.load(tiny_cache / "tiny.npz") as arrays:
    images = arrays["train"][..., 0]
  changes = {"hidden_dims": [8], "latent_dim": np.int64(2), "epochs": 2, "num_images": 3, "nll_samples": 3}
  changes |= {"train.batch_size": 7, "eval.batch_size": 5, "likelihood": "bernoulli"}
  workdir = tmp_path / "runs" / "mine"
  args = {"labels": np.arange(48), "workdir": workdir, **changes}
  stopped = latentjax.train("vae", images=images / 255, callback=lambda row: True, **args)
  assert stopped.config.model.hidden_dims == (8,)
  run = Run.open(workdir)
  assert (run.epochs, run.status, run.results["epochs_trained"]) == (1, RunStatus.UNFINISHED, 1)
  data = load_dataset(**run.config.data.to_dict())
  assert (len(data.train), len(data.validation), len(data.test)) == (30, 9, 9)
  for split in ("train", "validation", "test"):
    gray = images[data.labels[split]][..., None]
    assert (getattr(data, split) == gray).all() == (split == "train")  # others are binarized
    assert (getattr(data, split)[gray == 0] == 0).all()

  model = latentjax.train("vae", images=images, **args | {"workdir": workdir / ".." / "mine"})
  run = Run.open(workdir)
  assert (run.epochs, run.status) == (2, RunStatus.FINISHED)
  run.check_data(data.sha256)
  jax.tree.map(np.testing.assert_array_equal, model.variables, latentjax.load(workdir).variables)
  with pytest.raises(ValueError, match="are not those that"):
    latentjax.train("vae", images=255 - images, **args)
  with pytest.raises(ValueError, match=r"holds a different experiment \(model.latent_dim: 2 -> 3\)"):
    latentjax.train("vae", images=images, **args | {"latent_dim": 3})
  command.call_ok("--mode=evaluate", f"--workdir={workdir}")
  again = json.loads((workdir / "results.json").read_text())
  assert again["test"] == run.results["test"]


IMAGES = np.zeros((6, 4, 4), np.uint8)


@pytest.mark.parametrize(
  ("args", "error", "message"),
  [
    ({"epoch": 3}, TypeError, "Unknown config key 'epoch'. Did you mean 'train.epochs'?"),
    ({"train.epoch": 3}, TypeError, "Unknown config key 'train.epoch'. Did you mean 'train.epochs'?"),
    (
      {"batch_size": 3},
      TypeError,
      "batch_size may mean eval.batch_size or train.batch_size. Pass one of them, such as **{'train.batch_size': 3}.",
    ),
    ({"train": 3}, TypeError, "train is a section of the config. Set one of its keys: train.adam_b1, "),
    ({"read_size": 3}, TypeError, "model.read_size is a key of draw, and this config is of vae"),
    ({"config": 3}, TypeError, "config must be a name such as 'draw:demo' or a ConfigDict, not 3."),
    ({"workdir": 3}, TypeError, "workdir must be a path, not 3."),
    ({"labels": [1]}, TypeError, "labels belong to images. Pass both."),
    ({"images": [[[2]]]}, TypeError, "images have dtype int64. Pass uint8 from 0 to 255 or floats from 0 to 1."),
    ({"epochs": 0}, ValueError, "train.epochs must be a whole number from 1 to 1000000, not 0."),
    ({"epochs": "four"}, ValueError, "train.epochs must be a whole number from 1 to 1000000, not 'four'."),
    ({"callback": 3}, TypeError, "callback must be a function, not 3"),
    ({"images": IMAGES, "data.name": "mnist"}, TypeError, "images take the place of data.name"),
    ({"images": np.full((6, 8, 8), np.nan)}, ValueError, "images have NaN"),
    ({"config": "vea"}, ValueError, "--config=vea: no such file. Did you mean vae?"),
    ({"workdir": "gs://a/b"}, ValueError, "gs://a/b is a URL, not a local directory."),
    ({"images": IMAGES / 1.0 + 2}, ValueError, "float images have values in [2, 2]. Scale them to [0, 1]."),
    ({"images": IMAGES[0]}, ValueError, "images must be uint8 [M, H, W], [M, H, W, 1] or [M, H, W, 3], not uint8 [4"),
    ({"images": IMAGES, "labels": [1.5] * 6}, ValueError, "labels must be integers [6], one for each image"),
    ({"images": IMAGES}, ValueError, "train.batch_size = 128 is larger than the 4 training images of images"),
    ({"images": np.arange(96).reshape(2, 4, 4, 3) / 99}, ValueError, "images is in color, which data.binarization"),
  ],
)
def test_a_mistake_is_one_line(args, error, message):
  with pytest.raises(error) as raised:
    latentjax.train(**{"config": "vae"} | args)
  assert message in str(raised.value)
  assert len(str(raised.value).splitlines()) == 1


def test_the_package_shows_its_functions_and_nothing_else():
  assert dir(latentjax) == sorted(latentjax.__all__)
  for name in set(latentjax.__all__) - {"__version__"}:
    function = getattr(latentjax, name)
    assert inspect.isfunction(function)
    assert inspect.signature(function).return_annotation is not inspect.Signature.empty
    assert "Returns" in function.__doc__
