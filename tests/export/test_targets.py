"""The outputs of an export besides the bundle folder: zip, report, C code, Triton repository."""

from __future__ import annotations

import json
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vae_runtime
from tests.export.conftest import run_cli
from vae_export.report import write_report
from vae_export.targets.triton import config_text, write_triton
from vae_export.writer import write_bundle
from vae_runtime.errors import NotFound


def test_a_zip_is_stored_and_always_the_same(exported_of: Any, tmp_path: Path) -> None:
    exported = exported_of("cvae-conv")
    for name in ("a.zip", "b.zip"):
        write_bundle(exported.manifest, exported.files, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    members = zipfile.ZipFile(tmp_path / "a.zip").infolist()
    assert {m.compress_type for m in members} == {zipfile.ZIP_STORED}
    assert {m.filename for m in members} == {"manifest.json", "README.md", *exported.files}
    with vae_runtime.load(tmp_path / "a.zip", device="cpu") as model:
        assert model.sample(2, label=3, seed=0).shape == (2, 1, 8, 8)


class PageParser(HTMLParser):
    """Collect the tags of a page and the URLs that it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(v) for k, v in attrs if k in ("src", "href", "data", "action")]


def test_the_report_is_self_contained(exported_of: Any, tmp_path: Path) -> None:
    exported = exported_of("vae-mlp")
    write_report(exported, tmp_path / "report")
    assert {p.name for p in (tmp_path / "report").iterdir()} == {"parity.json", "parity.html"}
    data = json.loads((tmp_path / "report" / "parity.json").read_text())
    assert data["bundle"] == exported.manifest.spec.id
    worst = [case for output in data["outputs"] for case in output["worst"]]
    assert {c["output"] for c in worst} == {"mu", "log_var", "image"}
    assert all(c["error"] <= c["tolerance"] for c in worst)
    assert {v["graph"] for v in data["variants"]} == {m.graph for m in exported.variants}
    page = (tmp_path / "report" / "parity.html").read_text()
    parser = PageParser()
    parser.feed(page)
    assert parser.fetched == []
    assert not {"script", "link", "img", "iframe"} & set(parser.tags)
    assert parser.tags.count("svg") == 3
    assert "url(" not in page
    assert "decoder.int8" in page


def test_the_histogram_counts_every_element(exported_of: Any) -> None:
    for result in exported_of("vae-mlp").parity:
        for counts in result.histogram.values():
            assert counts.sum() % sum((1, 2, 7, 64, 1000)) == 0
            assert counts.sum() > 0


def test_the_command_line_writes_every_target(saved: Any, tmp_path: Path) -> None:
    done = run_cli(
        "--ckpt", saved("vae-mlp"), "-o", tmp_path / "m", "--zip", "--variant", "uint8",
        "--triton", tmp_path / "models", "--report", "--c", tmp_path / "code",
    )  # fmt: skip
    assert done.exception is None
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"m.zip", "m-report", "models", "code"}
    assert {p.name for p in (tmp_path / "code").iterdir()} == {
        "Makefile", "decoder.c", "decoder_data.c", "main.c", "model.h", "prior_data.c", "vae.c",
        "vae.h",
    }  # fmt: skip
    assert f"wrote {tmp_path / 'code'}. Next: make -C {tmp_path / 'code'}" in done.stderr
    assert {p.name for p in (tmp_path / "models").iterdir()} == {
        "m_encoder", "m_decoder", "m_decoder_uint8", "m_sampler", "m_sampler_uint8",
    }  # fmt: skip
    assert "encoder: matches torch, max error" in done.stderr
    size = (tmp_path / "m.zip").stat().st_size
    assert f"wrote {tmp_path / 'm.zip'}, {size:,} bytes. Next: vae-run sample" in done.stderr
    assert done.stdout == ""


def test_data_without_a_test_split_is_used_whole(saved: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=np.zeros((5, 8, 8), np.uint8))
    own = tmp_path / "own.npz"
    done = run_cli("--ckpt", saved("vae-mlp"), "-o", tmp_path / "m", "--data", own)
    assert done.exception is None
    lines = done.stderr.splitlines()
    assert lines[0] == f"{own}: no test split, so its training images are used"
    size = sum(path.stat().st_size for path in (tmp_path / "m").iterdir())
    assert lines[-1].startswith(f"wrote {tmp_path / 'm'}, {size:,} bytes. Next: ")
    with np.load(tmp_path / "m" / "golden.npz") as golden:
        assert not golden["encoder.in.image"].any()


def test_images_of_any_size_are_resized_for_the_model(saved: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for side in (9, 16):
        Image.new("RGB", (side, side), "white").save(tmp_path / "photos" / f"{side}.png")
    photos = tmp_path / "photos"
    done = run_cli("--ckpt", saved("vae-mlp"), "-o", tmp_path / "m", "--data", photos)
    assert done.exception is None
    with np.load(tmp_path / "m" / "golden.npz") as golden:
        assert golden["encoder.in.image"].shape[1:] == (1, 8, 8)
        assert (golden["encoder.in.image"] == 1).all()


def test_missing_data_is_refused(saved: Any, tmp_path: Path) -> None:
    done = run_cli("--ckpt", saved("vae-mlp"), "-o", tmp_path / "m", "--data", "none.npz")
    assert isinstance(done.exception, NotFound)
    assert done.stderr == ""


CONFIG = """\
name: "m_conditional_decoder"
backend: "onnxruntime"
max_batch_size: 256
input {
  name: "z"
  data_type: TYPE_FP32
  dims: [ 16 ]
}
input {
  name: "label"
  data_type: TYPE_INT64
  dims: [ 1 ]
  reshape { shape: [ ] }
}
output {
  name: "image"
  data_type: TYPE_FP32
  dims: [ 1, 8, 8 ]
}
dynamic_batching {
  max_queue_delay_microseconds: 500
}
parameters {
  key: "intra_op_thread_count"
  value { string_value: "1" }
}
parameters {
  key: "vae_onnx_bundle"
  value { string_value: "ID" }
}
parameters {
  key: "labels"
  value { string_value: "labels.txt" }
}
"""


def test_a_triton_repository(exported_of: Any, tmp_path: Path) -> None:
    exported = exported_of("cvae-conv")
    names = write_triton(exported.manifest, exported.files, tmp_path / "models", "m")
    assert sorted(names) == sorted(p.name for p in (tmp_path / "models").iterdir())
    folder = tmp_path / "models" / "m_conditional_decoder"
    assert (folder / "1" / "model.onnx").read_bytes() == exported.files["conditional_decoder.onnx"]
    assert (folder / "labels.txt").read_text().split() == list("0123456789")
    text = (folder / "config.pbtxt").read_text()
    assert text == CONFIG.replace("ID", exported.manifest.spec.id)


def test_names_in_the_config_are_quoted(exported_of: Any) -> None:
    manifest = exported_of("vae-mlp").manifest
    text = config_text('a"b\nc', manifest.graphs[0], manifest.spec)
    assert text.startswith('name: "a\\"b\\nc"\n')


def test_the_help_lists_the_options_in_lines_of_at_most_95_characters() -> None:
    text = run_cli("--help").stdout
    assert text.startswith("Usage: ")
    assert max(len(line) for line in text.splitlines()) <= 95
    for name in ("ckpt", "variant", "report", "triton", "c", "model", "zip", "opset"):
        assert re.search(rf"^\s+(-\w, )?--{name}\b", text, re.MULTILINE)
    assert "vae-export --ckpt cvae.pt" in text
