"""Standard datasets, downloaded from their publishers and decoded without TensorFlow.

All but Omniglot are the same as in TFDS, array for array, in the order of its examples.

Shapes: M images of a split, H W C image.
"""

import dataclasses
import gzip
import hashlib
import importlib.util
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import Progress

from latentjax.data.base import LABEL_NAMES, LABELS, SPLITS, Splits
from latentjax.data.decoding import crop_and_resize
from latentjax.data.tfds import IMAGE_SHAPES, TFDS
from latentjax.runtime.console import console, progress
from latentjax.runtime.errors import RunError, error_reason
from latentjax.runtime.fileio import cache_dir

Files = Mapping[str, bytes]  # the content of downloaded files by name

DIGITS = [str(digit) for digit in range(10)]
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
KUZUSHIJI = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]

OMNIGLOT = "omniglot"
OMNIGLOT_TRAIN_DRAWINGS = 15  # of 20 of every character
CHUNK_SIZE = 2**16  # bytes
TIMEOUT = 30  # seconds without an answer


class StandardSet:
  """A `Source` by its name in `STANDARD_SETS`: from TFDS where it has prepared the set already, else downloaded."""

  def __init__(self, name: str):
    self.name = name
    self.key = name if name != OMNIGLOT else "omniglot_28x28"  # TFDS's own, cached earlier, may have the name
    self.image_shape = IMAGE_SHAPES.get(name, (28, 28, 1))
    self._published = STANDARD_SETS[name]

  @property
  def is_available(self) -> bool:
    return self._prepared is not None or all(path.exists() for path in self._paths)

  def read(self) -> Splits:
    """Returns its splits, and removes the files that they are decoded from."""
    if self._prepared is not None:
      return self._prepared.read()
    files = self._download()
    console.print(f"decoding {self.name} once into {cache_dir()}")
    splits = self._published.decode(files)
    for split in [split for split in SPLITS if split in splits]:
      order = tfds_order(split, len(splits[split]))
      for name in {split, split + LABELS} & splits.keys():
        splits[name] = np.ascontiguousarray(splits[name][order])
    with suppress(OSError):  # they may be read-only
      for path in self._paths:
        path.unlink(missing_ok=True)
      self._folder.rmdir()
    return splits

  @cached_property
  def _prepared(self) -> TFDS | None:
    """The set as TFDS has prepared it, if it can be read."""
    directory = os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    found = any(Path(directory, self.name).glob("*/dataset_info.json"))  # first, because importing TFDS takes seconds
    if self.name == OMNIGLOT or not found or importlib.util.find_spec("tensorflow_datasets") is None:
      return None
    source = TFDS(self.name)
    return source if source.is_available else None

  @property
  def _folder(self) -> Path:
    return cache_dir() / "downloads" / self.name

  @property
  def _paths(self) -> list[Path]:
    return [self._folder / name for name in self._published.sha256]

  def _download(self) -> dict[str, bytes]:
    """Returns the content of all files; those in the folder already are only checked."""
    try:
      import pooch
    except ImportError:
      raise RunError(f"data.name = {self.name} needs pooch to be downloaded. Run pip install pooch.") from None
    pooch.get_logger().setLevel("ERROR")
    published = self._published
    if not all(path.exists() for path in self._paths):
      console.print(f"downloading {self.name} ({published.megabytes} MB) from {published.url}")
    files = {}
    with progress() as bar:
      downloader = pooch.HTTPDownloader(_ProgressBar(bar, self.name, published.megabytes), CHUNK_SIZE, timeout=TIMEOUT)
      for path in self._paths:
        url = published.url + path.name
        try:
          path.parent.mkdir(parents=True, exist_ok=True)
          pooch.retrieve(url, published.sha256[path.name], path.name, path.parent, downloader=downloader)
          files[path.name] = path.read_bytes()  # now, because another process may remove it when it has decoded it
        except (OSError, ValueError) as error:  # ValueError: another SHA-256
          raise self._failure(url, error) from None
    return files

  def _failure(self, url: str, error: OSError | ValueError) -> RunError:
    """Returns the error for a file that cannot be downloaded or written; a ValueError is a wrong sum."""
    cause = error
    while (inner := cause.__cause__ or cause.__context__) is not None:  # requests wraps the reason several times
      cause = inner
    reason = error_reason(cause).partition(" for url")[0]
    if isinstance(error, PermissionError) or getattr(error, "errno", None) is not None:  # errors of requests have none
      return RunError(f"Cannot use {self._folder} ({reason}). Set LATENTJAX_CACHE_DIR to another directory.")
    if not isinstance(error, OSError):
      reason = "its SHA-256 is not the publisher's: the file was changed or cut, or a proxy sent a page instead"
    prepared = "" if self.name == OMNIGLOT else f", or set TFDS_DATA_DIR to a directory where {self.name} is prepared"
    advice = f"Check the network and its proxy, or put the file into {self._folder}{prepared}"
    return RunError(f"Cannot download {url} ({reason}). {advice}.")


class _ProgressBar:
  """The progress bar that pooch expects, drawn by Rich: one for all files of a set, in megabytes."""

  def __init__(self, bar: Progress, name: str, megabytes: int):
    self._bar, self._task = bar, bar.add_task(f"downloading {name}", total=megabytes, note="MB")
    self._before = 0.0  # megabytes of earlier files
    self.total = 0  # bytes of this file, which pooch sets

  def update(self, count: int) -> None:
    self._bar.advance(self._task, count / 1e6)

  def reset(self) -> None:
    self._bar.update(self._task, completed=self._before)

  def close(self) -> None:
    self._before += self.total / 1e6


def tfds_order(split: str, count: int) -> list[int]:
  """Returns the order in which TFDS writes the examples of a split: by the MD5 sum of its name and their number."""
  return sorted(range(count), key=lambda index: hashlib.md5(f"{split}{index}".encode(), usedforsecurity=False).digest())


def decode_idx(files: Files, label_names: list[str]) -> Splits:
  """Decodes gzipped IDX files: two zeros, the type, the number of axes, their lengths, and the values."""
  arrays = {}
  for name, compressed in files.items():
    content = gzip.decompress(compressed)
    shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
    arrays[name] = np.frombuffer(content, np.uint8, offset=4 + shape.nbytes).reshape(shape)
  splits = {LABEL_NAMES: np.array(label_names)}
  for split, prefix in (("train", "train"), ("test", "t10k")):
    splits[split] = arrays[f"{prefix}-images-idx3-ubyte.gz"][..., None]
    splits[split + LABELS] = arrays[f"{prefix}-labels-idx1-ubyte.gz"].astype(np.int64)
  return splits


def decode_amat(files: Files) -> Splits:
  """Decodes text of digits 0 and 1, each followed by a space or, at the end of an image, a newline."""
  texts = [files[f"binarized_mnist_{split}.amat"] for split in ("train", "valid", "test")]
  digits = [np.frombuffer(text, np.uint8)[::2] - np.uint8(ord("0")) for text in texts]
  return {split: 255 * bits.reshape(-1, 28, 28, 1) for split, bits in zip(SPLITS, digits, strict=True)}


def decode_svhn(files: Files) -> Splits:
  """Decodes MATLAB files of images [H, W, C, M] and labels [M, 1], in which 10 stands for the digit 0."""
  from scipy.io import loadmat

  splits = {LABEL_NAMES: np.array(DIGITS)}
  for split in ("train", "test"):
    arrays = loadmat(io.BytesIO(files[f"{split}_32x32.mat"]))
    splits[split] = np.moveaxis(arrays["X"], -1, 0)
    splits[split + LABELS] = arrays["y"].ravel().astype(np.int64) % 10
  return splits


def decode_cifar10(files: Files) -> Splits:
  """Decodes the binary version, without pickle: for every image a byte of the label and the pixels [C, H, W]."""
  with tarfile.open(fileobj=io.BytesIO(files["cifar-10-binary.tar.gz"])) as archive:
    content = {Path(member.name).name: archive.extractfile(member).read() for member in archive if member.isfile()}
  splits = {LABEL_NAMES: np.array(content["batches.meta.txt"].decode().split())}
  batches = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
  for split, names in batches.items():
    records = np.frombuffer(b"".join(content[name] for name in names), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    splits[split] = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    splits[split + LABELS] = records[:, 0].astype(np.int64)
  return splits


def decode_omniglot(files: Files) -> Splits:
  """Decodes zipped drawings of 105 x 105 pixels, such as images_background/Greek/character01/0394_20.png.

  They become white on black and 28 x 28, as with `data.image_size`. The first 15 drawings of every character are for
  training, the last 5 for the test; labels are those of TFDS, the characters. The 28 x 28 version of Burda et al. has
  as many training images, but no published sum of it is known.
  """
  drawings, names = {}, {}
  for compressed in files.values():
    with zipfile.ZipFile(io.BytesIO(compressed)) as archive:
      for path in map(Path, archive.namelist()):
        if path.suffix == ".png":
          label, drawing = map(int, path.stem.split("_"))
          with archive.open(str(path)) as file, Image.open(file) as image:
            drawings[label - 1, drawing] = 255 - crop_and_resize(np.asarray(image.convert("L")), 28)
          names[label - 1] = f"{path.parts[-3]}_{int(path.parts[-2].removeprefix('character')) - 1}"
  splits = {LABEL_NAMES: np.array([names[label] for label in sorted(names)])}
  for split, in_train in (("train", True), ("test", False)):
    keys = [key for key in sorted(drawings) if (key[1] <= OMNIGLOT_TRAIN_DRAWINGS) == in_train]
    splits[split] = np.stack([drawings[key] for key in keys])[..., None]
    splits[split + LABELS] = np.array([label for label, _ in keys])
  return splits


@dataclasses.dataclass(frozen=True)
class Published:
  """Files of a set as its publisher offers them."""

  url: str  # of the directory of all files
  megabytes: int
  sha256: dict[str, str]  # of every file, from the sources of TFDS 4.9
  decode: Callable[[Files], Splits]  # into splits in the order of the files


STANDARD_SETS = {
  "mnist": Published(
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    12,
    {
      "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
      "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
      "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
      "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    partial(decode_idx, label_names=DIGITS),
  ),
  "fashion_mnist": Published(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    31,
    {
      "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
      "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
      "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
      "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    partial(decode_idx, label_names=FASHION),
  ),
  "kmnist": Published(
    "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    21,
    {
      "train-images-idx3-ubyte.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
      "train-labels-idx1-ubyte.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
      "t10k-images-idx3-ubyte.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
      "t10k-labels-idx1-ubyte.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    },
    partial(decode_idx, label_names=KUZUSHIJI),
  ),
  "binarized_mnist": Published(
    "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
    110,
    {
      "binarized_mnist_train.amat": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
      "binarized_mnist_valid.amat": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
      "binarized_mnist_test.amat": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
    },
    decode_amat,
  ),
  OMNIGLOT: Published(
    "https://github.com/brendenlake/omniglot/raw/master/python/",
    16,
    {
      "images_background.zip": "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
      "images_evaluation.zip": "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    },
    decode_omniglot,
  ),
  "svhn_cropped": Published(
    "http://ufldl.stanford.edu/housenumbers/",
    246,
    {
      "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
      "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    },
    decode_svhn,
  ),
  "cifar10": Published(
    "https://www.cs.toronto.edu/~kriz/",
    170,
    {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
    decode_cifar10,
  ),
}
