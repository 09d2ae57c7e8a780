"""Trains, evaluates, compares and shows deep latent-variable models of images; see `python main.py --help`."""

from latentjax.__main__ import main

if __name__ == "__main__":
  main()
