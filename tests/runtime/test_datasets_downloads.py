"""The downloader of MNIST and Fashion-MNIST, tested with local servers."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.datasets.downloads import cache_folder, load_download
from vae_runtime.datasets.known import FASHION, FILES, MNIST, Download
from vae_runtime.errors import FileError

pytestmark = pytest.mark.torch_free

N = {"train": 12, "t10k": 5}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def content() -> dict[str, bytes]:
    """Files named like MNIST's, with a few small images."""
    rng = np.random.default_rng(0)
    files = {}
    for split, n in N.items():
        images, labels = (
            rng.integers(0, 256, (n, 28, 28), np.uint8),
            np.arange(n, dtype=np.uint8) % 10,
        )
        header = struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28)
        files[f"{split}-images-idx3-ubyte"] = header + images.tobytes()
        files[f"{split}-labels-idx1-ubyte"] = struct.pack(">4BI", 0, 0, 8, 1, n) + labels.tobytes()
    return files


Reply = Callable[[str], bytes | int | str]  # the body, a status, or bytes that are not HTTP


class Mirror:
    """A local server; `asked` lists the files that were requested."""

    def __init__(self, reply: Reply) -> None:
        self.asked: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2].removesuffix(".gz")
                mirror.asked.append(name)
                body = reply(name)
                if isinstance(body, str):
                    self.wfile.write(body.encode())
                    return
                if isinstance(body, int):
                    self.send_error(body)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/mnist/"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files named like those of MNIST."""
    made = content()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], Mirror]]:
    mirrors: list[Mirror] = []

    def start(reply: Reply) -> Mirror:
        mirrors.append(Mirror(reply))
        return mirrors[-1]

    yield start
    for mirror in mirrors:
        mirror.close()


Serve = Callable[[Reply], Mirror]
Files = dict[str, bytes]


def load(files: Files, split: str, cache: Path, mirrors: Sequence[str]) -> Dataset:
    """Load a data set of these files, called `mnist`, through a cache folder."""
    digests = tuple(hashlib.sha256(files[name]).hexdigest() for name in FILES)
    with patch.dict(os.environ, VAE_ONNX_CACHE=str(cache)):
        return load_download(replace(MNIST, mirrors=tuple(mirrors), digests=digests), split)


def good(files: Files) -> Reply:
    return lambda name: gzip.compress(files[name])


def test_a_split_is_downloaded_once(files: Files, serve: Serve, tmp_path: Path) -> None:
    mirror = serve(good(files))
    data = load(files, "train", tmp_path / "new", [mirror.url])
    assert (data.name, len(data), data.image_shape) == ("mnist", 12, (1, 28, 28))
    assert data.labels is not None
    assert data.labels.tolist() == [k % 10 for k in range(12)]
    assert sorted(mirror.asked) == ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]
    again = load(files, "train", tmp_path / "new", ["http://127.0.0.1:9/"])
    assert np.array_equal(again.images, data.images)
    assert len(mirror.asked) == 2


def test_each_split_is_downloaded_when_it_is_needed(
    files: Files, serve: Serve, tmp_path: Path
) -> None:
    mirror = serve(good(files))
    assert len(load(files, "test", tmp_path, [mirror.url])) == 5
    assert all(name.startswith("t10k") for name in mirror.asked)
    assert len(load(files, "train", tmp_path, [mirror.url])) == 12
    assert sorted(p.name for p in (tmp_path / "mnist").iterdir()) == sorted(
        f"{name}.gz" for name in files
    )


@pytest.mark.parametrize(
    "reply",
    [
        lambda raw: gzip.compress(raw[:-1] + b"\0" + b"x"),  # wrong bytes
        lambda raw: gzip.compress(b"<html>blocked by your network</html>"),
        lambda raw: b"<html>blocked by your network</html>",
        lambda raw: gzip.compress(raw)[:-20],
        lambda raw: b"",
        lambda raw: 404,
        lambda raw: 503,
        lambda raw: "this is not HTTP\r\n",
    ],
    ids=["other", "page", "plain", "truncated", "empty", "404", "503", "not http"],
)
def test_the_next_mirror_is_tried_after_wrong_bytes(
    reply: Callable[[bytes], Any], files: Files, serve: Serve, tmp_path: Path
) -> None:
    wrong, right = serve(lambda name: reply(files[name])), serve(good(files))
    data = load(files, "train", tmp_path, [wrong.url, right.url])
    assert len(data) == 12
    assert wrong.asked == right.asked
    for name in wrong.asked:
        assert gzip.decompress((tmp_path / "mnist" / f"{name}.gz").read_bytes()) == files[name]


def test_the_next_mirror_is_tried_after_a_truncated_reply(
    files: Files, serve: Serve, tmp_path: Path
) -> None:
    """Python does not raise an OSError if a reply is shorter than its Content-Length."""

    class Cut(bytes):
        def __len__(self) -> int:
            return super().__len__() + 100

    broken = serve(lambda name: Cut(gzip.compress(files[name])[:50]))
    data = load(files, "test", tmp_path, [broken.url, serve(good(files)).url])
    assert len(data) == 5


def test_if_no_mirror_works_the_error_explains_what_to_do(
    files: Files, serve: Serve, tmp_path: Path
) -> None:
    mirrors = [serve(lambda name: 500).url, serve(lambda name: gzip.compress(b"x")).url]
    unreachable = "http://127.0.0.1:9/"  # the port of the `discard` service, where nothing listens
    with pytest.raises(FileError) as caught:
        load(files, "train", tmp_path, [*mirrors, unreachable])
    text = str(caught.value)
    assert "train-images-idx3-ubyte could not be downloaded" in text
    assert "use that folder in place of mnist, or use digits, which needs no network" in text
    assert "500" in text
    assert "wrong sha256" in text
    assert unreachable in text
    assert not (tmp_path / "mnist").exists()


def test_long_reasons_do_not_hide_what_to_do(files: Files, tmp_path: Path) -> None:
    mirrors = [f"http://127.0.0.1:9/{'long' * 100}/{i}/" for i in range(5)]
    with pytest.raises(FileError, match="or use digits"):
        load(files, "train", tmp_path, mirrors)


def test_the_error_for_an_unusable_cache_names_the_variable(
    files: Files, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileError, match="VAE_ONNX_CACHE"):
        load(files, "train", tmp_path / "taken", [serve(good(files)).url])


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"VAE_ONNX_CACHE": "own", "XDG_CACHE_HOME": "xdg"}, "own"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/vae-onnx"),
        ({"HOME": "home"}, "home/.cache/vae-onnx"),
    ],
)
def test_where_the_cache_is(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VAE_ONNX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_mnist_by_name_comes_from_the_cache(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAE_ONNX_CACHE", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    for name, raw in files.items():
        (tmp_path / "mnist" / f"{name}.gz").write_bytes(gzip.compress(raw))
    assert len(load_dataset("mnist")) == 12
    assert len(load_dataset("mnist", "test")) == 5
    data = load_dataset("mnist", "held_out")
    assert (data.name, len(data), data.split, data.part) == ("mnist", 5, "test", "the test split")
    assert data.notes == ()


def test_a_folder_of_the_same_name_is_mentioned(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_mnist_by_name_comes_from_the_cache(files, tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert load_dataset("mnist").notes == (
        "the path ./mnist is not used; to use it, write ./mnist",
    )
    (tmp_path / "mnist" / "manifest.json").touch()  # a bundle
    assert load_dataset("mnist").notes == ()


def check_digests(folder: Path, which: Download) -> None:
    for name, digest in which.sha256.items():
        content = gzip.decompress((folder / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == digest


def test_the_digests_match_the_real_files(mnist_folder: Path) -> None:
    check_digests(mnist_folder, MNIST)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_digests_match_the_real_files_of_fashion_mnist() -> None:
    check_digests(DEBIAN, FASHION)
    test = load_dataset(DEBIAN, "test")
    assert (len(test), test.classes[0], test.classes[-1]) == (10_000, "t-shirt", "ankle boot")


def test_the_real_files_are_downloaded_from_a_mirror(
    mnist_folder: Path, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = serve(lambda name: (mnist_folder / f"{name}.gz").read_bytes())
    monkeypatch.setenv("VAE_ONNX_CACHE", str(tmp_path))
    data = load_download(replace(MNIST, mirrors=(mirror.url,)), "test")
    assert np.array_equal(data.images, load_dataset(mnist_folder, "test").images)
