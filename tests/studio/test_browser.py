"""The studio in real browsers: what each panel does, and that nothing violates the policy."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from tests.studio.browser import BROWSERS, Browser, served
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.studio.build import PageContent, Points
from vae_runtime.studio.single_file import single_file

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent.parent / "data"
AXE = Path(__file__).parent / "node_modules" / "axe-core"
CVAE, VAE, AE = "cvae_mlp", "vae_mlp", "ae_conv"

# Catches the bytes of the next download as base64; evaluated before the click.
CATCH = """window.caught = new Promise((done) => {
  const make = URL.createObjectURL;
  URL.createObjectURL = (blob) => {
    URL.createObjectURL = make;
    const reader = new FileReader();
    reader.onload = () => done(reader.result.split(",")[1]);
    reader.readAsDataURL(blob);
    return make.call(URL, blob);
  };
}); null"""


@pytest.fixture(scope="module", params=BROWSERS)
def browser(request: pytest.FixtureRequest, studio_folder: Path) -> Iterator[Browser]:
    browser = Browser(request.param)
    yield browser
    browser.close()


def load(name: str) -> vae.Autoencoder:
    return vae.load(str(DATA / f"{name}.zip"))


def content_of(name: str) -> PageContent:
    """The content for a page of a small bundle; the CVAE gets a test set of 40 latents."""
    path = str(DATA / f"{name}.zip")
    if name != CVAE:
        return PageContent(open_bundle(path), path)
    labels = np.arange(40) % 10
    latents = vae.load(path).sample_latents(40, label=labels, seed=5)
    return PageContent(open_bundle(path), path, Points(latents, labels))


@pytest.fixture(scope="module")
def site(studio_folder: Path) -> Iterator[dict[str, str]]:
    """The address of each bundle's page."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(served(content_of(name))) for name in (CVAE, VAE, AE)}


@pytest.fixture
def page(browser: Browser, site: dict[str, str]) -> Iterator[Browser]:
    """A fresh page of the CVAE; no test may cause a console error or violate the policy."""
    browser.open(site[CVAE])
    yield browser
    assert browser.errors() == []


def expected(name: str, z: list[float], label: int | None) -> list[int]:
    """Decode the same latents with Python, as bytes."""
    latents = np.array(z, np.float32)
    image = load(name).decode(latents, label=label, dtype="uint8")
    return [int(v) for v in image.ravel()]


def off_by(a: list[int], b: list[int]) -> int:
    """The largest difference between two images of the same size, in grey levels."""
    assert len(a) == len(b)
    return int(np.abs(np.array(a) - np.array(b)).max())


def caught(page: Browser, selector: str) -> bytes:
    """Click a button that saves a file, and return the file."""
    page.eval(CATCH)
    page.click(selector)
    return base64.b64decode(page.eval("window.caught"))


def test_the_first_image_equals_pythons_and_the_badge_shows_parity(page: Browser) -> None:
    first = load(CVAE).sample_latents(1, label=3, seed=0)[0]
    np.testing.assert_array_equal(page.latents(), first)
    assert off_by(page.pixels(".stage canvas"), expected(CVAE, page.z(), 3)) <= 1
    assert float(page.eval("document.querySelector('#badge').dataset.error")) <= 1e-5
    assert page.text("#parity").startswith("✓")
    page.wait(r"/^[\d.]+ ms$/.test(document.querySelector('#speed').textContent)")


def test_pictures_are_there_before_the_engine(browser: Browser, site: dict[str, str]) -> None:
    """The first paint is that of the page's own pictures, and the live image replaces the first."""
    browser.open(site[CVAE])
    painted, live = browser.eval(
        "[performance.getEntriesByName('first-contentful-paint')[0].startTime,"
        " performance.getEntriesByName('live')[0].startTime]"
    )
    print(f"\nfirst paint {painted / 1000:.2f} s, live {live / 1000:.2f} s")
    assert painted < live
    assert not browser.eval("document.querySelector('.first')")


def test_a_slider_moves_its_dimension_and_resets_by_key_and_double_click(page: Browser) -> None:
    before, image = page.z(), page.pixels(".stage canvas")
    name = page.eval("document.querySelector('.slider input').id")
    dim = int(name[1:])
    page.step("focus", selector=f"#{name}")
    page.keys("ArrowRight", "ArrowRight", "ArrowRight")
    page.settle()
    after = page.z()
    assert after[dim] > before[dim]
    assert after[:dim] + after[dim + 1 :] == before[:dim] + before[dim + 1 :]
    assert page.pixels(".stage canvas") != image
    assert off_by(page.pixels(".stage canvas"), expected(CVAE, after, 3)) <= 1
    centre = np.float32(load(CVAE).spec.prior.spread()[0][dim])
    page.keys("Delete")
    assert np.float32(page.z()[dim]) == centre
    page.click(f"#{name}", at=[0.9, 0.5])
    assert np.float32(page.z()[dim]) > centre
    page.click(f"#{name}", at=[0.9, 0.5], count=2)
    assert np.float32(page.z()[dim]) == centre


def test_all_label_tiles_share_the_latents_and_a_key_chooses_a_label(page: Browser) -> None:
    z = page.z()
    for label in (0, 7):
        tile = f".tile:nth-child({label + 1}) canvas"
        assert off_by(page.pixels(tile), expected(CVAE, z, label)) <= 1
    assert off_by(page.pixels(".tile:last-child canvas"), expected(CVAE, z, None)) <= 1
    page.keys("7")
    page.settle()
    assert page.z() == z
    assert off_by(page.pixels(".stage canvas"), expected(CVAE, z, 7)) <= 1
    page.click(".tile:last-child")
    page.settle()
    assert off_by(page.pixels(".stage canvas"), expected(CVAE, z, None)) <= 1


def test_a_click_on_the_grid_sets_the_latents_of_that_tile(page: Browser) -> None:
    x, y = (int(page.eval(f"document.querySelector('#axis-{axis}').value")) for axis in "xy")
    before = page.z()
    page.click("#pad", at=[0.95, 0.05])  # the tile in the upper right corner
    page.settle()
    after = page.z()
    assert after[x] > before[x]
    assert after[y] != before[y]
    assert [v for i, v in enumerate(after) if i not in (x, y)] == [
        v for i, v in enumerate(before) if i not in (x, y)
    ]
    assert page.eval("document.querySelector('#pad canvas').width") == 10 * 8 + 9
    whole = np.array(page.pixels("#pad canvas")).reshape(89, 89)
    assert off_by(whole[:8, 81:].ravel().tolist(), page.pixels(".stage canvas")) <= 1
    page.step("focus", selector="#pad")
    page.keys("ArrowLeft", "ArrowDown")
    assert page.z()[x] < after[x]
    assert page.z()[y] < after[y]


def test_of_many_quick_moves_only_the_newest_is_decoded(page: Browser) -> None:
    painted = page.eval(
        """(async () => {
          const slider = document.querySelector("#sliders input");
          const put = CanvasRenderingContext2D.prototype.putImageData;
          let painted = 0;
          CanvasRenderingContext2D.prototype.putImageData = function (...given) {
            if (this.canvas.closest(".stage")) painted++;
            return put.apply(this, given);
          };
          for (let i = 0; i <= 500; i++) {
            slider.value = Number(slider.min) + (i / 500) * (slider.max - slider.min);
            slider.dispatchEvent(new Event("input"));
          }
          do await new Promise((done) => setTimeout(done, 200));
          while (document.querySelector("[aria-busy=true]"));
          return painted;
        })()"""
    )
    assert 1 <= painted <= 2
    assert off_by(page.pixels(".stage canvas"), expected(CVAE, page.z(), 3)) <= 1
    name, end = page.eval("(({id, max}) => [id, max])(document.querySelector('#sliders input'))")
    assert page.z()[int(name[1:])] == pytest.approx(float(end))


def test_a_drawing_is_encoded_reconstructed_and_scored(page: Browser) -> None:
    before = page.z()
    stroke = [[0.5, 0.15], [0.5, 0.5], [0.5, 0.85]]
    page.step("drag", selector="#paper", points=stroke)
    page.wait("!document.querySelector('.result').hidden")
    page.settle()
    assert page.z() != before
    seen, back = (page.pixels(f".pair figure:nth-child({i}) canvas") for i in (1, 2))
    assert max(seen) > 200
    label = int(page.eval("document.querySelector('input[name=label]:checked').value"))
    assert off_by(back, expected(CVAE, page.z(), label)) <= 1
    names = page.eval("[...document.querySelectorAll('.scores dt')].map((dt) => dt.textContent)")
    assert names == ["error per pixel", "KL", "negative ELBO"]
    assert "±" in page.eval("document.querySelector('.posterior').getAttribute('aria-label')")
    model = load(CVAE)
    image = np.array(seen, np.uint8).reshape(1, 8, 8)
    error = float(page.text(".scores dd"))
    # Python gets the bytes shown, but the page scored the floats before rounding.
    assert abs(error - model.score(image, label=label).mse[0]) < 2e-3


def test_a_pin_keeps_its_label_and_the_morph_blends_both_classes(page: Browser) -> None:
    page.keys("1", "a")
    a = page.latents()
    page.keys("s", "8", "b", "5")
    b = page.latents()
    page.settle()
    assert page.text("#pin-a") == "A: 1"
    assert page.text("#pin-b") == "B: 8"
    slide = "document.querySelector('#morph-t')"
    path = load(CVAE).interpolate(a, b, 5, label=(1, 8), dtype="uint8")
    for at, image in enumerate(path):
        page.eval(f"{slide}.value = {at / 4}; {slide}.dispatchEvent(new Event('input')); null")
        page.settle()
        assert float(page.eval(f"{slide}.value")) == at / 4  # its steps reach both ends
        assert off_by(page.pixels(".stage canvas"), image.ravel().tolist()) <= 1
        assert page.eval("document.querySelector('input[name=label]:checked').value") == (
            "1" if at < 2 else "8"
        )
    page.eval(f"{slide}.value = 0.25; {slide}.dispatchEvent(new Event('input')); null")
    page.wait("location.hash.includes('mix=8%2C0.25')")
    record = json.loads(caught(page, "#save-json"))
    assert record["mix"] == {"label": 8, "share": 0.25}
    assert record["origin"]["by"] == "morphed"
    assert [record["origin"][pin]["label"] for pin in "ab"] == [1, 8]
    link = page.eval("location.href")
    page.open(link)
    assert off_by(page.pixels(".stage canvas"), path[1].ravel().tolist()) <= 1
    assert page.text("#pin-b") == "B: 8"


def test_a_link_to_this_computer_says_so(page: Browser) -> None:
    page.keys("l")
    page.wait("document.querySelector('.status').textContent.includes('on this computer only')")
    assert "#id=" in page.eval("location.href")


def test_json_says_how_the_latents_came_about(page: Browser) -> None:
    def origin() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(caught(page, "#save-json"))["origin"]
        return found

    sampled = {"by": "sampled", "label": 3, "temperature": 1, "prior": "fitted"}
    assert origin() == sampled | {"seed": 0}
    page.keys("r")
    assert origin() == {"by": "edited"}
    page.keys("n")
    assert origin() == sampled | {"seed": int(page.eval("document.querySelector('.seed').value"))}
    page.click("#plot", at=[0.4, 0.4])
    assert origin() == {"by": "map"}
    page.click("#example")
    page.wait("!document.querySelector('.result').hidden")
    page.settle()
    assert origin() == {"by": "drawn"}


def test_a_seed_that_cannot_be_used_is_refused_in_its_field(page: Browser) -> None:
    seed = "document.querySelector('.seed')"
    before = page.z()
    for wrong in ("-1", "1.5", "1e300", ""):
        page.eval(f"{seed}.value = '{wrong}'; {seed}.dispatchEvent(new Event('change')); null")
        message = page.eval(f"{seed}.validationMessage")
        assert message == "A whole number from 0 to 9007199254740991"
        assert page.z() == before
    page.eval(f"{seed}.value = '7'; {seed}.dispatchEvent(new Event('change')); null")
    assert page.eval(f"{seed}.checkValidity()")
    np.testing.assert_array_equal(page.latents(), load(CVAE).sample_latents(1, 3, seed=7)[0])


def test_strips_show_that_they_are_stale(page: Browser) -> None:
    page.eval(
        """window.stale = 0; new MutationObserver(() => {
          window.stale = Math.max(window.stale, document.querySelectorAll(".film.stale").length);
        }).observe(document.body, { subtree: true, attributeFilter: ["class"] }); null"""
    )
    assert page.eval("document.querySelectorAll('.rows .film.stale').length") == 0
    page.keys("s")
    page.eval("scrollTo(0, 0)")
    page.settle()
    assert page.eval("window.stale") > 0
    assert page.eval("document.querySelectorAll('.rows .film.stale').length") == 0


def test_an_image_file_is_read(page: Browser, tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[1:7, 3:5] = 255
    Image.fromarray(pixels).save(tmp_path / "one.png")
    page.step("upload", selector="#draw input[type=file]", files=[str(tmp_path / "one.png")])
    page.wait("!document.querySelector('.result').hidden")
    assert page.pixels(".pair figure canvas") == pixels.ravel().tolist()
    (tmp_path / "no.png").write_bytes(b"this is not an image")
    page.step("upload", selector="#draw input[type=file]", files=[str(tmp_path / "no.png")])
    page.wait("document.querySelector('.status').textContent.startsWith('no.png: not an image')")


def test_pins_and_the_morph_between_them(page: Browser) -> None:
    assert (page.text("#pin-a"), page.text("#pin-b")) == ("A: 1", "B: 8")  # never empty
    assert not page.eval("document.querySelector('#play').disabled")
    a = page.z()
    page.keys("a", "n")
    b = page.z()
    assert a != b
    page.keys("b")
    page.settle()
    strip = np.array(page.pixels(".strip")).reshape(8, 11 * 9 - 1)
    for at, z in ((0, a), (90, b)):
        assert off_by(strip[:, at : at + 8].ravel().tolist(), expected(CVAE, z, 3)) <= 1
    page.step("focus", selector="#morph-t")
    for how in ("linear", "spherical"):
        select = "document.querySelector('#how')"
        page.eval(f"{select}.value = '{how}'; {select}.dispatchEvent(new Event('change')); null")
        slide = "document.querySelector('#morph-t')"
        page.eval(f"{slide}.value = 0.5; {slide}.dispatchEvent(new Event('input')); null")
        model = load(CVAE)
        ends = np.array(a, np.float32), np.array(b, np.float32)
        path = model.interpolate(*ends, 3, label=3, how=how, dtype="uint8")
        page.settle()
        assert off_by(page.pixels(".stage canvas"), path[1].ravel().tolist()) <= 1
    before = page.z()
    page.keys("p")
    page.wait("Number(document.querySelector('#morph-t').value) > 0.7")
    page.keys("p")
    assert page.z() != before
    with Image.open(io.BytesIO(caught(page, "#save-gif"))) as gif:
        assert (gif.format, gif.n_frames) == ("GIF", 48)
        frame = np.asarray(gif.convert("L"))[::28, ::28]
    assert off_by(frame.ravel().tolist(), expected(CVAE, a, 3)) <= 1


def test_a_sheet_a_video_and_the_model_are_saved(page: Browser) -> None:
    shown = np.array(page.pixels("#pad canvas"))
    side = round(shown.size**0.5)
    with Image.open(io.BytesIO(caught(page, "#save-sheet"))) as sheet:
        scale = sheet.width // side
        assert (sheet.format, sheet.size) == ("PNG", (scale * side, scale * side))
        assert sheet.width >= 1200
        drawn = np.asarray(sheet.convert("RGBA"))[::scale, ::scale, 0]
    assert off_by(drawn.ravel().tolist(), shown.tolist()) <= 1
    video = caught(page, "#save-webm")
    assert video.startswith(b"\x1a\x45\xdf\xa3")  # EBML, of which WebM is a kind
    assert len(video) > 5_000
    model = caught(page, "#save-model")
    assert model == (DATA / f"{CVAE}.zip").read_bytes()


def test_the_map_decodes_on_hover_and_selects_on_click(page: Browser) -> None:
    assert "40 encoded test images" in page.text("#map .hint")
    before = page.z()
    page.step("move", selector="#plot", at=[0.4, 0.4])
    page.settle()
    assert not page.eval("document.querySelector('.bubble').hidden")
    hovered = page.pixels(".bubble canvas")
    assert page.z() == before
    page.click("#plot", at=[0.4, 0.4])
    page.settle()
    assert page.z() != before
    assert page.pixels(".stage canvas") == hovered
    page.step("focus", selector="#plot")
    taken = page.z()
    page.keys("ArrowRight", "ArrowRight", "ArrowUp", "Enter")
    assert page.z() != taken
    # A click near a point must select exactly the latents of the test set that belong to it.
    latents = {tuple(z.tolist()) for z in content_of(CVAE).points.z}
    for i in range(20):
        page.step("move", selector="#plot", at=[0.08 + 0.04 * i, 0.5])
        page.click("#plot", at=[0.08 + 0.04 * i, 0.5])
        if tuple(page.latents().tolist()) in latents:
            break
    else:
        pytest.fail("no click selected a point of the test set")


def test_surprise_samples_as_python_does_and_reset_is_the_priors_mean(page: Browser) -> None:
    model = load(CVAE)
    labels = set()
    for _ in range(12):
        page.keys("s")
        seed = int(page.eval("document.querySelector('.seed').value"))
        label = int(page.eval("document.querySelector('[name=label]:checked').value"))
        labels.add(label)
        ours = model.sample_latents(1, label=label, seed=seed)[0]
        np.testing.assert_array_equal(page.latents(), ours)
    assert len(labels) > 3
    page.keys("3", "n")
    seed = int(page.eval("document.querySelector('.seed').value"))
    np.testing.assert_array_equal(page.latents(), model.sample_latents(1, label=3, seed=seed)[0])
    warm = "document.querySelector('.sampling input[type=range]')"
    page.eval(f"{warm}.value = 0.5; {warm}.dispatchEvent(new Event('input')); null")
    cooler = model.sample_latents(1, label=3, seed=seed, temperature=0.5)[0]
    np.testing.assert_array_equal(page.latents(), cooler)
    page.keys("r")
    centre = model.spec.prior.spread()[0].astype(np.float32)
    np.testing.assert_array_equal(page.latents(), centre)


def test_undo_and_redo_return_to_what_stood_still(page: Browser) -> None:
    seen = [page.z()]
    assert page.eval("[undo.disabled, redo.disabled]") == [True, True]
    for key in ("n", "n", "r"):
        page.keys(key)
        page.wait("new Promise((done) => setTimeout(() => done(true), 400))")
        seen.append(page.z())
    for z in seen[2::-1]:
        page.click("#undo")
        assert page.z() == z
    assert page.eval("[undo.disabled, redo.disabled]") == [True, False]
    for z in seen[1:]:
        page.click("#redo")
        assert page.z() == z
    page.click("#undo")
    page.keys("n")  # a new state ends what could be redone
    page.wait("redo.disabled && !undo.disabled")


def test_the_large_image_moves_until_the_visitor_does_something(
    browser: Browser, site: dict[str, str]
) -> None:
    browser.open(site[CVAE], moving=True)
    image = "document.querySelector('.stage canvas').toDataURL()"
    browser.eval(f"window.first = {image}; null")
    browser.wait(f"{image} !== window.first")
    z = browser.z()
    browser.keys("Shift")
    browser.settle()
    assert browser.z() == z
    shown = browser.pixels(".stage canvas")
    assert off_by(shown, expected(CVAE, z, 3)) <= 1
    assert browser.errors() == []


def test_a_link_carries_the_whole_state(page: Browser) -> None:
    page.keys("s", "a", "s", "b", "5")
    page.click("#pad", at=[0.3, 0.7])
    page.settle()
    page.wait("location.hash.includes('label=5')")
    keep = "[location.hash, document.querySelector('#listing').textContent]"
    link, program = page.eval(keep)
    page.wait(f"location.hash === {json.dumps(link)}")
    here = page.eval("location.href")
    page.open(here)
    assert page.text("#listing") == program
    assert page.eval("document.querySelector('#morph-t').disabled") is False
    page.wait(f"location.hash === {json.dumps(link)}")
    page.open(re.sub("id=[0-9a-f]+", "id=0123456789abcdef", here))
    assert "This link belongs to bundle" in page.text(".status")
    page.open(here.partition("#")[0] + "#z=AAAA&x=-1&label=99&t=7&how=sideways")
    assert page.errors() == []


def test_the_python_program_makes_the_pixels_shown(page: Browser, tmp_path: Path) -> None:
    program = page.text("#listing")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "image.png") as image:
        assert off_by(np.asarray(image).ravel().tolist(), page.pixels(".stage canvas")) <= 1
    with Image.open(io.BytesIO(caught(page, "#save-png"))) as image:
        assert image.size == (512, 512)  # of an image of 8×8
        saved = np.asarray(image.convert("L"))
    small = saved[::64, ::64]
    assert small.ravel().tolist() == page.pixels(".stage canvas")
    np.testing.assert_array_equal(small.repeat(64, axis=0).repeat(64, axis=1), saved)
    record: dict[str, Any] = json.loads(caught(page, "#save-json"))
    assert record["label"] == 3
    assert np.array(record["z"], np.float32).tolist() == page.latents().tolist()


@pytest.mark.parametrize("name", [VAE, AE])
def test_a_model_without_labels_has_no_labels_panel(
    browser: Browser, site: dict[str, str], name: str
) -> None:
    browser.open(site[name])
    assert browser.eval("document.querySelector('#labels')") is None
    assert "samples of the prior" in browser.text("#map .hint")
    assert off_by(browser.pixels(".stage canvas"), expected(name, browser.z(), None)) <= 1
    browser.click("#example")
    browser.wait("!document.querySelector('.result').hidden")
    whiskers = browser.eval("document.querySelector('.posterior').getAttribute('aria-label')")
    assert ("±" in whiskers) is (name == VAE)
    assert browser.errors() == []


def test_a_phone_needs_no_sideways_scrolling_and_tab_reaches_every_control(
    browser: Browser, site: dict[str, str]
) -> None:
    browser.open(site[CVAE], width=360, height=760)
    root = "document.documentElement"
    assert browser.eval(f"{root}.scrollWidth - {root}.clientWidth") == 0
    assert browser.eval("document.querySelector('main').dataset.columns") == "1"
    assert browser.eval(f"{root}.scrollHeight") <= 2500
    small = browser.eval(
        """[...document.querySelectorAll('main button, main select, main .field, summary, .tile')]
        .filter((node) => node.checkVisibility() && node.getBoundingClientRect().height < 44)
        .map((node) => node.outerHTML.slice(0, 80))"""
    )
    assert small == []
    browser.eval("for (const fold of document.querySelectorAll('.fold')) fold.open = true; null")
    browser.settle()
    assert browser.eval(f"{root}.scrollWidth - {root}.clientWidth") == 0
    tall = "document.querySelector('.tiles').clientHeight"
    before = browser.eval(tall)
    browser.eval(
        "document.querySelector('.tile span').textContent = 'a long name of a class'; null"
    )
    assert browser.eval(tall) == before
    browser.eval("document.activeElement.blur(); scrollTo(0, 1e6); null")
    browser.settle()
    assert not browser.eval("document.querySelector('.loupe').hidden")
    assert browser.pixels(".loupe") == browser.pixels(".stage canvas")
    wanted = set(
        browser.eval(
            """[...document.querySelectorAll('main [id]')].filter((node) => !node.disabled &&
            !node.closest('details:not([open]), [hidden]') && node.tabIndex === 0 &&
            node.matches('button, select, input, [tabindex]')).map((node) => node.id)"""
        )
    )
    reached = set()
    browser.eval("scrollTo(0, 0); null")
    for _ in range(len(wanted) + 40):
        browser.keys("Tab")
        reached.add(browser.eval("document.activeElement.id"))
        below = "document.activeElement.getBoundingClientRect().bottom > "
        below += "document.querySelector('.bar').getBoundingClientRect().bottom"
        assert browser.eval(f"document.activeElement === document.body || {below}")
    assert len(wanted) >= 15
    assert wanted <= reached
    unnamed = browser.eval(
        """[...document.querySelectorAll('button, select, input, [role=application], [role=img]')]
        .filter((node) => !node.textContent.trim() && !node.labels?.length && !node.ariaLabel)
        .map((node) => node.outerHTML)"""
    )
    assert unnamed == []
    assert browser.errors() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "width"), [(CVAE, 1440), (CVAE, 360), (VAE, 1440)])
def test_axe_finds_nothing(
    browser: Browser, site: dict[str, str], name: str, width: int, scheme: str
) -> None:
    """With every fold open: https://github.com/dequelabs/axe-core, all rules but experiments."""
    if browser.kind != "chrome" and scheme == "dark":
        pytest.skip("puppeteer changes the colour scheme of styles in Chromium alone")
    browser.open(site[name], width=width, height=900, media={"prefers-color-scheme": scheme})
    browser.eval("for (const fold of document.querySelectorAll('details')) fold.open = true; null")
    browser.settle()
    browser.eval((AXE / "axe.min.js").read_text() + "; null")
    found = browser.eval(
        """axe.run().then(({ violations, passes }) => [passes.length, violations.flatMap(
        ({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 120)}`))])"""
    )
    assert found[0] > 15
    assert found[1] == []


def test_a_bad_bundle_is_refused_in_one_line_and_the_page_stays(
    page: Browser, tmp_path: Path
) -> None:
    raw = bytearray((DATA / f"{VAE}.zip").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "flipped.zip").write_bytes(raw)
    program = page.text("#listing")
    page.step("upload", selector="#bundle-file", files=[str(tmp_path / "flipped.zip")])
    page.wait("document.querySelector('.status.error')")
    text = page.text(".status")
    assert text.startswith("flipped.zip")
    assert "sha256" in text
    assert "\n" not in text
    assert page.text("#listing") == program
    page.step("upload", selector="#bundle-file", files=[str(DATA / f"{AE}.zip")])
    page.wait("document.title.startsWith('ae_conv')")
    assert page.eval("document.querySelector('#labels')") is None


def test_one_file_works_from_disk(browser: Browser, studio_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "studio.html"
    path.write_bytes(single_file(content_of(CVAE)))
    assert path.stat().st_size < 7_000_000
    browser.open(path.as_uri())
    assert float(browser.eval("document.querySelector('#badge').dataset.error")) <= 1e-5
    browser.keys("s", "a", "s", "b", "7")
    browser.settle()
    assert off_by(browser.pixels(".stage canvas"), expected(CVAE, browser.z(), 7)) <= 1
    browser.wait("location.hash.includes('label=7')")
    assert browser.errors() == []
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"</html>", b"<script>window.evil = 1</script></html>"))
    browser.open(path.as_uri())
    assert browser.eval("window.evil ?? null") is None
    assert any("script-src" in error for error in browser.errors())
