"""The latent studio: a page of any bundle, computed in the browser alone."""
