// Pixel means in [0, 1] given the parameters of each likelihood; see latentjax/models/likelihoods.py.

const MEANS = {
  bernoulli: (logits) => logits.map(sigmoid),
  discretized_logistic: (numbers) => numbers.map(center),
  logistic_mixture(numbers, [height, width, channels]) {
    const size = numbers.length / (height * width); // parameters of a pixel: logits, then means ...
    const components = (2 * size) / ((channels + 1) * (channels + 2));
    const means = new Float32Array(height * width * channels);
    for (let pixel = 0; pixel < height * width; pixel++) {
      const params = numbers.subarray(pixel * size, (pixel + 1) * size), logits = params.subarray(0, components);
      const highest = Math.max(...logits), weights = logits.map((logit) => Math.exp(logit - highest));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      for (let channel = 0; channel < channels; channel++) {
        const centers = params.subarray((channel + 1) * components);
        means[pixel * channels + channel] = weights.reduce((sum, w, k) => sum + w * center(centers[k]), 0) / total;
      }
    }
    return means;
  },
};

// The clipped center of a logistic.
function center(number) {
  return Math.min(Math.max(0.5 + 0.25 * number, 0), 1);
}

// Returns a function of all parameters of an image.
function pixelMean({ likelihood, image_shape: shape }) {
  return (params) => MEANS[likelihood](params, shape);
}
