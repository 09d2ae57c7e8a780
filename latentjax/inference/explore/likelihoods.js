// Pixel means in [0, 1] given the parameters of each likelihood; see latentjax/models/likelihoods.py.

const MEANS = {
  bernoulli: (logits) => logits.map(sigmoid),
  discretized_logistic: (numbers) => numbers.map((number) => Math.min(Math.max(0.5 + 0.25 * number, 0), 1)),
};
