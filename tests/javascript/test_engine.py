"""The JavaScript package gives the same latents, pixels and scores as the Python runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae
from tests.javascript.conftest import Engine
from tests.normality import with_normality
from vae_runtime import latents as latent
from vae_runtime.bundle.reader import EMBEDDED, open_bundle
from vae_runtime.latents import move
from vae_runtime.prior import Prior
from vae_runtime.verification import read_golden

DATA = Path(__file__).parents[1] / "data"
BUNDLES = (*sorted(EMBEDDED.glob("*.zip")), *sorted(DATA.glob("*.zip")))
LAST_BIT = 2e-7  # of a float32; log1p, sin and cos of two libraries sometimes round differently


def sampling_options(path: Path) -> list[dict[str, Any]]:
    """Arguments of `sample_latents` for every branch in `prior.js`."""
    n_classes = len(open_bundle(path).manifest.spec.classes)
    common: list[dict[str, Any]] = [
        {"n": 40, "seed": 0}, {"n": 3, "seed": 2**64 - 1}, {"n": 5, "seed": 7, "start": 500_000},
        {"n": 40, "seed": 1, "temperature": 0.7}, {"n": 4, "seed": 1, "temperature": 0},
        {"n": 40, "seed": 2, "truncation": 0.5}, {"n": 40, "seed": 3, "prior": "normal"},
        {"n": 0, "seed": 3},
    ]  # fmt: skip
    labels = [{"n": 20, "seed": 4, "label": k} for k in range(n_classes)]
    mixed = [{"n": 6, "seed": 5, "label": [0, 1, 2, 0, 1, 2]}] if n_classes else []
    return common + labels + mixed


def as_python(options: dict[str, Any]) -> dict[str, Any]:
    label = options.get("label")
    return options | {"label": np.array(label) if isinstance(label, list) else label}


def test_the_same_seed_gives_the_same_latents(engine: Engine) -> None:
    cases = [(path, options) for path in BUNDLES for options in sampling_options(path)]
    # JavaScript cannot read a seed above 2**53 from JSON as a number.
    jobs = [
        {
            "job": "latents",
            "bundle": str(path),
            "options": options | {"seed": str(options["seed"])},
        }
        for path, options in cases
    ]
    total = apart = 0
    for (path, options), found in zip(cases, engine(*jobs), strict=True):
        with vae.load(path, device="cpu") as model:
            ours = model.sample_latents(**as_python(options)).ravel()
        theirs = np.array(found["result"], np.float32)
        np.testing.assert_allclose(theirs, ours, rtol=LAST_BIT, atol=LAST_BIT, err_msg=str(options))
        total, apart = total + ours.size, apart + int((theirs != ours).sum())
    print(f"\n{total} numbers of {len(cases)} calls, {apart} differ in the last bit")
    assert apart <= total // 1000


def test_sample_gives_the_images_of_python(engine: Engine) -> None:
    for path, label in ((BUNDLES[0], "3"), (DATA / "vae_mlp.zip", None)):
        options = {"n": 3, "seed": 5, "label": label, "temperature": 0.7}
        found = engine({"job": "sample", "bundle": str(path), "options": options})[0]
        with vae.load(path, device="cpu") as model:
            ours = model.sample(3, label, seed=5, temperature=0.7).ravel()
        np.testing.assert_allclose(found["result"], ours, atol=1e-5)


JSON: list[tuple[str, Any]] = [
    ('{"a":[1,-0.5,2e3,"\\u00e9\\ud83d\\ude00\\"\\\\",true,false,null,{}]}',
     {"a": [1, -0.5, 2000, 'é😀"\\', True, False, None, {}]}),
    (" [ ] ", []), ('{"__proto__":1}', {"__proto__": 1}), ("[" * 64 + "]" * 64, ...),
]  # fmt: skip
NOT_JSON = {
    "[" * 65 + "]" * 65: "nested more than 64 deep",
    "[" * 100_000: "nested more than 64 deep",
    '{"a":1,"b":{"a":2},"a":3}': "The key 'a' is there twice",
    '["\\ud800"]': "half a surrogate pair",
    "[1e999]": "outside the range of float64",
    **dict.fromkeys(
        ("", "[1,]", "[1", "[01]", "[+1]", "[.5]", "[1.]", "[NaN]", "[Infinity]", "{a:1}", '{"a"}',
         "'a'", '"a', '"\\x"', '"a\nb"', "[1] 2", "\ufeff[]", '{"a":1,}', "nul", "[1 2]"),
        "damaged or was edited",
    ),
}  # fmt: skip


def test_json_is_read_strictly(engine: Engine) -> None:
    good = engine(*({"job": "json", "text": text} for text, _ in JSON))
    for (text, value), found in zip(JSON, good, strict=True):
        assert found["result"] == (json.loads(text) if value is ... else value), text
    bad = engine(*({"job": "json", "text": text} for text in NOT_JSON))
    for (text, reason), found in zip(NOT_JSON.items(), bad, strict=True):
        assert found.get("error") == "InputError", (text, found)
        assert found["message"].startswith("x.json: not valid JSON. "), found
        assert reason in found["message"], (text[:20], found)


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "low-rank"])
def test_the_other_priors(engine: Engine, kind: str, tmp_path: Path) -> None:
    from tests.security.rechecksum import read_files, with_checksums
    from vae_runtime.bundle.archive import pack
    from vae_runtime.bundle.manifest import NAME

    files = read_files(DATA / "ae_mlp.zip")
    manifest = json.loads(files[NAME])
    (d,) = manifest["latent_shape"]
    arrays: dict[str, Any] = {"low": np.linspace(-1, 0, d), "high": np.linspace(1, 3, d)}
    if kind == "gaussian":
        lower = np.linspace(0.1, 1, d * (d + 1) // 2)
        arrays = {"weights": np.ones((1, 1)), "mean": np.ones((1, 1, d)),
                  "cholesky": lower[None, None]}  # fmt: skip
    if kind == "low-rank":
        directions = np.linalg.qr(np.random.default_rng(0).normal(size=(d, 2)))[0].T
        arrays = {"weights": np.ones((1, 1)), "mean": np.ones((1, 1, 2)),
                  "cholesky": np.array([[[1.5, 0.5, 2]]]), "center": np.linspace(-1, 1, d),
                  "directions": directions, "residual": np.linspace(0.1, 1, d)}  # fmt: skip
    prior = Prior("gaussian" if kind == "low-rank" else kind, d, **arrays)
    path = tmp_path / "b.zip"
    path.write_bytes(pack(with_checksums(files, manifest | {"prior": prior.to_json()})))
    found = engine(
        {
            "job": "latents",
            "bundle": str(path),
            "options": {"n": 50, "seed": 9, "temperature": 0.8},
        },
        {"job": "spread", "bundle": str(path), "label": None},
        {"job": "move", "bundle": str(path), "index": 1, "to": 0.75},
    )
    with vae.load(path, device="cpu") as model:
        ours = model.sample_latents(50, seed=9, temperature=0.8).ravel()
        prior = model.spec.prior
        spread = prior.spread_of_coordinates()
        moved = move(prior, prior.sample(1, seed=0)[0], 1, np.array([0.75]))[0]
    np.testing.assert_allclose(found[2]["result"], [*moved, 0.75], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[0]["result"], ours, rtol=LAST_BIT, atol=LAST_BIT)
    np.testing.assert_allclose(found[1]["result"], spread, rtol=1e-12)


def test_every_graph_gives_the_outputs_of_torch(engine: Engine) -> None:
    found = engine(*({"job": "golden", "bundle": str(path)} for path in BUNDLES))
    for path, one in zip(BUNDLES, found, strict=True):
        result = one["result"]
        manifest = open_bundle(path).manifest
        assert result["ok"], one
        assert result["maxAbsError"] <= result["tolerance"] == 1e-5
        assert {m["file"] for m in result["graphs"]} == {g.file.file for g in manifest.graphs}
        assert all(match["rows"] == 24 for match in result["graphs"])
        print(f"\n{path.stem}: {result['maxAbsError']:.1e}")


def test_spread_encode_and_score_agree_with_python(engine: Engine) -> None:
    jobs = [
        job
        for path in BUNDLES
        for job in (
            {"job": "spread", "bundle": str(path), "label": None},
            {"job": "encode", "bundle": str(path), "n": 3},
            {"job": "score", "bundle": str(path), "n": 3, "samples": 2, "seed": 5},
        )
    ]
    results = iter(engine(*jobs))
    for path in BUNDLES:
        golden = read_golden(open_bundle(path))
        images = golden["encoder.in.image"][:3]
        labels = golden.get("encoder.in.label")
        label = None if labels is None else labels[:3]
        with vae.load(path, device="cpu") as model:
            np.testing.assert_allclose(
                next(results)["result"], model.spec.prior.spread(), rtol=1e-12
            )
            mu, log_var = model.posterior(images, label)
            encoded = next(results)["result"]
            np.testing.assert_allclose(encoded["mu"], mu.ravel(), atol=1e-5, rtol=1e-5)
            if log_var is None:
                assert encoded["logVar"] is None
            else:
                np.testing.assert_allclose(encoded["logVar"], log_var.ravel(), atol=1e-5, rtol=1e-5)
            theirs = next(results)["result"]
            ours = model.score(images, label, samples=2, seed=5)
            np.testing.assert_allclose(theirs, ours, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["vae_conv", "ae_mlp", "cvae_mlp"])
def test_detection_agrees_with_python(engine: Engine, name: str, tmp_path: Path) -> None:
    path = with_normality(DATA / f"{name}.zip", tmp_path / "b.zip")
    with vae.load(path, device="cpu") as model:
        images = model.sample(30, seed=9)
        images[:5, :, 2:4, 2:4] = 1 - images[:5, :, 2:4, 2:4]
        ours = model.detect(images, false_alarms=0.1)
    job = {"job": "detect", "bundle": str(path), "images": images.ravel().tolist()}
    theirs, default, few, unknown = engine(
        job | {"falseAlarms": 0.1}, job, job | {"falseAlarms": 1e-4},
        job | {"bundle": str(DATA / f"{name}.zip")},
    )  # fmt: skip
    found = theirs["result"]
    np.testing.assert_allclose(found["scores"], ours.scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["maps"], ours.maps.ravel(), rtol=1e-3, atol=1e-4)
    assert found["anomalous"] == ours.anomalous.tolist()
    assert sum(found["anomalous"]) >= 3
    assert found["threshold"] == pytest.approx(ours.threshold)
    np.testing.assert_allclose(found["rarity"], ours.rarity, atol=0.01)
    assert default["result"]["falseAlarms"] == 0.01
    assert (few["error"], few["message"][:40]) == (
        "UsageError",
        "falseAlarms is 0.0001, expected 0.0050 o",
    )
    assert (unknown["error"], "does not say what is normal" in unknown["message"]) == (
        "InputError",
        True,
    )


def test_dimensions_are_ordered_by_effect(engine: Engine) -> None:
    found = engine({"job": "activity", "bundle": str(DATA / "ae_mlp.zip")})[0]["result"]
    effect = np.array(found["effect"])
    assert found["order"] == list(np.argsort(-effect, kind="stable"))
    # Some ReLU units of this model never fire; the others change the image.
    assert found["active"] == list(effect > 0.05 * effect.max())
    assert 0 < sum(found["active"]) < len(effect)


def test_interpolation_agrees_with_python(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 8)).astype(np.float32)
    cases = [(a, b, how) for how in ("linear", "spherical")] + [(a, 2 * a, "spherical")]
    jobs = [
        {"job": "interpolate", "a": p.tolist(), "b": q.tolist(), "steps": 7, "how": how}
        for p, q, how in cases
    ]
    for (p, q, how), found in zip(cases, engine(*jobs), strict=True):
        ours = latent.interpolation(p, q, 7, how)
        np.testing.assert_allclose(found["result"], ours.ravel(), atol=1e-6)


@pytest.mark.parametrize(("name", "label"), [("cvae_mlp", 3), ("vae_conv", None)])
def test_traversals_morphs_and_reconstructions_agree_with_python(
    engine: Engine, name: str, label: int | None
) -> None:
    path = DATA / f"{name}.zip"
    ends = None if label is None else [1, 8]
    with vae.load(path, device="cpu") as model:
        a, b = (model.sample_latents(1, seed=seed)[0] for seed in (1, 2))
        images = read_golden(open_bundle(path))["encoder.in.image"][:3]
        ours = [
            model.traverse(1, 5, label, seed=4, span=2),
            model.interpolate(a, b, 4, None if ends is None else (1, 8), how="spherical"),
            model.reconstruct(images, label),
        ]
    bundle = {"bundle": str(path)}
    found = engine(
        bundle | {"job": "traverse", "dim": 1,
                  "options": {"steps": 5, "label": label, "seed": 4, "span": 2}},
        bundle | {"job": "morph", "a": a.tolist(), "b": b.tolist(),
                  "options": {"steps": 4, "label": ends, "how": "spherical"}},
        bundle | {"job": "reconstruct", "n": 3, "label": label},
    )  # fmt: skip
    for expected, one in zip(ours, found, strict=True):
        np.testing.assert_allclose(one["result"], expected.ravel(), atol=1e-5)


def test_pca_finds_the_two_largest_components(engine: Engine) -> None:
    rng = np.random.default_rng(1)
    z = (rng.normal(size=(300, 6)) * [0.1, 3, 0.2, 0.1, 1.5, 0.3] + 2).astype(np.float32)
    found = engine({"job": "pca", "z": z.ravel().tolist(), "dim": 6})[0]["result"]
    values, vectors = np.linalg.eigh(np.cov(z.T.astype(np.float64), bias=True))
    np.testing.assert_allclose(found["variance"], values[:-3:-1], rtol=1e-6)
    plane = (z - z.mean(axis=0)) @ vectors[:, :-3:-1]
    np.testing.assert_allclose(
        np.abs(np.reshape(found["plane"], (300, 2))), np.abs(plane), atol=1e-4
    )
    both = vectors[:, :-3:-1]
    expected = z.mean(axis=0) + (z[0] - z.mean(axis=0)) @ both @ both.T
    np.testing.assert_allclose(found["lifted"], expected, atol=1e-4)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"options": {"label": 10}}, "InputError", "label: 10 is out of range, expected 0 to 9"),
    ({"options": {"label": [1, 2]}}, "InputError", "label: 2 labels for 1 items"),
    ({"options": {"seed": -1}}, "UsageError",
     "seed is -1, expected a whole number from 0 to 2**64 - 1"),
    ({"options": {"seed": str(2**64)}}, "UsageError",
     f"seed is {2**64}, expected a whole number from 0 to 2**64 - 1"),
    ({"options": {"seed": 0.5}}, "UsageError",
     "seed is 0.5, expected a whole number from 0 to 2**64 - 1"),
    ({"options": {"temperature": -1}}, "UsageError",
     "temperature is -1, expected a finite number, 0 or more"),
    ({"options": {"truncation": 0}}, "UsageError",
     "truncation is 0, expected a number from 0.1 up"),
    ({"options": {"prior": "flat"}}, "UsageError",
     "prior is 'flat', expected 'fitted' or 'normal'"),
    ({"job": "decode", "z": [0.0] * 15, "label": None}, "InputError",
     "latents: 15 numbers, expected a Float32Array of rows of 16"),
    ({"job": "decode", "z": [0.0] * 16, "label": [-1]}, "InputError",
     "label: -1 is out of range, expected 0 to 9"),
]  # fmt: skip


def test_wrong_calls_are_refused_with_a_message(engine: Engine) -> None:
    jobs = [{"job": "latents", "bundle": str(BUNDLES[0])} | job for job, _, _ in WRONG]
    found = engine(*jobs)
    assert found == [{"error": name, "message": text} for _, name, text in WRONG]
