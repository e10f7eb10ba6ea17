"""Make the small test bundles again: `python tests/data/make.py` (a minute; needs the train extra).

Each is trained for a few epochs on scikit-learn's 8×8 digits: good enough to tell classes apart,
small enough to commit. Weights differ from one machine to the next; tests compare with the golden
vectors inside each bundle, never with numbers written down elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FAMILIES = ("ae", "vae", "cvae")
PRESETS = {
    "mlp": ["--preset", "reference", "--hidden", "32", "--batch-size", "64", "--lr", "0.004"],
    "conv": ["--preset", "default", "--hidden", "8,16", "--latent-dim", "6", "--batch-size", "64"],
}
# Further graphs, in the smallest of the conditional bundles.
VARIANTS = {"cvae_mlp": ["uint8", "fp16"]}
TRAINING = ["--data", "digits", "--epochs", "80", "--components", "2", "--seed", "0", "--quiet"]


def main() -> None:
    """Train and export every family with every preset."""
    for family in FAMILIES:
        for name, options in PRESETS.items():
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = f"{folder}/{family}.pt"
                objective = ["--objective", "bce"] if family != "ae" else []
                _call(["vae-train", family, *TRAINING, *options, *objective, "--out", checkpoint])
                out = HERE / f"{family}_{name}.zip"
                export = ["vae-export", "--ckpt", checkpoint, "--data", "digits", "--out", str(out)]
                for variant in VARIANTS.get(out.stem, []):
                    export += ["--variant", variant]
                _call(export)
                print(f"{out.name}: {out.stat().st_size:,} bytes")


def _call(command: list[str]) -> None:
    subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], check=True)


if __name__ == "__main__":
    main()
