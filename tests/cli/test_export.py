"""Exported programs do what the model does where there is nothing but JAX."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny

import latentjax
from latentjax.cli import export

SHAPE = (10, 8, 1)
SEEDS = np.array([0, 7, 2**32 - 1], np.uint32)
CALL = """
import json, pathlib, sys
sys.modules.update(latentjax=None, flax=None)
import jax, numpy as np
for folder in map(pathlib.Path, sys.argv[1:]):
  about = json.loads((folder / "export.json").read_text())
  encode, decode, sample = (
    jax.export.deserialize((folder / about["programs"][name]["file"]).read_bytes()).call
    for name in ("encode", "decode", "sample")
  )
  inputs = np.load(folder / "inputs.npz")
  latents = encode(inputs["images"])
  np.savez(folder / "outputs.npz", *latents, decoded=decode(latents), one=decode(encode(inputs["images"][:1])),
    sampled=sample(inputs["seeds"]))
"""


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
  """A workdir for every model, not trained, and exported."""
  found = {}
  for name in tiny.MODELS:
    found[name] = tmp_path_factory.mktemp("export") / name
    precision = "float32" if name in ("vae", "ladder_vae") else "bfloat16"  # which the file has to say
    export.run(tiny.write_untrained(found[name], name, SHAPE, {"precision": precision}), found[name])
  return found


def test_files_alone_do_what_the_model_does(workdirs, tmp_path):
  images = np.random.default_rng(0).random((3, *SHAPE), np.float32)
  folders = [workdir / "export" for workdir in workdirs.values()]
  for folder in folders:
    np.savez(folder / "inputs.npz", images=images, seeds=SEEDS)
  subprocess.run([sys.executable, "-I", "-c", CALL, *map(str, folders)], cwd=tmp_path, check=True)
  for name, folder in zip(workdirs, folders, strict=True):
    model = latentjax.load(workdirs[name])
    latents = model.encode(images)
    with np.load(folder / "outputs.npz") as outputs:
      for index, group in enumerate(latents):
        np.testing.assert_allclose(outputs[f"arr_{index}"], group, atol=1e-5)
      np.testing.assert_allclose(outputs["decoded"], model.decode(latents), atol=1e-5)
      np.testing.assert_allclose(outputs["one"], outputs["decoded"][:1], atol=1e-5)
      expected = np.concatenate([model.sample(1, seed=int(seed)) for seed in SEEDS])
      np.testing.assert_allclose(outputs["sampled"], expected, atol=1e-5)
      assert np.abs(expected - expected[:1])[1:].max() > 1e-4
      assert np.abs(outputs["decoded"] - outputs["one"])[1:].max() > 1e-6


def test_what_export_json_says(workdirs):
  about = json.loads((workdirs["ladder_vae"] / "export" / "export.json").read_text())
  encode, decode, sample = (about["programs"][name] for name in ("encode", "decode", "sample"))
  assert encode["takes"] == decode["gives"] == sample["gives"] == ["float32[B,10,8,1]"]
  assert encode["gives"] == decode["takes"] == ["float32[B,3]", "float32[B,2]"]
  assert sample["takes"] == ["uint32[B]"]
  assert about["platforms"] == ["cpu", "cuda", "tpu"]
  assert (about["seed"], about["step"]) == (0, tiny.UNTRAINED_STEP)
  assert about["versions"]["jax"] == jax.__version__
