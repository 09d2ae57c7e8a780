"""Equations of the papers as float64 loops, written independently of the package.

Shapes: B batch, H W C image, N glimpse, Z latent, U hidden units, T steps.
"""

import numpy as np


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def float64(tree):
  """Nested dictionaries of arrays in double precision."""
  return {k: float64(v) for k, v in tree.items()} if isinstance(tree, dict) else np.asarray(tree, np.float64)


def gaussian_log_prob(value, mean, log_std):
  """Sum over the last axis."""
  std = np.exp(log_std)
  return np.log(np.exp(-((value - mean) ** 2) / (2 * std**2)) / np.sqrt(2 * np.pi * std**2)).sum(-1)


def bernoulli_log_prob(logits, image):
  """Pixel by pixel for one image, straight from the definition: for moderate logits only."""
  total = 0.0
  for logit, pixel in zip(np.ravel(logits).astype(np.float64), np.ravel(image).astype(np.float64), strict=True):
    p = sigmoid(logit)
    total += pixel * np.log(p) + (1 - pixel) * np.log(1 - p)
  return total


def discretized_logistic_log_prob(numbers, log_scale, image):
  """Value by value for one image, the difference of two distribution functions, in the tail where both are small."""
  total = 0.0
  for place, k in np.ndenumerate(np.rint(255 * np.float64(image))):
    center, scale = 0.5 + np.float64(numbers[place]) / 4, np.exp(np.float64(log_scale[place[-1]]))
    lower, upper = ((k - 0.5) / 255 - center) / scale, ((k + 0.5) / 255 - center) / scale
    lower, upper = -np.inf if k == 0 else lower, np.inf if k == 255 else upper
    total += np.log(sigmoid(-lower) - sigmoid(-upper) if lower > 0 else sigmoid(upper) - sigmoid(lower))
  return total


def logistic_mixture_log_prob(params, log_scale, image, K):
  """Pixel by pixel for one image [H, W, C], with PixelCNN++'s means m_kc = b_kc + sum_j tanh(a_kcj) x_j."""
  total, C = 0.0, image.shape[-1]
  for place in np.ndindex(image.shape[:2]):
    kinds, pixel = np.float64(params[place]).reshape(-1, K), np.rint(255 * np.float64(image[place]))
    logits, mu, log_s, a = np.split(kinds, [1, 1 + C, 1 + 2 * C])
    p = 0.0
    for k in range(K):
      p_k = np.exp(logits[0, k]) / np.exp(logits[0]).sum()
      index = 0
      for c in range(C):
        m = 0.5 + mu[c, k] / 4
        for j in range(c):
          slope = np.tanh(a[index, k])
          m += slope * (pixel[j] / 255) - slope * (0.5 + mu[j, k] / 4)  # the second term makes b_kc of mu_kc
          index += 1
        scale = np.exp(log_scale[c] + log_s[c, k])
        lower = -np.inf if pixel[c] == 0 else ((pixel[c] - 0.5) / 255 - m) / scale
        upper = np.inf if pixel[c] == 255 else ((pixel[c] + 0.5) / 255 - m) / scale
        p_k *= sigmoid(-lower) - sigmoid(-upper) if lower > 0 else sigmoid(upper) - sigmoid(lower)
      p += p_k
    total += np.log(p)
  return total


def filterbank(g, delta, variance, N, A):
  """[N, A] filters of an axis of A pixels; g counts pixels from 1, as the paper does."""
  F = np.zeros((N, A))
  for i in range(1, N + 1):
    mu = g + (i - N / 2 - 0.5) * delta
    for a in range(1, A + 1):
      F[i - 1, a - 1] = np.exp(-((a - mu) ** 2) / (2 * variance))
    F[i - 1] /= F[i - 1].sum()
  return F


def window(parameters, N, height, width):
  """(gX, gY, delta, variance, gamma) of g~X, g~Y, log variance, log delta~, log gamma."""
  g_x, g_y, log_variance, log_delta, log_gamma = parameters
  A, B = width, height
  delta = (max(A, B) - 1) / (N - 1) * np.exp(log_delta) if N > 1 else 0.0
  return (A + 1) / 2 * (g_x + 1), (B + 1) / 2 * (g_y + 1), delta, np.exp(log_variance), np.exp(log_gamma)


def read(image, parameters, N):
  """[C, N, N]"""
  height, width, channels = image.shape
  g_x, g_y, delta, variance, gamma = window(parameters, N, height, width)
  F_X, F_Y = filterbank(g_x, delta, variance, N, width), filterbank(g_y, delta, variance, N, height)
  return np.stack([gamma * F_Y @ image[:, :, c] @ F_X.T for c in range(channels)])


def write(patch, parameters, height, width):
  """[H, W, C]"""
  channels, N, _ = patch.shape
  g_x, g_y, delta, variance, gamma = window(parameters, N, height, width)
  F_X, F_Y = filterbank(g_x, delta, variance, N, width), filterbank(g_y, delta, variance, N, height)
  return np.stack([F_Y.T @ patch[c] @ F_X / gamma for c in range(channels)], axis=-1)


def layer_norm(x):
  return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def lstm(weights, hidden, cell, inputs):
  """One step for one example: (hidden, cell). Gates in the order input, forget, new, output."""
  U = len(hidden)
  x = np.concatenate([inputs, hidden])
  gates = []
  for gate in range(4):
    units = slice(gate * U, (gate + 1) * U)
    activation = np.array([sum(x[i] * weights["kernel"][i, u] for i in range(len(x))) for u in range(4 * U)[units]])
    if "gate_scale" in weights:
      activation = layer_norm(activation) * weights["gate_scale"][gate]
    gates.append(activation + weights["bias"][units])
  new_cell = sigmoid(gates[1]) * cell + sigmoid(gates[0]) * np.tanh(gates[2])
  seen = new_cell
  if "gate_scale" in weights:
    seen = layer_norm(new_cell) * weights["cell_scale"] + weights["cell_bias"]
  return sigmoid(gates[3]) * np.tanh(seen), new_cell


def draw(weights, initial, images, noise, sizes=None):
  """DRAW one example and one step at a time.

  Args:
    weights: float64 weights without the initial states. initial: (canvas, h_enc, c_enc, h_dec, c_dec) for one example.
    images: [B, H, W, C], or None to generate: noise is then z itself, in units of the prior. noise: [T, B, Z].
    sizes: (read N, write N), or None without attention.

  Returns:
    canvases [B, T, H, W, C], and without `images` nothing more; else also kl, log_pz, log_qz, each [B, T].
  """

  def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]

  attention = weights["attention"]
  T, B, _ = noise.shape
  canvases, kl, log_pz, log_qz = [], np.zeros((B, T)), np.zeros((B, T)), np.zeros((B, T))
  for b in range(B):
    canvas, h_enc, c_enc, h_dec, c_dec = initial
    height, width, channels = canvas.shape
    canvases.append([])
    for t in range(T):
      prior = dense(weights["prior"], h_dec) if "prior" in weights else np.zeros(2 * noise.shape[-1])
      prior_mean, prior_log_std = np.split(prior, 2)
      z = prior_mean + np.exp(prior_log_std) * noise[t, b]
      if images is not None:
        x_hat = images[b] - sigmoid(canvas)
        if sizes is None:
          glimpse = np.concatenate([images[b].ravel(), x_hat.ravel()])
        else:
          where = dense(attention["read_window"], h_dec)
          both = [read(picture, where, sizes[0]) for picture in (images[b], x_hat)]
          glimpse = np.concatenate(both).ravel()
        h_enc, c_enc = lstm(weights["encoder"], h_enc, c_enc, np.concatenate([glimpse, h_dec]))
        mean, log_std = np.split(dense(weights["posterior"], h_enc), 2)
        mean, log_std = prior_mean + np.exp(prior_log_std) * mean, prior_log_std + log_std
        z = mean + np.exp(log_std) * noise[t, b]
        ratio = np.exp(log_std - prior_log_std) ** 2
        kl[b, t] = 0.5 * (((mean - prior_mean) / np.exp(prior_log_std)) ** 2 + ratio - np.log(ratio) - 1).sum()
        in_units = prior_log_std.sum()  # a density in units of the prior is so much higher
        log_pz[b, t] = gaussian_log_prob(z, prior_mean, prior_log_std) + in_units
        log_qz[b, t] = gaussian_log_prob(z, mean, log_std) + in_units
      h_dec, c_dec = lstm(weights["decoder"], h_dec, c_dec, z)
      addition = dense(attention["write"], h_dec)
      if sizes is None:
        canvas = canvas + addition.reshape(canvas.shape)
      else:
        patch = addition.reshape(channels, sizes[1], sizes[1])
        canvas = canvas + write(patch, dense(attention["write_window"], h_dec), height, width)
      canvases[-1].append(canvas)
  canvases = np.array(canvases)
  return canvases if images is None else (canvases, kl, log_pz, log_qz)
