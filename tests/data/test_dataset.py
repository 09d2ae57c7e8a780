"""Splits, labels, fixed binarization, and the cache of decoded sets."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latentjax.data.dataset import Dataset, fixed_binarization, load_dataset, random_dataset, split_validation_test
from latentjax.runtime.errors import RunError, UsageError

ROOT = Path(__file__).resolve().parents[2]


def numbered(count: int, start: int = 0) -> np.ndarray:
  """Returns images whose two pixels encode their number."""
  numbers = np.arange(start, start + count)
  return np.stack([numbers // 256, numbers % 256], axis=-1).astype(np.uint8).reshape(count, 1, 2, 1)


def decode_numbers(images: np.ndarray) -> list[int]:
  return (images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 1, 0]).tolist()


def test_validation_is_the_last_ten_thousand_of_a_permutation():
  splits = split_validation_test({"train": numbered(60_000), "test": numbered(3)})
  assert [len(splits[split]) for split in ("train", "validation", "test")] == [50_000, 10_000, 3]
  assert sorted(decode_numbers(splits["train"]) + decode_numbers(splits["validation"])) == list(range(60_000))
  expected = np.random.default_rng(0).permutation(60_000)
  assert decode_numbers(splits["validation"]) == expected[-10_000:].tolist()
  assert decode_numbers(splits["train"]) == expected[:-10_000].tolist()
  assert decode_numbers(splits["test"]) == [0, 1, 2]


def test_two_splits_are_held_out_of_train():
  splits = split_validation_test({"train": numbered(100)})
  assert [len(splits[split]) for split in ("train", "validation", "test")] == [60, 20, 20]
  assert sorted(decode_numbers(np.concatenate(list(splits.values())))) == list(range(100))


def test_published_splits_are_kept():
  published = {"train": numbered(9), "validation": numbered(4, 50), "test": numbered(2, 90)}
  for split, images in split_validation_test(published).items():
    np.testing.assert_array_equal(images, published[split])


PINNED = ["7ddbc5a4d3f86220", "94dad5edbc14c4d8"]  # earlier results were measured on these


def test_fixed_binarization_is_binary_and_reproducible():
  grey = np.full((4000, 2, 2, 1), 64, np.uint8)
  drawn = fixed_binarization(grey, "test")
  assert set(np.unique(drawn)) == {0, 255}
  assert drawn.mean() == pytest.approx(64, abs=2)
  np.testing.assert_array_equal(drawn, fixed_binarization(grey, "test"))
  assert (drawn != fixed_binarization(grey, "validation")).any()
  drawn = [
    fixed_binarization(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), split) for split in ("validation", "test")
  ]
  assert [hashlib.sha256(images.tobytes()).hexdigest()[:16] for images in drawn] == PINNED
  extremes = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
  np.testing.assert_array_equal(fixed_binarization(extremes, "test"), extremes)


@pytest.mark.parametrize(
  ("binarization", "fixed"),
  [("dynamic", {"validation", "test"}), ("static", {"train", "validation", "test"}), ("none", set())],
)
def test_binarized_splits(binarization, fixed):
  data = load_dataset("tiny", binarization)
  again = load_dataset("tiny", binarization)
  for split in ("train", "validation", "test"):
    images = getattr(data, split)
    np.testing.assert_array_equal(images, getattr(again, split))
    assert set(np.unique(images)).issubset({0, 255}) == (split in fixed)
    assert set(np.unique(data.eval_splits()[split])).issubset({0, 255}) == (binarization != "none")


def test_std_pixels():
  generator = np.random.default_rng(0)
  images = generator.integers(0, 256, (50, 4, 3, 2), np.uint8)
  images[..., 1] //= 4
  data = Dataset(images, images, images, "none")
  squares = np.square(images / 255 - images.mean(0) / 255)
  np.testing.assert_allclose(data.std_pixels(), np.sqrt(squares.mean((0, 1, 2))), rtol=1e-4)
  assert data.std_pixels().dtype == np.float32


@pytest.mark.parametrize("binarization", ["dynamic", "static"])
def test_colour_is_not_binarized(tiny_cache, binarization):
  """Neither a cached set, nor one that is not decoded yet, which is not decoded then."""
  np.savez(tiny_cache / "rgb.npz", train=np.zeros((20, 4, 4, 3), np.uint8))
  for name in ("rgb", "colour_digits"):
    with pytest.raises(UsageError, match=f"^{name} is in color.*binarization=none --config.model.likelihood=discret"):
      load_dataset(name, binarization)
  assert not (tiny_cache / "colour_digits.npz").exists()
  assert load_dataset("rgb", "none").image_shape == (4, 4, 3)


def test_mean_pixels():
  data = load_dataset("tiny", "dynamic")
  np.testing.assert_allclose(data.mean_pixels(), data.train.astype(np.float64).mean(0) / 255, rtol=1e-6)
  assert data.mean_pixels().shape == data.image_shape


def test_damaged_cache_is_named(tmp_path, monkeypatch):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path))
  (tmp_path / "tiny.npz").write_bytes(b"PK\x03\x04 half a file")
  with pytest.raises(RunError, match=r"tiny.npz is damaged"):
    load_dataset("tiny", "dynamic")


def test_pickle_in_the_cache_is_not_executed(tmp_path, monkeypatch):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path))
  np.savez(tmp_path / "tiny.npz", train=np.array([{"an": "object"}], dtype=object))
  with pytest.raises(RunError, match="damaged"):
    load_dataset("tiny", "dynamic")


@pytest.mark.parametrize(
  ("name", "shape", "scene"),
  [
    ("tiny", (28, 28, 1), (28, 28, 1)),  # cached
    ("mnist_digits", (28, 28, 1), (28, 28, 1)),
    ("binarized_mnist:1.0.0", (28, 28, 1), (28, 28, 1)),
    ("two_digits", (28, 28, 1), (60, 60, 1)),
  ],
)
def test_random_images_have_the_shape_of_a_set_that_is_not_prepared(monkeypatch, tiny_cache, name, shape, scene):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  cached = list(tiny_cache.iterdir())
  data = random_dataset(name, "dynamic")
  assert (data.train.shape[1:], data.image_shape) == (shape, scene)
  assert abs(data.train.mean() - 127.5) < 1
  assert list(tiny_cache.iterdir()) == cached


def test_random_images_of_color_and_of_unknown_sets(monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  assert random_dataset("svhn_cropped", "none").image_shape == (32, 32, 3)
  with pytest.raises(UsageError, match="svhn_cropped is in color"):
    random_dataset("svhn_cropped", "dynamic")
  with pytest.raises(RunError, match=r"data\.name = flowers is not decoded yet, and decoding needs TFDS"):
    random_dataset("flowers", "none")


def test_cached_set_needs_neither_tfds_nor_tensorflow():
  code = (
    "import sys; sys.modules.update(dict.fromkeys(['tensorflow_datasets', 'tensorflow', 'mlxtend']));"
    "from latentjax.data.dataset import load_dataset; print(load_dataset('tiny', 'dynamic').train.shape)"
  )
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
  assert done.stdout.strip() == "(48, 28, 28, 1)"


def test_mnist_digits(tmp_path, monkeypatch):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path))
  data = load_dataset("mnist_digits", "none")
  assert [len(images) for images in (data.train, data.validation, data.test)] == [4000, 500, 500]
  assert data.image_shape == (28, 28, 1)
  assert 25 < data.test.mean() < 45  # digits are mostly black
  whole = [images.reshape(len(images), -1) for images in (data.train, data.validation, data.test)]
  assert len(np.unique(np.concatenate(whole), axis=0)) == 5000  # no image is in two splits
  assert (tmp_path / "mnist_digits.npz").exists()


@pytest.mark.parametrize("splits_given", [("train",), ("train", "test"), ("train", "validation", "test")])
def test_labels_stay_with_their_images(splits_given):
  splits = {}
  for start, split in zip((0, 300, 600), splits_given, strict=False):
    splits |= {split: numbered(100, start), f"{split}_labels": np.arange(start, start + 100)}
  completed = split_validation_test(splits)
  assert len(completed) == 6
  for split in ("train", "validation", "test"):
    assert completed[f"{split}_labels"].tolist() == decode_numbers(completed[split])


def test_labels_of_mnist_digits(tmp_path, monkeypatch):
  """Most digits are nearest to the mean image of their own class."""
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path))
  data = load_dataset("mnist_digits", "none")
  means = np.stack([data.train[data.labels["train"] == digit].mean(0).ravel() for digit in range(10)])
  distances = np.square(data.test.reshape(len(data.test), 1, -1) - means).sum(-1)
  assert (distances.argmin(1) == data.labels["test"]).mean() > 0.7
