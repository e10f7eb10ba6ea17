"""A small web app for a bundle: an HTML page, PNG images and a JSON API.

`python app.py [BUNDLE] [--port 8000]`, then open http://127.0.0.1:8000. Needs
`pip install "../..[cpu]" -r requirements.txt` but not torch.
"""

from __future__ import annotations

import argparse
import io
from typing import Any

import numpy as np
from flask import Flask, Response, jsonify, render_template, request
from PIL import Image
from werkzeug.exceptions import BadRequest, HTTPException

import vae_runtime as vae

MAX_IMAGES = 256
MAX_BYTES = 1 << 20  # per request
COLUMNS = 8


def create_app(model: vae.Autoencoder) -> Flask:
    """Make the app for one loaded model, which all its threads share."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES
    spec = model.spec

    @app.get("/")
    def index() -> str:
        return render_template("index.html", spec=spec, max_images=MAX_IMAGES)

    @app.get("/api/model")
    def about() -> Response:
        names = {"id": spec.id, "family": spec.family, "classes": spec.classes}
        return jsonify(names | {"latent_shape": spec.latent_shape, "image": spec.image.shape})

    @app.get("/sample.png")
    def sample() -> Response:
        n = parse_integer(request.args.get("n", "1"), "n", 1, MAX_IMAGES)
        seed = request.args.get("seed")
        seed = None if seed in (None, "") else parse_integer(seed, "seed", 0, 2**64 - 1)
        label = request.args.get("label") or None
        return png(model.sample(n, label, seed, dtype="uint8"))

    @app.post("/api/decode")
    def decode() -> Response:
        body = request.get_json()
        if not isinstance(body, dict) or not set(body) <= {"z", "label"} or "z" not in body:
            raise BadRequest('expected {"z": [[…], …], "label": …}')
        z = parse_latents(body["z"])
        if len(z) > MAX_IMAGES:
            raise BadRequest(f"z: {len(z)} latents, expected at most {MAX_IMAGES}")
        return jsonify(images=model.decode(z, body.get("label")).tolist())

    @app.errorhandler(vae.VaeError)
    def refused(error: vae.VaeError) -> tuple[Response, int]:
        # A ValueError is the client's fault; any other is the server's and gets no details.
        ours = not isinstance(error, ValueError)
        return jsonify(error="the model failed" if ours else str(error)), 500 if ours else 400

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> tuple[Response, int]:
        text = " ".join((error.description or error.name or "").split())
        return jsonify(error=text), error.code or 500

    return app


def parse_integer(text: str, name: str, low: int, high: int) -> int:
    """Parse an integer of a query; answer 400 if it is malformed or out of range."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high):
        raise BadRequest(f"{name} is {text[:40]!r}, expected a whole number from {low} to {high}")
    return int(text)


def parse_latents(value: Any) -> np.ndarray:
    """Convert nested lists of numbers to float32, or answer 400; the model checks the rest."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise BadRequest("z: lists of different lengths") from error
    if array.dtype.kind not in "if":
        raise BadRequest("z: expected numbers only")
    with np.errstate(over="ignore"):  # overflows to infinity, which the model refuses
        return array.astype(np.float32)


def png(images: np.ndarray) -> Response:
    """Send images u8[n, C, H, W] as one PNG with rows of eight."""
    n, channels, height, width = images.shape
    columns = min(n, COLUMNS)
    rows = -(-n // columns)
    cells = np.zeros((rows * columns, channels, height, width), np.uint8)
    cells[:n] = images
    sheet = cells.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    file = io.BytesIO()
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(file, "PNG")
    return Response(file.getvalue(), mimetype="image/png")


def main() -> None:
    """Load the model, decode once to warm up, and serve."""
    from waitress import serve

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", default="mnist")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    chosen = parser.parse_args()
    model = vae.load(chosen.bundle)
    label = 0 if model.spec.classes else None
    model.sample(1, label, seed=0)
    serve(create_app(model), host=chosen.host, port=chosen.port, threads=4)


if __name__ == "__main__":
    main()
