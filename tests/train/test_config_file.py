"""Options in a file have the same meaning as on the command line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vae_runtime.errors import InputError, NotFound, UsageError
from vae_train import load_checkpoint
from vae_train.cli import cli
from vae_train.config_file import to_toml

FILE = """
family = "cvae"
data = "digits"
backbone = "mlp"
hidden = [16, 8]
latent-dim = 3
objective = "mse"
beta = 2
epochs = 1
learning_rate = 1e-3   # underscores are accepted too
noise = 0.25
prior = "normal"
precision = "float32"
quiet = true
"""
FLAGS = (
    *("cvae", "--data", "digits", "--backbone", "mlp", "--hidden", "16,8", "--latent-dim", "3"),
    *("--objective", "mse", "--beta", "2", "--epochs", "1", "--learning-rate", "1e-3"),
    *("--noise", "0.25", "--prior", "normal", "--precision", "float32", "--quiet"),
)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def refused(text: str, tmp_path: Path) -> BaseException:
    path = tmp_path / "run.toml"
    path.write_text(text)
    done = invoke("--config", path, "--out", tmp_path / "model.pt")
    assert done.exit_code
    assert done.exception is not None
    assert not (tmp_path / "model.pt").exists()
    return done.exception


def test_a_config_file_equals_options_and_equals_the_config_that_a_run_writes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(FILE)
    outs = [tmp_path / f"{name}.pt" for name in "abc"]
    written = [out.with_suffix(".run") / "config.toml" for out in outs]
    for out, arguments in zip(
        outs, [("--config", path), FLAGS, ("--config", written[0], "--quiet")], strict=True
    ):
        done = invoke(*arguments, "--out", out)
        assert done.exit_code == 0, done.output
    a, b, c = (load_checkpoint(out) for out in outs)
    assert a.model == b.model == c.model
    assert a.train == b.train == c.train
    assert a.metadata["metrics"] == b.metadata["metrics"] == c.metadata["metrics"]
    assert (a.train.noise, a.train.learning_rate, a.model.hidden) == (0.25, 1e-3, (16, 8))
    texts = {each.read_text() for each in written}
    assert len(texts) == 1
    values = tomllib.loads(texts.pop())
    assert (values["family"], values["batch-size"], values["prior"]) == ("cvae", 32, "normal")
    assert not {"out", "quiet", "device"} & values.keys()  # they do not affect the result


def test_command_line_options_override_the_file(tmp_path: Path) -> None:
    path, out = tmp_path / "run.toml", tmp_path / "model.pt"
    path.write_text(FILE)
    done = invoke("ae", "--config", path, "--beta", "3", "--out", out)
    assert isinstance(done.exception, UsageError)  # the command line also overrides the family
    assert "--beta is for vae and cvae only" in str(done.exception)
    assert invoke("vae", "--config", path, "--latent-dim", "2", "--out", out).exit_code == 0
    checkpoint = load_checkpoint(out)
    assert (checkpoint.model.family, checkpoint.model.latent_dim) == ("vae", 2)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("latentdim = 3", "unknown key 'latentdim'. Did you mean latent-dim?"),
        ("zzz = 3", "unknown key 'zzz', expected one of backbone, batch-size"),
        ("resume = true", "unknown key 'resume'"),
        ("config = 'x.toml'", "unknown key 'config'"),
        ("binarise = 1", "binarise is 1, expected true or false"),
        ("beta = true", "beta is True, expected a value"),
        ("beta = {a = 1}", "beta is {'a': 1}, expected a number, a string or a list"),
        ("hidden = [1.5]", "hidden is [1.5], expected a number, a string or a list"),
    ],
)
def test_errors_name_the_wrong_key_or_value(line: str, named: str, tmp_path: Path) -> None:
    error = refused(line, tmp_path)
    assert isinstance(error, UsageError)
    assert named in str(error)
    assert "run.toml" in str(error)


@pytest.mark.parametrize("line", ["epochs = 1.5", "epochs = 0", "objective = 'l1'", "beta = 'x'"])
def test_values_are_checked_like_command_line_options(line: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f"family = 'vae'\ndata = 'digits'\n{line}")
    done = invoke("--config", path, "--out", tmp_path / "model.pt")
    assert done.exit_code == 2
    assert f"'--{line.split()[0]}'" in done.stderr


def test_invalid_toml_is_an_input_error(tmp_path: Path) -> None:
    assert isinstance(refused("beta 2", tmp_path), InputError)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    done = invoke("--config", tmp_path / "none.toml", "--out", tmp_path / "model.pt")
    assert isinstance(done.exception, NotFound)


VALUES: dict[str, Any] = {
    "text": 'a "quoted" \\ path\n\t\x7f\x01é☃😀',
    "tiny": 1e-08,
    "whole": 3,
    "large": 2**62,
    "off": False,
    "widths": [64, 32],
}


def test_written_values_are_read_back(tmp_path: Path) -> None:
    assert tomllib.loads(to_toml(VALUES)) == VALUES
    assert to_toml(VALUES) == to_toml(dict(VALUES))
    assert to_toml({"latent_dim": (1, 2), "none": None}) == "latent-dim = [1, 2]\n"
