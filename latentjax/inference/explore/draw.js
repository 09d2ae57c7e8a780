// DRAW's generative step; see `generate_step` in latentjax/models/draw/reference.py.

function createModel({ config, arrays, image_shape: [height, width, channels] }, mean) {
  const weights = (name) => `weights/${name}`;
  const units = config.hidden_dim;

  // The canvas after every step, and its write window.
  function decode(latents) {
    let canvas = Float32Array.from(arrays[weights("initial/canvas")].values);
    let hidden = arrays[weights("initial/decoder/hidden")].values;
    let cell = arrays[weights("initial/decoder/cell")].values;
    return latents.map((latent) => {
      [hidden, cell] = lstm(concatenate([fromUnitsOfPrior(latent, hidden), hidden]), cell);
      const written = linear(arrays, weights("attention/write"), hidden);
      if (config.attention === "none") {
        canvas = add(canvas, written);
        return { image: mean(canvas) };
      }
      const window = windowOf(linear(arrays, weights("attention/write_window"), hidden));
      canvas = add(canvas, throughWindow(written, window));
      return { image: mean(canvas), window };
    });
  }

  function fromUnitsOfPrior(z, hidden) {
    if (config.prior === "standard") return z;
    const prior = linear(arrays, weights("prior"), hidden);
    return z.map((value, i) => prior[i] + Math.exp(prior[z.length + i]) * value);
  }

  // [hidden, cell] after a step; inputs are concatenated with the hidden state.
  function lstm(inputs, cell) {
    const [kernel, bias] = [arrays[weights("decoder/kernel")].values, arrays[weights("decoder/bias")].values];
    const product = addProduct(new Float32Array(4 * units), inputs, kernel, 4 * units);
    const gate = (index) => {
      const own = product.subarray(index * units, (index + 1) * units);
      const scale = config.layer_norm && arrays[weights("decoder/gate_scale")].values.subarray(index * units);
      const seen = config.layer_norm ? standardise(own, 1e-5).map((value, i) => value * scale[i]) : own;
      return seen.map((value, i) => value + bias[index * units + i]);
    };
    const [i, f, g, o] = [0, 1, 2, 3].map(gate);
    const next = cell.map((value, u) => sigmoid(f[u]) * value + sigmoid(i[u]) * Math.tanh(g[u]));
    let seen = next;
    if (config.layer_norm) {
      const scale = arrays[weights("decoder/cell_scale")].values, shift = arrays[weights("decoder/cell_bias")].values;
      seen = standardise(next, 1e-5).map((value, u) => value * scale[u] + shift[u]);
    }
    return [seen.map((value, u) => sigmoid(o[u]) * Math.tanh(value)), next];
  }

  // The window given its five parameters; pixel coordinates start at 0.
  function windowOf([x, y, logVariance, logStride, logIntensity]) {
    return {
      x: 0.5 * (width + 1) * (x + 1) - 1,
      y: 0.5 * (height + 1) * (y + 1) - 1,
      stride: ((Math.max(height, width) - 1) / Math.max(config.write_size - 1, 1)) * Math.exp(logStride),
      variance: Math.exp(logVariance),
      intensity: Math.exp(logIntensity),
      size: config.write_size,
    };
  }

  // Rows of Gaussian weights along an axis of `extent` pixels, each with sum 1.
  function filterbank(center, { stride, variance, size }, extent) {
    return Array.from({ length: size }, (_, i) => {
      const middle = center + (i - (size - 1) / 2) * stride;
      const nearest = Math.round(Math.min(Math.max(middle, 0), extent - 1)); // has weight 1, the others less
      const row = Float64Array.from({ length: extent }, (_, pixel) =>
        Math.exp((-0.5 * (pixel - nearest) * (pixel + nearest - 2 * middle)) / variance));
      const sum = row.reduce((a, b) => a + b, 0);
      return row.map((value) => value / sum);
    });
  }

  // 1/gamma F_Y^T w F_X for a patch w [C, N, N], as [H, W, C].
  function throughWindow(patch, window) {
    const vertical = filterbank(window.y, window, height), horizontal = filterbank(window.x, window, width);
    const size = window.size, image = new Float32Array(height * width * channels);
    for (let channel = 0; channel < channels; channel++) {
      for (let n = 0; n < size; n++) {
        const row = new Float64Array(width);
        for (let m = 0; m < size; m++) {
          const value = patch[(channel * size + n) * size + m] / window.intensity;
          for (let w = 0; w < width; w++) row[w] += value * horizontal[m][w];
        }
        for (let h = 0; h < height; h++) {
          for (let w = 0; w < width; w++) image[(h * width + w) * channels + channel] += vertical[n][h] * row[w];
        }
      }
    }
    return image;
  }

  return { order: Array.from({ length: config.num_steps }, (_, step) => step), decode };
}
