"""Sources describe themselves without reading, and every dataset name has its own cache file."""

import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from latentjax.data import cache, dataset, sources
from latentjax.data.tfds import TFDS
from latentjax.runtime import fileio
from latentjax.runtime.errors import RunError, UsageError


class Builder:
  """Stand-in for a TFDS builder of 7 training images of 2 x 2 pixels 0 and 1."""

  def __init__(self, prepared: bool = True):
    images = np.random.default_rng(0).integers(0, 2, (7, 2, 2, 1), np.uint8)
    self.examples = [{"image": image, "label": index % 2} for index, image in enumerate(images)]
    self.is_prepared = lambda: prepared
    splits = {"train": SimpleNamespace(num_examples=7), "extra": None}
    features = {"image": SimpleNamespace(shape=(2, 2, 1), np_dtype=np.uint8)}
    features["label"] = SimpleNamespace(shape=(), np_dtype=np.int64, names=["even", "odd"])
    self.name, self.data_dir = "new", "here"
    self.info = SimpleNamespace(
      splits=splits, features=features, file_format="array_record", full_name="new/1", download_size="9 GB"
    )

  def as_data_source(self, split):
    return self.examples

  def download_and_prepare(self, file_format):
    raise ConnectionError("no network")


@pytest.fixture
def found(monkeypatch):
  """Returns a function that makes TFDS find a builder."""
  monkeypatch.delenv("TFDS_DATA_DIR", raising=False)

  def find(builder):
    def create(name, data_dir):
      builder.data_dir = data_dir or builder.data_dir
      return builder

    core = SimpleNamespace(DatasetNotFoundError=KeyError, FileFormat=SimpleNamespace(ARRAY_RECORD="array_record"))
    features = SimpleNamespace(Image=SimpleNamespace)
    stand_in = SimpleNamespace(core=core, features=features, builder=create)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", stand_in)

  return find


def test_tfds_source(found, capsys):
  found(Builder())
  source = sources.create_source("new")
  assert isinstance(source, TFDS)
  assert (source.is_available, source.image_shape) == (True, (2, 2, 1))
  splits = source.read()
  assert splits.keys() == {"train", "train_labels", "label_names"}
  assert splits["train_labels"].tolist() == [0, 1, 0, 1, 0, 1, 0]
  assert splits["label_names"].tolist() == ["even", "odd"]
  np.testing.assert_array_equal(splits["train"], [255 * example["image"] for example in Builder().examples])
  assert "decoding new once" in capsys.readouterr().out


@pytest.mark.parametrize(
  "label", [None, SimpleNamespace(shape=(None,), np_dtype=np.int64), SimpleNamespace(shape=(), np_dtype=np.float32)]
)
def test_only_integer_labels_are_read(found, label):
  builder = Builder()
  builder.info.features |= {"label": label}
  found(builder)
  assert sources.create_source("new").read().keys() == {"train"}


def test_is_prepared_downloads_nothing(found, capsys, monkeypatch):
  found(Builder(prepared=False))
  monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # TensorFlow is installed
  assert not sources.create_source("new").is_available
  assert not dataset.is_prepared("new")
  assert dataset.is_prepared("tiny")  # decoded
  assert capsys.readouterr().out == ""
  with pytest.raises(RunError, match=r"could not prepare new .*no network"):
    sources.create_source("new").read()
  assert "download size: 9 GB" in capsys.readouterr().out


def test_tfds_prepares_a_set_below_the_home_directory(found, monkeypatch, tmp_path):
  builder = Builder()
  found(builder)
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.setenv("TFDS_DATA_DIR", "~/tfds")
  assert sources.create_source("new").is_available
  assert builder.data_dir == str(tmp_path / "tfds")


def test_missing_tensorflow_is_reported_before_a_download(found, capsys, monkeypatch):
  found(Builder(prepared=False))
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(RunError, match=r"needs TensorFlow .*Run pip install -r requirements-tfds.txt"):
    sources.create_source("new").read()
  assert "download" not in capsys.readouterr().out


def test_a_format_that_needs_tensorflow_is_not_available_without_it(found, monkeypatch):
  builder = Builder()
  builder.info.file_format = "tfrecord"
  found(builder)
  monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
  assert sources.create_source("new").is_available
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  assert not sources.create_source("new").is_available
  with pytest.raises(RunError, match=r"not prepared as array records in here, and preparing it needs TensorFlow"):
    sources.create_source("new").read()


def test_unwritable_cache_is_named(monkeypatch):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", "/dev/null/x")
  with pytest.raises(RunError, match=r"Cannot cache decoded images in /dev/null/x .*Set LATENTJAX_CACHE_DIR"):
    cache.write_cache("new", {})


def test_an_unreadable_cache_is_named(monkeypatch):
  def refuse(path, *_, **__):
    raise PermissionError(13, "Permission denied", str(path))

  monkeypatch.setattr(Path, "open", refuse)
  for read in (cache.read_cache, cache.is_cached):
    with pytest.raises(RunError, match=r"Cannot read .*new\.npz \(Permission denied\)\. Set LATENTJAX_CACHE_DIR"):
      read("new")


@pytest.mark.parametrize(
  ("own", "users", "expected"),
  [
    ("~/own", "/users", "home/own"),
    ("", "/users", "/users/latentjax"),
    ("", "relative", "home/.cache/latentjax"),
    ("", "~/users", "home/.cache/latentjax"),
  ],
)
def test_cache_directory(tmp_path, monkeypatch, own, users, expected):
  for name, value in (("HOME", str(tmp_path / "home")), ("LATENTJAX_CACHE_DIR", own), ("XDG_CACHE_HOME", users)):
    monkeypatch.setenv(name, value)
  assert fileio.cache_dir() == tmp_path / expected


def test_without_a_home_the_cache_directory_must_be_named(monkeypatch):
  def homeless():
    raise RuntimeError("Could not determine home directory.")

  monkeypatch.delenv("LATENTJAX_CACHE_DIR")
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  monkeypatch.setattr(Path, "home", homeless)
  with pytest.raises(UsageError, match=r"no home directory .*Set LATENTJAX_CACHE_DIR"):
    fileio.cache_dir()


def test_mnist_digits_source():
  digits = sources.create_source("mnist_digits")
  assert digits.is_available
  images = digits.read()["train"]
  assert images.shape == (4000, *digits.image_shape)


def test_photo_patches_of_different_splits_share_no_pixel(monkeypatch):
  """Stand-ins for the photographs, whose pixels are their own positions."""
  made = []

  def photograph(height, width):
    positions = sum(image.shape[0] * image.shape[1] for image in made) + np.arange(height * width)
    image = np.stack([positions >> shift & 255 for shift in (16, 8, 0)], axis=-1).astype(np.uint8)
    made.append(image.reshape(height, width, 3))
    return made[-1]

  sizes = {"astronaut": (512, 512), "chelsea": (300, 451), "coffee": (400, 600), "rocket": (427, 640)}
  data = SimpleNamespace(**{name: functools.partial(photograph, *size) for name, size in sizes.items()})
  monkeypatch.setitem(sys.modules, "skimage", SimpleNamespace(data=data))
  source = sources.create_source("photo_patches")
  splits = source.read()
  assert {split: images.shape for split, images in splits.items()} == {
    split: (size, *source.image_shape) for split, size in (("train", 10_000), ("validation", 1_000), ("test", 1_000))
  }
  positions = {split: images.astype(np.int32) @ [1 << 16, 1 << 8, 1] for split, images in splits.items()}
  for crops in positions.values():
    assert (np.diff(crops, axis=2) == 1).all()  # contiguous rows, each a row of the photograph below the last
    assert np.isin(np.diff(crops, axis=1), [width for _, width in sizes.values()]).all()
    assert len(np.unique(crops[:, 0, 0])) == len(crops)
  pixels = {split: np.unique(crops) for split, crops in positions.items()}
  total, held_out = sum(height * width for height, width in sizes.values()), pixels["validation"].size
  assert np.intersect1d(pixels["train"], np.concatenate([pixels["validation"], pixels["test"]])).size == 0
  assert np.intersect1d(pixels["validation"], pixels["test"]).size == 0
  assert 0.09 * total < min(held_out, pixels["test"].size) <= max(held_out, pixels["test"].size) < 0.11 * total
  assert pixels["train"].size > 0.69 * total


def test_photo_patches_without_scikit_image_are_one_line(monkeypatch):
  monkeypatch.setitem(sys.modules, "skimage", None)
  with pytest.raises(RunError, match=r"photo_patches needs scikit-image\. Run pip install scikit-image\.$"):
    sources.create_source("photo_patches").read()


def test_every_name_has_its_own_cache_file(tmp_path, monkeypatch):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path))
  names = ["mnist", "a/b", "a-b", "a:b", "a%2Fb", "imagenet_resized/64x64:0.1.0", "../a"]
  for index, name in enumerate(names):
    assert cache.read_cache(name) is None
    cache.write_cache(name, {"train": np.full((2, 1, 1, 1), index, np.uint8)})
  assert {path.parent for path in tmp_path.rglob("*")} == {tmp_path}
  assert [cache.read_cache(name)["train"].max() for name in names] == list(range(len(names)))
  assert (tmp_path / "mnist.npz").exists()
