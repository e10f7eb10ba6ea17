"""`vae-run serve`: a bundle over HTTP, with FastAPI; needs the extra `serve`."""
