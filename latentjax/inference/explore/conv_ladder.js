// The convolutional Ladder VAE's generative path; see `ConvLadderVAE.decode` in latentjax/models/conv_ladder.py. Maps are
// [h, w, channels], row by row. Layers are counted from the image: index 0 is z1.

function createModel({ arrays, image_shape: imageShape, latent_dims: dims }, mean) {
  const depth = dims.length;
  const activate = (x) => x.map((value) => (value < 0 ? 0.1 * value : value));

  // A convolution with zero padding; the kernel is [k, k, I, O], or [I, O] for one position.
  function convolve(name, x, [height, width]) {
    const { shape, values: kernel } = arrays[`${name}/kernel`], bias = arrays[`${name}/bias`].values;
    const [inputs, outputs] = shape.slice(-2), size = shape.length > 2 ? shape[0] : 1, reach = (size - 1) / 2;
    const y = new Float32Array(height * width * outputs);
    for (let row = 0, place = 0; row < height; row++) {
      for (let column = 0; column < width; column++, place++) {
        const sums = y.subarray(place * outputs, (place + 1) * outputs);
        sums.set(bias);
        for (let i = Math.max(0, reach - row); i < Math.min(size, height + reach - row); i++) {
          for (let j = Math.max(0, reach - column); j < Math.min(size, width + reach - column); j++) {
            const from = place + (i - reach) * width + j - reach, weights = (i * size + j) * inputs * outputs;
            const values = x.subarray(from * inputs, (from + 1) * inputs);
            addProduct(sums, values, kernel.subarray(weights, weights + inputs * outputs), outputs);
          }
        }
      }
    }
    return y;
  }

  // [height, width, O] of x [h, w, I]: channels become rectangles of positions.
  function depthToSpace(x, [rows, columns], [height, width]) {
    const y = new Float32Array(x.length), down = height / rows, right = width / columns;
    const channels = x.length / (height * width);
    for (let row = 0, from = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        for (let i = 0; i < down; i++, from += right * channels) {
          const to = ((row * down + i) * width + column * right) * channels;
          y.set(x.subarray(from, from + right * channels), to);
        }
      }
    }
    return y;
  }

  function layer(name, h, z, shape) {
    const prior = convolve(`${name}/prior`, activate(h), shape), size = z.length / (shape[0] * shape[1]);
    const values = z.map((unit, i) => {
      const at = Math.floor(i / size) * 2 * size + (i % size); // means of a position come before its log deviations
      return prior[at] + Math.exp(Math.min(Math.max(prior[at + size], -4), 3)) * unit;
    });
    h = add(h, convolve(`${name}/z`, values, shape));
    const hidden = convolve(`${name}/block/Conv_1`, activate(h), shape); // Flax numbers the outer one first
    return add(h, convolve(`${name}/block/Conv_0`, activate(hidden), shape));
  }

  // The image for latents in units of the prior.
  function generate(latents) {
    let h = null, above = null, index = depth;
    for (let level = 0; arrays[`map_${level}`]; level++) {
      const { shape, values: start } = arrays[`map_${level}`];
      h = h
        ? add(start, depthToSpace(convolve(`down_out_${level - 1}`, activate(h), above), above, shape))
        : start;
      for (let i = 0; arrays[`layers_${level}_${i}/z/kernel`]; i++) h = layer(`layers_${level}_${i}`, h, latents[--index], shape);
      above = shape;
    }
    return mean(add(depthToSpace(convolve("pixels", activate(h), above), above, imageShape), arrays.offset.values));
  }

  // From the top down; stage n uses the upper n layers, with those below at the mean of the prior.
  const order = dims.map((_, index) => depth - 1 - index);
  const decode = (latents) =>
    order.map((top) => ({ image: generate(latents.map((z, index) => (index < top ? z.map(() => 0) : z))) }));
  return { order, decode };
}
