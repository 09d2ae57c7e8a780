// Pixel means in [0, 1] given the parameters of each likelihood; see latentjax/models/likelihoods.py.

const COMPONENTS = 10; // of a mixture
const MEANS = {
  bernoulli: (logits) => logits.map(sigmoid),
  discretized_logistic: (numbers) => numbers.map(center),
  logistic_mixture(numbers, channels) {
    const size = (COMPONENTS * (channels + 1) * (channels + 2)) / 2; // parameters of a pixel: logits, then means ...
    const means = new Float32Array((numbers.length / size) * channels);
    for (let pixel = 0; pixel * size < numbers.length; pixel++) {
      const params = numbers.subarray(pixel * size, (pixel + 1) * size), logits = params.subarray(0, COMPONENTS);
      const highest = Math.max(...logits), weights = logits.map((logit) => Math.exp(logit - highest));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      for (let channel = 0; channel < channels; channel++) {
        const centers = params.subarray((channel + 1) * COMPONENTS);
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
function pixelMean({ likelihood, image_shape: [, , channels] }) {
  return (params) => MEANS[likelihood](params, channels);
}
