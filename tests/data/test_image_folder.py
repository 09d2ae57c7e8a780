"""The user's own images: every kind of file, and one line about those that cannot be used."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentjax.data import dataset, image_folder, sources
from latentjax.data.decoding import decode_image
from latentjax.data.tfds import unknown_dataset_message
from latentjax.runtime.errors import RunError, UsageError

generator = np.random.default_rng(0)
GREY = np.zeros((3, 4, 4), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
  """20 gray images of 6 x 5 pixels in two subfolders."""
  root = tmp_path / "pictures"
  for index in range(20):
    path = root / ("even" if index % 2 == 0 else "odd") / f"{index:02}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.integers(0, 256, (6, 5), np.uint8)).save(path)
  return root


def test_a_folder_becomes_three_splits(folder):
  data = dataset.load_dataset(str(folder), "none")
  assert [images.shape for images in (data.train, data.validation, data.test)] == [
    (12, 6, 5, 1),
    (4, 6, 5, 1),
    (4, 6, 5, 1),
  ]
  stored = {np.asarray(Image.open(path)).tobytes() for path in folder.rglob("*.png")}
  assert {image.tobytes() for split in (data.train, data.validation, data.test) for image in split} == stored


def test_subfolders_can_be_splits(tmp_path):
  for split, value in (("train", 10), ("test", 30)):
    for index in range(5):
      path = tmp_path / "mine" / split / f"{index}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.new("L", (4, 4), value).save(path)
  data = dataset.load_dataset(str(tmp_path / "mine"), "none")
  assert (data.test == 30).all()
  assert len(data.test) == 5
  assert (data.train == 10).all()
  assert (data.validation == 10).all()


def test_images_beside_the_splits_are_reported(tmp_path, capsys):
  for name in ("train/0.png", "train/1.png", "tset/0.png", "cover.png", ".hidden/0.png"):
    (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), 10).save(tmp_path / "mine" / name)
  (tmp_path / "mine" / "README.txt").write_text("mine")
  image_folder.ImageFolder(str(tmp_path / "mine")).read()
  assert "ignored cover.png, tset, 1 .txt, 1 hidden" in " ".join(capsys.readouterr().out.split())


def test_every_format_is_read_and_other_files_are_counted(tmp_path, capsys):
  root, picture = tmp_path / "mine", Image.new("L", (4, 4), 200)
  root.mkdir()
  for suffix in (".png", ".JPG", ".jfif", ".webp", ".gif", ".bmp", ".tiff", ".pgm"):
    picture.save(root / f"a{suffix}", lossless=True)
  for name in ("b.heic", "c.HEIC", ".DS_Store", "LICENSE"):
    (root / name).touch()
  images = image_folder.ImageFolder(str(root)).read()["train"]
  assert (images.shape, set(np.unique(images))) == ((8, 4, 4, 1), {200})
  assert "ignored 2 .heic, 1 hidden, 1 without a suffix" in " ".join(capsys.readouterr().out.split())
  for path in root.glob("a.*"):
    path.unlink()
  with pytest.raises(UsageError, match=r"no images in .*mine, only 2 \.heic, 1 hidden, 1 without a suffix"):
    image_folder.ImageFolder(str(root)).read()


def test_links_are_followed_but_not_in_circles(folder, tmp_path, capsys):
  (folder / "odd").rename(tmp_path / "odd")
  (folder / "odd").symlink_to(tmp_path / "odd")
  (tmp_path / "odd" / "up").symlink_to(folder)
  (folder / "even" / "self").symlink_to(".")
  splits = image_folder.ImageFolder(str(folder)).read()
  assert np.bincount(splits["train_labels"]).tolist() == [10, 10]
  output = " ".join(capsys.readouterr().out.split())
  assert "ignored 2 linking to a folder above" in output
  assert "count again" not in output
  (folder / "copy").symlink_to(tmp_path / "odd")
  assert image_folder.ImageFolder(str(folder)).read()["label_names"].tolist() == ["copy", "even", "odd"]
  assert "10 of 30 images are links to others and count again" in " ".join(capsys.readouterr().out.split())


def test_what_cannot_be_read_is_an_error(folder, monkeypatch):
  (folder / "last").symlink_to("nowhere")
  with pytest.raises(UsageError, match=r"last is a broken link or not a file\. Repair or remove it"):
    dataset.load_dataset(str(folder), "none")
  (folder / "last").unlink()
  scandir = os.scandir

  def refuse(path):
    if Path(path).name == "odd":
      raise PermissionError(13, "Permission denied", str(path))
    return scandir(path)

  monkeypatch.setattr(os, "scandir", refuse)
  with pytest.raises(RunError, match=r"Cannot read .*odd \(Permission denied\)\. Check the path and its permissions"):
    dataset.load_dataset(str(folder), "none")


def test_cache_key_depends_on_content_only(folder, cache):
  before = dataset.load_dataset(str(folder), "none")
  assert len(list(cache.glob("*.npz"))) == 1
  moved = folder.rename(folder.with_name("elsewhere"))
  assert dataset.load_dataset(str(moved), "none").sha256 == before.sha256
  Image.new("L", (5, 6), 255).save(moved / "even" / "00.png")
  assert dataset.load_dataset(str(moved), "none").sha256 != before.sha256


def test_subfolders_are_labels(folder):
  data = dataset.load_dataset(str(folder), "none")
  assert data.label_names == ("even", "odd")
  for split in ("train", "validation", "test"):
    for image, label in zip(getattr(data, split), data.labels[split], strict=True):
      of_label = (folder / data.label_names[label]).iterdir()
      assert image.tobytes() in {np.asarray(Image.open(path)).tobytes() for path in of_label}
  assert dataset.load_dataset(str(folder), "none").labels.keys() == data.labels.keys()  # from the cache
  Image.new("L", (5, 6)).save(folder / "beside.png")
  assert dataset.load_dataset(str(folder), "none").labels == {}


def test_subfolders_of_splits_are_labels(tmp_path):
  for path in ("train/dog/1.png", "train/ant/2.png", "train/dog/old/3.png", "test/cat/4.png", "validation/5.png"):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), int(path[-5])).save(tmp_path / path)
  data = dataset.load_dataset(str(tmp_path), "none")
  assert data.label_names == ("ant", "cat", "dog")
  assert {split: labels.tolist() for split, labels in data.labels.items()} == {"train": [0, 2, 2], "test": [1]}
  assert data.train[:, 0, 0, 0].tolist() == [2, 1, 3]


def save(path, kind):
  grey = np.full((6, 5), 200, np.uint8)
  if kind == "16 bits":
    Image.fromarray(np.full((6, 5), 200 * 257, np.uint16)).save(path)
  elif kind == "transparent":
    Image.fromarray(np.dstack([grey, 0 * grey, grey, 0 * grey + 128])).save(path)
  elif kind == "grey and transparent":
    Image.fromarray(np.dstack([grey, 0 * grey + 255])).save(path)
  elif kind == "palette":
    Image.fromarray(np.dstack([grey, 0 * grey, grey])).quantize(4).save(path)
  elif kind == "CMYK":
    Image.new("CMYK", (5, 6), (0, 255, 0, 55)).save(path.with_suffix(".jpg"), quality=100)
  elif kind == "one bit":
    Image.new("1", (5, 6), 1).save(path)


@pytest.mark.parametrize(
  ("kind", "expected"),
  [
    ("16 bits", [200]),
    ("transparent", [227, 127, 227]),
    ("grey and transparent", [200]),
    ("palette", [200, 0, 200]),
    ("CMYK", [200, 0, 200]),
    ("one bit", [255]),
  ],
)
def test_all_pixel_formats_become_8_bits(tmp_path, kind, expected):
  root = tmp_path / "mine"
  root.mkdir()
  save(root / "a.png", kind)
  images = image_folder.ImageFolder(str(root)).read()["train"]
  assert images.shape == (1, 6, 5, len(expected))
  np.testing.assert_allclose(images[0, 3, 2], expected, atol=2)


def test_grey_images_among_coloured_ones_are_coloured(folder):
  Image.new("RGB", (5, 6), (1, 2, 3)).save(folder / "a.png")
  assert image_folder.ImageFolder(str(folder)).read()["train"].shape == (21, 6, 5, 3)


def test_equal_channels_are_gray(folder, tmp_path):
  expected = dataset.load_dataset(str(folder), "dynamic")
  for path in folder.rglob("*.png"):
    Image.open(path).convert("RGB").save(path)
  assert dataset.load_dataset(str(folder), "dynamic").sha256 == expected.sha256
  train = generator.integers(0, 256, (10, 6, 5, 1), np.uint8)
  np.savez(tmp_path / "mine.npz", train=train.repeat(3, axis=-1))
  assert dataset.load_dataset(str(tmp_path / "mine.npz"), "dynamic").image_shape == (6, 5, 1)


def test_images_of_other_sizes_are_named_or_resized(folder):
  Image.new("L", (9, 7), 90).save(folder / "odd" / "99.png")
  with pytest.raises(UsageError, match=r"99\.png has 7 x 9 pixels and .*00\.png has 6 x 5.*data\.image_size to crop"):
    dataset.load_dataset(str(folder), "none")
  data = dataset.load_dataset(str(folder), "none", image_size=8)
  assert data.image_shape == (8, 8, 1)


def test_resizing_keeps_the_centre(tmp_path):
  root = tmp_path / "mine"
  root.mkdir()
  picture = np.zeros((8, 24), np.uint8)
  picture[:, 8:16] = 250  # the square at the center
  Image.fromarray(picture).save(root / "a.png")
  images = image_folder.ImageFolder(str(root), 4).read()["train"]
  assert (images == 250).all()


def test_unusable_files_are_named(folder):
  (folder / "even" / "00.png").write_bytes(b"")
  with pytest.raises(RunError, match=r"00\.png is damaged"):
    dataset.load_dataset(str(folder), "none")
  content = (folder / "even" / "02.png").read_bytes()
  (folder / "even" / "00.png").write_bytes(content[:40])
  with pytest.raises(RunError, match=r"00\.png is damaged"):
    dataset.load_dataset(str(folder), "none")


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp", ".tiff"])
def test_animations_and_pages_are_refused(tmp_path, suffix):
  frames = [Image.new("L", (5, 6), value) for value in (0, 255)]
  frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
  with pytest.raises(UsageError, match=rf"a{suffix} is animated or has several pages\. Save each as a separate file"):
    decode_image(tmp_path / f"a{suffix}", 0)


def test_an_mpo_is_its_first_picture(tmp_path):
  frames = [Image.new("L", (5, 6), value) for value in (200, 0)]
  frames[0].save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=frames[1:])
  assert (decode_image(tmp_path / "phone.jpg", 0) == 200).all()


def test_pixels_of_unknown_range_are_refused(tmp_path):
  for dtype in (np.float32, np.int32):
    Image.fromarray(np.ones((6, 5), dtype)).save(tmp_path / "a.tiff")
    with pytest.raises(UsageError, match=r"a\.tiff has 32-bit pixels"):
      decode_image(tmp_path / "a.tiff", 0)


def test_large_images_are_read_without_a_warning_or_refused(tmp_path, monkeypatch):
  Image.new("L", (5, 6), 200).save(tmp_path / "a.png")
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
  assert decode_image(tmp_path / "a.png", 5).shape == (5, 5)
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
  with pytest.raises(UsageError, match=r"a\.png has over 20 pixels\. Make it smaller"):
    decode_image(tmp_path / "a.png", 0)


def test_missing_images_are_one_line(tmp_path):
  (tmp_path / "empty").mkdir()
  with pytest.raises(UsageError, match=r"no images in .*empty\. Save them as PNG, JPEG"):
    dataset.load_dataset(str(tmp_path / "empty"), "none")
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").touch()
  for name in (str(tmp_path / "nothing"), "./nothing", "nothing.npz", str(tmp_path / "run")):
    with pytest.raises(UsageError, match="there is no such folder of images"):
      dataset.load_dataset(name, "none")


def test_folder_does_not_hide_a_dataset_of_its_name(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  Path("tiny").mkdir()
  Image.new("L", (5, 6)).save("tiny/a.png")
  assert image_folder.source_from_path("tiny", 0) is None
  assert isinstance(image_folder.source_from_path("./tiny", 0), image_folder.ImageFolder)
  assert "For the folder of that name, write ./tiny" in unknown_dataset_message("tiny", ["mnist"])
  assert "Did you mean mnist?" in unknown_dataset_message("mnst", ["mnist"])


@pytest.mark.parametrize("choose", [image_folder.source_from_path, image_folder.source_to_encode])
def test_unknown_home_is_one_line(choose):
  with pytest.raises(UsageError, match="~nobody-of-this-name/pictures: no such user"):
    choose("~nobody-of-this-name/pictures", 0)


@pytest.mark.parametrize("name", ["漢" * 50, os.fsdecode(b"caf\xe9")])
def test_unusual_folder_names(tmp_path, cache, name):
  (tmp_path / name).mkdir()
  for index in range(5):
    Image.new("L", (4, 4), index).save(tmp_path / name / f"{index}.png")
  assert len(dataset.load_dataset(str(tmp_path / name), "none").train) == 3
  assert len(list(cache.glob("*.npz"))) == 1


def test_broken_exif_is_damage(folder):
  Image.new("L", (5, 6)).save(folder / "even" / "00.png", exif=b"II*\0")
  with pytest.raises(RunError, match=r"00\.png is damaged"):
    dataset.load_dataset(str(folder), "none")


def test_memory_error_is_not_damage(folder, cache, monkeypatch):
  dataset.load_dataset(str(folder), "none")

  def full(*_, **__):
    raise MemoryError

  monkeypatch.setattr(np, "load", full)
  with pytest.raises(MemoryError):
    dataset.load_dataset(str(folder), "none")


def test_arrays_are_kept(tmp_path):
  images = generator.integers(0, 256, (10, 6, 5), np.uint8)
  np.savez(tmp_path / "mine.npz", train=images, test=images[:3], train_labels=np.arange(10))
  data = dataset.load_dataset(str(tmp_path / "mine.npz"), "none")
  np.testing.assert_array_equal(data.test[..., 0], images[:3])
  assert len(data.train) + len(data.validation) == 10
  for split in ("train", "validation"):
    np.testing.assert_array_equal(getattr(data, split)[..., 0], images[data.labels[split]])
  assert "test" not in data.labels
  assert dataset.load_dataset(str(tmp_path / "mine.npz"), "none", image_size=4).image_shape == (4, 4, 1)


def test_arrays_of_other_names_are_reported(tmp_path, capsys):
  images = generator.integers(0, 256, (10, 6, 5), np.uint8)
  np.savez(tmp_path / "mine.npz", train=images, tset=images[:3], train_labels=np.arange(10))
  dataset.load_dataset(str(tmp_path / "mine.npz"), "none")
  assert "ignored tset" in capsys.readouterr().out


def test_splits_of_0_and_1_become_0_and_255(tmp_path):
  images = generator.integers(0, 2, (10, 6, 5), np.uint8)
  np.savez(tmp_path / "mine.npz", train=255 * images, test=images[:3])
  for split in ("train", "test"):
    (tmp_path / "mine" / split).mkdir(parents=True)
    for index, image in enumerate(images[:3]):
      Image.fromarray(255 * image if split == "train" else image).save(tmp_path / "mine" / split / f"{index}.png")
  for name in ("mine.npz", "mine"):
    test = dataset.load_dataset(str(tmp_path / name), "none").test
    np.testing.assert_array_equal(test[..., 0], 255 * images[:3])


@pytest.mark.parametrize(
  ("arrays", "words"),
  [
    ({"images": np.zeros((3, 4, 4), np.uint8)}, "has no array `train`, only images"),
    ({"train": np.zeros((3, 4, 4))}, r"must be uint8 \[M, H, W\].*not float64 \[3, 4, 4\]"),
    ({"train": np.zeros((3, 4, 4, 2), np.uint8)}, r"not uint8 \[3, 4, 4, 2\]"),
    ({"train": np.zeros((3, 4, 4), np.uint8), "test": np.zeros((3, 5, 4), np.uint8)}, r"test in .* is \[3, 5, 4\]"),
    ({"train": GREY, "train_labels": np.zeros(2, int)}, r"train_labels in .* integers \[3\].* not int64 \[2\]"),
    ({"train": GREY, "train_labels": np.zeros(3)}, r"train_labels in .* not float64 \[3\]"),
    ({"train": GREY, "train_labels": np.zeros((3, 1), int)}, r"train_labels in .* not int64 \[3, 1\]"),
    ({"train": GREY, "test_labels": np.zeros(3, int)}, "test_labels in .* no array `test`"),
  ],
)
def test_unusable_arrays_are_named(tmp_path, arrays, words):
  np.savez(tmp_path / "mine.npz", **arrays)
  with pytest.raises(UsageError, match=words):
    dataset.load_dataset(str(tmp_path / "mine.npz"), "none")


def test_no_file_is_unpickled(tmp_path):
  np.savez(tmp_path / "mine.npz", train=np.array([{}], dtype=object))
  with pytest.raises(RunError, match="is damaged"):
    dataset.load_dataset(str(tmp_path / "mine.npz"), "none")


def test_dataset_with_a_size_of_its_own_is_not_resized():
  with pytest.raises(UsageError, match="mnist_digits has a fixed size"):
    sources.create_source("mnist_digits", 14)
