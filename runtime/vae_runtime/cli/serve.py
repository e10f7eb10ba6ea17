"""`vae-run serve`: a bundle over HTTP."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..console import print_status
from . import options

if TYPE_CHECKING:
    from ..server.limits import Limits

EPILOG = """\b
Examples:
  vae-run serve
  vae-run serve cvae/ --port 8080 --workers 2

\b
Then, in another terminal:
  curl -d '{"label": 3}' "http://127.0.0.1:8000/sample?scale=8" -o three.png
  curl --data-binary @three.png "http://127.0.0.1:8000/encode?resize=true"
"""
_GRACE_S = 20


@click.command(epilog=EPILOG)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@options.integer("--port", default=8000, min=0, max=65_535, help="Port; 0 picks a free one.")
@options.integer("--workers", default=1, max=256, help="Number of processes.")
@options.integer(
    "--concurrency",
    default=2,
    max=256,
    help="Requests that run at a time in each process; others wait.",
)
@options.integer("--max-images", default=256, help="Refuse requests for more images than this.")
@options.integer("--max-bytes", default=8 << 20, help="Refuse larger bodies than this.")
@options.integer(
    "--max-pixels", default=4_000_000, help="Refuse image files with more pixels than this."
)
@options.model(as_argument=True)  # fmt: skip
def command(
    host: str,
    port: int,
    workers: int,
    concurrency: int,
    max_images: int,
    max_bytes: int,
    max_pixels: int,
    model_options: options.ModelOptions,
) -> None:
    """Serve a bundle over HTTP until Ctrl-C or SIGTERM.

    Samples, decodes, encodes, reconstructs, scores and detects anomalies. Responds with PNG, WebP,
    .npy or JSON, as the Accept header asks; /openapi.json describes the interface. Needs the extra
    `serve`.
    """
    from ..dependencies import require

    require("vae-run serve", "fastapi", "uvicorn", extra="cpu,serve")
    from ..server.limits import Limits

    limits = Limits(max_bytes, max_images, max_pixels, concurrency)
    with _listen(host, port) as listener:
        _serve(model_options, limits, listener, workers)


def _serve(
    chosen: options.ModelOptions, limits: Limits, listener: socket.socket, workers: int
) -> None:
    """Serve until a signal; requests in progress are finished first."""
    import uvicorn

    from ..server.app import SETTINGS, create_app, settings_json

    _leave_signals_to_uvicorn()
    host, port = listener.getsockname()[:2]
    local = host in ("127.0.0.1", "::1")
    settings: Any = {
        "log_level": "warning", "access_log": False, "timeout_graceful_shutdown": _GRACE_S
    }  # fmt: skip
    with chosen.load() as model:
        model.preload()
        place = f"[{host}]" if ":" in host else host
        print_status(f"serving {model.spec.summary} on http://{place}:{port} until Ctrl-C")
        if workers == 1:
            config = uvicorn.Config(create_app(model, limits, local=local), **settings)
            uvicorn.Server(config).run(sockets=[listener])
            return
    listener.close()  # uvicorn shares a socket of its own with its processes
    os.environ[SETTINGS] = settings_json(asdict(chosen), limits, local=local)
    uvicorn.run("vae_runtime.server.app:create_worker_app", factory=True, host=host, port=port,
                workers=workers, **settings)  # fmt: skip


def _leave_signals_to_uvicorn() -> None:
    import signal

    # uvicorn raises the signal again once it has stopped; by then there is nothing left to end.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(-1)  # otherwise Ctrl-C would end requests in progress


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        FileError: the address cannot be used, for example because the port is taken.
    """
    from ..errors import FileError, describe_os_error

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm, which delays each response by 40 ms, only for sockets
    # whose protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere, it would allow two servers on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        return listener
    except OSError as error:
        listener.close()
        reason = describe_os_error(error)
        raise FileError(f"{host}:{port}: {reason}. Use another --host or --port.") from error
