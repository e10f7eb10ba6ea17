"""The build of a wheel: gets the studio's onnxruntime-web where npm can, and says so where not."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STUDIO = "runtime/vae_runtime/studio"


class StudioHook(BuildHookInterface[Any]):
    """Puts `studio/assets`, which git ignores, into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch what is missing; an editable install leaves it to `vae_runtime.studio.fetch`."""
        if version == "editable":
            return
        # By its path: the package itself cannot be imported where its dependencies are missing.
        fetch = runpy.run_path(str(Path(self.root) / STUDIO / "fetch.py"))
        try:
            if not fetch["present"]():
                fetch["fetch"]()
        except OSError as error:
            # Not `self.app.display_warning`: under pip and build nothing of it is seen.
            print(f"the wheel is built without the studio's engine: {error}", file=sys.stderr)
            return
        build_data["artifacts"].append(f"/{STUDIO}/assets/*")
