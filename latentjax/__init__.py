"""latentjax: deep latent-variable models of images, in space and in time."""
