"""Bundles with correct checksums that lie or do harm: one line, the right exit code, no harm."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.security import build
from tests.security.rechecksum import Files, read_files, with_checksums
from vae_runtime.bundle.archive import open_zip, pack
from vae_runtime.bundle.checksums import manifest_with_checksum
from vae_runtime.bundle.manifest import NAME
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.errors import InputError, IntegrityError
from vae_runtime.graph_checks.model import _GRAPH, _MODEL
from vae_runtime.graph_checks.protobuf import BYTES, message

pytestmark = pytest.mark.torch_free

DATA = Path(__file__).parents[1] / "data"


def vae_run(*args: str | Path) -> tuple[int, str, str]:
    """Run a command in a subprocess, which a graph might crash."""
    command = [sys.executable, "-c", "from vae_runtime.cli import main; main()", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


ADD = build.node("Add", "imagf lz", "image")


def with_nodes(
    raw: bytes, nodes: list[bytes], tensors: list[bytes], last_node: bytes = ADD
) -> bytes:
    """Let a decoder's output depend on further nodes; the last of them must make `lv`, f32."""
    whole = message(raw, (0, len(raw), BYTES), _MODEL, "")
    start, end, _ = whole[7][0]
    body = raw[start:end]
    assert body.count(b"\x12\x05image") == 1
    renamed = body.replace(b"\x12\x05image", b"\x12\x05imagf", 1)  # the output of the last node
    last = [
        build.node("ReduceSum", "lv", "ls", keepdims=0),
        build.node("Mul", "ls zz", "lz"),
        last_node,
    ]
    tensors = [*tensors, build.tensor("zz", [], b"\0" * 4)]
    more = b"".join(build.field(1, n) for n in (*nodes, *last))
    more += b"".join(build.field(5, t) for t in tensors)
    grown = build.field(7, renamed + more)
    head = raw[: start - (len(build.field(7, body)) - len(body))]
    return head + grown + raw[end:]


def scalar(name: str, number: int) -> bytes:
    return build.tensor(name, [], number.to_bytes(8, "little", signed=True), build.INT64)


def equation(text: str) -> bytes:
    return build.field(5, build.field(1, "equation") + build.field(4, text) + build.field(20, 3))


LARGEST = [
    build.node("Abs", "z", "za"), build.node("ReduceMax", "za", "zm", keepdims=0),
    build.node("Ceil", "zm", "zc"), build.node("Cast", "zc", "zk", to=build.INT64),
]  # fmt: skip
CAST = build.node("Cast", "k", "lv", to=1)
FOLDED = "has only constants as inputs, and was not folded"
# By name: further nodes, their constants, and the reason of the refusal.
GRAPHS: dict[str, tuple[list[bytes], list[bytes], str]] = {
    "Div of the smallest integer by -1": (
        [build.node("Div", "a b", "k"), CAST],
        [build.integers("a", -(1 << 63)), build.integers("b", -1)], f"Div {FOLDED}",
    ),
    "Einsum of another alphabet": (
        [build.node("Einsum", "a b", "k", more=equation("ä")), CAST],
        [build.reals("a", 1), build.reals("b", 1, 1)], f"Einsum {FOLDED}",
    ),
    "Einsum that depends on z": (
        [build.node("Einsum", "z b", "lv", more=equation("ä"))],
        [build.reals("b", 1, 1)], "Einsum: equation (inputs of the shapes [1, 8], [2])",
    ),
    "InstanceNormalization of an empty axis": (
        [build.node("InstanceNormalization", "a b b", "lv")],
        [build.tensor("a", [1, 1, 0, 3], b""), build.reals("b", 1)],
        f"InstanceNormalization {FOLDED}",
    ),
    "Split into another number of outputs": (
        [build.node("Split", "z", "k l", axis=1, num_outputs=1), CAST], [],
        "Split: num_outputs is 1 for 2 outputs (inputs of the shapes [1, 8])",
    ),
    "Sum of nothing": (
        [build.node("Sum", "a", "k", more=build.field(1, "")), CAST],
        [build.reals("a", 1, 1)], "Sum: the last input has no name",
    ),
    "Max of a nameless input": (
        [build.field(1, "") + build.node("Max", "z", "lv")], [], "Max: input 0 has no name",
    ),
    "Div by what depends on z": (
        [*LARGEST, build.node("Mul", "zk a", "t"), build.node("Add", "t b", "u"),
         build.node("Div", "c u", "k"), CAST],
        [scalar("a", -2), scalar("b", 1), scalar("c", -(1 << 63))],
        "Div: integers are divided by what is not a constant (inputs of the shapes [], [])",
    ),
    "a size that depends on z": (
        [*LARGEST, build.node("Mul", "zk a", "n"), build.node("Expand", "one n", "k"), CAST],
        [build.integers("a", 1 << 20, 1 << 20), build.tensor("one", [1, 1], b"\0\0\x80?")],
        "Expand: a size depends on the values of the graph's input (inputs of the shapes "
        "[1, 1], [2])",
    ),
    "LayerNormalization without its last input": (
        [build.node("LayerNormalization", "z z", "lv", more=build.field(1, ""), axis=0)], [],
        "LayerNormalization: the last input has no name",
    ),
}  # fmt: skip


def changed_rows(op: bytes, tensors: list[bytes]) -> Callable[[bytes], bytes]:
    """Replace the output by a node's, whose number of rows is wrong."""
    return lambda raw: with_nodes(raw, [build.node("Identity", "z", "lv")], tensors, op)


def bundle_with(change: Callable[[bytes], bytes]) -> Files:
    files = read_files(DATA / "vae_mlp.zip")
    raw = change(files["decoder.onnx"][:-85])
    whole = message(raw, (0, len(raw), BYTES), _MODEL, "")
    message(raw, whole[7][0], _GRAPH, "")  # the surgery was clean
    return with_checksums(files | {"decoder.onnx": raw})


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_does_harm_is_refused(name: str, tmp_path: Path) -> None:
    nodes, tensors, reason = GRAPHS[name]
    path = tmp_path / "b.zip"
    path.write_bytes(pack(bundle_with(lambda raw: with_nodes(raw, nodes, tensors))))
    expected = f"error: {path}/decoder.onnx: refused: {reason}. Expected what vae-export writes.\n"
    output = tmp_path / "o.npy"
    assert vae_run("sample", "-b", path, "-n", "3", "--seed", "1", "-o", output) == (
        3,
        "",
        expected,
    )
    assert vae_run("verify", "-b", path) == (3, "", expected)
    assert not output.exists()


def test_an_addition_that_does_no_harm_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    harmless = build.node("Div", "z a", "lv")
    path.write_bytes(
        pack(bundle_with(lambda raw: with_nodes(raw, [harmless], [build.reals("a", 2)])))
    )
    assert vae_run("verify", "-b", path)[0] == 0


@pytest.mark.parametrize(
    ("node", "tensors", "shape"),
    [
        (build.node("Slice", "imagf s e s", "image"), [build.integers("s", 0),
         build.integers("e", 1)], "[1, 1, 8, 8] for a batch of 256, expected [256, 1, 8, 8]"),
        (build.node("Concat", "imagf imagf", "image", axis=0), [],
         "[2, 1, 8, 8] for a batch of 1, expected [1, 1, 8, 8]"),
    ],
    ids=["one for all", "two for each"],
)  # fmt: skip
def test_another_number_of_rows_is_refused(
    node: bytes, tensors: list[bytes], shape: str, tmp_path: Path
) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(pack(bundle_with(changed_rows(node, tensors))))
    code, _, error = vae_run(
        "sample", "-b", path, "-n", "3", "--seed", "1", "-o", tmp_path / "o.npy"
    )
    assert code == 3
    assert error == (
        f"error: {path}/decoder.onnx: refused: the output 'image' has the shape {shape}. "
        "Expected what vae-export writes.\n"
    )


def edited(
    change: Callable[[dict[str, Any]], Any] | None, text: tuple[str, str] = ("", "")
) -> Files:
    files = read_files(DATA / "cvae_mlp.zip")
    data = json.loads(files[NAME])
    data.pop("sha256")
    if change:
        change(data)
    raw = json.dumps(data, indent=1).encode().replace(*map(str.encode, text))
    return files | {NAME: manifest_with_checksum(raw)}


NOT_JSON = "not valid JSON. "
LIES: dict[str, tuple[Files, str]] = {
    "a sigma of 400 digits": (
        edited(None, ('"latent_dim"', f'"sigma": {"9" * 400}, "latent_dim"')),
        f"{NOT_JSON}An integer of 400 digits is outside the range of float64.",
    ),
    "a sigma of 5,000 digits": (
        edited(None, ('"latent_dim"', f'"sigma": {"9" * 5000}, "latent_dim"')),
        f"{NOT_JSON}An integer of 5000 digits is outside the range of float64.",
    ),
    "metrics that are a list": (
        edited(lambda m: m["training"].update(metrics=[1, 2])),
        "training: 'metrics' is list, expected dict",
    ),
    "half a surrogate pair": (
        edited(lambda m: m.update(classes=["\ud800", *m["classes"][1:]])),
        f"{NOT_JSON}A string holds half a surrogate pair.",
    ),
    "900 levels": (
        edited(None, ('"training": {', '"training": {"deep": ' + "[" * 900 + "]" * 900 + ",")),
        f"{NOT_JSON}It is nested more than 64 deep.",
    ),
    "100,000 levels": (
        edited(None, ('"training": {', '"training": {"deep": ' + "[" * 10**5 + "]" * 10**5 + ",")),
        f"{NOT_JSON}It is nested more than 64 deep.",
    ),
    "a family twice": (
        edited(None, ('"family"', '"family": "ae", "family"')),
        f"{NOT_JSON}The key 'family' occurs twice in one object.",
    ),
    "NaN": (
        edited(None, ('"latent_dim"', '"sigma": NaN, "latent_dim"')),
        f"{NOT_JSON}NaN is not a number in JSON.",
    ),
    "bytes of a whole disk": (
        edited(lambda m: m["graphs"][0].update(bytes=99_999_999_999_999)),
        "file 'encoder.onnx': expected a plain name, size and sha256",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_manifest_that_lies_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    files, reason = LIES[name]
    path = tmp_path / "b.zip"
    path.write_bytes(pack(files))
    for command in (("info", path), ("sample", "-b", path, "-o", tmp_path / "o.npy")):
        assert vae_run(*command) == (3, "", f"error: {path}/{NAME}: {reason}\n"), command
    with pytest.raises(InputError):
        open_bundle(path)


def test_json_output_moves_no_cursor(tmp_path: Path) -> None:
    classes = ["\x9b31m", "\u202eabc", "\x7f", *"3456789"]
    path = tmp_path / "b.zip"
    path.write_bytes(pack(edited(lambda m: m.update(classes=classes))))
    code, output, error = vae_run("info", path, "--json")
    assert (code, error) == (0, "")
    assert json.loads(output)["classes"] == classes, "escaped, not lost"
    assert not {"\x9b", "\u202e", "\x7f"} & set(output)


# Files


@pytest.mark.skipif(sys.platform != "linux", reason="sparse files, /proc")
@pytest.mark.parametrize(
    ("first", "last", "error", "message"),
    [
        (b"\0\0\0\0", b"", InputError, "not a zip and not a folder, so not a bundle"),
        (b"PK\3\4", b"\0" * 93, IntegrityError, "truncated or damaged. Copy the file again."),
    ],
)
def test_a_huge_file_is_refused_by_its_first_and_last_bytes(
    first: bytes, last: bytes, error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "huge.zip"
    with path.open("wb") as file:
        file.write(first)
        file.seek((7 << 30) - len(last))
        file.write(last or b"\0")
    code = (
        "from pathlib import Path\n"
        "from vae_runtime.bundle.archive import open_zip\n"
        "try: open_zip(Path('huge.zip'))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "peak = Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"
        "print(int(peak) >> 10)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=20,
        check=True,
    )  # fmt: skip
    answer, megabytes = done.stdout.splitlines()
    assert answer == f"{error.__name__} huge.zip: {message}"
    assert int(megabytes) < 200
    path.unlink()


def test_the_ends_of_a_good_zip_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    packed = (DATA / "vae_mlp.zip").read_bytes()
    for raw in (packed, packed[:-73] + b"\0\0"):  # with and without its checksum
        path.write_bytes(raw)
        assert NAME in open_zip(path)[1]


@pytest.mark.skipif(os.name != "posix", reason="devices, pipes")
@pytest.mark.parametrize("kind", ["device", "pipe", "link to a device", "folder"])
def test_a_bundle_holds_plain_files_only(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    for name, raw in read_files(DATA / "vae_mlp.zip").items():
        (folder / name).write_bytes(raw)
    target = folder / "decoder.onnx"
    target.unlink()
    if kind == "device":
        try:
            os.mknod(target, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root makes devices")
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("/dev/zero")
    what = "a symbolic link" if kind.startswith("link") else "not a file"
    code, _, error = vae_run("sample", "-b", folder, "-o", tmp_path / "o.npy")
    assert (code, error) == (3, f"error: {target}: {what}; a bundle holds plain files only\n")


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="no /dev/zero")
@pytest.mark.parametrize("command", ["reconstruct", "encode"])
def test_a_device_is_no_input(command: str, tmp_path: Path) -> None:
    link = tmp_path / "x.png"
    link.symlink_to("/dev/zero")
    code, _, error = vae_run(command, link, "-o", tmp_path / "o.npy")
    assert (code, error) == (3, f"error: {link}: a single file, expected a folder of images.\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_folder_of_images_holds_files_only(kind: str, tmp_path: Path) -> None:
    bad = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(bad)
    else:
        bad.symlink_to("/dev/zero")
    code, _, error = vae_run("reconstruct", tmp_path, "-o", tmp_path / "o.npy")
    assert code == 6
    assert error.startswith(f"error: {tmp_path}: no images")
    assert error.count("\n") == 1


def test_what_an_existing_session_returns_is_checked(tmp_path: Path) -> None:
    import vae_runtime as vae
    from vae_runtime.inference.session import onnxruntime

    raw = bundle_with(changed_rows(build.node("Concat", "imagf imagf", "image", axis=0), []))
    ours = onnxruntime().InferenceSession(raw["decoder.onnx"], providers=["CPUExecutionProvider"])
    decoder = vae.Decoder(ours)
    with pytest.raises(InputError) as caught:
        decoder(np.zeros((3, decoder.spec.latent_dim), np.float32))
    assert str(caught.value) == (
        "graph: returned image float32[6, 1, 8, 8], expected [3, 1, 8, 8]. Check the bundle with "
        "vae-run verify."
    )
