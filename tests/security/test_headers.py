"""Wrong headers of IDX, gzip, npy, npz and csv files: read exactly or refused."""

from __future__ import annotations

import gzip
import io
import resource
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vae_runtime.cli.inputs import read_latents
from vae_runtime.datasets.idx import read_idx
from vae_runtime.errors import InputError, LimitError
from vae_runtime.files.npz import read_npy, read_npz

pytestmark = pytest.mark.torch_free

TALLY: Counter[str] = Counter()
SIZES = st.lists(st.one_of(st.integers(0, 6), st.sampled_from([255, 2**16, 2**31, 2**32 - 1])),
                 min_size=1, max_size=4)  # fmt: skip
CHANGES = st.sampled_from([0, 0, 0, 1, -1, 7, -100])  # bytes more or fewer than the header states


def payload(size: int, change: int) -> bytes:
    """Return as many bytes as the header states, plus the difference; for gigabytes only a few."""
    return bytes(max(0, (size if size < 10_000 else 16) + change))


def outcome(
    kind: str, fits: bool, read: Callable[[], NDArray[Any]], shape: tuple[int, ...]
) -> None:
    """Check that a file is read with the shape of its header, or refused if that does not fit."""
    try:
        found: Any = read()
    except (InputError, LimitError) as error:
        TALLY[f"{kind} refused"] += 1
        if fits:
            raise AssertionError(f"refused: {error}") from error
    else:
        assert fits
        assert found.shape == shape
        TALLY[f"{kind} read"] += 1


def any_idx(path: Path, zipped: bool, shape: Any, change: int, kind: int) -> None:
    raw = bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    data = payload(prod(shape), change)
    path.write_bytes(gzip.compress(raw + data, 1) if zipped else raw + data)
    possible = prod(max(n, 1) for n in shape) < 2**63
    fits = kind == 8 and possible and prod(shape) == len(data)
    outcome("gz" if zipped else "idx", fits, lambda: read_idx(path), tuple(shape))


def npy(descr: str, shape: Any, fortran: bool, data: bytes, version: int) -> bytes:
    header = repr({"descr": descr, "fortran_order": fortran, "shape": tuple(shape)}).encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + data


NUMBERS = ("<f4", "|u1", ">f4", "<i8", "<f8", "|b1", "<f2")
OTHERS = ("|O", "<U2", "<c8", "<M8[s]", "|V4", "f4,f4", "<f3", "")
TYPES = st.sampled_from([*NUMBERS, *OTHERS])
SIGNED = st.lists(st.one_of(st.integers(-2, 6), st.sampled_from([2**31, 2**62, 2**64, 10**30])),
                  min_size=0, max_size=5)  # fmt: skip


def array_case(descr: str, shape: list[int], change: int) -> tuple[bytes, bool]:
    item = int(descr[2:]) if descr in NUMBERS else 1
    data = payload(abs(prod(shape)) * item, change)
    whole = descr in NUMBERS and all(n >= 0 for n in shape)
    possible = prod(max(n, 1) for n in shape) * item < 2**63
    return data, bool(whole and possible and prod(shape) * item == len(data))


def any_npy(descr: str, shape: Any, change: int, fortran: bool, version: int) -> None:
    data, fits = array_case(descr, shape, change)
    raw = npy(descr, shape, fortran, data, version)
    read: Callable[[], NDArray[Any]] = lambda: read_npy(raw, "x.npy")  # noqa: E731
    outcome("npy", fits and version < 3, read, tuple(shape))


def any_npz(descr: str, shape: Any, change: int, method: int, lie: int) -> None:
    data, fits = array_case(descr, shape, change)
    raw = npy(descr, shape, False, data, 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.npy", raw)
    whole = bytearray(buffer.getvalue())
    at = whole.index(b"PK\x01\x02") + 24  # the uncompressed size in the directory
    whole[at : at + 4] = struct.pack("<I", max(0, len(raw) + lie))
    fits = fits and method in (0, 8) and not lie
    outcome("npz", fits, lambda: read_npz(bytes(whole), "x.npz")["a"], tuple(shape))


LIES = [0, 0, 0, 1, -1, 2**20, 2**31]  # the error of the size in the directory
CELLS = st.sampled_from(
    [*["0.5", "-1", "1e3", " 2"] * 8, "nan", "inf", "1e39", "", "x", "0x1", "\0"]
)


def any_csv(path: Path, rows: list[list[str]], dim: int) -> None:
    path.write_text("\n".join(",".join(row) for row in rows))
    kept = [row for row in rows if ",".join(row).strip()]
    good = {"0.5", "-1", "1e3", " 2"}
    fits = bool(kept) and all(len(row) == dim and good.issuperset(row) for row in kept)
    outcome("csv", fits, lambda: read_latents(str(path), (dim,))[0], (len(kept), dim))


def test_a_member_smaller_than_its_stated_size_is_refused() -> None:
    any_npz("<f4", [], 0, zipfile.ZIP_STORED, 1)


def test_a_member_larger_than_its_stated_size_is_not_decompressed() -> None:
    """The directory states 200 bytes, but the member contains a gigabyte of zeros."""
    from tests.security.pictures import zeros

    raw = npy("|u1", [72], False, bytes(72), 1)
    bomb = zeros(1 << 30)[2:-4]
    name = b"a.npy"
    head = struct.pack("<HHHHHIII", 20, 0, 8, 0, 33, 0, len(bomb), len(raw))
    local = b"PK\3\4" + head + struct.pack("<HH", len(name), 0) + name + bomb
    entry = (
        b"PK\1\2"
        + struct.pack("<H", 20)
        + head
        + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0)
    )
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)
    with pytest.raises(InputError, match=r"^x\.npz: not a readable \.npz"):
        read_npz(local + entry + end, "x.npz")


def hunt(count: int, tmp_path: Path) -> Counter[str]:
    few = settings(max_examples=count // 5, deadline=None, database=None, derandomize=True,
                   suppress_health_check=list(HealthCheck))  # fmt: skip
    array = {"descr": TYPES, "shape": SIGNED, "change": CHANGES}
    idx = {"shape": SIZES, "change": CHANGES, "kind": st.sampled_from([8] * 9 + [0, 9, 13, 255])}
    more = {"fortran": st.booleans(), "version": st.integers(1, 3)}
    zipped = {"method": st.sampled_from([0, 8, 12, 14]), "lie": st.sampled_from(LIES)}
    rows = st.lists(st.lists(CELLS, min_size=1, max_size=2), min_size=1, max_size=3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    TALLY.clear()
    few(given(**idx)(any_idx))(tmp_path / "idx", False)
    few(given(**idx)(any_idx))(tmp_path / "idx", True)
    few(given(**array, **more)(any_npy))()
    few(given(**array, **zipped)(any_npz))()
    few(given(rows=rows, dim=st.integers(1, 2))(any_csv))(tmp_path / "latents.csv")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    print(f"\n{sum(TALLY.values())} headers: {dict(TALLY)}, memory grew by {grown} MB")
    assert grown < 200
    return TALLY


def test_headers_are_read_or_refused(tmp_path: Path) -> None:
    assert len(hunt(300, tmp_path)) == 10, "each kind is read and refused"


@pytest.mark.slow
def test_two_thousand_headers_are_read_or_refused(tmp_path: Path) -> None:
    assert sum(hunt(2000, tmp_path).values()) >= 2000
