"""Compile and run the generated C decoder and onnxruntime's C API, and compare with torch."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import vae_runtime as vae
from vae_export.targets import c_code
from vae_export.targets.c_code import header_text, prior_text, write_c
from vae_runtime.bundle.spec import ImageSpec, ModelSpec
from vae_runtime.dependencies import install_command
from vae_runtime.errors import MissingExtra
from vae_runtime.prior import Prior
from vae_runtime.verification import TOLERANCE

from .c import STRICT, build_c_api, build_generated, library_path, need
from .conftest import Open, open_in, skip_if_missing
from .host import EXAMPLES, ONE_THREAD, Vectors, call

SLOW = pytest.mark.slow  # per model, the generator and the compiler take three seconds each


def read_pgm(raw: bytes) -> np.ndarray:
    """Read a PGM of n square images side by side: u8[n, H, W]."""
    found = re.match(rb"P5\n(\d+) (\d+)\n255\n", raw)
    assert found is not None
    width, height = int(found[1]), int(found[2])
    pixels = np.frombuffer(raw[found.end() :], np.uint8).reshape(height, width // height, height)
    return pixels.transpose(1, 0, 2)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Vectors, Path]]:
    """Compile a bundle's decoder as C, once; return its golden vectors and the folder."""

    @cache
    def make(name: str) -> tuple[Vectors, Path]:
        vectors = open_in(tmp_path_factory.mktemp(name), name)
        return vectors, skip_if_missing(build_generated, vectors, vectors.work / "c").parent

    return make


@SLOW
@pytest.mark.parametrize("name", ["cvae_mlp", "ae_conv", "mnist"])
def test_generated_c_gives_the_pixels_of_torch(
    built: Callable[[str], tuple[Vectors, Path]], name: str
) -> None:
    """The reference MLP, a model without labels, the default convolutions with FiLM."""
    vectors, folder = built(name)
    assert vectors.drive([folder / "drive", *vectors.files])[0] <= TOLERANCE
    label = ["--label", "3"] if vectors.spec.classes else []
    raw = call([folder / "vae", *label, "--seed", "7", "-n", "5"], text=False)
    with vae.load(vectors.folder, device="cpu") as model:
        expected = model.sample(5, 3 if label else None, seed=7, dtype="uint8")[:, 0]
    assert np.abs(read_pgm(raw).astype(int) - expected).max() <= 1  # rounding


@SLOW
def test_the_example_program_links_the_library_and_prints_digits(
    built: Callable[[str], tuple[Vectors, Path]], tmp_path: Path
) -> None:
    vectors, folder = built("cvae_mlp")
    source = EXAMPLES / "c" / "program.c"
    library = folder / "libvae.a"
    call(["gcc", *STRICT, f"-I{folder}", source, library, "-lm", "-o", tmp_path / "program"])
    lines = call([tmp_path / "program"]).splitlines()
    _, height, width = vectors.spec.image.shape
    assert len(lines) == 10 * height // 2
    assert {len(line) for line in lines} == {width}
    assert len(set("".join(lines))) >= 4  # different shades


@SLOW
def test_the_program_reads_latents_and_refuses_wrong_arguments(
    built: Callable[[str], tuple[Vectors, Path]], tmp_path: Path
) -> None:
    vectors, folder = built("cvae_mlp")
    program = folder / "vae"
    with vae.load(vectors.folder, device="cpu") as model:
        z = model.sample_latents(3, 4, seed=1)
        expected = model.decode(z, 4, dtype="uint8")[:, 0]
    z.tofile(tmp_path / "latents.f32")
    raw = call([program, "--label", "4", "--latents", tmp_path / "latents.f32"], text=False)
    assert np.abs(read_pgm(raw).astype(int) - expected).max() <= 1
    (tmp_path / "cut.f32").write_bytes(z.tobytes()[:-1])
    np.full(z.shape[1], np.nan, np.float32).tofile(tmp_path / "nan.f32")
    refused = {
        ("--label", "eleven"): "error: eleven: unknown class\n",
        ("--label", "10"): "error: 10: unknown class\n",
        ("--seed", "-1"): "error: -1: expected a seed from 0 to 2**64 - 1\n",
        ("-n", "65"): "error: 65: not a number, or out of range\n",
        ("--latents", "cut.f32"): "error: cut.f32: expected 1 to 64 complete float32 latents\n",
        ("--latents", "nan.f32"): "error: latents: not finite\n",
        ("--latents", "no.f32"): "error: no.f32: No such file or directory\n",
        ("--colour", "red"): "error: --colour: unknown option\n",
    }
    for args, message in refused.items():
        done = subprocess.run([program, *args], cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", message)


STUB = """
#include <stdio.h>
#include <stdlib.h>
#include "vae.h"
#if VAE_CLASSES
void vae_graph(const float z[1][VAE_LATENT_DIM], const int64_t label[1],
               float image[1][VAE_CHANNELS][VAE_HEIGHT][VAE_WIDTH])
{ image[0][0][0][0] = z[0][0] + (float)label[0]; }
#else
void vae_graph(const float z[1][VAE_LATENT_DIM],
               float image[1][VAE_CHANNELS][VAE_HEIGHT][VAE_WIDTH])
{ image[0][0][0][0] = z[0][0]; }
#endif
int main(int argc, char **argv)
{
    float z[VAE_LATENT_DIM];
    (void)argc;
    for (unsigned i = 0; i < 500; i++) {
        const int code = vae_sample_latents(strtoull(argv[1], NULL, 10), i, atoi(argv[2]),
                                            atof(argv[3]), z);
        if (code) return code;
        fwrite(z, sizeof *z, VAE_LATENT_DIM, stdout);
    }
    return 0;
}
"""


def mixture(kind: str, d: int, rows: int, m: int) -> Prior:
    rng = np.random.default_rng(d)
    weights = rng.dirichlet(np.ones(m), rows)
    cholesky = rng.normal(0, 0.3, (rows, m, d * (d + 1) // 2))
    return Prior(kind, d, weights=weights, mean=rng.normal(size=(rows, m, d)), cholesky=cholesky)


PRIORS = [
    Prior.normal(5),
    Prior("uniform", 4, low=np.array([-1.0, 0, 2, 3]), high=np.array([0.0, 0, 3, 9])),
    mixture("gaussian", 3, 1, 1),
    mixture("gmm", 8, 1, 4),
    mixture("class_gmm", 7, 4, 3),
    replace(
        mixture("class_gmm", 2, 4, 3),
        latent_dim=9,
        center=np.linspace(-1, 1, 9),
        directions=np.linalg.qr(np.random.default_rng(0).normal(size=(9, 2)))[0].T,
        residual=np.linspace(0.1, 1, 9),
    ),
]


@pytest.mark.parametrize("prior", PRIORS, ids=lambda p: f"{p.kind} {p.latent_dim}")
def test_c_samples_the_same_latents_as_python(prior: Prior, tmp_path: Path) -> None:
    skip_if_missing(need, "gcc")
    classes = ("a", "b", "c") if prior.kind == "class_gmm" else ()
    family = "cvae" if classes else "vae"
    spec = ModelSpec(
        "0", family, ImageSpec(1, 2, 2), (prior.latent_dim,), classes, "bernoulli", prior
    )
    for path in (c_code.SOURCES / "vae.c", c_code.SOURCES / "vae.h"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.h").write_text(header_text(spec))
    (tmp_path / "prior_data.c").write_text(prior_text(spec))
    (tmp_path / "stub.c").write_text(STUB)
    sources = [tmp_path / name for name in ("stub.c", "vae.c", "prior_data.c")]
    call(["gcc", *STRICT, "-Wpedantic", *sources, "-lm", "-o", tmp_path / "sample"])
    for seed, label, temperature in ((0, -1, 1.0), (2**64 - 1, 1 if classes else -1, 0.5)):
        raw = call([tmp_path / "sample", str(seed), str(label), str(temperature)], text=False)
        expected = prior.sample(500, None if label < 0 else label, seed, temperature=temperature)
        found = np.frombuffer(raw, np.float32).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    for bad in (("0", str(len(classes)), "1"), ("0", "-2", "1")):
        done = subprocess.run([tmp_path / "sample", *bad], check=False)
        assert done.returncode == 1  # VAE_BAD_LABEL


def test_class_names_become_literals(tmp_path: Path) -> None:
    skip_if_missing(need, "gcc")
    names = ('a"b', "back\\slash", "new\nline7", "what??/", "zwölf", "")
    spec = ModelSpec("0", "cvae", ImageSpec(1, 2, 2), (2,), names, "bernoulli", Prior.normal(2))
    (tmp_path / "model.h").write_text(header_text(spec))
    (tmp_path / "prior_data.c").write_text(prior_text(spec))
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "model.h"\n'
        "int main(void) { for (int i = 0; i < VAE_CLASSES; i++)"
        " { fputs(vae_class_names[i], stdout); putchar(0); } return 0; }\n"
    )
    files = [tmp_path / "main.c", tmp_path / "prior_data.c"]
    call(["gcc", "-std=c99", *files, "-o", tmp_path / "names"])
    assert call([tmp_path / "names"], text=False).split(b"\0")[:-1] == [n.encode() for n in names]


def test_without_the_generator_the_error_names_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch, open_vectors: Open, tmp_path: Path
) -> None:
    monkeypatch.setattr(c_code, "GENERATOR", "no_such_generator")
    manifest = open_vectors("ae_mlp").bundle.manifest
    with pytest.raises(MissingExtra) as error:
        write_c(manifest, {}, tmp_path / "c")
    assert str(error.value) == (
        "vae-export --c needs no_such_generator, not installed here. "
        f"Run: {install_command('cpu,train,c')}"
    )
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", ["cvae_conv", "vae_mlp"])
def test_the_c_api_gives_the_pixels_of_torch(open_vectors: Open, tmp_path: Path, name: str) -> None:
    vectors = open_vectors(name)
    folder = skip_if_missing(build_c_api, tmp_path / "c_api")
    library = {"VAE_ORT_LIBRARY": str(skip_if_missing(library_path))}
    command = [folder / "drive", *vectors.files, vectors.graph]
    assert vectors.drive(command, library)[0] <= TOLERANCE
    vectors.z[:1].tofile(tmp_path / "one.f32")
    label = str(vectors.label[0])
    command = [folder / "vae_ort", vectors.graph, label, tmp_path / "one.f32", tmp_path / "o.pgm"]
    call(command, library)
    found = read_pgm((tmp_path / "o.pgm").read_bytes())[0]
    assert np.abs(found - 255 * vectors.image[0, 0]).max() <= 0.51


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_c_api_takes_latents_of_several_axes(tmp_path: Path, channels: int) -> None:
    """The graph only reshapes, so each pixel tells which number of the latents it was."""
    folder = skip_if_missing(build_c_api, tmp_path / "c_api")
    library = {"VAE_ORT_LIBRARY": str(skip_if_missing(library_path))}
    z = np.arange(channels * 6, dtype=np.float32).reshape(3, channels, 2) / 255
    shape = [0, channels, 2, 3]
    target = helper.make_tensor("shape", TensorProto.INT64, [4], shape)
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["z", "shape"], ["image"])], "g",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", *z.shape])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *shape[1:]])], [target],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "d.onnx")
    z.tofile(tmp_path / "z.f32")
    call(
        [folder / "vae_ort", tmp_path / "d.onnx", "0", tmp_path / "z.f32", tmp_path / "o"], library
    )
    head, pixels = (
        (tmp_path / "o").read_bytes()[: -z.size],
        (tmp_path / "o").read_bytes()[-z.size :],
    )
    assert head[:2] == {1: b"P5", 3: b"P6"}.get(channels, b"P7")
    expected = np.rint(255 * z.reshape(shape[1:]).transpose(1, 2, 0)).astype(np.uint8)
    assert pixels == expected.tobytes()


def test_the_c_api_refuses_in_one_line(open_vectors: Open, tmp_path: Path) -> None:
    vectors = open_vectors("cvae_mlp")
    folder = skip_if_missing(build_c_api, tmp_path / "c_api")
    environment = ONE_THREAD | {"VAE_ORT_LIBRARY": str(skip_if_missing(library_path))}
    np.full(vectors.z.shape[1], np.inf, np.float32).tofile(tmp_path / "inf.f32")

    def refused(*args: Any, **changed: str) -> str:
        done = subprocess.run(
            [folder / "vae_ort", *args, tmp_path / "o.pgm"], capture_output=True, text=True,
            env=environment | changed, check=False,
        )  # fmt: skip
        assert done.returncode == 3
        assert not (tmp_path / "o.pgm").exists()
        return done.stderr.splitlines()[-1]

    graph, latents = vectors.graph, tmp_path / "z.f32"
    assert refused(graph, "-1", latents) == f"error: {graph}: label: expected 0 or more"
    assert "indices element out of data bounds, idx=11" in refused(graph, "11", latents)
    assert refused(graph, "x", latents) == "error: x: expected an integer label"
    assert refused(graph, "1", tmp_path / "inf.f32") == f"error: {graph}: latents: not finite"
    assert "Load model no.onnx failed" in refused("no.onnx", "1", latents)
    encoder = vectors.folder / "encoder.onnx"
    assert (
        refused(encoder, "1", latents) == f"error: {encoder}: not a decoder that vae-export wrote"
    )
    assert "cannot open shared object file" in refused(graph, "1", latents, VAE_ORT_LIBRARY="no.so")


def header_folder() -> Path | None:
    """Find onnxruntime's own header, in ORT_INCLUDE or where Debian installs it."""
    named = os.environ.get("ORT_INCLUDE")
    folders = [Path(named)] if named else [Path("/usr/include/onnxruntime"), Path("/usr/include")]
    return next((p for p in folders if (p / "onnxruntime_c_api.h").is_file()), None)


def test_the_function_table_has_the_offsets_of_the_real_header(tmp_path: Path) -> None:
    folder = header_folder()
    if folder is None:
        pytest.skip("onnxruntime_c_api.h is not installed (Debian: libonnxruntime-dev)")
    skip_if_missing(need, "gcc")
    declared = (EXAMPLES / "c_api" / "ort_abi.h").read_text()
    names = re.findall(r"\(\*(\w+)\)\(", declared.partition("typedef struct OrtApi {")[2])
    names = [name for name in names if name not in ("GetApi", "GetVersionString")]
    assert len(names) == 21
    lines = "".join(f'printf("{n} %zu\\n", offsetof(OrtApi, {n}));' for n in names)
    found = []
    for header in ("onnxruntime_c_api.h", "ort_abi.h"):
        text = f"#include <stddef.h>\n#include <stdio.h>\n#include <{header}>\n"
        (tmp_path / "offsets.c").write_text(f"{text}int main(void) {{ {lines} return 0; }}\n")
        include = [f"-I{folder}", f"-I{EXAMPLES / 'c_api'}"]
        call(["gcc", *include, tmp_path / "offsets.c", "-o", tmp_path / "offsets"])
        found.append(call([tmp_path / "offsets"]))
    assert found[0] == found[1]
    call(["make", "-s", "-C", build_c_api(tmp_path / "c_api"), "-B", f"ORT_INCLUDE={folder}"])


def test_the_generated_c_has_every_number_of_the_prior_exactly(open_vectors: Open) -> None:
    spec = open_vectors("cvae_mlp").spec
    text = prior_text(spec)
    numbers = np.array([float(x) for x in re.findall(r"-?\d+\.\d*(?:e-?\d+)?", text)])
    expected = np.concatenate(
        [getattr(spec.prior, n).ravel() for n in ("weights", "mean", "cholesky")]
    )
    np.testing.assert_array_equal(numbers, expected)


def test_another_shape_or_a_nan_counts_as_an_infinite_error(open_vectors: Open) -> None:
    vectors: Vectors = open_vectors("ae_mlp")
    assert vectors.error(vectors.image) == 0
    assert vectors.error(vectors.image[:-1]) == np.inf
    broken = vectors.image.copy()
    broken[0, 0, 0, 0] = np.nan
    assert vectors.error(broken) == np.inf
