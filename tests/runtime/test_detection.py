"""What is normal, scores and decisions, heat maps, and `vae-run detect`."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

import vae_runtime as vae
from vae_runtime.cli import cli
from vae_runtime.detection import Normality, detect, fit_normality
from vae_runtime.detection.normality import LEVELS, MAX_DIRECTIONS, Encoded, _whiten, smooth
from vae_runtime.detection.quality import measure_maps, measure_quality, read_masks
from vae_runtime.errors import InputError, MissingExtra, UsageError
from vae_runtime.metrics import Codec

pytestmark = pytest.mark.torch_free
BUNDLE = Path(__file__).parents[1] / "data" / "vae_mlp.zip"  # of 8×8 images
RNG = np.random.default_rng(0)
needs_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed"
)


def blurred(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return smooth(images[:, 0], 1.0)[:, None]


# Stands in for a model: the latents are the pixels, and what it reconstructs is smooth.
CODEC = Codec(
    lambda images, _: (images.reshape(len(images), -1), None),
    lambda z, _: blurred(z.reshape(-1, 1, 16, 16)),
    "bernoulli",
)


def normal_images(n: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16] / 16
    waves = [np.sin(3 * x + a) * np.cos(2 * y + b) for a, b in rng.uniform(0, 6, (n, 2))]
    noise = rng.normal(0, 0.02, (n, 16, 16))
    return (0.5 + 0.4 * np.stack(waves) + noise).clip(0, 1)[:, None].astype(np.float32)


def spotted(n: int, seed: int = 1) -> NDArray[np.float32]:
    images = normal_images(n, seed)
    images[:, :, 6:9, 9:12] = 1 - images[:, :, 6:9, 9:12]
    return images


@pytest.fixture(scope="module")
def normality() -> Normality:
    return fit_normality(normal_images(300), normal_images(199, 5), CODEC)


def test_the_expected_error_is_the_mean_of_each_level() -> None:
    images = normal_images(50)
    found = fit_normality(images, normal_images(40, 2), CODEC)
    again = blurred(images)
    level = np.minimum((again * LEVELS).astype(int), LEVELS - 1)
    k = 7
    expected = np.square(again - images, dtype=float)[level == k].mean()
    assert found.expected[k] == pytest.approx(expected)


def test_defects_score_higher_and_the_map_shows_where(normality: Normality) -> None:
    normal = detect(normal_images(100, 7), CODEC, normality, 0.05)
    found = detect(spotted(100), CODEC, normality, 0.05)
    assert np.quantile(found.scores, 0.05) > np.quantile(normal.scores, 0.95)
    assert found.anomalous.mean() > 0.9
    peaks = found.maps.reshape(100, -1).argmax(axis=1)
    y, x = peaks // 16, peaks % 16
    assert np.mean((y >= 5) & (y < 10) & (x >= 8) & (x < 13)) > 0.95


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_the_rate_of_false_alarms_is_the_one_asked_for(normality: Normality, rate: float) -> None:
    """Over many draws of the held-out images, as the guarantee says."""
    alarms = []
    for seed in range(60):
        known = normality.recalibrated(normal_images(199, 100 + seed), CODEC)
        fresh = detect(normal_images(300, 1000 + seed), CODEC, known, rate)
        alarms.append(fresh.anomalous.mean())
    # Between two draws, the rate varies by sqrt(rate / 199); the mean over 60 by an eighth of it.
    assert np.mean(alarms) == pytest.approx(rate, abs=3 * np.sqrt(rate / 199 / 60) + 0.002)


def test_the_threshold_is_the_score_of_the_right_rank(normality: Normality) -> None:
    scores = normality.scores
    assert len(scores) == normality.held_out == 199
    assert normality.threshold(0.05) == scores[int(np.ceil(200 * 0.95)) - 1]
    assert normality.threshold(1 / 200) == scores[-1]
    with pytest.raises(UsageError, match="only 199 held-out normal images"):
        normality.threshold(0.004)
    for wrong in (0, 1, -1):
        with pytest.raises(UsageError, match="expected between 0 and 1"):
            normality.threshold(wrong)


def test_another_number_of_latents_is_refused(normality: Normality) -> None:
    assert len(Normality.from_bytes(normality.to_bytes(), "n", 256).center) == 256
    with pytest.raises(InputError, match=r"^n: an array has the wrong dtype, shape or values"):
        Normality.from_bytes(normality.to_bytes(), "n", 16)


def test_whitened_latents_have_the_covariance_1() -> None:
    rng = np.random.default_rng(0)
    mixing = np.linalg.qr(rng.normal(size=(4, 4)))[0] * [1, 2, 3, 4]
    for n, low in ((3000, 0.97), (30, 0.4)):  # few latents underestimate the smallest variances
        latents = rng.normal(size=(n, 4)) @ mixing.T + 5
        center, whitening = _whiten(latents)
        white = (latents - center) @ whitening
        assert white.mean(axis=0) == pytest.approx([0] * 4, abs=1e-9)
        covariance = np.cov(white.T, bias=True)
        variances = np.diag(covariance)
        assert covariance - np.diag(variances) == pytest.approx(np.zeros((4, 4)), abs=1e-9)
        assert low < variances.min() <= variances.max() < 1.15
    center, whitening = _whiten(rng.normal(size=(50, 500)))
    assert whitening.shape == (500, MAX_DIRECTIONS)


def test_latents_that_no_normal_image_has_are_anomalous(normality: Normality) -> None:
    """Smooth images are reconstructed well, but not all of them are like the normal ones."""
    dark = np.full((5, 1, 16, 16), 0.02, np.float32)
    assert detect(dark, CODEC, normality, 0.05).anomalous.all()


def test_rarity_is_the_fraction_of_lower_scores(normality: Normality) -> None:
    scores = normality.scores
    np.testing.assert_array_equal(normality.rarity(np.array([-99.0, scores[50], 99.0])),
                                  [0, 50 / 199, 1])  # fmt: skip


def test_it_survives_the_file_and_refuses_others(normality: Normality) -> None:
    again = Normality.from_bytes(normality.to_bytes(), "n")
    images = spotted(5)
    one = Encoded(images, images.reshape(5, -1), blurred(images))
    np.testing.assert_array_equal(again.score(one), normality.score(one))
    assert normality.to_bytes() == again.to_bytes()
    with pytest.raises(InputError, match=r"^n: "):
        Normality.from_bytes(b"PK", "n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expected", np.full(LEVELS, -1.0)), ("expected", np.zeros(3)),
        ("expected", np.full(LEVELS, np.inf)), ("expected", np.zeros(LEVELS, np.float32)),
        ("parts", np.zeros((3, 2))), ("parts", np.full((3, 2), np.nan)), ("parts", np.ones((2, 2))),
        ("center", np.zeros((256, 1))), ("center", np.zeros(255)), ("center", np.full(256, np.inf)),
        ("whitening", np.zeros(256)), ("whitening", np.zeros((256, 33))),
        ("whitening", np.zeros((255, 3))),
        ("scores", np.zeros((2, 2))),
        ("scores", np.array([2.0, 1.0])), ("scores", np.zeros(0)),
        ("scores", np.zeros(300)), ("held_out", np.array([1, 2])),
    ],
)  # fmt: skip
def test_wrong_values_are_refused(normality: Normality, name: str, value: Any) -> None:
    names = ("center", "whitening", "expected", "parts", "scores", "held_out")
    arrays = {n: getattr(normality, n) for n in names}
    with pytest.raises(InputError, match=r"^n: "):
        Normality.from_bytes(npz(arrays | {name: value}), "n")
    assert Normality.from_bytes(npz(arrays), "n").held_out == 199


def npz(arrays: dict[str, Any]) -> bytes:
    import io

    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_smoothing_keeps_the_mean_of_a_constant_and_spreads_a_point() -> None:
    assert smooth(np.ones((1, 9, 7), np.float32), 2.0) == pytest.approx(np.ones((1, 9, 7)))
    point = np.zeros((1, 21, 21), np.float32)
    point[0, 10, 10] = 1
    spread = smooth(point, 1.5)[0]
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    y = np.arange(21) - 10
    assert (spread.sum(axis=1) * y**2).sum() == pytest.approx(1.5**2, rel=0.03)


def test_a_model_learns_what_is_normal() -> None:
    images = RNG.random((60, 8, 8), np.float32)
    with vae.load(BUNDLE, device="cpu") as model:
        with pytest.raises(InputError, match="does not say what is normal"):
            model.detect(images)
        with pytest.raises(InputError, match="39 normal images, expected 40 or more: every"):
            model.learn_normality(images[:39])
        assert model.learn_normality(images[:40]).held_out == 20
        known = model.learn_normality(images)
        other = replace(known, center=known.center[:-1])
        with pytest.raises(InputError, match=r"^normality: of \d+ latent dimensions, this model"):
            model.detect(images, normality=other)
        found = model.detect(images, normality=known)
        assert known.held_out == 30
        assert found.false_alarms == pytest.approx(1 / 31)
        assert found.maps.shape == (60, 8, 8)
        assert found.anomalous.sum() <= 4
    assert repr(known) == "<Normality of 30 held-out images>"
    assert repr(found).endswith(f"of 60 images above {found.threshold:.3g}>")


def parts(folder: Path) -> Path:
    """Write good and bad images of 8×8 pixels in the layout of MVTec, with masks."""
    rng = np.random.default_rng(3)
    kinds = {"train/good": 60, "test/good": 12, "test/hole": 6}
    for kind, n in kinds.items():
        (folder / kind).mkdir(parents=True)
        for i in range(n):
            image = rng.integers(90, 110, (8, 8)).astype(np.uint8)
            if kind == "test/hole":
                image[2:5, 3:6] = 255
                mask = np.zeros((8, 8), np.uint8)
                mask[2:5, 3:6] = 255
                (folder / "ground_truth/hole").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(folder / f"ground_truth/hole/{i}_mask.png")
            Image.fromarray(image).save(folder / kind / f"{i}.png")
    return folder


def run(*args: str | Path) -> Any:
    return CliRunner().invoke(cli, ["detect", *map(str, args), "-b", str(BUNDLE)])


def test_masks_are_found_beside_the_images(tmp_path: Path) -> None:
    folder = parts(tmp_path)
    files = [str(folder / "test/good/0.png"), str(folder / "test/hole/1.png")]
    masks = read_masks(files, np.array([False, True]), (4, 4))
    assert masks is not None
    assert not masks[0].any()
    assert masks[1].sum() == 4  # a pixel that the defect touches belongs to it
    assert read_masks([files[0]], np.array([True]), (8, 8)) is None


def test_the_command_decides_and_draws(tmp_path: Path) -> None:
    folder = parts(tmp_path / "parts")
    done = run(folder, "--normal", folder / "train/good", "--false-alarms", "10%",
               "--maps", tmp_path / "maps", "-o", tmp_path / "out.csv")  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == ["good"] * 12 + ["hole"] * 6
    assert all(row["anomalous"] == "1" for row in rows[12:])
    assert sum(row["anomalous"] == "1" for row in rows[:12]) <= 4
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    assert {row["map"] for row in rows} == names == {f"{k:03d}.png" for k in range(18)}
    assert max(rows, key=lambda row: float(row["score"]))["map"] == "000.png"
    with Image.open(min((tmp_path / "maps").iterdir())) as picture:
        assert (picture.size, picture.mode) == ((16, 8), "RGB")


@needs_sklearn
def test_the_command_measures_its_quality(tmp_path: Path) -> None:
    folder = parts(tmp_path)
    done = run(folder, "--normal", folder / "train/good", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    quality = found["quality"]
    assert (quality["normal"], quality["anomalous"]) == (12, 6)
    assert quality["auroc"] == quality["average_precision"] == 1
    assert quality["auroc_low"] <= quality["auroc"] <= quality["auroc_high"]
    assert quality["pixel_auroc"] > 0.9
    assert quality["aupro"] > 0.6
    confusion = quality["confusion"]
    assert confusion["true_alarms"] + confusion["missed"] == 6
    assert confusion["false_alarms"] + confusion["passed"] == 12


@needs_sklearn
@pytest.mark.parametrize("truth", [np.zeros(3, bool), np.ones(3, bool)])
def test_quality_needs_images_of_both_kinds(truth: NDArray[np.bool_]) -> None:
    with pytest.raises(InputError, match="of 3 images are anomalous, expected some of both kinds"):
        measure_quality(np.arange(3.0), truth, 1.0)


def test_quality_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    truth = np.array([False, True])
    with pytest.raises(MissingExtra, match=r"needs sklearn, not installed here\. Run: pip"):
        measure_quality(np.zeros(2), truth, 1.0)
    with pytest.raises(MissingExtra, match=r"needs sklearn, not installed here\. Run: pip"):
        measure_maps(np.zeros((2, 1, 1), np.float32), truth.reshape(2, 1, 1))


@needs_sklearn
@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="no matplotlib")
def test_the_curves_are_drawn(tmp_path: Path) -> None:
    folder = parts(tmp_path / "parts")
    done = run(folder, "--normal", folder / "train/good", "--curves", tmp_path / "c.png")
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.width > 1000
    bad = folder / "test/hole"
    done = run(bad, "--normal", folder / "train/good", "--curves", tmp_path / "d.png")
    message = str(done.exception) + done.output
    assert "do not say what is normal. Name it: --normal-class" in message


def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path) -> None:
    folder = parts(tmp_path)
    for args, words in (
        ((folder,), "does not say what is normal. Learn it from normal images"),
        ((folder, "--false-alarms", "200%"), "expected a fraction such as 1% or 0.01"),
        ((folder, "--false-alarms", "x"), "expected a fraction such as 1% or 0.01"),
        ((folder, "--normal", folder / "train/good", "--normal-class", "fine"),
         "the classes of INPUTS are good, hole"),
        ((folder, "--normal", folder / "train/good", "--false-alarms", "0.1%"),
         "only 30 held-out normal images are known"),
        # Its test split has 12 good images; the holes among them are not taken for normal.
        ((folder, "--normal", folder), "12 normal images, expected 40 or more"),
    ):  # fmt: skip
        done = run(*args)
        assert done.exit_code != 0
        message = str(done.exception) + done.output
        assert words in message, message
