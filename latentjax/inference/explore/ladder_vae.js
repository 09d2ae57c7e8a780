// The Ladder VAE's generative path; see `LadderVAE.decode` in latentjax/models/ladder_vae.py. Batch norm is folded into
// the dense layers. Layers are counted from the image: index 0 is z1.

const MIN_VARIANCE = 1e-6;

function createModel({ config, arrays }, mean) {
  const depth = config.latent_dims.length;

  function mlp(name, x) {
    for (let i = 0; i < config.mlp_depth; i++) {
      const hidden = linear(arrays, `${name}/Dense_${i}`, x).map((value) => (value < 0 ? 0.01 * value : value));
      x = config.skips && x.length === hidden.length ? add(x, hidden) : hidden;
    }
    return x;
  }

  // Features of z_index, or with skips of all latents from z_index up; `values` starts with z_index.
  const down = (index, values) => mlp(`decoders_${index}`, config.skips ? concatenate(values) : values[0]);

  // The image for latents in units of the prior.
  function generate(latents) {
    const values = [latents[depth - 1]];
    for (let index = depth - 2; index >= 0; index--) {
      const prior = linear(arrays, `priors_${index}/Dense_0`, down(index + 1, values));
      const size = latents[index].length;
      const std = (i) => Math.sqrt(softplus(prior[size + i]) + MIN_VARIANCE);
      values.unshift(latents[index].map((z, i) => prior[i] + std(i) * z));
    }
    return mean(linear(arrays, "pixels", down(0, values)));
  }

  // From the top down; stage n uses the upper n layers, with those below at the mean of the prior.
  const order = config.latent_dims.map((_, index) => depth - 1 - index);
  const decode = (latents) =>
    order.map((top) => ({ image: generate(latents.map((z, index) => (index < top ? z.map(() => 0) : z))) }));
  return { order, decode };
}
