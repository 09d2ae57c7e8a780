"""latentjax: deep latent-variable models of images, in space and in time."""

__version__ = "0.1.0"
