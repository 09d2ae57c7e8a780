"""--mode=encode: what a workdir's model knows about images: of its data set, or of a person's own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from latentjax import models
from latentjax.data import dataset, image_folder
from latentjax.data.base import LABEL_NAMES, LABELS
from latentjax.inference import evaluation, linear_probe
from latentjax.inference.trained_model import TrainedModel, load_first_seed
from latentjax.runtime.console import console, progress
from latentjax.runtime.errors import UsageError
from latentjax.runtime.fileio import expand_user, write_atomic
from latentjax.workdir import plots, records

LATENTS_NAME, ENCODED_DIR = "latents.npz", "encoded"  # of the data set, and the folder of what a person's images became


class ImagesToEncode(NamedTuple):
  """What is to be encoded.

  Attributes:
    name: of the set, or of a person's own images.
    splits: uint8 [M, H, W, C], as the model is to see them.
    labels, files: of the splits that have them, as `Dataset.labels` and `Folder.names`.
  """

  name: str
  splits: Mapping[str, np.ndarray]
  labels: Mapping[str, np.ndarray]
  label_names: tuple[str, ...]
  image_folder: Mapping[str, list[str]]


def run(config: ConfigDict, own: str | None, workdir: Path) -> None:
  """Writes latents.npz and encode.json into `workdir`; of a person's own images into encoded/NAME below it.

  Args:
    own: a folder of images, a single one, or an .npz; None encodes the data set of the run.

  Raises:
    UsageError: there is no model yet, the workdir holds a different experiment, or the images do not fit the model.
    RunError: something cannot be read or written.
  """
  ignored = ("seed", *models.performance_keys(config.model), *(["data.image_size"] if own else []))
  records.check_same_experiment(workdir, config, ignored)
  records.check_writable(workdir)
  trained = load_first_seed(config, workdir)
  if own is None:
    write_latents(trained, dataset_images(config, workdir), workdir)
    return
  images = file_images(config, own, trained.model.image_shape)
  out = workdir / ENCODED_DIR / Path(images.name).name
  out.mkdir(parents=True, exist_ok=True)
  latents = write_latents(trained, images, out)
  shown, num_images = np.concatenate(list(images.splits.values())), config.sample.num_images
  groups = [np.concatenate(groups)[:num_images] for groups in zip(*latents.values(), strict=True)]
  decoded = np.asarray(trained.inference.decode(trained.variables, groups))
  columns = int(np.ceil(np.sqrt(len(decoded))))
  plots.save_reconstructions(out / "reconstructions.png", shown[:num_images] / 255, decoded, columns)
  console.print(f"  {out / 'reconstructions.png'}")


def dataset_images(config: ConfigDict, workdir: Path) -> ImagesToEncode:
  """Every split of the data set as it is evaluated; raises RunError if it is not what the workdir was trained on."""
  data = dataset.load_dataset(**config.data.to_dict())
  records.check_same_data(workdir, config.data.name, data.sha256)
  splits = data.eval_splits(config.eval.num_examples or None)
  labels = {split: labels[: len(splits[split])] for split, labels in data.labels.items()}
  return ImagesToEncode(config.data.name, splits, labels, data.label_names, {})


def file_images(config: ConfigDict, own: str, image_shape: tuple[int, int, int]) -> ImagesToEncode:
  """A person's own images, binarised as those that the model was trained on."""
  source = image_folder.source_to_encode(own, config.data.image_size)
  found = source.read()
  splits = {
    name: match_channels(found[name], image_shape, own)
    for name in found
    if name != LABEL_NAMES and not name.endswith(LABELS)
  }
  if config.data.binarization != "none":
    splits = {name: dataset.fixed_binarization(images, name) for name, images in splits.items()}
  labels = {name: found[name + LABELS] for name in splits if name + LABELS in found}
  return ImagesToEncode(
    str(expand_user(own).resolve()), splits, labels, tuple(found.get(LABEL_NAMES, ())), source.names
  )


def match_channels(images: np.ndarray, image_shape: tuple[int, int, int], own: str) -> np.ndarray:
  """Images with the model's number of channels, where that loses nothing.

  Raises:
    UsageError: they do not fit the model.
  """
  channels = image_shape[-1]
  if channels == 1 and (images == images[..., :1]).all():
    images = images[..., :1]
  if channels == 3 and images.shape[-1] == 1:
    images = np.repeat(images, 3, axis=-1)
  if images.shape[1:] == image_shape:
    return images
  shown, expected = (
    f"{height} x {width} pixels, {'grey' if channels == 1 else 'coloured'}"
    for height, width, channels in (images.shape[1:], image_shape)
  )
  hint = "save them as such"
  if images.shape[1:3] != image_shape[:2] and image_shape[0] == image_shape[1]:
    hint = "save them as grey images, and " if images.shape[-1] != channels else ""
    hint += f"--config.data.image_size={image_shape[0]} crops and resizes them"
  raise UsageError(f"--images={own}: they are {shown}, and this model's are {expected}: {hint}")


def write_latents(trained: TrainedModel, images: ImagesToEncode, out: Path) -> dict[str, list[np.ndarray]]:
  """Writes latents.npz and encode.json and says what they amount to; returns the latents by split."""
  latents, arrays, numbers = {}, {}, {}
  for split, of_split in images.splits.items():
    latents[split], scores = encode(trained, of_split, split)
    arrays |= {f"{split}_latents_{number}": group for number, group in enumerate(latents[split], start=1)}
    arrays |= {f"{split}_{name}": values for name, values in scores.items()}
    numbers[split] = {name: float(values.mean(dtype=np.float64)) for name, values in scores.items()}
    numbers[split]["num_examples"] = len(of_split)
    said = ", ".join(f"{name.replace('_', '-')} {numbers[split][name]:.2f}" for name in scores)
    console.print(
      f"{split}: {len(of_split):,} image{'s'[: len(of_split) > 1]}, {said.replace('elbo', 'ELBO')} nats per image"
    )
  arrays |= {f"{split}{LABELS}": labels for split, labels in images.labels.items()}
  arrays |= {f"{split}_files": np.array(names) for split, names in images.files.items()}
  arrays |= {LABEL_NAMES: np.array(images.label_names)} if images.label_names else {}
  probed = linear_probe.fit_linear_probe(
    {split: np.concatenate(groups, axis=1) for split, groups in latents.items()}, images.labels
  )
  if probed is not None:
    console.print(
      f"linear probe of the latents: {probed['accuracy']:.2%} of test are told apart"
      f" ({probed['num_classes']} classes; ridge {probed['ridge']:g}, chosen on validation)"
    )
  elif len(images.splits) > 1:
    reason = (
      "it takes labels of train, validation and test, and two classes" if images.labels else "no labels are known"
    )
    console.print(f"no linear probe of {images.name}: {reason}")
  config = trained.config
  kept = {
    "data": images.name,
    "seed": config.seed,
    "step": trained.step,
    "binarization": config.data.binarization,
    "nll_samples": config.encode.nll_samples,
    "splits": numbers,
    "linear_probe": probed,
  }
  write_atomic(out / LATENTS_NAME, lambda file: np.savez(file, **arrays))
  write_atomic(out / "encode.json", json.dumps(kept, indent=2) + "\n")
  for name in (LATENTS_NAME, "encode.json"):
    console.print(f"  {out / name}")
  return latents


def encode(trained: TrainedModel, images: np.ndarray, split: str) -> tuple[list[np.ndarray], dict[str, Any]]:
  """L arrays [M, Z_l], posterior means in units of the prior, and in nats [M] the ELBO and maybe the log-likelihood.

  With the noise of --mode=evaluate, so that means over a split are what it measured.
  """
  config, inference, variables, keys = trained.config, trained.inference, trained.variables, trained.keys
  batch_size, num_samples = config.eval.batch_size, config.encode.nll_samples
  log_px, kl = evaluation.per_image_terms(inference, variables, images, keys.evaluate, batch_size)
  scores = {"elbo": log_px - kl.sum(-1)}
  if num_samples:
    with progress() as bar:
      task = bar.add_task(f"{split}, K = {num_samples}", total=len(images) * num_samples, note="samples")
      scores["log_likelihood"] = evaluation.log_likelihoods(
        inference,
        variables,
        images,
        keys.likelihood,
        batch_size,
        [num_samples],
        report=lambda count: bar.update(task, advance=count),
      )[0]
  return evaluation.encode(inference, variables, images, batch_size), scores
