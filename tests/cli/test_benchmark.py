"""Benchmark mode in every phase; test_main.py runs it from the command line."""

import importlib

import numpy as np
import pytest
import tiny

from latentjax import models
from latentjax.cli import benchmark
from latentjax.cli.benchmark import create_workload

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 1), np.uint8)


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize("phase", ["train", "eval", "nll", "sample"])
def test_every_phase_is_measured(phase, num_seeds, monkeypatch):
  """A product of known cost stands for the machine's own rate; all seeds and all importance samples of a pass count.

  100 importance samples of an image share one pass of the encoder.
  """
  config = importlib.import_module("configs.vae").get_config()
  config.model.update({"hidden_dims": (6,), "latent_dim": 3})
  config.benchmark.phase, config.train.num_seeds = phase, num_seeds
  monkeypatch.setattr(benchmark, "MIN_SECONDS", 0.001)
  monkeypatch.setattr(benchmark, "matmul_benchmark", lambda precision: (lambda: np.zeros(()), 1000))
  workload = create_workload(config, models.create_model(config.model, (5, 4, 1)), IMAGES, batch_size=4)
  row = benchmark.measure_workload(workload, 4, "float32", measurements=20)
  assert row["batch_size"] == 4
  assert row["num_seeds"] == (num_seeds if phase in ("train", "eval") else 1)
  assert row["num_samples"] == (50 if phase == "nll" else 1)  # 256 rows would be 64 samples of 4 images
  images = 4 * row["num_seeds"] * row["num_samples"]
  assert row["step_time_ms_per_seed"] * row["num_seeds"] == pytest.approx(row["step_time_ms"])
  assert row["peak_memory_bytes_per_seed"] * row["num_seeds"] == pytest.approx(row["peak_memory_bytes"])
  assert row["images_per_second"] == pytest.approx(1e3 * images / row["step_time_ms"])
  assert row["step_time_ms_p90"] >= row["step_time_ms"] > 0
  assert row["flops_per_second"] == pytest.approx(row["flops_per_image"] * row["images_per_second"])
  encoder, decoder = 20 * 6 + 6 * 6, 3 * 6 + 6 * 20  # weights
  forward = 2 * ({"nll": encoder / 100, "sample": 0}.get(phase, encoder) + decoder)
  if phase == "train":
    assert 2 * forward < row["flops_per_image"] <= 3 * forward
  else:
    assert row["flops_per_image"] == pytest.approx(forward)


@pytest.fixture
def only_traced(monkeypatch):
  """Compiles nothing: floating-point operations are counted in what is traced."""
  monkeypatch.setattr(benchmark, "compile_checked", lambda traced: None)


@pytest.mark.usefixtures("only_traced")
def test_a_step_of_training_is_one_of_the_first():
  """Importance-weighting that begins later is neither compiled nor counted."""
  config = importlib.import_module("configs.vae").get_config()
  config.model.update({"hidden_dims": (6,), "latent_dim": 3})

  def flops(**train):
    config.train.update(train)
    return create_workload(config, models.create_model(config.model, (5, 4, 1)), IMAGES, batch_size=4).flops

  alone = flops(iwae_samples=1)
  assert flops(iwae_samples=5, iwae_start_epoch=2) == alone
  assert flops(iwae_samples=5, iwae_start_epoch=0) > 3 * alone


def test_the_reference_is_a_matrix_product():
  product, flops = benchmark.matmul_benchmark("float32")
  result = product()
  assert result.ndim == 2
  assert flops == 2 * result.shape[0] ** 3


@pytest.mark.usefixtures("only_traced")
def test_what_remat_computes_again_is_no_work():
  """The model's own operations are those without remat; of the steps most of the forward pass is computed again."""
  config = importlib.import_module("configs.draw").get_config()
  config.model.update({"num_steps": 4, "hidden_dim": 6, "latent_dim": 3, "read_size": 2, "write_size": 3})
  config.benchmark.phase = "eval"
  images = np.zeros((4, 6, 6, 1), np.uint8)

  def workload(remat):
    config.model.remat = remat
    return create_workload(config, models.create_model(config.model, (6, 6, 1)), images, batch_size=4)

  forward = workload("none").flops
  config.benchmark.phase = "train"
  plain = workload("none")
  assert plain.recomputed_flops == 0
  for remat in ("step", "sqrt"):
    again = workload(remat)
    assert again.flops == plain.flops
    assert 0.5 * forward < again.recomputed_flops <= forward
  config.model = tiny.create_config("conv_ladder", {"model.levels": "6:1x3z1"}).model
  stored, again = workload(False), workload(True)
  assert stored.recomputed_flops == 0 < again.recomputed_flops
  assert again.flops == stored.flops
  row, results = dict.fromkeys(benchmark_row(), 1.0), {"phase": "train", "devices": 1, "measurements": 20}
  shown = benchmark.table(results | {"rows": [row]})
  hidden = benchmark.table(results | {"rows": [row | {"recomputed_flops_per_image": 0.0}]})
  assert shown.row_count == hidden.row_count + 1


def test_one_measurement_for_each_number_of_seeds():
  """0 stands for those that training has; samples are of one whatever training has."""
  config = importlib.import_module("configs.vae").get_config()
  assert benchmark.seed_counts(config) == [1]
  config.train.num_seeds, config.benchmark.num_seeds = 4, (1, 0, 32)
  assert benchmark.seed_counts(config) == [1, 4, 32]
  for config.benchmark.phase in ("nll", "sample"):
    assert benchmark.seed_counts(config) == [1]


def test_what_a_seed_costs_is_shown_where_there_are_several():
  row = dict.fromkeys(benchmark_row(), 1.0) | {"batch_size": 128, "num_seeds": 1, "recomputed_flops_per_image": 0.0}
  results = {"phase": "train", "devices": 1, "measurements": 20}
  results["rows"] = [row, row | {"num_seeds": 8, "step_time_ms_per_seed": 0.125}]
  shown = benchmark.table(results)
  assert [column.header for column in shown.columns] == ["batch size", "128", "128 x 8 seeds"]
  lines = dict(zip(*(shown.columns[index].cells for index in (0, 2)), strict=True))
  assert lines["ms per step and seed"] == "0.125"
  results["rows"].pop()
  assert "ms per step and seed" not in benchmark.table(results).columns[0].cells


def benchmark_row() -> list[str]:
  """The keys of a row of the table."""
  times = ["batch_size", "step_time_ms", "step_time_ms_p90", "images_per_second", "compile_seconds"]
  memory = ["peak_memory_bytes", "temporary_memory_bytes"]
  seeds = ["num_seeds", "step_time_ms_per_seed", "peak_memory_bytes_per_seed"]
  work = ["flops_per_image", "recomputed_flops_per_image", "flops_per_second", "matmul_flops_per_second"]
  return [*times, *memory, *seeds, *work, "matmul_ratio"]
