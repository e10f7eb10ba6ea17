"""`python -m vae_runtime` is `vae-run`."""

from vae_runtime.cli import main

if __name__ == "__main__":
    main()
