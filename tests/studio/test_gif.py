"""The GIF of a colour morph, which no bundle in the browser tests covers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_runtime.studio.build import page_files


def test_a_colour_gif_has_the_colours_of_its_frames(studio_folder: Path, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js")
    for name, raw in page_files().items():  # a page's modules, as its imports expect them
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(raw)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    x, y = np.meshgrid(np.linspace(0, 1, 20), np.linspace(0, 1, 16))
    frames = np.stack([[x, y, np.full_like(x, blue)] for blue in (0, 1)])
    given = json.dumps([frame.ravel().tolist() for frame in frames])
    script = f"""
        import {{ encodeGif }} from {json.dumps((tmp_path / "ui" / "recording.js").as_uri())};
        const frames = {given}.map((frame) => Float32Array.from(frame));
        process.stdout.write(encodeGif(frames, {{ channels: 3, height: 16, width: 20 }}));
    """
    path = tmp_path / "morph.gif"
    path.write_bytes(
        subprocess.run(
            [node, "--input-type=module", "-e", script], capture_output=True, check=True
        ).stdout
    )
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (2, (280, 224), 60)
        for index, frame in enumerate(frames):
            gif.seek(index)
            found = np.asarray(gif.convert("RGB"))[::14, ::14].astype(float)
            error = np.abs(found - 255 * frame.transpose(1, 2, 0))
            assert error.mean() < 2
            assert error.max() < 16
