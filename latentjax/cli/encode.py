"""`latentjax encode`: latents, ELBO and log-likelihood of a run's dataset or of the user's own images."""

import math
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
from latentjax.runtime.errors import UsageError, damaged
from latentjax.runtime.fileio import dump_json, expand_user, load_json, write_atomic
from latentjax.workdir import plots
from latentjax.workdir.protocol import finite_metrics
from latentjax.workdir.run import Run


class ImagesToEncode(NamedTuple):
  """Images in the form that the model expects."""

  name: str  # of the dataset, or path of the user's images
  splits: Mapping[str, np.ndarray]  # uint8 [M, H, W, C]
  labels: Mapping[str, np.ndarray]  # of the splits that have them
  label_names: tuple[str, ...]
  files: Mapping[str, list[str]]  # paths of the user's images, by split


def run(config: ConfigDict, path: str | None, workdir: Path) -> None:
  """Writes latents.npz and encode.json into `workdir`, or into its folder encoded/NAME for the images at `path`."""
  may_change = ("seed", *(["data.image_size"] if path else []), *models.performance_keys(config.model))
  run = Run.open(workdir, config, may_change)
  run.check_writable()
  trained = load_first_seed(run)
  if path is None:
    _write_latents(trained, _dataset_images(run), workdir)
    return
  images = _file_images(config, path, trained.image_shape)
  out = workdir / "encoded" / Path(images.name).name
  _check_same_images(out, images.name)
  out.mkdir(parents=True, exist_ok=True)
  latents = _write_latents(trained, images, out)
  shown = np.concatenate(list(images.splits.values()))[: config.sample.num_images]
  groups = [np.concatenate(groups)[: len(shown)] for groups in zip(*latents.values(), strict=True)]
  decoded = np.asarray(trained.inference.decode(trained.variables, groups))
  columns = math.ceil(math.sqrt(len(shown)))
  plots.save(out / "reconstructions.png", plots.save_reconstructions, shown / 255, decoded, columns)


def _check_same_images(out: Path, name: str) -> None:
  """Raises UsageError if `out` has the latents of other images, whose path ends in the same name."""
  path = out / "encode.json"
  try:
    earlier = load_json(path.read_bytes())["data"] if path.exists() else name
  except (ValueError, KeyError, TypeError):
    raise damaged(path, "Move its directory") from None
  if earlier != name:
    raise UsageError(f"{out} has the latents of {earlier}. Move it, or rename {name}.")


def _dataset_images(run: Run) -> ImagesToEncode:
  """Loads every split of a run's data as it is evaluated."""
  config = run.config
  data = dataset.load_dataset(**config.data.to_dict())
  run.check_data(data.sha256)
  splits = data.eval_splits(config.eval.num_examples or None)
  labels = {split: labels[: len(splits[split])] for split, labels in data.labels.items()}
  return ImagesToEncode(config.data.name, splits, labels, data.label_names, {})


def _file_images(config: ConfigDict, path: str, image_shape: tuple[int, int, int]) -> ImagesToEncode:
  """Loads the user's own images, binarized if the training images were."""
  source = image_folder.source_to_encode(path, config.data.image_size)
  found = source.read()
  names = [name for name in found if name != LABEL_NAMES and not name.endswith(LABELS)]
  splits = {name: _match_channels(found[name], image_shape, path) for name in names}
  if config.data.binarization != "none":
    splits = {name: dataset.fixed_binarization(images, name) for name, images in splits.items()}
  labels = {name: found[name + LABELS] for name in splits if name + LABELS in found}
  label_names = tuple(found.get(LABEL_NAMES, ()))
  return ImagesToEncode(str(expand_user(path).resolve()), splits, labels, label_names, source.names)


def _match_channels(images: np.ndarray, image_shape: tuple[int, int, int], path: str) -> np.ndarray:
  """Returns images with the model's number of channels, if nothing is lost; raises UsageError if they do not fit."""
  channels = image_shape[-1]
  if channels == 3 and images.shape[-1] == 1:
    images = np.repeat(images, 3, axis=-1)
  if images.shape[1:] == image_shape:
    return images
  found, expected = (
    f"{height} x {width} pixels, {'gray' if channels == 1 else 'colored'}"
    for height, width, channels in (images.shape[1:], image_shape)
  )
  advice = "Save them as such"
  if images.shape[1:3] != image_shape[:2] and image_shape[0] == image_shape[1]:
    advice = "Save them as gray images; " if images.shape[-1] != channels else ""
    advice += f"--config.data.image_size={image_shape[0]} crops and resizes them"
  raise UsageError(f"--images={path}: the images are {found}, and the model expects {expected}. {advice}.")


def _write_latents(trained: TrainedModel, images: ImagesToEncode, out: Path) -> dict[str, list[np.ndarray]]:
  """Writes latents.npz and encode.json, prints a summary, and returns the latents by split."""
  latents, arrays, means = {}, {}, {}
  for split, originals in images.splits.items():
    latents[split], scores = _encode(trained, originals, split)
    arrays |= {f"{split}_latents_{number}": group for number, group in enumerate(latents[split], start=1)}
    arrays |= {f"{split}_{name}": values for name, values in scores.items()}
    means[split] = {name: float(values.mean(dtype=np.float64)) for name, values in scores.items()}
    means[split]["num_examples"] = len(originals)
    summary = ", ".join(f"{name.replace('_', '-')} {means[split][name]:.2f}" for name in scores)
    count = f"{len(originals):,} image{'s'[: len(originals) > 1]}"
    console.print(f"{split}: {count}, {summary.replace('elbo', 'ELBO')} nats per image")
  arrays |= {f"{split}{LABELS}": labels for split, labels in images.labels.items()}
  arrays |= {f"{split}_files": np.array(names) for split, names in images.files.items()}
  arrays |= {LABEL_NAMES: np.array(images.label_names)} if images.label_names else {}
  flat = {split: np.concatenate(groups, axis=1) for split, groups in latents.items()}
  probe = linear_probe.fit_linear_probe(flat, images.labels)
  if probe is not None:
    console.print(
      f"linear probe of the latents: {probe['accuracy']:.2%} test accuracy"
      f" ({probe['num_classes']} classes; ridge {probe['ridge']:g}, selected on validation)"
    )
  elif len(images.splits) > 1:
    reason = "it needs labels of all splits, and two classes" if images.labels else "there are no labels"
    console.print(f"no linear probe of {images.name}: {reason}")
  summary = {
    "data": images.name,
    "seed": trained.config.seed,
    "step": trained.step,
    "binarization": trained.config.data.binarization,
    "nll_samples": trained.config.encode.nll_samples,
    "splits": finite_metrics(means),
    "linear_probe": probe,
  }
  write_atomic(out / "latents.npz", lambda file: np.savez(file, **arrays))
  write_atomic(out / "encode.json", dump_json(summary))
  console.print(f"  {out / 'latents.npz'}\n  {out / 'encode.json'}")
  return latents


def _encode(trained: TrainedModel, images: np.ndarray, split: str) -> tuple[list[np.ndarray], dict[str, Any]]:
  """Returns L arrays [M, Z_l], posterior means in units of the prior, and per-image scores [M] in nats.

  The noise is that of `latentjax evaluate`, so means over a split equal its results.
  """
  model, keys = (trained.inference, trained.variables), trained.keys
  batch_size, num_samples = trained.config.eval.batch_size, trained.config.encode.nll_samples
  log_px, kl = evaluation.per_image_terms(*model, images, keys.evaluate, batch_size)
  scores = {"elbo": log_px - kl.sum(-1)}
  if num_samples:
    with progress() as bar:
      task = bar.add_task(f"{split}, K = {num_samples}", total=len(images) * num_samples, note="samples")
      (scores["log_likelihood"],) = evaluation.log_likelihoods(
        *model, images, keys.likelihood, batch_size, [num_samples], lambda count: bar.update(task, advance=count)
      )
  return evaluation.encode(*model, images, batch_size), scores
