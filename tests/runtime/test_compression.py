"""Compressed images: what comes back, how small it is, and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae
from tests.runtime.conftest import Run
from vae_runtime.compression import MARK, compress, decompress, read_header
from vae_runtime.errors import InputError, IntegrityError, MissingExtra, UsageError, VaeError

pytestmark = pytest.mark.torch_free
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module", autouse=True)
def _needs_the_coder() -> None:
    pytest.importorskip("constriction", reason="constriction is not installed: the extra compress")


def error(a: Any, b: Any) -> float:
    return float(np.square(a - b).mean())


@pytest.mark.parametrize("name", ["vae_mlp", "vae_conv", "ae_mlp", "ae_conv"])
def test_what_comes_back_is_nearly_the_reconstruction(name: str) -> None:
    with vae.load(DATA / f"{name}.zip", device="cpu") as model:
        images = model.sample(300, seed=0)
        raw = compress(model, images)
        again = decompress(model, raw)
        exact = error(model.reconstruct(images), images)
        assert again.shape == images.shape
        assert error(again, images) <= 1.06 * exact + 1e-6
        rough = compress(model, images, loss=2.0)
        assert len(rough) <= len(raw)
        assert error(decompress(model, rough), images) > error(again, images) - 1e-9
        # Against the bytes of the latents in float32.
        assert len(raw) < 0.45 * 4 * model.spec.latent_dim * 300
        assert compress(model, images) == raw


def test_labels_are_stored(cvae: vae.Autoencoder) -> None:
    labels = np.arange(60) % 10
    images = cvae.sample(60, label=labels, seed=0)
    raw = compress(cvae, images, labels)
    header, _ = read_header(raw, "x")
    assert (header.labelled, header.n) == (True, 60)
    expected = cvae.reconstruct(images, labels)
    assert error(decompress(cvae, raw), images) <= 1.1 * error(expected, images) + 1e-6
    assert not read_header(compress(cvae, images), "x")[0].labelled
    one = compress(cvae, images, 3)
    assert decompress(cvae, one).shape == images.shape


def rewritten(raw: bytes, **changes: Any) -> bytes:
    """Change fields of the header; None removes one."""
    begin = len(MARK) + 4
    length = int.from_bytes(raw[len(MARK) : begin], "little")
    fields = json.loads(raw[begin : begin + length]) | changes
    text = json.dumps({k: v for k, v in fields.items() if v is not None}).encode()
    return MARK + len(text).to_bytes(4, "little") + text + raw[begin + length :]


@pytest.fixture(scope="module")
def good() -> bytes:
    with vae.load(DATA / "vae_mlp.zip", device="cpu") as model:
        return compress(model, model.sample(20, seed=0))


@pytest.mark.parametrize(
    "changes",
    [
        {"bundle": 3}, {"bundle": None}, {"n": 0}, {"n": 1 << 30}, {"n": 1.5}, {"step": []},
        {"step": [[1.0]]}, {"step": 1}, {"std": [0.0] * 6}, {"std": [-1.0] * 6}, {"mean": [0.0]},
        {"step": [0.0] * 6}, {"step": [-1.0] * 6}, {"bound": 0}, {"bound": 1 << 20},
        {"labelled": 1}, {"labelled": None}, {"sha256": None},
        {"step": [[1.0] * 6], "mean": [[0.0] * 6], "std": [[1.0] * 6]},
    ],
)  # fmt: skip
def test_a_wrong_header_is_refused(good: bytes, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^x: "):
        read_header(rewritten(good, **changes), "x")


def test_other_files_are_refused(good: bytes) -> None:
    for raw in (b"", b"VAEZ", MARK, MARK + b"\xff\xff\xff\xff", b"PK\x03\x04", good[:60]):
        with pytest.raises(InputError, match=r"not what vae-run compress writes|not valid JSON"):
            read_header(raw, "x")
    for raw in (good[:-1], good[:-4], good + b"\0" * 4, good[:-1] + bytes([good[-1] ^ 1])):
        with pytest.raises(IntegrityError, match="its bytes do not match its sha256"):
            read_header(raw, "x")
    payload = b"\0" * 4 * 10_000
    long = rewritten(good, sha256=hashlib.sha256(payload).hexdigest())
    whole = long[: len(long) - len(read_header(good, "x")[1])] + payload
    with pytest.raises(IntegrityError):
        read_header(whole, "x")


def test_a_file_of_another_model_is_refused(good: bytes) -> None:
    with (
        vae.load(DATA / "vae_conv.zip", device="cpu") as other,
        pytest.raises(InputError, match="Use the bundle that it was compressed with"),
    ):
        decompress(other, good)
    with vae.load(DATA / "vae_mlp.zip", device="cpu") as model:
        five = {name: [1.0] * 5 for name in ("step", "mean", "std")}
        with pytest.raises(InputError, match="5 dimensions, not those of the model"):
            decompress(model, rewritten(good, **five))
        with pytest.raises(UsageError, match="loss is 0, expected above 0"):
            compress(model, model.sample(1), loss=0)
        with pytest.raises(InputError, match="no images to compress"):
            compress(model, model.sample(0))


def test_any_numbers_of_the_header_and_any_payload_are_survived(good: bytes) -> None:
    rng = np.random.default_rng(0)
    with vae.load(DATA / "vae_mlp.zip", device="cpu") as model:
        for _ in range(100):
            payload = rng.bytes(4 * int(rng.integers(0, 40)))
            lists = {
                "step": (10.0 ** rng.uniform(-300, 300, 6)).tolist(),
                "mean": (rng.normal(size=6) * 10.0 ** rng.uniform(-9, 300)).tolist(),
                "std": (10.0 ** rng.uniform(-300, 300, 6)).tolist(),
            }
            changed = rewritten(good, **lists, n=int(rng.integers(1, 9)),
                                bound=int(rng.integers(1, 1 << 14)),
                                sha256=hashlib.sha256(payload).hexdigest())  # fmt: skip
            raw = changed[: len(changed) - len(read_header(good, "x")[1])] + payload
            with contextlib.suppress(VaeError):
                decompress(model, raw)


def test_without_constriction(good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with vae.load(DATA / "vae_mlp.zip", device="cpu") as model:
        with pytest.raises(MissingExtra, match="compression needs constriction"):
            compress(model, model.sample(1))
        with pytest.raises(MissingExtra, match="compression needs constriction"):
            decompress(model, good)


def test_the_commands(run: Run, cvae_path: Path, digits: Path) -> None:
    done = run("compress", digits, "-b", cvae_path, "-o", "d.vaez", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert (facts["n"], facts["bytes"]) == (8, Path("d.vaez").stat().st_size)
    assert facts["psnr_db"] > 5
    done = run("decompress", "d.vaez", "-b", cvae_path, "-o", "again.npy")
    assert done.code == 0, done.err
    assert np.load("again.npy").shape == (8, 1, 8, 8)
    done = run("compress", digits, "-b", cvae_path, "-o", "d.zip")
    assert (done.code, ".vaez" in done.err) == (2, True)
    done = run("decompress", "d.vaez", "-b", cvae_path, "--max-images", 7)
    assert done.code == 5
    done = run("decompress", digits / "00.png", "-b", cvae_path)
    assert (done.code, "not what vae-run compress writes" in done.err) == (3, True)
