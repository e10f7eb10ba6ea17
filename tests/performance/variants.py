"""Measure parity and variants of checkpoints for docs/export-results.md.

    python tests/performance/variants.py --data mnist --out docs ae.pt vae.pt cvae.pt

Exports each checkpoint with every applicable variant in memory and prints the tables. With --out,
writes them to export-results.md and export-results.json in that folder.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from vae_export import export_checkpoint
from vae_runtime.datasets import load_dataset
from vae_train import load_checkpoint

HEAD = ("model", "graph", "bytes", "of fp32", "PSNR dB", "different pixels",
        "largest level difference", "ms, batch 64", "speed relative to fp32")  # fmt: skip
PARITY = ("model", "latent", "parameters", "epochs", "graph.output", "largest error",
          "torch's error", "tolerance", "difference from torch float32")  # fmt: skip


def measured(path: Path, data: Any) -> dict[str, Any]:
    """Export a checkpoint and collect its measurements."""
    checkpoint = load_checkpoint(path)
    config = checkpoint.model
    variants = ("fp16", "uint8") + (("int8",) if config.backbone == "mlp" else ())
    done = export_checkpoint(checkpoint, None, data=data, variants=variants)
    preset = "reference" if config.relu_code else "default"
    widths = "-".join(str(width) for width in config.hidden)
    return {
        "model": f"{config.family} {config.backbone} {widths} ({preset})",
        "latent_dim": config.latent_dim,
        "parameters": checkpoint.metadata["parameters"],
        "epochs": checkpoint.metadata["epochs"],
        "parity": [asdict(case) for result in done.parity for case in result.worst],
        "variants": [asdict(m) for m in done.variants],
    }


def tables(results: list[dict[str, Any]]) -> str:
    """Render both tables as Markdown."""
    parity = [
        (r["model"], r["latent_dim"], f"{r['parameters']:,}", r["epochs"],
         f"{c['graph']}.{c['output']}", f"{c['error']:.1e}", f"{c['torch_error']:.1e}",
         f"{c['tolerance']:.1e}", f"{c['difference']:.1e}")
        for r in results for c in r["parity"]
    ]  # fmt: skip
    variants = [
        (r["model"], v["graph"], f"{v['bytes']:,}", f"{v['bytes'] / v['bytes_fp32']:.0%}",
         "equal" if np.isinf(v["psnr"]) else f"{v['psnr']:.1f}", f"{v['differ']:.2%}",
         v["largest_step"], f"{v['ms']:.3f}", f"{v['ms_fp32'] / v['ms']:.2f}")
        for r in results for v in r["variants"]
    ]  # fmt: skip
    return (
        f"## Parity\n\n{table(PARITY, parity)}\n\n## Variants\n\n{table(HEAD, variants)}\n\n"
        f"Medians on one thread of {platform.machine()}; torch "
        f"{torch.__version__}, onnxruntime {onnxruntime.__version__}.\n"
    )


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Render one table as Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def main() -> None:
    """Measure each checkpoint, print the tables and write them with --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset(chosen.data, "test") if chosen.data else None
    results = []
    for path in chosen.checkpoints:
        results.append(measured(path, data))
        print(tables(results[-1:]), flush=True)
    if chosen.out:
        text = (
            "# What the exporter measures\n\nWritten by `python tests/performance/variants.py`.\n"
        )
        (chosen.out / "export-results.md").write_text(f"{text}\n{tables(results)}")
        clean = json.loads(json.dumps(results).replace("Infinity", "null"))
        (chosen.out / "export-results.json").write_text(json.dumps(clean, indent=1) + "\n")


if __name__ == "__main__":
    main()
