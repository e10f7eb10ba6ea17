"""The latent studio: a web page that runs any bundle entirely in the browser."""
