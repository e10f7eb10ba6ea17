"""Custom modules, from tracing to the runtime."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vae_runtime
from tests.export.conftest import run_cli
from vae_export import export
from vae_export.unpacking import unpack_image, unpack_latents
from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.errors import InputError, IntegrityError, NotFound, UsageError, VaeError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import custom_modules  # noqa: E402

sys.path.remove(str(HERE))


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits").take(slice(0, 400))


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "upsampler": (custom_modules.Upsampler, {}),
    "library": (custom_modules.Library, {"activation": "sigmoid"}),
    "pair": (custom_modules.pair, {"activation": "sigmoid", "prior": "gaussian"}),
    "distributions": (custom_modules.Distributions, {"activation": "tanh", "signed": True}),
    "conditional": (custom_modules.Conditional, {"classes": True}),
    "null row": (lambda: custom_modules.Conditional(11), {"classes": True, "prior": "normal"}),
    "one-hot": (
        custom_modules.OneHot,
        {"classes": True, "one_hot": True, "spread": "std", "prior": "normal"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_custom_module_becomes_a_bundle(name: str, digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, options = CASES[name]
    options = options | ({"classes": digits.classes} if "classes" in options else {})
    export(make(), tmp_path / "bundle", digits, **options)
    with vae_runtime.load(tmp_path / "bundle", device="cpu") as model:
        label = 3 if "classes" in options else None
        images = model.sample(5, label=label, seed=1)
        assert images.shape == (5, 1, 8, 8)
        assert images.min() >= 0
        assert images.max() <= 1
        assert model.reconstruct(digits.images[:7]).shape == (7, 1, 8, 8)
        assert np.isfinite(model.score(digits.images[:7]).negative_elbo).all()


def test_the_module_itself_is_not_changed(digits: Dataset) -> None:
    module = custom_modules.Upsampler()
    assert module.training
    before = {name: t.clone() for name, t in module.state_dict().items()}
    export(module, None, digits, prior="normal")
    assert module.training
    assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())
    assert all(p.requires_grad for p in module.parameters())


def test_the_data_may_be_a_name_or_a_path(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.save(tmp_path / "images.npy", images)
    for data in ("digits", str(tmp_path / "images.npy"), tmp_path / "images.npy"):
        exported = export(custom_modules.Upsampler(), None, data)
        assert exported.manifest.spec.image.shape[1:] == (8, 8)
    with pytest.raises(NotFound, match="no-such-folder"):
        export(custom_modules.Upsampler(), None, "no-such-folder/")


def test_an_unknown_option_is_refused_with_the_closest_one() -> None:
    with pytest.raises(UsageError, match=r"no such option\. Did you mean image_range"):
        export(custom_modules.Upsampler(), None, "digits", image_rang="signed")


def test_labels_reach_the_decoder(digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = custom_modules.Conditional()
    export(module, tmp_path / "bundle.zip", digits, classes=digits.classes, prior="normal")
    z = np.zeros((2, 3), np.float32)
    with vae_runtime.load(tmp_path / "bundle.zip", device="cpu") as model:
        found = model.decode(z, [3, 7])
        none = model.decode(z)
    expected = module.decode(torch.zeros(2, 3), torch.tensor([3, 7])).detach().numpy()
    assert np.abs(found - expected).max() < 1e-6
    row = module.table.weight.mean(0)
    mean = torch.sigmoid(module.outer(torch.cat([torch.zeros(3), row])))
    assert np.abs(none[0].ravel() - mean.detach().numpy()).max() < 1e-6


REFUSED: dict[str, tuple[Any, dict[str, Any], type[VaeError], str]] = {
    "random": (
        custom_modules.Sampling,
        {"activation": "sigmoid"},
        InputError,
        "encoder: aten.randn_like.default is random, called at custom_modules.py:LINE in encode: "
        "eps = torch.randn_like(mean). A graph must be deterministic. Return the mean or the "
        "distribution's parameters.",
    ),
    "range": (
        custom_modules.Library,
        {},
        UsageError,
        "decode: pixels range from LOW to HIGH, expected [0, 1]. Set image_range (--image-range) "
        "to signed for pixels in [-1, 1], or activation (--activation) to sigmoid for logits.",
    ),
    "neither": (
        lambda: torch.nn.Linear(2, 2),
        {},
        UsageError,
        "Linear: has neither methods encode and decode nor submodules encoder and decoder. Add "
        "them, or pass the pair (encoder, decoder).",
    ),
    "spread": (
        custom_modules.Library,
        {"spread": "sigma"},
        UsageError,
        "spread is 'sigma', expected one of log_var, var, std, log_std",
    ),
    "activation": (
        custom_modules.Library,
        {"activation": "relu"},
        UsageError,
        "activation is 'relu', expected one of none, sigmoid, tanh, clip",
    ),
    "classes": (
        custom_modules.Conditional,
        {"classes": ("a", "b")},
        UsageError,
        "digits: 10 classes, the module has 2",
    ),
    "null label": (
        lambda: custom_modules.Conditional(12),
        {"classes": tuple("0123456789")},
        UsageError,
        'the module has no embedding of 10 or 11 rows, so its index for "no label" is unknown. '
        "Set null_label (--null-label) or one_hot (--one-hot).",
    ),
    "class_gmm": (
        custom_modules.Library,
        {"activation": "sigmoid", "prior": "class_gmm"},
        UsageError,
        "prior class_gmm needs classes. Use gmm.",
    ),
    "opset": (
        custom_modules.Library,
        {"opset": 17},
        UsageError,
        "opset is 17, expected 18 to 23",
    ),
    "variant": (
        custom_modules.Library,
        {"variants": ("int4",)},
        UsageError,
        "variant is 'int4', expected one of fp16, int8, uint8",
    ),
}


def generic(text: str) -> str:
    text = re.sub(r"custom_modules\.py:\d+", "custom_modules.py:LINE", text)
    return re.sub(r"from -?[\d.]+ to -?[\d.]+", "from LOW to HIGH", text)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str, digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, options, kind, text = REFUSED[name]
    with pytest.raises(kind) as caught:
        export(make(), tmp_path / "bundle", digits, **options)
    assert generic(str(caught.value)) == text
    assert not (tmp_path / "bundle").exists()


def test_rows_that_depend_on_each_other_fail_the_parity_check(digits: Dataset) -> None:
    torch.manual_seed(0)
    with pytest.raises(IntegrityError, match=r"^encoder\.z: (error .* in a|the typical error is) "):
        export(custom_modules.BatchStatistics(), None, digits, activation="sigmoid")


def test_a_module_that_fixes_the_batch_is_refused(digits: Dataset) -> None:
    module = custom_modules.Library()
    module.encode = lambda x: x.reshape(2, 64)[:, :3]  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"^encode failed on .* \(at test_custom_module.py:"):
        export(module, None, digits, activation="sigmoid")


def test_unknown_return_values_are_refused() -> None:
    tensor = torch.zeros(1)
    with pytest.raises(UsageError) as caught:
        unpack_latents((tensor, tensor, tensor))
    assert str(caught.value) == (
        "encode: returned (Tensor, Tensor, Tensor), expected one tensor or (mu, log_var). Wrap the "
        "module so that encode returns only these."
    )
    with pytest.raises(UsageError) as caught:
        unpack_latents(7)
    assert str(caught.value) == (
        "encode: returned int, expected a tensor, (mu, log_var), a normal distribution, or an "
        "object with such fields. Wrap the module."
    )
    with pytest.raises(UsageError) as caught:
        unpack_latents(torch.distributions.Laplace(tensor, tensor + 1))
    assert str(caught.value) == (
        "encode: returned a Laplace distribution, expected Normal or an Independent of Normal."
    )
    with pytest.raises(UsageError) as caught:
        unpack_image(7)
    assert str(caught.value) == (
        "decode: returned int, expected a tensor, a tuple that starts with one, a distribution, or "
        "an object with such a field. Wrap the module."
    )


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(HERE)
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": custom_modules.upsampler().state_dict()}, path)
    return path


def test_the_command_line_takes_a_factory(weights: Path, tmp_path: Path) -> None:
    done = run_cli("--model", "custom_modules:upsampler", "--ckpt", weights, "--data", "digits",
                   "-o", tmp_path / "own", "--prior", "gaussian", "--zip")  # fmt: skip
    assert done.exception is None, done.exception
    with vae_runtime.load(tmp_path / "own.zip", device="cpu") as model:
        assert model.manifest.training["model"] == "upsampler"
        assert len(model.manifest.checkpoint_sha256) == 64


def refused(*arguments: object) -> str:
    """Return the error of the command line."""
    return str(run_cli("--data", "digits", *arguments).exception)


def test_the_command_line_refuses(weights: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "b")
    own = ("--model", "custom_modules:upsampler")
    assert refused(*out) == "--ckpt is missing. Name the checkpoint from vae-train to export."
    assert refused(*own) == "--out is missing. Name the folder or .zip for the bundle of --model."
    assert refused("--model", "custom_modules", *out) == (
        "--model custom_modules: expected PACKAGE.MODULE:FACTORY"
    )
    assert refused("--model", "custom_modules:gone", *out) == (
        "--model custom_modules:gone: module 'custom_modules' has no attribute 'gone'"
    )
    assert refused("--model", "custom_modules:nothing", *out) == (
        "--model custom_modules:nothing: returned a SimpleNamespace, expected a torch module or a "
        "pair (encoder, decoder)."
    )
    assert str(run_cli(*own, *out).exception) == (
        "--data is missing. A custom module needs images to fit its prior to."
    )
    assert refused("--ckpt", weights, "--one-hot", "--prior", "normal") == (
        "--one-hot, --prior: no effect without --model."
    )
    assert refused(*own, *out, "--null-label", "3") == (
        "--null-label: no effect without --classes."
    )
    assert refused("--ckpt", tmp_path) == (
        f"{tmp_path}: is a folder, expected a checkpoint from vae-train such as cvae.pt."
    )
    plain = tmp_path / "plain"
    plain.write_bytes(b"x")
    assert refused("--ckpt", plain) == (
        f"{plain}: the bundle would replace the checkpoint. Use --out."
    )
    missing = tmp_path / "none.pt"
    assert refused(*own, *out, "--ckpt", missing) == f"{missing}: no such file"


class Evil:
    def __reduce__(self) -> Any:
        return print, ("never printed",)


def test_loading_weights_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(HERE)
    path = tmp_path / "evil.pt"
    torch.save(Evil(), path)
    own = ("--model", "custom_modules:upsampler", "-o", tmp_path / "b", "--ckpt", path)
    assert refused(*own) == (
        f"{path}: holds objects other than tensors, which are not loaded. Save model.state_dict()."
    )
    torch.save([1, 2], path)
    assert refused(*own) == f"{path}: holds no tensors by name. Save model.state_dict()."
    torch.save({"a": torch.zeros(1)}, path)
    assert refused(*own).startswith(f"{path}: does not fit the module: 21 missing: body.0.bias, ")
    assert "never printed" not in capsys.readouterr().out


def test_errors_in_user_code_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mistakes.py").write_text(
        "def raises(): raise RuntimeError('no weights')\ndef needs(x): pass\nnumber = 3\n"
    )
    (tmp_path / "syntax.py").write_text("def:\n")
    np.savez("big.npz", images=np.zeros((4, 9, 9), np.uint8))
    for name, words in (
        ("mistakes:raises", "RuntimeError: no weights"),
        ("mistakes:needs", "TypeError: needs() missing 1 required positional argument: 'x'"),
        ("mistakes:number", "TypeError: 'int' object is not callable"),
        ("syntax:x", "SyntaxError: "),
    ):
        found = run_cli("--model", name, "--data", "big.npz", "-o", "b").exception
        assert isinstance(found, UsageError)
        assert str(found).startswith(f"--model {name}: {words}")
    monkeypatch.syspath_prepend(HERE)
    found = run_cli("--model", "custom_modules:upsampler", "--data", "big.npz", "-o", "b").exception
    assert isinstance(found, UsageError)
    assert str(found).startswith("encode failed on images of (1, 9, 9): ")
    assert str(found).endswith("Was the module trained on such images?")


def test_a_size_without_data_is_refused() -> None:
    assert str(run_cli("--ckpt", "none.pt", "--size", "5x5").exception) == (
        "--size: no effect without --data."
    )


def test_the_likelihood_follows_the_images(digits: Dataset, tmp_path: Path) -> None:
    said: list[str] = []
    torch.manual_seed(0)
    module = custom_modules.Upsampler()
    exported = export(module, tmp_path / "shades", digits, log=said.append)
    spec = exported.manifest.spec
    assert spec.likelihood == "gaussian"
    with vae_runtime.load(tmp_path / "shades", device="cpu") as model:
        errors = model.reconstruct(digits.images[:256]) - digits.images[:256] / 255
    assert spec.sigma == pytest.approx(np.sqrt(np.square(errors).mean()), rel=0.05)
    (line,) = [line for line in said if line.startswith("likelihood ")]
    assert re.match(r"likelihood gaussian, σ = 0\.\d+, since the pixels have shades .*--like", line)
    ink = Dataset("ink", np.where(digits.images > 99, 255, 0).astype(np.uint8))
    assert export(module, None, ink).manifest.spec.likelihood == "bernoulli"
    given = export(module, None, digits, likelihood="bernoulli").manifest.spec
    assert (given.likelihood, given.sigma) == ("bernoulli", None)
    assert re.fullmatch(r"<Exported \w+ of 8×8 L images.*: \d files, [\d,]+ bytes>", repr(exported))


def test_a_model_of_vae_train_is_sent_to_its_own_function(digits: Dataset) -> None:
    from vae_train import train

    checkpoint = train("ae", digits, epochs=1, backbone="mlp", hidden=(8,))
    for module in (checkpoint, checkpoint.build()):
        with pytest.raises(UsageError, match=r"of vae-train, .* Use vae_export\.export_checkpoint"):
            export(module, None, digits)
    assert repr(checkpoint) == "<Checkpoint ae of 1×8×8 images, prior gmm>"
