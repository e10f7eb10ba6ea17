"""The latent studio: a page that any bundle turns into, computed in the browser alone."""
