"""Limits of the server, and the middleware that enforces those on whole requests."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_UNLIMITED = ("/health",)  # answered even by a busy server


@dataclass(frozen=True)
class Limits:
    """Limits of the server; a request beyond one is refused with a status of 4xx or 503.

    Attributes:
        bytes: size of a body.
        images: images or latents per request.
        pixels: height times width of an image file.
        concurrency: requests that run a graph at a time.
        waiting: further requests that wait for that, or whose bodies are being received.
        seconds: time to receive a body.

    Raises:
        UsageError: a limit is not above 0.
    """

    bytes: int = 8 << 20
    images: int = 256
    pixels: int = 4_000_000
    concurrency: int = 2
    waiting: int = 64
    seconds: float = 30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise UsageError(f"{name} is {value}, expected a number above 0")


class RequestError(Exception):
    """A request is refused with an HTTP status and a one-line message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class LimitRequests:
    """ASGI middleware: refuse large bodies, slow bodies, and requests beyond the queue.

    It keeps the memory of the server bounded: at most `concurrency + waiting` bodies are held.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits, self._active = app, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"] in _UNLIMITED:
            await self._app(scope, receive, send)
            return
        if self._active >= self._limits.concurrency + self._limits.waiting:
            await _refuse(send, 503, "busy. Try again in a second.", retry=True)
            return
        self._active += 1
        try:
            body = await self._read_body(scope, receive)
        except RequestError as error:
            await _refuse(send, error.status, str(error))
        else:
            await self._app(scope, _replay(body, receive), send)
        finally:
            self._active -= 1

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        most = self._limits.bytes
        too_large = RequestError(413, f"the body is larger than {most:,} bytes")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError(400, "the client closed the connection")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise too_large
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            seconds = self._limits.seconds
            raise RequestError(408, f"the body took longer than {seconds:g} s") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a function that gives the body once, and then what the client sends."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(send: Send, status: int, message: str, *, retry: bool = False) -> None:
    raw = json.dumps({"error": message}).encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers += [(b"retry-after", b"1")] if retry else []
    headers.append((b"content-length", str(len(raw)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})
