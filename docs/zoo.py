"""Sphinx extension that writes the model zoo: a page per pretrained model, and an overview of all.

It fills in templates/zoo_page.md and templates/zoo.md.
"""

import re
import shutil
from pathlib import Path
from string import Template

import jax
import numpy as np
from sphinx.application import Sphinx

import latentjax
from latentjax.cli import explore, sample
from latentjax.data.two_digits import base_dataset, compose_scenes
from latentjax.inference.pretrained import Pretrained, find
from latentjax.inference.trained_model import TrainedModel, load_first_seed
from latentjax.workdir import plots
from latentjax.workdir.protocol import BITS
from latentjax.workdir.run import Run
from latentjax.workdir.tables import format_metric

COLUMNS = 10  # images of a row
OF_DIGITS = ("mnist", "mnist_digits", "binarized_mnist")  # sets for which the digits that ship are test images


def setup(app: Sphinx) -> dict[str, bool]:
  app.connect("builder-inited", write_zoo)
  return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_zoo(app: Sphinx) -> None:
  """Writes pages and pictures into zoo/ of the source directory, and explore pages into that of the output."""
  source, output = Path(app.srcdir, "zoo"), Path(app.outdir, "zoo")
  for directory in (source, output):
    shutil.rmtree(directory, ignore_errors=True)  # pages of models that no longer ship
    directory.mkdir(parents=True)
  rows, samples, names = [], [], []
  for each in latentjax.pretrained():
    rows.append(write_page(each, source, output))
    samples.append(f"Samples of [{each.name}]({each.name}.md):\n\n![Samples]({each.name}-samples.png)\n")
    names.append(each.name)
  fill(source / "index.md", "zoo.md", rows="\n".join(rows), samples="\n".join(samples), names="\n".join(names))


def fill(path: Path, template: str, **values: object) -> None:
  text = Path(__file__).with_name("templates").joinpath(template).read_text(encoding="utf-8")
  path.write_text(Template(text).substitute(values), encoding="utf-8")


def write_page(each: Pretrained, source: Path, output: Path) -> str:
  """Writes the page of a model, its pictures and its explore page, and returns its row of the overview."""
  run, name = Run.open(find(each.name)), each.name
  model = load_first_seed(run)
  images, pictures = example_images(run, model), {"samples": "Samples from the prior"}
  plots.save_grid(source / f"{name}-samples.png", model.sample(COLUMNS), COLUMNS)
  if images is not None:
    pictures["reconstructions"] = "Test images, and below each its reconstruction"
    pair = images[:COLUMNS] / 255, model.reconstruct(images[:COLUMNS])
    plots.save_reconstructions(source / f"{name}-reconstructions.png", *pair, COLUMNS)
  (output / f"{name}-explore.html").write_text(explore.render(run, model, images), encoding="utf-8")

  results, names = run.results, run.metric_names
  test = names.in_bits(results["test"], model.image_shape)
  elbo, nll = (format_metric(results, "test", metric) for metric in ("elbo", "nll"))
  facts = {
    "data": run.protocol.title,
    "parameters": f"{each.parameters:,}",
    "weights": f"{each.bytes:,} bytes, in float16",
    "effect of float16": f"{results['float16_difference']:+.5f} nats of the test {names.terms['elbo']}",
    f"test {names.terms['elbo']}": f"{elbo} nats, over {test['num_examples']:,} images",
    f"test {names.nll}": f"{nll} nats, with K = {each.nll_samples}",
    **{key.replace("_", " ").replace("nll", "NLL"): f"{test[key]:.3f}" for key in BITS if key in test},
    "training time": f"{results['minutes']:.1f} minutes",
    "machine": results["machine"],
    "commit": re.sub(r"^(\w{12})\w*", r"`\1`", str(results["commit"])),
  }
  fill(
    source / f"{name}.md",
    "zoo_page.md",
    name=name,
    model=each.model,
    data=each.data,
    columns=COLUMNS,
    shape=[COLUMNS, *model.image_shape],
    pictures="\n\n".join(f"![{text}]({name}-{kind}.png)\n\n*{text}*" for kind, text in pictures.items()),
    facts="\n".join(f"* - {key}\n  - {value}" for key, value in facts.items()),
    note=names.note or "",
    command=results["command"].replace("main.py", "latentjax").replace(" && ", "\n"),
  )
  size = f"{each.parameters / 1e6:.2f} M | {each.bytes / 1e6:.1f} MB"
  return f"| [{name}]({name}.md) | {each.model} | {each.data} | {size} | {elbo} | {nll} ({each.nll_samples}) |"


def example_images(run: Run, model: TrainedModel) -> np.ndarray | None:
  """Returns test images [M, H, W, C] of a model, if they are at hand: for MNIST and scenes of it, those that ship."""
  name, digits = run.config.data.name, latentjax.sample_digits()
  base = base_dataset(name)
  images = digits if base is None else np.asarray(compose_scenes(jax.random.key(0), digits))
  suits = (base or name) in OF_DIGITS and images.shape[1:] == model.image_shape
  return images if suits else sample.load_test_images(run)
