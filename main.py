"""Trains, evaluates, compares and shows deep latent-variable models of images: `python main.py --help` says how."""

from latentjax.__main__ import main

if __name__ == "__main__":
  main()
