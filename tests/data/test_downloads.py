"""Standard datasets are decoded from their publishers' files to the arrays of TFDS, or end in one line."""

import dataclasses
import gzip
import hashlib
import importlib.util
import io
import os
import signal
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from command import call
from PIL import Image
from scipy.io import savemat

from latentjax.data import downloads, sources
from latentjax.data.dataset import is_prepared, load_dataset
from latentjax.data.downloads import STANDARD_SETS, StandardSet, tfds_order
from latentjax.runtime.errors import Interrupted, RunError
from latentjax.runtime.signals import SIGNALS, exit_on_signal

PREPARED = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
PAGE = b"<html>Sign in to the network</html>"


class Publisher(BaseHTTPRequestHandler):
  """Answers with `server.files`: bytes, or a function that writes an answer of its own."""

  def do_GET(self):
    name = self.path[1:]
    self.server.requests.append(name)
    answer = self.server.files[name]
    if callable(answer):
      answer(self)
    else:
      self.answer(200, answer)

  def answer(self, status: int, body: bytes, length: int | None = None):
    self.send_response(status)
    self.send_header("Content-Length", str(len(body) if length is None else length))
    self.end_headers()
    self.wfile.write(body)

  def log_message(self, *_):
    pass


@pytest.fixture(scope="module")
def server():
  with ThreadingHTTPServer(("127.0.0.1", 0), Publisher) as server:
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.shutdown()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """An empty cache, and nothing prepared by TFDS."""
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path / "cache"))
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
  monkeypatch.setenv("NO_PROXY", "*")
  return tmp_path / "cache"


@pytest.fixture
def publish(server, monkeypatch):
  """Returns a function that makes the server the publisher of a set, with these files."""

  def serve(name: str, files: dict[str, bytes], port: int = server.server_port) -> None:
    server.files, server.requests = dict(files), []
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    published = dataclasses.replace(STANDARD_SETS[name], url=f"http://127.0.0.1:{port}/", sha256=sums)
    monkeypatch.setitem(STANDARD_SETS, name, published)

  return serve


def pixels(*shape: int) -> np.ndarray:
  return np.random.default_rng(shape).integers(0, 256, shape, np.uint8)


def digits(count: int) -> np.ndarray:
  return np.random.default_rng(count).integers(0, 10, count)


def idx(array: np.ndarray) -> bytes:
  header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
  return header + array.astype(np.uint8).tobytes()


def idx_files(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> dict:
  arrays = {"train-images-idx3": train, "train-labels-idx1": train_labels}
  arrays |= {"t10k-images-idx3": test, "t10k-labels-idx1": test_labels}
  return {f"{name}-ubyte.gz": gzip.compress(idx(array), 1) for name, array in arrays.items()}


def amat(images: np.ndarray) -> bytes:
  """The text of images of 0 and 255."""
  text = np.full((len(images), 784, 2), ord(" "), np.uint8)
  text[..., 0] = ord("0") + images.reshape(-1, 784) // 255
  text[:, -1, 1] = ord("\n")
  return text.tobytes()


def names_below(folder: Path) -> list[str]:
  return sorted(path.name for path in folder.rglob("*") if path.is_file())


def mnist_like():
  splits = {"train": pixels(9, 28, 28, 1), "train_labels": digits(9), "test": pixels(7, 28, 28, 1)}
  splits["test_labels"] = digits(7)
  files = idx_files(splits["train"][..., 0], splits["train_labels"], splits["test"][..., 0], splits["test_labels"])
  return files, splits


def mnist():
  files, splits = mnist_like()
  return files, splits | {"label_names": np.array(list("0123456789"))}


def kmnist():
  files, splits = mnist_like()
  return files, splits | {"label_names": np.array(["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"])}


def binarized_mnist():
  splits = {
    split: 255 * (pixels(count, 28, 28, 1) % 2) for split, count in zip(downloads.SPLITS, (9, 6, 7), strict=True)
  }
  words = {"train": "train", "validation": "valid", "test": "test"}
  return {f"binarized_mnist_{words[split]}.amat": amat(images) for split, images in splits.items()}, splits


def svhn_cropped():
  files, splits = {}, {"label_names": np.array(list("0123456789"))}
  for split, count in (("train", 9), ("test", 7)):
    splits |= {split: pixels(count, 32, 32, 3), f"{split}_labels": digits(count)}
    labels = np.where(splits[f"{split}_labels"] == 0, 10, splits[f"{split}_labels"])
    content = io.BytesIO()
    savemat(content, {"X": np.moveaxis(splits[split], 0, -1), "y": labels.astype(np.uint8)[:, None]})
    files[f"{split}_32x32.mat"] = content.getvalue()
  return files, splits


def cifar10():
  splits = {"train": pixels(10, 32, 32, 3), "train_labels": digits(10), "test": pixels(7, 32, 32, 3)}
  splits |= {"test_labels": digits(7), "label_names": np.array(["airplane", "frog"])}
  records = {
    split: np.concatenate(
      [splits[f"{split}_labels"][:, None], splits[split].transpose(0, 3, 1, 2).reshape(-1, 3072)], 1
    )
    for split in ("train", "test")
  }
  members = {f"data_batch_{n}.bin": records["train"][2 * n - 2 : 2 * n].astype(np.uint8) for n in range(1, 6)}
  members = {"test_batch.bin": records["test"].astype(np.uint8), **members}
  content = io.BytesIO()
  with tarfile.open(fileobj=content, mode="w:gz") as archive:
    for name, data in {"batches.meta.txt": b"airplane\nfrog\n\n", **members}.items():
      info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
      info.size = len(bytes(data))
      archive.addfile(info, io.BytesIO(bytes(data)))
  return {"cifar-10-binary.tar.gz": content.getvalue()}, splits


def omniglot():
  """Three characters in two archives; drawing d of character c has a black square of side d at (10 c, 10 c)."""
  archives, names = {}, ["Greek/character01", "Greek/character02", "Atlantean/character07"]
  splits = {"train": [], "train_labels": [], "test": [], "test_labels": []}
  for character, (name, archive) in enumerate(zip(names, ["background", "background", "evaluation"], strict=True)):
    content = archives.setdefault(f"images_{archive}.zip", io.BytesIO())
    with zipfile.ZipFile(content, "a") as file:
      for drawing in range(1, 21):
        page = np.full((105, 105), 255, np.uint8)
        page[10 * character : 10 * character + drawing, 10 * character : 10 * character + drawing] = 0
        png = io.BytesIO()
        Image.fromarray(page).convert("1").save(png, "PNG")
        file.writestr(f"images_{archive}/{name}/{character + 1:04}_{drawing:02}.png", png.getvalue())
        split = "train" if drawing <= 15 else "test"
        ink = Image.fromarray(255 - page).resize((28, 28), Image.Resampling.LANCZOS)
        splits[split].append(np.asarray(ink)[..., None])
        splits[f"{split}_labels"].append(character)
  splits = {name: np.array(values) for name, values in splits.items()}
  splits["label_names"] = np.array(["Greek_0", "Greek_1", "Atlantean_6"])
  return {name: content.getvalue() for name, content in archives.items()}, splits


@pytest.mark.parametrize("make", [mnist, kmnist, binarized_mnist, svhn_cropped, cifar10, omniglot])
def test_decoded_arrays(make, publish, server, cache, capsys):
  """In the order of TFDS; the files are removed, and the cache is enough from then on."""
  name, (files, expected) = make.__name__, make()
  publish(name, files)
  assert not is_prepared(name)
  splits = sources.create_source(name).read()
  assert splits.keys() == expected.keys()
  for key, array in expected.items():
    order = tfds_order(key.removesuffix("_labels"), len(array)) if key != "label_names" else slice(None)
    np.testing.assert_array_equal(splits[key], array[order])
    assert splits[key].dtype == array.dtype
  assert sorted(server.requests) == sorted(files)
  assert names_below(cache) == []
  assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_order_is_that_of_tfds():
  hashing = pytest.importorskip("tensorflow_datasets.core.hashing")
  assert tfds_order("test", 50) == sorted(range(50), key=hashing.Hasher("test").hash_key)


def test_the_sums_are_those_of_tfds():
  root = Path(importlib.util.find_spec("tensorflow_datasets").origin).parent
  for name, published in STANDARD_SETS.items():
    paths = [root / "url_checksums" / f"{name}.txt", root / "datasets" / name / "checksums.tsv"]
    lines = [line.split() for path in paths if path.exists() for line in path.read_text().splitlines()]
    sums, sizes = ({line[0]: line[index] for line in lines} for index in (2, 1))
    urls = [published.url + file for file in published.sha256]
    assert [sums[url] for url in urls] == list(published.sha256.values())
    assert published.megabytes == round(sum(int(sizes[url]) for url in urls) / 1e6)


UNCOMPRESSED = {  # SHA-256 of MNIST's files, as many projects state them
  "images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
  "labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@pytest.mark.parametrize("name", ["mnist", "binarized_mnist"])
def test_a_test_split_is_that_of_tfds(name, publish):
  """The examples of TFDS, put back in their first order, are the publisher's file to the bit, and are decoded again."""
  tfds = pytest.importorskip("tensorflow_datasets")
  if not any((PREPARED / name).glob("*/dataset_info.json")):
    pytest.skip(f"{name} is not prepared in {PREPARED}")
  builder = tfds.builder(name, data_dir=PREPARED)
  examples = list(builder.as_data_source("test", decoders={"image": tfds.decode.SkipDecoding()}))
  images = np.stack([np.asarray(Image.open(io.BytesIO(example["image"]))) for example in examples])[..., None]
  order = tfds_order("test", len(images))
  raw = np.empty_like(images)
  raw[order] = images
  if name == "mnist":
    labels = np.array([example["label"] for example in examples])
    raw_labels = np.empty_like(labels)
    raw_labels[order] = labels
    assert hashlib.sha256(idx(raw[..., 0])).hexdigest() == UNCOMPRESSED["images"]
    assert hashlib.sha256(idx(raw_labels)).hexdigest() == UNCOMPRESSED["labels"]
    publish(name, idx_files(raw[:9, ..., 0], raw_labels[:9], raw[..., 0], raw_labels))
    splits = StandardSet(name).read()
    np.testing.assert_array_equal(splits["test_labels"], labels)
    assert splits["label_names"].tolist() == builder.info.features["label"].names
  else:
    text = amat(255 * raw)
    assert hashlib.sha256(text).hexdigest() == STANDARD_SETS[name].sha256["binarized_mnist_test.amat"]
    others = {f"binarized_mnist_{split}.amat": amat(255 * raw[:9]) for split in ("train", "valid")}
    publish(name, {"binarized_mnist_test.amat": text, **others})
    splits, images = StandardSet(name).read(), 255 * images
  np.testing.assert_array_equal(splits["test"], images)


FAULTS = {
  "a wrong sum": (lambda request: request.answer(200, b"other"), "its SHA-256 is not the publisher's"),
  "a cut download": (lambda request: request.answer(200, b"other", length=100), "IncompleteRead"),
  "a page of a proxy": (lambda request: request.answer(200, PAGE), "a proxy sent a page instead"),
  "an error of a proxy": (lambda request: request.answer(502, PAGE), "502 Server Error: Bad Gateway)"),
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_failed_download_is_one_line_and_can_be_repeated(fault, reason, publish, server, cache):
  files, expected = kmnist()
  publish("kmnist", files)
  bad = "train-labels-idx1-ubyte.gz"
  server.files[bad] = fault
  with pytest.raises(RunError) as error:
    load_dataset("kmnist", "none")
  message = str(error.value)
  assert message.startswith(f"Cannot download http://127.0.0.1:{server.server_port}/{bad} (")
  assert reason in message
  assert f"put the file into {cache / 'downloads' / 'kmnist'}, or set TFDS_DATA_DIR" in message
  assert "\n" not in message
  assert names_below(cache) == ["train-images-idx3-ubyte.gz"]  # complete
  server.files, server.requests = files, []
  data = load_dataset("kmnist", "none")
  assert sorted(server.requests) == sorted(files.keys() - {"train-images-idx3-ubyte.gz"})
  np.testing.assert_array_equal(data.test, expected["test"][tfds_order("test", 7)])
  assert names_below(cache) == ["kmnist.npz"]


def test_without_a_connection_a_command_ends_in_one_line(publish, tmp_path, cache):
  publish("mnist", mnist()[0], port=9)
  done = call("--workdir=run", *tiny.flags("vae", {"data.name": "mnist"}), cwd=tmp_path)
  assert done.returncode == 1
  assert done.stderr.startswith(
    "error: Cannot download http://127.0.0.1:9/train-images-idx3-ubyte.gz (Connection refused)"
  )
  assert len(done.stderr.splitlines()) == 1
  assert names_below(cache) == []


def test_files_that_the_user_put_there_need_no_connection(publish, cache):
  files, expected = mnist()
  publish("mnist", files, port=9)
  (cache / "downloads" / "mnist").mkdir(parents=True)
  for name, content in files.items():
    (cache / "downloads" / "mnist" / name).write_bytes(content)
  assert is_prepared("mnist")
  np.testing.assert_array_equal(load_dataset("mnist", "none").test, expected["test"][tfds_order("test", 7)])


def test_a_cache_that_cannot_be_written_is_named(publish, monkeypatch):
  publish("mnist", mnist()[0])
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", "/dev/null/x")
  with pytest.raises(RunError, match=r"Cannot use /dev/null/x/downloads/mnist \(Not a directory\)\. Set LATENTJAX"):
    StandardSet("mnist").read()


@pytest.mark.parametrize("moment", ["download", "caching"])
def test_ctrl_c_leaves_nothing_half_written(moment, publish, server, cache, monkeypatch):
  files, _ = kmnist()
  publish("kmnist", files)

  def interrupt(request):
    request.answer(200, b"half", length=8)
    os.kill(os.getpid(), signal.SIGINT)

  def interrupt_caching(path, **_):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGINT)

  if moment == "download":
    server.files["train-images-idx3-ubyte.gz"] = interrupt
  else:
    monkeypatch.setattr(np, "savez_compressed", interrupt_caching)
  handlers = {number: signal.getsignal(number) for number in SIGNALS}
  monkeypatch.setattr(os, "_exit", pytest.fail)
  exit_on_signal("stopped")
  try:
    with pytest.raises(Interrupted):
      load_dataset("kmnist", "none")
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)
  assert names_below(cache) == []


@pytest.mark.parametrize(
  ("name", "importable", "is_available", "used"),
  [
    ("mnist", True, True, True),
    ("mnist", False, True, False),
    ("mnist", True, False, False),  # another version, or a format that needs TensorFlow
    ("omniglot", True, True, False),  # TFDS's images are larger
  ],
)
def test_a_set_that_tfds_has_prepared_is_not_downloaded(
  name, importable, is_available, used, publish, server, tmp_path, monkeypatch
):
  (tmp_path / "tfds" / name / "3.0.1").mkdir(parents=True)
  (tmp_path / "tfds" / name / "3.0.1" / "dataset_info.json").touch()
  if not importable:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  prepared = SimpleNamespace(is_available=is_available, read=lambda: "prepared")
  monkeypatch.setattr(downloads, "TFDS", lambda name: prepared)
  publish(name, {"mnist": mnist, "omniglot": omniglot}[name]()[0])
  source = sources.create_source(name)
  assert source.is_available == used
  assert (source.read() == "prepared") == used
  assert (server.requests == []) == used
