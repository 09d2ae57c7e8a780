"""Training: step, state, optimizer, compiled functions and the loop over epochs."""
