"""Files written by a run: checkpoints, metrics, results and plots."""
