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
          // Positions of one row are neighbors in both arrays.
          const first = Math.max(0, reach - column), end = Math.min(size, width + reach - column);
          const from = place + (i - reach) * width - reach, weights = i * size;
          const values = x.subarray((from + first) * inputs, (from + end) * inputs);
          addProduct(sums, values, kernel.subarray((weights + first) * inputs * outputs), outputs);
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

  // The layers from the top down: name, [h, w, U] of their level, and on entering a level, that of the level above.
  const layers = [];
  for (let level = 0; arrays[`map_${level}`]; level++) {
    const shape = arrays[`map_${level}`].shape, above = level && arrays[`map_${level - 1}`].shape;
    for (let i = 0; arrays[`layers_${level}_${i}/z/kernel`]; i++) {
      layers.push({ name: `layers_${level}_${i}`, level, shape, enters: i === 0, above });
    }
  }

  // The map after a layer, given the map before it and the layer's latents in units of the prior.
  function advance(h, { name, level, shape, enters, above }, z) {
    if (enters) {
      const start = arrays[`map_${level}`].values;
      h = level ? add(start, depthToSpace(convolve(`down_out_${level - 1}`, activate(h), above), above, shape)) : start;
    }
    const prior = convolve(`${name}/prior`, activate(h), shape), size = z.length / (shape[0] * shape[1]);
    const values = z.map((unit, i) => {
      const at = Math.floor(i / size) * 2 * size + (i % size); // means of a position come before its log deviations
      return prior[at] + Math.exp(Math.min(Math.max(prior[at + size], -4), 3)) * unit;
    });
    h = add(h, convolve(`${name}/z`, values, shape));
    const hidden = convolve(`${name}/block/Conv_1`, activate(h), shape); // Flax numbers the outer one first
    return add(h, convolve(`${name}/block/Conv_0`, activate(hidden), shape));
  }

  function picture(h) {
    const { shape } = layers[depth - 1], pixels = depthToSpace(convolve("pixels", activate(h), shape), shape, imageShape);
    return mean(add(pixels, arrays.offset.values));
  }

  // From the top down; stage n uses the upper n layers, with those below at the mean of the prior.
  const order = dims.map((_, index) => depth - 1 - index), zeros = dims.map((size) => new Float32Array(size));
  function decode(latents) {
    let upper = null;
    return order.map((group, stage) => {
      upper = advance(upper, layers[stage], latents[group]);
      let h = upper;
      for (let below = stage + 1; below < depth; below++) h = advance(h, layers[below], zeros[order[below]]);
      return { image: picture(h) };
    });
  }
  return { order, decode };
}
