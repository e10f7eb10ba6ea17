"""The HTTP interface of one model: facts, sample, decode, encode, reconstruct, score, detect."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from .._version import __version__
from ..arrays import to_float32
from ..autoencoder import Autoencoder
from ..detection.pictures import heat
from ..errors import InputError, LimitError, UsageError, VaeError, one_line
from ..loading import load
from ..rng import fresh_seed
from . import formats
from .formats import JSON, NPY, PICTURES, Label
from .limits import LimitRequests, Limits, RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
SETTINGS = "VAE_RUN_SERVE"  # the environment variable that gives worker processes their settings
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_IMAGE_FILES = ("image/png", "image/jpeg", "image/webp", "image/bmp")
_REFUSED = {
    406: "no such format",
    408: "too slow",
    413: "over a limit",
    422: "invalid",
    503: "busy",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}

Accept = Annotated[str | None, Header()]
LabelQuery = Annotated[list[str] | None, Query(description="A class, or one per row.")]
ScaleQuery = Annotated[int, Query(ge=1, le=64, description="Output pixels per image pixel.")]
ResizeQuery = Annotated[bool, Query(description="Resize an image file to the model's size.")]


def create_app(model: Autoencoder, limits: Limits | None = None, *, local: bool = True) -> FastAPI:
    """Build the application for a loaded model.

    Args:
        model: the model; at most `limits.concurrency` threads use it at a time.
        limits: the limits on requests.
        local: answer only requests to this machine by name, as a web page of another site could
            reach a local server through a host name of its own (DNS rebinding).
    """
    limits = limits or Limits()
    app = FastAPI(
        title="vae-run serve", version=__version__, docs_url=None, redoc_url=None,
        dependencies=[Depends(_refuse_unknown_query)],
    )  # fmt: skip
    if local:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(_LOCAL))
    app.add_middleware(LimitRequests, limits=limits)
    _add_error_handlers(app)
    service = _Service(model, limits)
    _add_facts(app, model)
    _add_generation(app, service)
    _add_inference(app, service)
    _add_judgement(app, service)
    return app


def create_worker_app() -> FastAPI:
    """Build the application of a worker process from the settings in its environment."""
    settings = json.loads(os.environ[SETTINGS])
    options = dict(settings["model"])
    model = load(options.pop("bundle"), **options, preload=True)
    return create_app(model, Limits(**settings["limits"]), local=settings["local"])


class _Service:
    """The model, with its limits and its threads."""

    def __init__(self, model: Autoencoder, limits: Limits) -> None:
        self.model, self.limits, self.spec = model, limits, model.spec
        self._pool = ThreadPoolExecutor(limits.concurrency, thread_name_prefix="vae-run")

    async def run(self, work: Callable[[], T]) -> T:
        """Run a function in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def images(
        self, request: Request, label: list[str] | None, *, resize: bool
    ) -> formats.Rows:
        """Read the images of a request."""
        raw, given = await request.body(), _label(label)
        return await self.run(
            lambda: formats.read_images(raw, given, self.spec, self.limits, resize=resize)
        )

    async def respond(
        self,
        make: Callable[[str], NDArray[Any]],
        accept: str | None,
        scale: int,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Respond with images, given a function from their dtype to them."""
        kind = formats.negotiate(accept, (*PICTURES, NPY, JSON))

        def encoded() -> bytes:
            if kind in PICTURES:
                return formats.to_picture(make("uint8"), kind, scale)
            images = make("float32")
            return formats.to_npy(images) if kind == NPY else _json(images=images.tolist())

        return Response(await self.run(encoded), media_type=kind, headers=headers)


def _add_facts(app: FastAPI, model: Autoencoder) -> None:
    facts = model.spec.to_json()
    facts["prior"] = {"kind": model.spec.prior.kind}  # without its long arrays

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the server is up, and which bundle it serves on which device."""
        return {"status": "ok", "bundle": model.spec.id, "device": model.device,
                "version": __version__}  # fmt: skip

    @app.get("/spec")
    async def spec() -> dict[str, Any]:
        """The model: family, image shape, latent dimensions, classes, likelihood and prior."""
        return facts


def _add_generation(app: FastAPI, service: _Service) -> None:
    model, limits = service.model, service.limits

    @app.post("/sample", responses=_image_responses(), openapi_extra=_body(formats.SampleBody))
    async def sample(request: Request, accept: Accept = None, scale: ScaleQuery = 1) -> Response:
        """Sample images; the header X-Seed has the seed, which gives the same images again."""
        body = formats.parse_json(formats.SampleBody, await request.body())
        formats.check_number(body.n, limits, "images")
        seed = fresh_seed() if body.seed is None else body.seed
        how = {"prior": body.prior, "temperature": body.temperature, "truncation": body.truncation}
        return await service.respond(
            lambda dtype: model.sample(body.n, body.label, seed, dtype=dtype, **how),
            accept, scale, {"X-Seed": str(seed)},
        )  # fmt: skip

    @app.post("/decode", responses=_image_responses(),
              openapi_extra=_body(formats.LatentsBody, NPY))  # fmt: skip
    async def decode(
        request: Request, accept: Accept = None, label: LabelQuery = None, scale: ScaleQuery = 1
    ) -> Response:
        """Decode latents to images."""
        raw, given = await request.body(), _label(label)
        rows = await service.run(lambda: formats.read_latents(raw, given, service.spec, limits))
        return await service.respond(
            lambda dtype: model.decode(rows.values, rows.label, dtype=dtype), accept, scale
        )


def _add_inference(app: FastAPI, service: _Service) -> None:
    model, images_body = service.model, _IMAGES_BODY

    @app.post("/reconstruct", responses=_image_responses(), openapi_extra=images_body)
    async def reconstruct(
        request: Request,
        accept: Accept = None,
        label: LabelQuery = None,
        resize: ResizeQuery = False,
        scale: ScaleQuery = 1,
    ) -> Response:
        """Encode images and decode their latents."""
        rows = await service.images(request, label, resize=resize)
        return await service.respond(
            lambda dtype: model.reconstruct(rows.values, rows.label, dtype=dtype), accept, scale
        )

    @app.post("/encode", responses=_responses(JSON, NPY), openapi_extra=images_body)
    async def encode(
        request: Request,
        accept: Accept = None,
        label: LabelQuery = None,
        resize: ResizeQuery = False,
    ) -> Response:
        """Encode images to latents: z and, in JSON, a VAE's log_var."""
        kind = formats.negotiate(accept, (JSON, NPY))
        rows = await service.images(request, label, resize=resize)

        def encoded() -> bytes:
            z, log_var = model.posterior(rows.values, rows.label)
            if kind == NPY:
                return formats.to_npy(z)
            return _json(z=z.tolist(), **({} if log_var is None else {"log_var": log_var.tolist()}))

        return Response(await service.run(encoded), media_type=kind)


def _add_judgement(app: FastAPI, service: _Service) -> None:
    model, images_body = service.model, _IMAGES_BODY

    @app.post("/detect", responses=_image_responses(), openapi_extra=images_body)
    async def detect(
        request: Request,
        accept: Accept = None,
        resize: ResizeQuery = False,
        false_alarms: Annotated[float | None, Query(gt=0, lt=1)] = None,
        scale: ScaleQuery = 1,
    ) -> Response:
        """Find anomalies: in JSON, scores and decisions; as .npy, maps; as a picture, heat maps."""
        kind = formats.negotiate(accept, (JSON, *PICTURES, NPY))
        rows = await service.images(request, None, resize=resize)

        def judged() -> bytes:
            found = model.detect(rows.values, false_alarms=false_alarms)
            if kind in PICTURES:
                maps = heat(to_float32(rows.values), found.maps)
                return formats.to_picture(maps, kind, scale)
            if kind == NPY:
                return formats.to_npy(found.maps)
            values = found._asdict()
            del values["maps"]
            lists = {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in values.items()}
            return _json(**lists)

        return Response(await service.run(judged), media_type=kind)

    @app.post("/score", responses=_responses(JSON), openapi_extra=images_body)
    async def score(
        request: Request,
        label: LabelQuery = None,
        resize: ResizeQuery = False,
        samples: Annotated[int, Query(ge=1, le=1000)] = 1,
        seed: Annotated[int, Query(ge=0)] = 0,
    ) -> Response:
        """Score images: squared error per pixel, KL and negative ELBO in nats."""
        rows = await service.images(request, label, resize=resize)

        def scored() -> bytes:
            found = model.score(rows.values, rows.label, samples=samples, seed=seed)
            return _json(**{name: values.tolist() for name, values in found._asdict().items()})

        return Response(await service.run(scored), media_type=JSON)


def _add_error_handlers(app: FastAPI) -> None:
    def refuse(status: int, message: object) -> JSONResponse:
        return JSONResponse({"error": one_line(message)}, status)

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        return refuse(error.status, error)

    @app.exception_handler(VaeError)
    async def failed(_: Request, error: VaeError) -> JSONResponse:
        # The request is at fault, or else the server, which gives no details.
        if isinstance(error, LimitError):
            return refuse(413, error)
        at_fault = isinstance(error, InputError | UsageError)
        return refuse(422, error) if at_fault else refuse(500, "the model failed")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return refuse(422, f"{first['loc'][-1]}: {first['msg'].lower()}")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code in (404, 405):
            where = f"{request.method} {request.url.path}"
            message = f"{where}: {message.lower()}. GET /openapi.json lists what there is"
        return refuse(error.status_code, message)


async def _refuse_unknown_query(request: Request) -> None:
    """Refuse parameters in the address that the route does not have, such as a label of /sample."""
    route = request.scope["route"]
    known = [p.alias for p in route.dependant.query_params] if isinstance(route, APIRoute) else []
    for name in request.query_params:
        if name not in known:
            expected = f"expected {', '.join(known)}" if known else "expected none"
            advice = ". Put it in the body" if name in _body_fields(route) else ""
            raise RequestError(
                422, f"unknown parameter {name!r} in the address, {expected}{advice}"
            )


def _body_fields(route: APIRoute) -> Iterable[str]:
    """Return the names of the fields that a route's JSON body may have."""
    body = (route.openapi_extra or {}).get("requestBody")
    return body["content"][JSON]["schema"]["properties"] if body else ()


def _label(query: list[str] | None) -> Label:
    """Return the label of a query: none, one for all rows, or one per row."""
    return query[0] if query is not None and len(query) == 1 else list(query) if query else None


def _json(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()


def _body(kind: type[BaseModel], *others: str) -> dict[str, Any]:
    """Describe the body of a request for OpenAPI: JSON, or one of the other media types."""
    content: dict[str, Any] = {JSON: {"schema": kind.model_json_schema()}}
    return {"requestBody": {"content": content | dict.fromkeys(others, _BINARY)}}


_IMAGES_BODY = _body(formats.ImagesBody, NPY, *_IMAGE_FILES)


def _responses(*kinds: str) -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {kind: {} if kind == JSON else _BINARY for kind in kinds}
    found: dict[int | str, dict[str, Any]] = {200: {"description": "OK", "content": content}}
    for status, text in _REFUSED.items():
        example = {JSON: {"example": {"error": "one line"}}}
        found[status] = {"description": text, "content": example}
    return found


def _image_responses() -> dict[int | str, dict[str, Any]]:
    return _responses(*PICTURES, NPY, JSON)


def settings_json(model: dict[str, Any], limits: Limits, *, local: bool) -> str:
    """Return the settings of worker processes, for the variable `SETTINGS`."""
    return json.dumps({"model": model, "limits": asdict(limits), "local": local})
