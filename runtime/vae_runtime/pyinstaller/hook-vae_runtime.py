"""Tell PyInstaller what an app with `vae_runtime` needs: its data, and modules imported by name."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

from vae_runtime.studio.build import ENGINE

datas = collect_data_files("vae_runtime", excludes=["pyinstaller/*", "**/*.py"])
# In a checkout, the studio's engine is outside the package.
datas += [(str(path), "vae_runtime/studio/engine") for path in ENGINE.glob("*.js")]
# `vae_runtime` imports its modules, and `vae-run` its commands, on first use. The packages of the
# extra `serve` are included where they are installed; other optional packages are too large.
hiddenimports = collect_submodules(
    "vae_runtime", lambda name: name.split(".")[1:2] not in (["arrow"], ["pyinstaller"])
)
excludedimports = ["torch", "onnx", "sklearn", "pyarrow", "distributed"]
