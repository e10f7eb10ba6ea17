"""The pip command for a missing package, for every source that this package may come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vae_runtime.dependencies import install_command, require
from vae_runtime.errors import MissingExtra

pytestmark = pytest.mark.torch_free


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path, origin: dict[str, Any] | None) -> None:
    """Make pip's records state that the package came from `origin`; None is an index."""
    records = folder / "records" / "vae_onnx-0.1.0.dist-info"
    records.mkdir(parents=True)
    (records / "METADATA").write_text("Metadata-Version: 2.1\nName: vae-onnx\nVersion: 0.1.0\n")
    if origin is not None:
        (records / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(str(records.parent))


def test_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checkout = tmp_path / "my checkout"
    checkout.mkdir()
    installed(monkeypatch, tmp_path, {"url": checkout.as_uri(), "dir_info": {}})
    assert install_command("cpu,train") == f'pip install "{checkout}[cpu,train]"'
    with pytest.raises(MissingExtra) as caught:
        require("vae-train", "json", "no_such_package")
    assert str(caught.value) == (
        "vae-train needs no_such_package, not installed here. "
        f'Run: pip install "{checkout}[cpu,train]"'
    )


def test_an_editable_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(monkeypatch, tmp_path, {"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    assert install_command("gpu") == f'pip install -e "{tmp_path}[gpu]"'


def test_a_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = tmp_path / "vae_onnx-0.1.0-py3-none-any.whl"
    wheel.touch()
    installed(monkeypatch, tmp_path, {"url": wheel.as_uri(), "archive_info": {}})
    assert install_command("cpu") == f'pip install "{wheel}[cpu]"'
    wheel.unlink()
    assert install_command("cpu") == 'pip install "vae-onnx[cpu]"'


def test_a_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit = {"vcs": "git", "commit_id": "1234abcd"}
    installed(monkeypatch, tmp_path, {"url": "https://example.org/vae.git", "vcs_info": commit})
    wanted = 'pip install "vae-onnx[cpu] @ git+https://example.org/vae.git@1234abcd"'
    assert install_command("cpu") == wanted


def test_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(monkeypatch, tmp_path, None)
    assert install_command("cpu,train") == 'pip install "vae-onnx[cpu,train]"'
