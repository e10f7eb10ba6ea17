"""Build hook: add the JavaScript package's sources and, if npm can fetch it, onnxruntime-web."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STUDIO = "runtime/vae_runtime/studio"
JAVASCRIPT = "runtime/javascript/src"


class StudioHook(BuildHookInterface[Any]):
    """Add the sources from which the studio is built, and `studio/assets`, which git ignores."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch missing files; an editable install runs `vae_runtime.studio.fetch` instead."""
        if version == "editable":
            return
        build_data["force_include"][JAVASCRIPT] = "vae_runtime/studio/engine"
        # Run the module by its path: importing the package would need its dependencies.
        fetch = runpy.run_path(str(Path(self.root) / STUDIO / "fetch.py"))
        try:
            if not fetch["present"]():
                fetch["fetch"]()
        except OSError as error:
            # Print directly: pip and build hide the output of `self.app.display_warning`.
            print(f"the wheel is built without the studio's engine: {error}", file=sys.stderr)
            return
        build_data["artifacts"].append(f"/{STUDIO}/assets/*")
