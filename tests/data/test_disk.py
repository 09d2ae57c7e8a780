"""Images that stay on disk are those of memory: in batches, in splits, and in what a run ends with."""

from types import SimpleNamespace

import numpy as np
import pytest

from latentjax import free_memory
from latentjax.data import dataset, protocol
from latentjax.data.disk import DiskImages, DiskLabels
from latentjax.data.feed import HostFeed, create_feed
from latentjax.errors import UsageError

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 3, 2, 1), np.uint8)


class Reader:
  """What TFDS gives for a split, and how much was asked of it."""

  def __init__(self, images: np.ndarray):
    self.images, self.read = images, 0

  def __len__(self) -> int:
    return len(self.images)

  def __getitems__(self, rows: list[int]) -> list[dict]:
    self.read += len(rows)
    return [{"image": self.images[row], "label": row} for row in rows]


def on_disk(images: np.ndarray) -> DiskImages:
  return DiskImages(Reader(images), images.shape[1:], "set/1.0.0")


def test_an_array_that_is_read_where_it_is_asked():
  reader = Reader(IMAGES)
  images = DiskImages(reader, IMAGES.shape[1:], "set/1.0.0")
  assert (len(images), images.shape) == (60, IMAGES.shape)
  reader.read = 0
  rows = np.array([[5, 2], [59, 5], [0, 1]])
  np.testing.assert_array_equal(images[rows], IMAGES[rows])
  np.testing.assert_array_equal(images[:3], IMAGES[:3])
  np.testing.assert_array_equal(images.subset(rows[0])[:], IMAGES[rows[0]])
  assert reader.read == 6 + 3 + 2


def test_pixels_0_and_1_become_0_and_255():
  binary = (IMAGES > 127).astype(np.uint8)
  images = on_disk(binary)
  np.testing.assert_array_equal(images[:], 255 * binary)
  assert images.subset(np.arange(3)).binary
  np.testing.assert_array_equal(protocol.binarize_once(images, "train")[:], 255 * binary)
  with pytest.raises(UsageError, match="dynamic"):
    protocol.binarize_once(on_disk(IMAGES), "train")


def test_the_same_images_are_held_out():
  expected, found = protocol.hold_out({"train": IMAGES}), protocol.hold_out({"train": on_disk(IMAGES)})
  assert isinstance(found["train"], DiskImages)
  for split, images in expected.items():
    np.testing.assert_array_equal(found[split][:], images)


def test_labels_on_disk_are_held_out_with_their_images():
  reader = Reader(IMAGES)
  held = protocol.hold_out({"train": on_disk(IMAGES), "train_labels": DiskLabels(reader)})
  assert reader.read == 24  # two fifths
  for split in ("train", "validation", "test"):
    np.testing.assert_array_equal(held[split][:], IMAGES[held[f"{split}_labels"][:]])


def test_mean_pixels_of_a_large_set_are_those_of_a_part_of_it(monkeypatch):
  images = on_disk(IMAGES)
  for most, rows in ((100, range(60)), (4, (0, 19, 39, 59))):
    monkeypatch.setattr(dataset, "HELD_OUT", most)
    mean = dataset.Dataset(images, IMAGES[:2], IMAGES[:2], "none").mean_pixels()
    np.testing.assert_allclose(mean, IMAGES[list(rows)].mean(0) / 255, rtol=1e-6)


def test_the_same_batches_are_fed():
  order = np.random.default_rng(1).permutation(60).astype(np.int32)
  feed = create_feed("auto", on_disk(IMAGES), batch_size=16, most_steps=2, mesh=None)
  expected = HostFeed(IMAGES, 16, 2, None)
  for call, other in zip(feed.calls(order, 0), expected.calls(order, 0), strict=True):
    np.testing.assert_array_equal(call.images, other.images)


def test_the_hash_tells_which_images_without_reading_them():
  def data(images):
    return dataset.Dataset(images, IMAGES[:2], IMAGES[:2], "none").sha256

  images = on_disk(IMAGES)
  images._source.read = 0
  hashes = [data(images), data(images.subset(np.arange(50))), data(DiskImages(Reader(IMAGES), (3, 2, 1), "set/2.0.0"))]
  assert len(set(hashes)) == 3
  assert data(on_disk(IMAGES)) == hashes[0]
  assert images._source.read == 0


@pytest.mark.parametrize(("free", "expected"), [(2 * IMAGES.nbytes, False), (2 * IMAGES.nbytes - 1, True)])
def test_auto_leaves_the_host_half_of_its_free_memory(free, expected, monkeypatch):
  monkeypatch.setattr(free_memory, "of_host", lambda: free)
  new, decoded = (SimpleNamespace(key=name, num_train=60, image_shape=IMAGES.shape[1:]) for name in ("new", "tiny"))
  assert dataset.too_large(new) is expected
  assert not dataset.too_large(decoded)


def test_a_large_set_that_cannot_stay_on_disk_says_what_may_help(tmp_path, monkeypatch):
  monkeypatch.setattr(free_memory, "of_host", lambda: 100)
  np.savez(tmp_path / "mine.npz", train=np.zeros((20, 3, 3), np.uint8))
  name = str(tmp_path / "mine.npz")
  with pytest.raises(
    UsageError, match=r"more than half of the free memory, and .*mine\.npz; --config\.data\.placement=host"
  ):
    dataset.load(name, "none")
  with pytest.raises(UsageError, match=r"^data\.placement = disk is for TFDS sets"):
    dataset.load(name, "none", "disk")


def test_the_host_has_free_memory():
  assert 2**20 < free_memory.of_host() < 2**50


def test_the_demos_digits_are_no_tfds_set():
  with pytest.raises(UsageError, match="fits anywhere"):
    dataset.load("mnist_digits", "dynamic", "disk")
