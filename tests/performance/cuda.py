"""Measure parity, memory and speed on a CUDA device, and write cuda-results.md.

    python -m tests.performance.cuda [--dry-run] [--out docs]

Every candidate hands its images to the CPU, as an app needs them. The page is written again after
each row, because such a machine may be at hand for minutes only. `--dry-run` does the same on
the CPU with small sizes, to prove that the program runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import vae_runtime as vae
from vae_models import build, preset
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.inference.devices import providers
from vae_runtime.inference.session import onnxruntime
from vae_runtime.verification import compare
from vae_train.config import recipe
from vae_train.data import Images
from vae_train.loop import fit

from .models import BenchmarkModel, compiled, cvae
from .results import machine
from .timing import Work, in_turns, rounded

BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
LABEL = 3
Row = tuple[str, ...]


def parity(device: str) -> Iterator[Row]:
    """Yield the errors of the embedded bundle's graphs, without and with TF32."""
    for tf32 in (False, True) if device == "cuda" else (False,):
        for match in compare(open_bundle("mnist"), device=device, tf32=tf32):
            yield (
                match.file, match.output, "TF32" if tf32 else "float32",
                f"{match.max_error:.1e}", f"{match.tolerance:.0e}", "yes" if match.ok else "no",
            )  # fmt: skip


def memory(device: str, n: int) -> Iterator[Row]:
    """Yield the time of sampling n images, and by how much the memory grew meanwhile."""
    with vae.load("mnist", device=device) as model:
        model.sample(512, label=LABEL, seed=0)
        before, began, done = _used(device), time.perf_counter(), 0
        for images in model.stream(n, label=LABEL, seed=0, dtype="uint8"):
            done += len(images)
        seconds = time.perf_counter() - began
        yield f"{done:,}", f"{seconds:.1f} s", f"{max(0, _used(device) - before) / 1e6:.0f} MB"


def _used(device: str) -> int:
    if device != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def speed(device: str, batches: tuple[int, ...], rounds: int) -> Iterator[Row]:
    """Yield the microseconds per image of decoding and encoding, ours and that of other ways."""
    made = cvae("conv")
    module = made.torch.to(device)
    with vae.load(made.path, device=device) as model, torch.inference_mode():
        for n in batches:
            # The functions to compile share their code, which is compiled for a few shapes only.
            torch.compiler.reset()
            for work, candidates in _candidates(made, module, model, n, device).items():
                times = in_turns(candidates, rounds)
                row = [times[name].median / n * 1e6 if name in times else None for name in COLUMNS]
                yield work, str(n), *("–" if one is None else rounded(one) for one in row)


COLUMNS = (
    "ours", "onnxruntime", "onnxruntime, CUDA graph", "torch eager", "torch.compile", "CUDA graph",
)  # fmt: skip


def _candidates(
    made: BenchmarkModel, module: Any, model: vae.Autoencoder, n: int, device: str
) -> dict[str, dict[str, Work]]:
    """Return the ways to decode and to encode n images, by name."""
    z, label = made.latents(n), torch.full((n,), LABEL, device=device)
    images = np.random.default_rng(0).random((n, *made.config.image_shape), np.float32)
    labels = np.full(n, LABEL, np.int64)
    decoder = {"z": z, "label": labels}, "image"
    encoder = {"image": images, "label": labels}, "mu"
    return {
        "decode": {"ours": partial(model.decode, z, LABEL)}
        | _in_onnxruntime(made, model.decoder(conditional=True), *decoder)
        | _in_torch(lambda x: module.decode(x, label), z, device),
        "encode": {"ours": partial(model.encode, images, LABEL)}
        | _in_onnxruntime(made, model.encoder(), *encoder)
        | _in_torch(lambda x: module.encode(x, label)[0], images, device),
    }


def _in_onnxruntime(
    made: BenchmarkModel, graph: vae.Encoder | vae.Decoder, inputs: dict[str, Any], output: str
) -> dict[str, Work]:
    """Return two ways to run a graph without our runtime: in its session, and as a CUDA graph."""
    # Share our session: a second one would hold its own copy of the weights.
    plain = graph.session.raw
    found: dict[str, Work] = {"onnxruntime": partial(plain.run, [output], inputs)}
    if graph.device == "cpu":
        return found
    file = open_bundle(made.path).read_all()[f"{graph.role}.onnx"]
    options = providers("cuda", 0)
    options[0][1]["enable_cuda_graph"] = 1
    try:
        captured = onnxruntime().InferenceSession(file, providers=options)
        found["onnxruntime, CUDA graph"] = _captured(captured, inputs, output, plain)
    except Exception as error:  # noqa: BLE001 - a graph with a node on the CPU cannot be captured
        print(f"onnxruntime, CUDA graph: skipped: {str(error).splitlines()[0]}")
    return found


def _captured(session: Any, inputs: dict[str, Any], output: str, plain: Any) -> Work:
    """Capture a graph of onnxruntime, whose tensors then stay where they are on the device."""
    value, (expected,) = onnxruntime().OrtValue, plain.run([output], inputs)
    held = {name: value.ortvalue_from_numpy(x, "cuda", 0) for name, x in inputs.items()}
    result = value.ortvalue_from_shape_and_type(expected.shape, np.float32, "cuda", 0)
    binding = session.io_binding()
    for name, tensor in held.items():
        binding.bind_ortvalue_input(name, tensor)
    binding.bind_ortvalue_output(output, result)

    def replay() -> Any:
        for name, tensor in held.items():
            tensor.update_inplace(inputs[name])
        session.run_with_iobinding(binding)
        return result.numpy()

    replay()  # captures
    np.testing.assert_allclose(replay(), expected, atol=1e-4)
    return replay


def _in_torch(
    run: Callable[[torch.Tensor], torch.Tensor], values: NDArray[np.float32], device: str
) -> dict[str, Work]:
    """Return torch's ways to compute it; those that do not work here are left out."""
    source = torch.from_numpy(values)
    found: dict[str, Work] = {"torch eager": lambda: run(source.to(device)).cpu().numpy()}
    if (fast := compiled(run, source.to(device))) is not None:
        found["torch.compile"] = lambda: fast(source.to(device)).cpu().numpy()
    if device == "cuda":
        held = source.to(device)
        graph = torch.cuda.CUDAGraph()
        run(held)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            result = run(held)

        def replay() -> object:
            held.copy_(source)
            graph.replay()
            return result.cpu().numpy()

        found["CUDA graph"] = replay
    return found


def training(device: str, n: int) -> Iterator[Row]:
    """Yield the images per second of the presets, after a first epoch that prepares everything."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (n, 1, 28, 28), np.uint8)).to(device)
    data = Images(pixels, (torch.arange(n) % 10).to(device))
    for name in ("default", "best"):
        model = build(preset(name, "cvae", (1, 28, 28), 10)).to(device)
        for precision in ("float32", "bf16") if device == "cuda" else ("float32",):
            config = recipe(name, "cvae", 784, epochs=2, validation=0.0, precision=precision)
            seconds = fit(model, data, None, config).history[-1].seconds
            yield name, precision, f"{n / seconds:,.0f} images/s"


def page(device: str, sections: dict[str, tuple[Row, list[Row]]]) -> str:
    """Format the results."""
    name = torch.cuda.get_device_name() if device == "cuda" else "the CPU: a dry run"
    lines = [
        "# CUDA results", "",
        "Written by `scripts/test-cuda` on {date}, on {name}, with Python {python}, torch {torch} "
        "and onnxruntime {onnxruntime}.".format(name=name, **machine()),
    ]  # fmt: skip
    for title, (head, rows) in sections.items():
        lines += [
            "",
            f"## {title}",
            "",
            _line(head),
            _line(("---",) * len(head)),
            *map(_line, rows),
        ]
    return "\n".join(lines) + "\n"


def _line(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure everything, print it, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="small sizes, on the CPU")
    parser.add_argument("--out", type=Path, help="folder for cuda-results.md")
    chosen = parser.parse_args()
    device = "cpu" if chosen.dry_run else "cuda"
    many, batches, rounds, images = 1_000_000, BATCHES, 30, 57_600
    if chosen.dry_run:
        many, batches, rounds, images = 1_000, (1, 4), 2, 256
    errors = ("graph", "output", "precision", "largest error", "allowed", "within")
    todo: dict[str, tuple[Row, Iterator[Row]]] = {
        "Parity": (errors, parity(device)),
        "A million samples": (("images", "time", "more memory"), memory(device, many)),
        "Training": (("preset", "precision", "speed"), training(device, images)),
        "Microseconds per image": (("work", "batch", *COLUMNS), speed(device, batches, rounds)),
    }
    done: dict[str, tuple[Row, list[Row]]] = {}
    for title, (head, rows) in todo.items():
        done[title] = head, []
        for row in rows:
            print(title, *row, sep=" | ", flush=True)
            done[title][1].append(row)
            if chosen.out:
                chosen.out.mkdir(parents=True, exist_ok=True)
                (chosen.out / "cuda-results.md").write_text(page(device, done))


if __name__ == "__main__":
    main()
