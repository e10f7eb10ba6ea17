"""Cases for manifests: rules M."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from tests.conformance.bundles import Files, bundle
from tests.conformance.corpus import GOOD, Case, Change, drop, file_case, manifest_case, put
from vae_runtime.bundle.checksums import manifest_with_checksum
from vae_runtime.bundle.manifest import NAME

ONE = {"weights": [[1.0]], "mean": [[[0.0, 0.0]]], "cholesky": [[[1.0, 0.0, 1.0]]]}
BOX = {"kind": "uniform", "latent_dim": 2, "low": [0, 0.5], "high": [1, 0.5]}
GAUSSIAN = {"kind": "gaussian", "latent_dim": 2, **ONE}
LOW_RANK = {
    **GAUSSIAN, "mean": [[[0.5]]], "cholesky": [[[2.0]]], "center": [1, -1],
    "directions": [[0.6, 0.8]], "residual": [0.5, 0],
}  # fmt: skip
GMM = {
    "kind": "gmm", "latent_dim": 2, "weights": [[0.25, 0.75]], "mean": [ONE["mean"][0] * 2],
    "cholesky": [ONE["cholesky"][0] * 2],
}  # fmt: skip
CLASS_GMM = {"kind": "class_gmm", "latent_dim": 2, **{k: v * 3 for k, v in ONE.items()}}


def all_cases() -> Iterator[Case]:
    """Rules M."""
    yield from checksum_cases()
    yield from version_cases()
    yield from type_cases()
    yield from range_cases()
    yield from accepted_cases()
    yield from prior_cases()
    yield from graph_cases()
    yield from graph_list_cases()
    yield from tensor_cases()


def checksum_cases() -> Iterator[Case]:
    """The checksum at the start."""
    text = GOOD[NAME]
    for name, raw in {
        "changed after the checksum": text.replace(b'"epochs"', b'"Epochs"'),
        "cut off": text[:-5],
        "only its beginning": text[:30],
        "no checksum": json.dumps(json.loads(text)).encode(),
        "a checksum without its line feed": text.replace(b"{\n ", b"{ ", 1),
        "a checksum in capitals": text[:14] + text[14:78].upper() + text[78:],
    }.items():
        yield file_case("M1", name, "IntegrityError", GOOD | {NAME: raw})


def version_cases() -> Iterator[Case]:
    """Format versions."""
    for version in ("2.0", "10.0", "0.9", "", "v1"):
        yield manifest_case("M2", f"format {version!r}", put("format", to=version))
    later = manifest_with_checksum(b'{"format": "2.0"}')
    yield file_case("M2", "a later version", "InputError", GOOD | {NAME: later})
    yield file_case("M2", "without a checksum", "InputError", GOOD | {NAME: b'{"format": "2.0"}'})
    for version in ("1.7", "1", "1.0.1"):
        yield manifest_case("M3", f"format {version!r}", put("format", to=version), "accept")


def type_cases() -> Iterator[Case]:
    """Keys that are missing or have the wrong type."""
    for key in json.loads(GOOD[NAME]).keys() - {"sha256"}:
        yield manifest_case("M4", f"no {key}", drop(key))
        yield manifest_case("M4", f"{key} is null", put(key, to=None))
    wrong: dict[str, tuple[Any, ...]] = {
        "format": (1, 1.5), "id": (1, ["x"]), "family": (1,),
        "latent_shape": ("2", 2, [2.5], ["2"], [True]),
        "classes": ([1, 2], {}, "ab", ["cat", None]), "likelihood": ({},), "image": ([], 1),
        "prior": ([], "normal"), "graphs": ({}, [1], [[]], "x"), "golden": ([], "golden.npz"),
        "training": ([], "x", {"metrics": [1]}, {"metrics": None}), "parity": ([], 1),
        "producer": ([],), "checkpoint_sha256": (0,),
    }  # fmt: skip
    for key, values in wrong.items():
        for value in values:
            yield manifest_case("M4", f"{key} = {value!r}", put(key, to=value))
    for key in ("mode", "channels", "height", "width", "range"):
        yield manifest_case("M4", f"no image.{key}", drop("image", key))
    for key, value in (("mode", 1), ("height", "2"), ("range", 1), ("range", {"0": 0, "1": 1})):
        yield manifest_case("M4", f"image.{key} = {value!r}", put("image", key, to=value))
    for sigma in ("1", None, [1]):
        yield manifest_case("M4", f"sigma = {sigma!r}", with_sigma(sigma))


def with_sigma(sigma: Any) -> Change:
    return lambda manifest: manifest.update(likelihood="gaussian", sigma=sigma)


def range_cases() -> Iterator[Case]:
    """Values out of range."""
    values: tuple[tuple[str, Any], ...] = (
        ("family", "gan"), ("family", "vae"), ("latent_shape", []), ("latent_shape", [0]),
        ("latent_shape", [-1, -2]), ("latent_shape", [3]), ("latent_shape", [10**30]),
        ("latent_shape", [1] * 8 + [2]), ("classes", []), ("classes", ["a", "a"]),
        ("likelihood", "poisson"), ("sigma", 0.5),
    )  # fmt: skip
    for key, value in values:
        yield manifest_case("M5", f"{key} = {value!r}", put(key, to=value))
    for sigma in (0, -1, -0.5):
        yield manifest_case("M5", f"sigma = {sigma}", with_sigma(sigma))
    for key, value in (
        ("mode", "RGB"), ("mode", "l"), ("mode", "LA"), ("channels", 0), ("channels", 2),
        ("channels", 3),
        ("channels", 5), ("height", 0),
        ("height", -2), ("width", 16_385), ("width", 10**9), ("range", [-1, 1]),
        ("range", [0, 255]), ("range", [0]), ("range", [0, 1, 1]),
    ):  # fmt: skip
        yield manifest_case("M5", f"image.{key} = {value!r}", put("image", key, to=value))


def accepted_cases() -> Iterator[Case]:
    """Values in their range."""
    for name, good in {
        "an AE": bundle("ae"), "a VAE": bundle("vae"), "a CVAE": GOOD,
        "latents of 1×2": bundle("ae", spatial=True),
        "an encoder with labels": bundle(labelled_encoder=True),
        "a sampler": bundle("vae", sampler=True),
        "a sampler with labels": bundle(sampler=True),
        "a sampler's variants": bundle(sampler=True, variants=("fp16", "uint8")),
        "every variant": bundle(variants=("fp16", "int8", "uint8")),
        "a long id": bundle(name="x" * 10_000), "an empty id": bundle(name=""),
    }.items():  # fmt: skip
        yield file_case("M6", name, "accept", good)
    changes: dict[str, Change] = {
        "sigma = 1": with_sigma(1),
        "sigma = 0.25": with_sigma(0.25),
        "gaussian without sigma": put("likelihood", to="gaussian"),
        "classes that are odd text": put("classes", to=["", "🐈"]),
        "an old opset": put("graphs", 0, "opset", to=7),
    }
    for name, change in changes.items():
        yield manifest_case("M6", name, change, "accept")


def prior_cases() -> Iterator[Case]:
    """Priors of every kind."""
    for name, prior in {
        "a box": BOX, "a Gaussian": GAUSSIAN, "a mixture": GMM, "mixtures per class": CLASS_GMM,
        "a low-rank Gaussian": LOW_RANK,
        "rounded weights": GMM | {"weights": [[0.2504, 0.75]]},
    }.items():  # fmt: skip
        yield manifest_case("M6", name, put("prior", to=prior), "accept")
    for key in ("kind", "latent_dim"):
        yield manifest_case("M4", f"no prior.{key}", drop("prior", key))
    for value in ("2", [2], 2.5, 0, 65_537, 10**30):
        change = put("prior", "latent_dim", to=value)
        yield manifest_case("M4" if type(value) is not int else "M8", f"D = {value!r}", change)
    yield manifest_case("M7", "D differs", put("prior", "latent_dim", to=3))
    for rows in (2, 4):
        prior = CLASS_GMM | {key: value * rows for key, value in ONE.items()}
        yield manifest_case("M7", f"{rows} mixtures of 2 classes", put("prior", to=prior))
    bad: dict[str, dict[str, Any]] = {
        "another kind": {"kind": "cauchy", "latent_dim": 2},
        "an array of another kind": {"kind": "normal", "latent_dim": 2, "low": [0, 0]},
        "no corner": {key: value for key, value in BOX.items() if key != "high"},
        "low above high": BOX | {"low": [2, 0]},
        "a box of three": BOX | {"low": [0, 0, 0]},
        "a box of lists": BOX | {"low": [[0, 0]]},
        "a corner of text": BOX | {"low": ["0", "0"]},
        "a corner of null": BOX | {"low": [None, 0]},
        "a corner that is not a list": BOX | {"low": 0},
        "an object for a list": BOX | {"low": {"0": 0, "1": 0}},
        "ragged lists": GAUSSIAN | {"cholesky": [[[1.0, 0.0], [1.0]]]},
        "weights that sum to 0.9": GAUSSIAN | {"weights": [[0.9]]},
        "a negative weight": GMM | {"weights": [[1.5, -0.5]]},
        "weights of one axis": GAUSSIAN | {"weights": [1.0]},
        "no rows": GAUSSIAN | {"weights": [], "mean": [], "cholesky": []},
        "no components": GAUSSIAN | {"weights": [[]], "mean": [[]], "cholesky": [[]]},
        "two components of a Gaussian": GMM | {"kind": "gaussian"},
        "three rows of a gmm": CLASS_GMM | {"kind": "gmm"},
        "one row of a class_gmm": GAUSSIAN | {"kind": "class_gmm"},
        "a full matrix": GAUSSIAN | {"cholesky": [[[1.0, 0.0, 0.0, 1.0]]]},
        "directions without a center": {k: v for k, v in LOW_RANK.items() if k != "center"},
        "a residual without directions": {k: v for k, v in LOW_RANK.items() if k != "directions"},
        "directions of a box": BOX | {"directions": [[1, 0]]},
        "no directions": LOW_RANK | {"directions": []},
        "directions of one axis": LOW_RANK | {"directions": [0.6, 0.8]},
        "three directions": LOW_RANK | {"directions": [[1, 0], [0, 1], [0, 1]]},
        "two directions of one coordinate": LOW_RANK | {"directions": [[1, 0], [0, 1]]},
        "directions that are not orthogonal": GAUSSIAN
        | {"center": [0, 0], "directions": [[1, 0], [0.6, 0.8]], "residual": [0, 0]},
        "a direction that is not of length 1": LOW_RANK | {"directions": [[0.6, 0.9]]},
        "a negative residual": LOW_RANK | {"residual": [0.5, -0.5]},
        "a center of three": LOW_RANK | {"center": [0, 0, 0]},
        "a mean of one number": GAUSSIAN | {"mean": [[[0.0]]]},
    }
    for name, prior in bad.items():
        yield manifest_case("M8", name, put("prior", to=prior))


def graph_cases() -> Iterator[Case]:
    """Keys of a graph."""
    for key in ("role", "variant", "file", "opset", "ir", "inputs", "outputs"):
        yield manifest_case("M4", f"no graph.{key}", drop("graphs", 0, key))
    for key in ("bytes", "sha256"):
        # A missing file keeps its size and checksum in the list.
        entry = {"file": "none.onnx", "bytes": 1, "sha256": "0" * 64}
        del entry[key]
        yield manifest_case("M4", f"no golden.{key}", put("golden", to=entry))
    for key in ("name", "dtype", "shape"):
        yield manifest_case("M4", f"no tensor.{key}", drop("graphs", 0, "inputs", 0, key))
    for key, value in (("role", 1), ("variant", []), ("opset", "18"), ("inputs", 3), ("ir", 8.5)):
        yield manifest_case("M4", f"graph.{key} = {value!r}", put("graphs", 0, key, to=value))
    for name in ("../x.onnx", "/etc/passwd", "a/b.onnx", "C:\\x.onnx", ".hidden", "", "x\n",
                 "é.onnx", "x" * 101, "-x", "a b.onnx"):  # fmt: skip
        yield manifest_case("M5", f"the file {name[:12]!r}", put("graphs", 0, "file", to=name))
    for key, value in (
        ("bytes", 0),
        ("bytes", -1),
        ("bytes", (1 << 31) + 1),
        ("sha256", "A" * 64),
        ("sha256", "0" * 63),
    ):
        entry = {"file": "none.onnx", "bytes": 1, "sha256": "0" * 64, key: value}
        yield manifest_case("M5", f"{key} {value}", put("golden", to=entry))
    yield manifest_case("M5", "another role", put("graphs", 0, "role", to="judge"))
    for index, variant in ((1, "fp99"), (0, "fp16"), (0, "uint8")):
        name = f"graph {index} as {variant}"
        yield manifest_case("M5", name, put("graphs", index, "variant", to=variant))


def graph_list_cases() -> Iterator[Case]:
    """Graphs that are missing, listed twice or renamed."""
    entries = json.loads(GOOD[NAME])["graphs"]
    for index, role in enumerate(("encoder", "decoder", "conditional_decoder")):
        yield manifest_case("M9", f"no {role}", drop("graphs", index))
    yield manifest_case("M9", "no graphs", put("graphs", to=[]))
    more = bundle("vae") | {"conditional_decoder.onnx": GOOD["conditional_decoder.onnx"]}
    yield manifest_case("M9", "a conditional VAE without classes", add_graph(entries[2]), good=more)
    fp16 = without("decoder.onnx", bundle(variants=("fp16",)))
    yield manifest_case("M9", "only the fp16 decoder", drop("graphs", 1), good=fp16)
    for name, change in {
        "the same graph": add_graph(entries[1]),
        "the same file": put("graphs", 1, "file", to="encoder.onnx"),
        "golden is a graph": put("golden", "file", to="encoder.onnx"),
        "golden is the manifest": put("golden", "file", to=NAME),
        "normality is a graph": lambda m: m.update(normality=m["graphs"][0]),
        "a graph is the manifest": put("graphs", 0, "file", to=NAME),
    }.items():
        yield manifest_case("M10", name, change)
    again = add_graph(entries[1] | {"file": "again.onnx"})
    more = GOOD | {"again.onnx": GOOD["decoder.onnx"]}
    yield manifest_case("M10", "the same role and variant", again, good=more)
    yield manifest_case("M13", "reversed", lambda m: m["graphs"].reverse(), "accept")
    for value in ([], "normality.npz", None, {}):
        yield manifest_case("M4", f"normality = {value!r}", put("normality", to=value))
    entry = json.loads(GOOD[NAME])["golden"] | {"file": "normality.npz"}
    known = GOOD | {"normality.npz": GOOD["golden.npz"]}
    yield manifest_case("M13", "normality", put("normality", to=entry), "accept", good=known)
    yield manifest_case("F2", "no normality.npz", put("normality", to=entry), "NotFound")
    for name in ("A-1_b.bin", "x" * 100, "0"):
        renamed = without("golden.npz") | {name: GOOD["golden.npz"]}
        change = put("golden", "file", to=name)
        yield manifest_case("M13", f"named {name[:9]}", change, "accept", good=renamed)


def add_graph(entry: dict[str, Any]) -> Change:
    return lambda manifest: manifest["graphs"].append(copy.deepcopy(entry))


def without(name: str, files: Files = GOOD) -> Files:
    """Return the files except one."""
    return {key: value for key, value in files.items() if key != name}


def tensor_cases() -> Iterator[Case]:
    """Inputs and outputs that do not fit the model."""
    sampler = bundle(sampler=True)
    for name, change in {
        "noise of D": put("graphs", 3, "inputs", 0, "shape", 1, to=2),
        "a sampler without labels": drop("graphs", 3, "inputs", 1),
        "a sampler without latents": drop("graphs", 3, "outputs", 1),
        "a sampler as a decoder": put("graphs", 3, "role", to="decoder"),
    }.items():
        rule = "M10" if name.endswith("decoder") else "M11"
        yield manifest_case(rule, name, change, good=sampler)
    for side in ("inputs", "outputs"):
        for key, value in (
            ("name", "y"), ("dtype", "float64"), ("dtype", "int64"), ("shape", []),
            ("shape", [1, 2]), ("shape", ["batch", -1]), ("shape", ["batch", "n"]),
            ("shape", ["n", 1, 2, 2]), ("shape", ["batch", 10**12]),
        ):  # fmt: skip
            change = put("graphs", 0, side, 0, key, to=value)
            yield manifest_case("M11", f"{side}.{key} = {value!r}", change)
        yield manifest_case("M11", f"no {side}", put("graphs", 0, side, to=[]))
    label = {"name": "label", "dtype": "int64", "shape": ["batch"]}
    for name, change in {
        "a label of the decoder": lambda m: m["graphs"][1]["inputs"].append(label),
        "outputs reversed": lambda m: m["graphs"][0]["outputs"].reverse(),
        "inputs reversed": lambda m: m["graphs"][2]["inputs"].reverse(),
        "floats as bytes": put("graphs", 1, "variant", to="uint8"),
        "another D": lambda m: m.update(
            latent_shape=[1], prior={"kind": "normal", "latent_dim": 1}
        ),
        "the same D in another shape": put("latent_shape", to=[1, 2]),
    }.items():
        yield manifest_case("M11", name, change)
