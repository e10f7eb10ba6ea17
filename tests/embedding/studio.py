"""The latent studio in a browser as a host.

Its page measures itself: parity with the golden vectors and the time of one decode.
"""

from __future__ import annotations

from .host import Missing, Row, Vectors


def studio(vectors: Vectors) -> Row:
    """onnxruntime-web in a page.

    Raises:
        Missing: always, until the page is driven from here.
    """
    raise Missing("the browser page is not measured by this command yet")
