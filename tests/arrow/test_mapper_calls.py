"""`Mapper` in other processes, with row numbers in any order, and called wrongly."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae
from vae_runtime.errors import InputError, IntegrityError, NotFound, UsageError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

from vae_runtime.arrow import Mapper  # noqa: E402
from vae_runtime.dependencies import install_command  # noqa: E402

from .tables import fixed, matrix  # noqa: E402
from .test_mapper import GOOD, VERBS  # noqa: E402

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize("verb", ["score", "sample"])
def test_random_results_need_row_numbers(verb: str, vae_path: Path) -> None:
    images = fixed(np.stack([GOOD] * 3))
    mapper = Mapper(verb, vae_path)
    with pytest.raises(UsageError, match=r"no column 'row' in the table.* Its columns: image"):
        mapper(pa.table({"image": images}))
    with pytest.raises(InputError, match=r"row: column type string, expected integers"):
        mapper(pa.table({"image": images, "row": ["a", "b", "c"]}))
    done = mapper(pa.table({"image": images, "row": [4, None, -1]}))
    assert done["error"].to_pylist() == [None, "row: missing", "row: -1, expected 0 or more"]


def test_row_numbers_in_any_order_determine_the_images(
    cvae_path: Path, cvae: vae.Autoencoder
) -> None:
    index = np.array([5, 6, 7, 2, 9, 9, 0])
    done = Mapper("sample", cvae_path, label="3", seed=4)(pa.table({"row": index}))
    expected = cvae.sample(10, 3, seed=4, dtype="uint8")[index]
    assert np.array_equal(matrix(done, "image"), expected.reshape(7, 64))


def test_an_empty_table_is_accepted(cvae_path: Path, table: Any) -> None:
    empty = table.append_column("row", pa.array(np.arange(60))).slice(0, 0)
    for verb in VERBS:
        assert Mapper(verb, cvae_path)(empty).num_rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"verb": "draw"}, "verb is 'draw', expected one of: encode, reconstruct, score, sample"),
        ({"dtype": "int8"}, "dtype is 'int8', expected one of: uint8, float32, png"),
        ({"samples": 0}, "samples is 0, expected a whole number, 1 or more"),
        ({"seed": -1}, "seed is -1, expected a whole number from 0 to 2**64 - 1"),
        ({"prior": "best"}, "prior is 'best', expected 'fitted' or 'normal'"),
        ({"colour": 1}, "option 'colour', expected one of: image, label_column, label, row, dtype, "
                        "fixed, seed, samples, prior, temperature, truncation, variant, device"),
        ({"label": "ten"}, "label: unknown class 'ten', expected one of: 0, 1, 2, 3, 4, 5, 6, 7, "
                           "8, 9"),
        ({"label": 1, "label_column": "y"}, "label and label_column are both given, expected at "
                                            "most one of them"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_refused(options: dict[str, Any], message: str, cvae_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        Mapper(options.pop("verb", "encode"), cvae_path, **options)
    assert str(raised.value) == message


def test_missing_columns_and_wrong_types_are_refused(cvae_path: Path, vae_path: Path) -> None:
    images = fixed(np.stack([GOOD]))
    for rows, message in (
        ({"x": [1]}, "no column 'image' in the table, expected one. Its columns: x"),
        ({"image": [1.5]}, "image: column type double, expected numbers as lists or tensors"),
        ({"image": images, "label": [b"1"]}, "label: column type binary, expected integers or"),
    ):
        with pytest.raises((UsageError, InputError), match=message):
            Mapper("encode", cvae_path)(pa.table(rows))
    with pytest.raises(UsageError, match="no column 'y'"):
        Mapper("encode", cvae_path, label_column="y")(pa.table({"image": images}))
    for rows in ({"image": images, "y": [1]}, {"image": images}):
        with pytest.raises(UsageError, match=r"^this vae takes no label$"):
            Mapper("encode", vae_path, label_column="y")(pa.table(rows))
    # A model without classes ignores a column of that name.
    assert Mapper("encode", vae_path)(pa.table({"image": images, "label": ["?"]})).num_rows == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_pickled_mapper_is_small_and_runs_elsewhere(
    cvae_path: Path, table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cvae_path.parent)
    encode = Mapper("encode", cvae_path.name)
    expected = encode(table)
    packed = pickle.dumps(encode)
    assert len(packed) < 1000
    monkeypatch.chdir(tmp_path)  # a worker runs in another folder
    assert pickle.loads(packed)(table).equals(expected)
    for method in ("spawn", "fork"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            done = pool.map(encode, [table.slice(0, 25), table.slice(25)])
        assert pa.concat_tables(done).equals(expected), method
    assert Mapper("encode", "mnist").bundle == "mnist"
    # A file takes precedence over the embedded bundle of the same name.
    (tmp_path / "mnist").write_bytes(cvae_path.read_bytes())
    assert Mapper("encode", "mnist").bundle == str(tmp_path / "mnist")


def test_another_bundle_at_the_same_path_is_refused(
    cvae_path: Path, tmp_path: Path, table: Any
) -> None:
    place = tmp_path / "b.zip"
    place.write_bytes(cvae_path.read_bytes())
    encode = Mapper("encode", place)
    place.write_bytes((cvae_path.parent / "cvae_mlp.zip").read_bytes())
    with pytest.raises(IntegrityError) as raised:
        encode(table)
    assert str(raised.value).startswith(f"{place}: sha256 ")
    assert str(raised.value).endswith("Copy the same bundle to every worker.")
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    with pytest.raises(NotFound):
        Mapper("encode", tmp_path / "none.zip")


def test_a_mapper_works_without_torch(cvae_path: Path) -> None:
    code = (
        "import sys; from vae_runtime.arrow import Mapper; import pyarrow as pa\n"
        "done = Mapper('sample', sys.argv[1])(pa.table({'row': [0]}))\n"
        "assert done.num_rows == 1\n"
        "assert not {'torch', 'onnx', 'dask'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(cvae_path)], check=True)


def test_without_pyarrow_one_line_gives_the_install_command() -> None:
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'pyarrow' else real(name, *a)\n"
        "import vae_runtime.arrow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "vae_runtime.errors.MissingExtra: batch work needs pyarrow, not installed here. "
        f"Run: {install_command('cpu,arrow')}"
    )
