"""Tell PyInstaller what an app with `vae_runtime` needs: its data, and modules imported by name."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

datas = collect_data_files("vae_runtime", excludes=["pyinstaller/*", "**/*.py"])
# `vae_runtime` imports its modules, and `vae-run` its commands, on first use. Optional packages are
# left out unless the app imports them itself.
hiddenimports = collect_submodules(
    "vae_runtime",
    lambda name: name.split(".")[1:2] not in (["arrow"], ["server"], ["pyinstaller"]),
)
excludedimports = ["torch", "onnx", "sklearn", "pyarrow", "distributed", "fastapi", "uvicorn"]
