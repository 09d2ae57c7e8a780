"""What a mistyped key of a config is likely to mean."""

import difflib
from collections.abc import Sequence

# What keys are called elsewhere; those with the same last part need no entry.
SYNONYMS = {
  "seed": ("random_seed", "rng", "rng_seed"),
  "precision": ("dtype", "matmul_precision"),
  "data.name": ("dataset", "data"),
  "data.binarization": ("binarize", "binarisation", "binary"),
  "model.name": ("model", "arch", "architecture"),
  "model.num_steps": ("t", "steps", "timesteps", "time_steps", "glimpses", "num_glimpses", "seq_len"),
  "model.read_size": ("n", "read", "read_n"),
  "model.write_size": ("write", "write_n"),
  "model.hidden_dim": ("h", "h_dim", "hidden", "hidden_size", "enc_size", "dec_size", "lstm_size"),
  "model.hidden_dims": ("h", "h_dim", "hidden", "hidden_sizes", "widths"),
  "model.latent_dim": ("z", "z_dim", "z_size", "latent", "latent_size", "latents"),
  "model.latent_dims": ("z", "z_dim", "z_size", "latent", "latent_sizes", "latents"),
  "train.batch_size": ("bs", "batch", "minibatch", "batchsize"),
  "train.epochs": ("num_epochs", "n_epochs", "max_epochs", "epoch"),
  "train.optimizer": ("optim", "opt", "optimiser"),
  "train.learning_rate": ("lr", "rate", "step_size", "eta"),
  "train.schedule": ("lr_schedule", "scheduler", "decay"),
  "train.adam_b1": ("b1", "beta1", "momentum"),
  "train.clip_norm": ("clip", "grad_clip", "gradient_clip", "max_grad_norm", "clip_grad"),
  "train.weight_decay": ("wd", "l2", "regularization", "regularisation"),
  "train.ema_decay": ("ema", "polyak"),
  "train.beta": ("kl_weight", "beta_vae"),
  "train.warmup_epochs": ("warmup", "lr_warmup", "warmup_steps"),
  "train.kl_warmup_epochs": ("kl_warmup", "annealing"),
  "train.importance_samples": ("iwae", "num_importance_samples", "importance"),
  "train.num_seeds": ("seeds", "n_seeds"),
  "eval.nll_samples": ("k", "iwae_samples", "is_samples", "num_samples"),
  "eval.num_examples": ("max_examples", "limit"),
}


def nearest(key: str, known: Sequence[str]) -> str:
  """The known key that is most likely meant: by a slip, by its last part, by its meaning, by its letters."""
  leaf = key.rpartition(".")[2].lower()
  slips = difflib.get_close_matches(key, known, n=1, cutoff=0.95)
  same_leaf = [other for other in known if other.rpartition(".")[2] == leaf]
  meant = [other for other in known if leaf in SYNONYMS.get(other, ())]
  ranked = sorted([*same_leaf, *meant], key=lambda other: not other.startswith("train."))
  leaves = {other.rpartition(".")[2]: other for other in reversed(known)}
  spelt = [leaves[other] for other in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.8)]
  return [*slips, *ranked, *spelt, *difflib.get_close_matches(key, known, n=1, cutoff=0.0)][0]
