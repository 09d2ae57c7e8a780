// Pixel means in [0, 1] of the numbers that an output layer or canvas holds, as `mean` of each of latentjax/models/
// likelihoods.py.

const MEANS = {
  bernoulli: (logits) => logits.map(sigmoid),
  discretized_logistic: (numbers) => numbers.map((number) => Math.min(Math.max(0.5 + 0.25 * number, 0), 1)),
};
