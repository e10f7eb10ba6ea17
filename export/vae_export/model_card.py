"""Write `README.md` of a bundle: a model card for people and for model hubs, from its manifest.

It has front matter, a picture of samples, figures, how to run the model in Python, JavaScript and
C, and the licence of the training data where it is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vae_runtime.bundle.reader import Bundle, open_files
from vae_runtime.graph_set import GraphSet
from vae_runtime.graphs import RunOptions
from vae_runtime.grids import grid
from vae_runtime.images import encode_pil

if TYPE_CHECKING:
    from vae_runtime.bundle.manifest import Manifest
    from vae_runtime.bundle.spec import ModelSpec

NAME = "README.md"
_LARGE = 128 * 128  # pixels of an image; larger ones take seconds each
PICTURE = ".samples.png"  # readers ignore files whose names begin with a dot, in folders
MADE_BY = "<!-- written by vae-export; a later export replaces this file -->"
_LICENCES = {
    "mnist": "MNIST, by Yann LeCun, Corinna Cortes and Christopher J.C. Burges: CC BY-SA 3.0",
    "fashion": "Fashion-MNIST, by Zalando SE: MIT",
    "digits": "Optical Recognition of Handwritten Digits, by E. Alpaydin and C. Kaynak: CC BY 4.0",
}
_METRICS = {
    "test_loss": "loss on the test split, nats per image",
    "test_reconstruction": "reconstruction term on the test split",
    "test_kl": "KL on the test split, nats per image",
    "validation_loss": "validation loss",
}


def card_files(manifest: Manifest, files: dict[str, bytes], *, picture: bool) -> dict[str, bytes]:
    """Return the model card and, with `picture`, the picture of samples that it shows.

    Args:
        manifest: the manifest of the bundle.
        files: the files of the bundle, by name, with the manifest.
        picture: whether the bundle is a folder; a zip holds no picture.
    """
    text = card_text(manifest, picture=picture).encode()
    if not picture:
        return {NAME: text}
    return {NAME: text, PICTURE: _samples(open_files(files, "the bundle"))}


def card_text(manifest: Manifest, *, picture: bool) -> str:
    """Format the model card; it does not name the bundle's path, on which no bytes may depend."""
    spec, training = manifest.spec, manifest.training
    data = dict(training.get("data") or {})
    label = f", label={spec.classes[0]!r}" if spec.classes else ""
    parts = [
        _front_matter(manifest, data),
        MADE_BY,
        f"# {_title(spec)}",
        f"An autoencoder as ONNX graphs: {spec.summary}. "
        "Each graph was compared with torch before it was written.",
        f"![Samples]({PICTURE})" if picture else "",
        "## Use it",
        "Replace `bundle` by the path of this bundle. Python, without torch, after "
        '`pip install ".[cpu]"` in a checkout of vae-onnx:',
        _code("python", "import vae_runtime as vae\n\n"
              'model = vae.load("bundle")\n'
              f"images = model.sample(16{label}, seed=0)  # float32 {_shape(spec, 16)} in [0, 1]\n"
              'vae.grid(images).save("samples.png")'),
        "A shell, and a server for other programs:",
        _code("sh", "vae-run sample bundle -n 16 -o samples.png\nvae-run serve bundle"),
        "JavaScript, in Node or in a page: open the bundle with the engine of vae-onnx. C: "
        "`vae-export --bundle bundle --c c/` writes the decoder as C99 without libraries. Any "
        "other language: the graphs are plain ONNX, and the table below lists their tensors.",
        "## Graphs",
        _graph_table(manifest),
        "## Figures",
        _figures(manifest),
        "## Training data",
        _data_section(data),
    ]  # fmt: skip
    return "\n\n".join(filter(None, parts)) + "\n"


def is_ours(raw: bytes) -> bool:
    """Return whether vae-export wrote this model card, so that it may replace it."""
    return MADE_BY.encode() in raw


def _front_matter(manifest: Manifest, data: dict[str, Any]) -> str:
    """Format the YAML that model hubs read; nothing in it needs quotes."""
    tags = ["onnx", "onnxruntime", "autoencoder", manifest.spec.family, "vae-onnx"]
    known = [f"datasets:\n- {data['name']}"] if data.get("name") in _LICENCES else []
    lines = ["library_name: vae-onnx", "pipeline_tag: unconditional-image-generation", *known]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _title(spec: ModelSpec) -> str:
    image = spec.image
    return f"{spec.family.upper()} of {image.height}×{image.width} {image.mode} images"


def _shape(spec: ModelSpec, n: int) -> str:
    return str([n, *spec.image.shape])


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)


def _graph_table(manifest: Manifest) -> str:
    def tensors(found: Any) -> str:
        return ", ".join(f"`{t.name}` {t.dtype}[{', '.join(map(str, t.shape))}]" for t in found)

    rows = [
        (f"`{g.file.file}`", f"{g.file.bytes:,}", tensors(g.inputs), tensors(g.outputs))
        for g in manifest.graphs
    ]
    return _table(("file", "bytes", "inputs", "outputs"), rows)


def _figures(manifest: Manifest) -> str:
    training, parity = manifest.training, manifest.parity
    metrics = dict(training.get("metrics") or {})
    rows = [(words, f"{metrics[key]:.4g}") for key, words in _METRICS.items() if key in metrics]
    for key, words in (("parameters", "parameters"), ("epochs", "epochs")):
        if isinstance(training.get(key), int):
            rows.append((words, f"{training[key]:,}"))
    errors = dict(parity.get("max_abs_error") or {})
    rows += [(f"largest error of `{name}` against torch", f"{e:.2g}") for name, e in errors.items()]
    rows += [(f"made with {name}", str(version)) for name, version in manifest.producer.items()]
    rows.append(("bundle", f"`{manifest.spec.id}`"))
    if training.get("command"):
        rows.append(("command", f"`{training['command']}`"))
    return _table(("what", "value"), rows)


def _data_section(data: dict[str, Any]) -> str:
    name = str(data.get("name") or "not recorded")
    count = f", {data['training']:,} images" if isinstance(data.get("training"), int) else ""
    licence = _LICENCES.get(name)
    if licence is None:
        licence = "its licence is not known here. Check it before you publish this model"
    return f"`{name}`{count}: {licence}."


def _samples(bundle: Bundle) -> bytes:
    """Sample a picture: ten images per class for up to ten classes, else thirty.

    Of large images, it has one for each of up to four classes, or else four.
    """
    spec = bundle.manifest.spec
    large = spec.image.height * spec.image.width > _LARGE
    classes = spec.classes[: 4 if large else 10]
    labels = [name for name in classes for _ in range(1 if large else 10)] or None
    graphs = GraphSet(bundle, "fp32", RunOptions("cpu"))
    decoder = graphs.decoder(conditional=labels is not None)
    n = len(labels) if labels else 4 if large else 30
    images = decoder.sample(n, labels, seed=0)
    graphs.close()
    if images.shape[1] in (2, 4):  # blend over black, as a hub's page may be white
        images = images[:, :-1] * images[:, -1:]
    return encode_pil(grid(images, labels, columns=10), ".png")
