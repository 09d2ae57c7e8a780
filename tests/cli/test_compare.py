"""Comparisons of runs: their numbers, protocols, unfinished and damaged runs, and the self-contained page."""

import importlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentjax.cli import compare, main
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import plots, records
from latentjax.workdir.protocol import Protocol

OUTPUTS = {"comparison.md", "comparison.json", "comparison.png", "groups.png", "report.html"}


def terms(kl: float, reconstruction: float) -> dict:
  return {"elbo": -(kl + reconstruction), "kl": kl, "reconstruction": reconstruction}


def make_run(workdir: Path, model: str = "vae", data=("mnist", "dynamic"), epochs: int = 3, evaluated: bool = True):
  """A run of 3 epochs asked for, of which `epochs` are done; its numbers differ by model."""
  config = importlib.import_module(f"configs.{model}").get_config()
  config.data.name, config.data.binarization = data
  config.train.epochs = 3
  workdir.mkdir(parents=True)
  records.write_config(workdir, config, (28, 28, 1), {"dataset_sha256": "0"})
  better = 5.25 if model == "draw" else 0.0
  lines = [
    {"step": 10 * epoch, "epoch": epoch, "seconds": 60.5 * epoch, "images_per_second": 100.0 * epoch}
    | {"train": terms(20.0, 90.0 - epoch), "validation": terms(21.0, 90.0 - epoch % 3 - better)}
    for epoch in range(1, epochs + 1)
  ]
  (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  groups = {"kl_per_group": [20.0] if model == "vae" else [12.0, 8.0]}
  results = {
    split: terms(20.0, 70.123456789 + place - better) for place, split in enumerate(("train", "validation", "test"))
  }
  results["test"] |= groups | {
    "num_examples": 10_000,
    "nll": 85.987654321 - better,
    "nll_stderr": 0.21,
    "nll_samples": 10,
  }
  results |= {"epoch": 2, "epochs_trained": 3, "parameters": 1234567, "train_minutes": 3.025, "device": "cpu"}
  if evaluated:
    (workdir / "results.json").write_text(json.dumps(results))
  return results


def change(workdir: Path, key: str, values: dict) -> None:
  """Adds values to a section of results.json."""
  results = json.loads((workdir / "results.json").read_text())
  results[key] |= values
  (workdir / "results.json").write_text(json.dumps(results))


def compared(out: Path, *workdirs: Path) -> list[dict]:
  compare.run([str(workdir) for workdir in workdirs], out)
  return json.loads((out / "comparison.json").read_text())["tables"]


@pytest.fixture
def sketched(monkeypatch):
  """Plots of one pixel, since plotting takes seconds."""
  for name in ("save_curves", "save_groups"):
    monkeypatch.setattr(plots, name, lambda file, *_, **__: Image.new("L", (1, 1)).save(file, format="png"))


class Page(HTMLParser):
  """The tags of a page with their attributes, and its text."""

  def __init__(self, path: Path):
    super().__init__()
    self.tags, self.text, self.source = [], [], path.read_text(encoding="utf-8")
    self.feed(self.source)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.text.append(data)


@pytest.fixture
def pair(tmp_path) -> list[Path]:
  make_run(tmp_path / "one", "vae")
  make_run(tmp_path / "two", "draw")
  return [tmp_path / "one", tmp_path / "two"]


def test_numbers_are_those_of_the_runs(pair, tmp_path):
  before = {path: path.read_bytes() for workdir in pair for path in workdir.iterdir()}
  (table,) = compared(tmp_path / "out", *pair)
  assert {path.name for path in (tmp_path / "out").iterdir()} == OUTPUTS
  for workdir, row in zip(pair, table["runs"], strict=True):
    results = json.loads((workdir / "results.json").read_text())
    assert {key: row[key] for key in ("train", "validation", "test", "parameters", "device")} == {
      key: results[key] for key in ("train", "validation", "test", "parameters", "device")
    }
    assert (row["name"], row["status"], row["epochs"], row["best_epoch"]) == (workdir.name, "finished", 3, 2)
    assert row["minutes"] == pytest.approx(results["train_minutes"])
    assert row["images_per_second"] == 200.0  # the median of 100, 200 and 300
  assert table["best"] == {"elbo": "two", "nll": "two"}
  markdown = (tmp_path / "out" / "comparison.md").read_text()
  assert "| **-86.87** | 20.00 | 66.87 | **80.74 ± 0.21 (10)** |" in markdown
  assert "| -92.12 | 20.00 | 72.12 | 85.99 ± 0.21 (10) |" in markdown
  assert "DRAW, filterbank attention" in markdown
  assert {path: path.read_bytes() for workdir in pair for path in workdir.iterdir()} == before


@pytest.mark.parametrize(
  ("epochs", "evaluated", "status", "shown"),
  [
    (0, False, "no epoch yet", "0 of 3"),
    (2, False, "unfinished", "2 of 3"),
    (3, False, "not evaluated", "3"),
    (2, True, "unfinished, evaluated at epoch 3", "2 of 3"),
    (2, 2, "unfinished, evaluated at epoch 2", "2 of 3"),
  ],
)
def test_an_unfinished_run_has_a_row(tmp_path, epochs, evaluated, status, shown):
  make_run(tmp_path / "whole")
  make_run(tmp_path / "part", "draw", epochs=epochs, evaluated=bool(evaluated))
  if evaluated == 2:
    results = json.loads((tmp_path / "part" / "results.json").read_text())
    (tmp_path / "part" / "results.json").write_text(json.dumps(results | {"epochs_trained": 2}))
  (table,) = compared(tmp_path / "out", tmp_path / "whole", tmp_path / "part")
  row = table["runs"][1]
  assert (row["status"], row["epochs"]) == (status, epochs or None)
  assert row["minutes"] == (60.5 * epochs / 60 if epochs else None)
  if not evaluated:
    assert row["test"] is row["train"] is row["parameters"] is None
    assert row["validation"] == (terms(21.0, 90.0 - 2 - 5.25) if epochs else None)  # epoch 2 is the best
    assert table["best"] == {"elbo": None, "nll": None}  # one alone is no best
  line = next(line for line in (tmp_path / "out" / "comparison.md").read_text().splitlines() if "| part" in line)
  assert f"part ({status})" in line
  assert f"| {shown} |" in line
  assert status in "".join(Page(tmp_path / "out" / "report.html").text)


def test_the_best_epoch_so_far_is_that_of_the_bound_that_is_trained(tmp_path):
  make_run(tmp_path / "whole")
  make_run(tmp_path / "part", epochs=3, evaluated=False)
  lines = [json.loads(line) for line in (tmp_path / "part" / "metrics.jsonl").read_text().splitlines()]
  lines[2]["validation"]["importance_bound"] = -80.0
  (tmp_path / "part" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  (table,) = compared(tmp_path / "out", tmp_path / "whole", tmp_path / "part")
  assert table["runs"][1]["best_epoch"] == 3
  assert table["runs"][1]["validation"] == terms(21.0, 90.0)


@pytest.mark.usefixtures("sketched")
def test_protocols_have_tables_of_their_own(tmp_path):
  protocols = [("mnist", "dynamic"), ("mnist", "static"), ("binarized_mnist", "static"), ("mnist_digits", "dynamic")]
  workdirs = [tmp_path / f"run{index}" for index in range(5)]
  for workdir, protocol in zip(workdirs, [*protocols, protocols[0]], strict=True):
    make_run(workdir, data=protocol)
  found = compared(tmp_path / "out", *workdirs)
  assert [(table["dataset"], table["binarization"]) for table in found] == protocols
  assert [[row["name"] for row in table["runs"]] for table in found] == [["run0", "run4"], ["run1"], ["run2"], ["run3"]]
  assert sum(tag == "table" for tag, _ in Page(tmp_path / "out" / "report.html").tags) == 4
  markdown = (tmp_path / "out" / "comparison.md").read_text()
  assert [len(re.findall(rf"^\| {name} ", markdown, re.MULTILINE)) for name in ("run", "run0", "run3")] == [4, 1, 1]


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize(
  ("field", "note", "best"), [("nll_samples", "differ in K", "two"), ("num_examples", "(10,000, 500)", None)]
)
def test_nlls_that_are_not_comparable_are_reported(pair, tmp_path, field, note, best):
  change(pair[1], "test", {field: 500})
  (table,) = compared(tmp_path / "out", *pair)
  assert any(note in line for line in table["notes"])
  assert table["best"] == {"elbo": best, "nll": None}
  assert note in (tmp_path / "out" / "comparison.md").read_text()
  assert note in "".join(Page(tmp_path / "out" / "report.html").text)


@pytest.mark.usefixtures("sketched")
def test_numbers_that_are_not_finite_are_dashes(pair, tmp_path):
  """As earlier versions wrote them, without quotes."""
  nan = float("nan")
  change(pair[1], "test", {"elbo": -float("inf"), "nll": nan, "nll_stderr": nan, "nll_curve": [[10, nan]]})
  (table,) = compared(tmp_path / "out", *pair)
  assert table["best"] == {"elbo": None, "nll": None}
  assert (table["runs"][1]["test"]["elbo"], table["runs"][1]["test"]["nll"]) == (None, None)
  markdown = (tmp_path / "out" / "comparison.md").read_text()
  assert "| two | DRAW, filterbank attention | - | 20.00 | 66.87 | - |" in markdown
  assert "NaN" not in (tmp_path / "out" / "comparison.json").read_text()


def test_a_plot_that_cannot_be_drawn_is_left_out(pair, tmp_path, monkeypatch, capsys):
  def fail(*args):
    raise RuntimeError("no TeX")

  for name in ("save_curves", "save_groups"):
    monkeypatch.setattr(plots, name, fail)
  compared(tmp_path / "out", *pair)
  assert {path.name for path in (tmp_path / "out").iterdir()} == OUTPUTS - {"comparison.png", "groups.png"}
  assert not any(tag in ("img", "figure") for tag, _ in Page(tmp_path / "out" / "report.html").tags)
  assert f"Cannot draw {tmp_path / 'out' / 'comparison.png'} (RuntimeError: no TeX).\n" in capsys.readouterr().out


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("images", ["same", "other"])
def test_runs_on_other_images_have_no_best(pair, tmp_path, images):
  for workdir, sha256 in zip(pair, ["same", images], strict=True):
    tree = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(tree | {"run": [{"dataset_sha256": sha256}]}))
  (table,) = compared(tmp_path / "out", *pair)
  assert (table["best"] == {"elbo": None, "nll": None}) == (images == "other")
  assert any("in the images" in note for note in table["notes"]) == (images == "other")


def test_the_page_is_self_contained(pair, tmp_path):
  Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(pair[0] / "samples.png")
  frames = [Image.fromarray(np.full((4, 20), shade, np.uint8)) for shade in (0, 200)]
  frames[0].save(pair[1] / "drawing.gif", save_all=True, append_images=frames[1:])
  (pair[1] / "samples.png").write_bytes((pair[0] / "samples.png").read_bytes()[:-20])  # still being written
  change(pair[1], "test", {"active_units": [7, 3], "nll_curve": [[1, 90.5], [10, 80.74]]})
  compared(tmp_path / "out", *pair)
  page = Page(tmp_path / "out" / "report.html")
  links = [
    value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "srcset", "data")
  ]
  assert [link for link in links if not link.startswith("data:image/")] == []
  assert not re.search(r"https?://|@import|url\(", page.source)
  assert not any(tag in ("script", "link", "iframe", "object") for tag, _ in page.tags)
  images = [attrs for tag, attrs in page.tags if tag == "img"]
  assert all(image["alt"] and image["loading"] == "lazy" for image in images)
  assert sum("samples from the prior" in image["alt"] for image in images) == 1
  drawing = next(image for image in images if image["src"].startswith("data:image/gif"))
  assert (drawing["width"], drawing["height"]) == ("20", "4")
  assert "90.50" in page.text


@pytest.mark.usefixtures("sketched")
def test_names_of_directories_are_escaped(tmp_path):
  name = '<img src=x onerror="alert(1)">&|$x_1$'
  make_run(tmp_path / name, data=("mnist<b>", "dynamic"))
  compared(tmp_path / "out", tmp_path / name)
  page = Page(tmp_path / "out" / "report.html")
  assert "onerror=" not in re.sub(r"&lt;.*?&gt;", "", page.source)
  assert all("onerror" not in attrs for _, attrs in page.tags)
  assert not any(tag == "b" for tag, _ in page.tags)
  assert name in page.text
  row = next(line for line in (tmp_path / "out" / "comparison.md").read_text().splitlines() if "onerror" in line)
  assert row.startswith(r"| \<img src=x onerror=")
  assert len(re.findall(r"(?<!\\)\|", row)) == 17  # around 16 columns


@pytest.mark.usefixtures("sketched")
def test_runs_of_one_name_have_their_paths(tmp_path):
  for parent in ("a", "b"):
    make_run(tmp_path / parent / "run")
  (table,) = compared(tmp_path / "out", tmp_path / "a" / "run", tmp_path / "b" / "run")
  assert [row["name"] for row in table["runs"]] == [str(tmp_path / parent / "run") for parent in ("a", "b")]


@pytest.mark.parametrize(
  ("file", "content"),
  [
    ("config.json", "{"),
    ("config.json", '{"model": {"name": "vae"}}'),
    ("metrics.jsonl", "no\n{}\n"),
    ("metrics.jsonl", '{"epoch": 1}\n'),
    ("metrics.jsonl", "[1]\n"),
    ("results.json", "{"),
    ("results.json", "[]"),
    ("results.json", "{}"),
  ],
)
def test_a_damaged_file_is_named_in_one_line(pair, tmp_path, file, content):
  (pair[1] / file).write_text(content)
  with pytest.raises(RunError, match=f"two/{file} is damaged") as raised:
    compared(tmp_path / "out", *pair)
  assert len(str(raised.value).splitlines()) == 1
  assert not (tmp_path / "out").exists()


def test_workdirs_that_make_no_comparison_are_refused(pair, tmp_path):
  one, out = str(pair[0]), tmp_path / "out"
  for workdirs, message in (
    ([], "needs --workdirs"),
    ([""], "needs --workdirs"),
    ([one, ""], "empty name"),
    ([one, one + "/../one"], "twice"),
    ([one, str(tmp_path / "none")], "none is not a directory"),
    ([one, str(tmp_path)], "has no config.json"),
  ):
    with pytest.raises(UsageError, match=message):
      compare.run(workdirs, out)
  with pytest.raises(UsageError, match="holds a run"):
    compare.run([one], pair[1])
  assert not out.exists()


def test_curves_of_two_protocols_and_of_a_run_without_an_epoch(tmp_path, full_size_figures):
  """In the pixels: each run of a protocol has its color, and each protocol its panels."""
  make_run(tmp_path / "run")
  lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
  lower = [line | {split: terms(30.0, 99.0) for split in ("train", "validation")} for line in lines]
  first, second = (Protocol(name, "dynamic", "bernoulli", 0) for name in "ab")
  plots.save_curves(tmp_path / "curves.png", {first: {"$x": lines, "y": lower}, second: {"none": []}}, ["epoch"])
  with Image.open(tmp_path / "curves.png") as picture:
    pixels = np.asarray(picture.convert("RGB"))
  upper, lower_half = np.array_split(pixels, 2)
  for colour, in_lower_half in (((0, 114, 178), True), ((213, 94, 0), False)):
    assert (upper == colour).all(-1).sum() > 100
    assert (lower_half == colour).all(-1).any() == in_lower_half  # only in the legend


def test_bars_are_as_high_as_the_kl(tmp_path, full_size_figures):
  """In the pixels: heights of bars are in the ratio of the KLs."""
  plots.save_groups(tmp_path / "groups.png", {"run": {"kl_per_group": [6.0, 3.0], "active_units": [4, 0]}})
  with Image.open(tmp_path / "groups.png") as picture:
    blue = (np.asarray(picture.convert("RGB")) == (0, 114, 178)).all(-1)
  left, right = (half.any(1).sum() for half in np.array_split(blue, 2, axis=1))
  assert left / right == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (["--mode=compare"], "needs --workdirs"),
    (["--workdirs=ONE"], "is for `latentjax compare`"),
    (["--mode=compare", "--workdirs=ONE", "--config.train.epochs=2"], "Drop --config"),
  ],
)
def test_a_mistaken_command_is_one_line_and_exit_code_2(pair, tmp_path, monkeypatch, capsys, args, message):
  monkeypatch.chdir(tmp_path)
  assert main.main(["main.py", *(arg.replace("ONE", str(pair[0])) for arg in args)]) == 2
  out, err = capsys.readouterr()
  assert out == ""
  assert message in err
  assert len(err.splitlines()) == 1
  assert not (tmp_path / "runs").exists()
