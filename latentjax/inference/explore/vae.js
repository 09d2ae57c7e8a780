// The VAE's generative network; see `VAE.decode` in latentjax/models/vae.py.

const ACTIVATIONS = {
  relu: (x) => Math.max(x, 0),
  tanh: Math.tanh,
  silu: (x) => x * sigmoid(x),
};

function createModel({ config, arrays }, mean) {
  const activate = (x) => x.map(ACTIVATIONS[config.activation]);
  const layerNorm = (name, x) => {
    const [scale, bias] = [arrays[`${name}/scale`].values, arrays[`${name}/bias`].values];
    return standardise(x, 1e-6).map((value, i) => value * scale[i] + bias[i]);
  };

  function dense(x) {
    config.hidden_dims.forEach((_, i) => (x = activate(linear(arrays, `decoder/Dense_${i}`, x))));
    return x;
  }

  function residual(x) {
    x = linear(arrays, "decoder/Dense_0", x);
    for (let i = 0; i < config.hidden_dims.length - 1; i++) {
      const block = `decoder/ResidualBlock_${i}`;
      const hidden = activate(linear(arrays, `${block}/Dense_0`, layerNorm(`${block}/LayerNorm_0`, x)));
      x = add(x, linear(arrays, `${block}/Dense_1`, hidden));
    }
    return activate(layerNorm("decoder/LayerNorm_0", x));
  }

  const features = config.network === "residual" ? residual : dense;
  return {
    order: [0],
    decode: ([z]) => [{ image: mean(linear(arrays, "pixels", features(z))) }],
  };
}
