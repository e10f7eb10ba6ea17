"""Graphs compared with the golden vectors of their bundle."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.security.build import graph, model, node
from tests.security.rechecksum import read_files, with_checksums
from vae_runtime import verification as golden
from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.errors import InputError

pytestmark = pytest.mark.torch_free


def test_every_graph_computes_what_torch_computed(any_bundle: Path) -> None:
    bundle = open_bundle(any_bundle)
    found = list(golden.compare(bundle, device="cpu"))
    assert {m.file for m in found} == {g.file.file for g in bundle.manifest.graphs}
    for match in found:
        assert match.ok, match
        assert match.rows >= 8
        assert match.device == "cpu"
        if match.tolerance == golden.TOLERANCE:
            assert match.max_error < 2e-6
            assert match.levels in (None, 0)


def test_wrong_outputs_are_noticed(any_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(any_bundle)
    arrays = golden.read_golden(bundle)
    arrays["decoder.out.image"] = arrays["decoder.out.image"].copy()
    arrays["decoder.out.image"][3, 0, 2, 2] += 0.01
    monkeypatch.setattr(golden, "read_golden", lambda _: arrays)
    found = {m.file: m for m in golden.compare(bundle, device="cpu")}
    bad = found.pop("decoder.onnx")
    assert not bad.ok
    assert bad.max_error == pytest.approx(0.01, rel=1e-3)
    assert bad.levels == 1
    assert found["encoder.onnx"].ok


def test_numbers_that_are_not_finite_fail(vae_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(vae_path)
    arrays = golden.read_golden(bundle)
    arrays["encoder.out.mu"] = np.full_like(arrays["encoder.out.mu"], np.nan)
    monkeypatch.setattr(golden, "read_golden", lambda _: arrays)
    assert not next(golden.compare(bundle, tolerance=1e9, device="cpu")).ok


def refused(path: Path, **files: bytes) -> str:
    """Replace graphs of a bundle, with correct checksums, and return the error."""
    whole = read_files(path.parent / "good.zip")
    path.write_bytes(
        pack(with_checksums(whole | {f"{role}.onnx": raw for role, raw in files.items()}))
    )
    with pytest.raises(InputError) as caught:
        list(golden.compare(open_bundle(path), device="cpu"))
    return str(caught.value).removeprefix(f"{path}/")


def test_a_graph_that_contradicts_the_manifest_is_refused(
    cvae_path: Path, vae_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "good.zip").write_bytes(cvae_path.read_bytes())
    files, other = read_files(cvae_path), read_files(vae_path)
    path, where = tmp_path / "b.zip", "decoder.onnx: "
    strange = model(graph([node("Relu", "x", domain="evil")]))
    assert refused(path, decoder=strange).startswith(where + "refused: ")
    assert refused(path, decoder=other["decoder.onnx"]).startswith(where + "belongs to bundle ")
    found = refused(path, decoder=files["conditional_decoder.onnx"])
    assert re.match(where + r"its tensors \[\('z', .*'label'.* do not fit its spec, which", found)
