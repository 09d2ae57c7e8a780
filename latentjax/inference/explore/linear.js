// Layers for one example, with arrays by name.

// x W + b for x [I]: `name`/kernel is [I, O] row by row, `name`/bias [O].
function linear(arrays, name, x) {
  const { shape, values: kernel } = arrays[`${name}/kernel`];
  return addProduct(Float32Array.from(arrays[`${name}/bias`].values), x, kernel, shape[1]);
}

// y + x W; overwrites y [O].
function addProduct(y, x, kernel, outputs) {
  for (let i = 0, at = 0; i < x.length; i++) {
    const value = x[i];
    for (let o = 0; o < outputs; o++) y[o] += value * kernel[at++];
  }
  return y;
}

function add(x, y) {
  return x.map((value, i) => value + y[i]);
}

// Concatenates 1-D arrays.
function concatenate(parts) {
  const whole = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let start = 0;
  for (const part of parts) {
    whole.set(part, start);
    start += part.length;
  }
  return whole;
}

// Zero mean and unit variance.
function standardise(x, epsilon) {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  return x.map((value) => (value - mean) / Math.sqrt(variance + epsilon));
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
