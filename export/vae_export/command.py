"""What `vae-export` does once its options are parsed."""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from vae_runtime.bundle.reader import open_bundle
from vae_runtime.bundle.spec import ImageSpec
from vae_runtime.cli.options import parse_size
from vae_runtime.cli.target import Target
from vae_runtime.console import print_status
from vae_runtime.datasets import Dataset, load_dataset, load_held_out
from vae_runtime.errors import FileError, InputError, UsageError
from vae_runtime.files.atomic import write_atomic
from vae_runtime.files.reading import read_bytes
from vae_runtime.studio.build import NO_POINTS, Parts, encode_points, page_files, single_file
from vae_train import load_checkpoint
from vae_train.run_folder import without_extension

from .bundle import check_target
from .c_code import require_generator, write_c
from .foreign import Foreign, from_module
from .pipeline import Exported, Options, export_source
from .probe import Modules
from .report import write_report
from .source import Source, from_checkpoint
from .triton import write_triton

_WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which others save the weights
_OWN = ("one_hot", "null_label", "activation", "spread", "signed", "likelihood", "prior")


def export_command(options: dict[str, Any], typed: dict[str, str]) -> None:
    """Export, then write what else was asked for, and say what is where.

    Args:
        options: all of them.
        typed: those that stand on the command line, as `vae_runtime.cli.options.given` has them.
    """
    _check_effect(options, typed)
    for name in ("c_code", "report", "triton"):
        if options[name] and Path(options[name]).is_file():
            raise FileError(f"{options[name]}: a file, expected a folder")
    if options["c_code"] is not None:
        require_generator()
    out = _target(options)
    check_target(out)
    if options["html"] is not None:
        Target("", str(options["html"])).check(".html", ".htm")
        page_files()  # refuse before the work where the studio's engine is missing
    chosen = Options(options["opset"], options["variants"], options["allow_lossy"], print_status)
    held_out = None
    if options["model"]:
        source = _own_source(options)
    else:
        source, held_out = _checkpoint_source(options)
    exported = export_source(source, out, chosen)
    if options["c_code"] is not None:
        write_c(exported.manifest, exported.files, options["c_code"])
        print_status(f"wrote {options['c_code']}. Next: make -C {options['c_code']}")
    _write_rest(exported, out, options, held_out)
    files = out.iterdir() if out.is_dir() else (out,)
    size = sum(file.stat().st_size for file in files)
    print_status(f"wrote {out}, {size:,} bytes. Next: vae-run sample --bundle {out}")


def _check_effect(options: dict[str, Any], typed: dict[str, str]) -> None:
    """Refuse options that would be without effect."""
    wants = {"model": ("classes", *_OWN), "classes": ("one_hot", "null_label"), "data": ("size",)}
    for needed, names in wants.items():
        idle = [typed[name] for name in names if name in typed]
        if idle and not options[needed]:
            raise UsageError(f"{', '.join(idle)}: without effect where --{needed} is not given.")


def _target(options: dict[str, Any]) -> Path:
    """Where the bundle goes."""
    ckpt, out = options["ckpt"], options["out"]
    if ckpt is None and options["model"] is None:
        raise UsageError("--ckpt is missing. Say which checkpoint, from vae-train, to export.")
    if out is not None:
        target: Path = out
    elif ckpt is not None:
        target = without_extension(ckpt)
    else:
        raise UsageError("--out is missing. Say where the bundle of --model goes.")
    if options["zipped"] and target.suffix != ".zip":
        target = target.with_name(f"{target.name}.zip")
    if ckpt is not None and ckpt.is_dir():
        raise UsageError(f"{ckpt}: a folder, expected a checkpoint from vae-train, as cvae.pt.")
    if target == ckpt:
        raise UsageError(f"{ckpt}: the bundle would replace the checkpoint. Say --out.")
    return target


def _checkpoint_source(options: dict[str, Any]) -> tuple[Source, Dataset | None]:
    """The source, and the images of --data that it is checked with."""
    checkpoint = load_checkpoint(options["ckpt"])
    held_out = _held_out(options, ImageSpec(*checkpoint.model.image_shape))
    return from_checkpoint(checkpoint, held_out), held_out


def _own_source(options: dict[str, Any]) -> Source:
    if options["data"] is None:
        raise UsageError("--data is missing. A module of your own needs images for its prior.")
    data = load_dataset(options["data"], size=parse_size(options["size"]))
    module = load_factory(options["model"])
    sha256 = ""
    if options["ckpt"] is not None:
        sha256 = load_weights(module, options["ckpt"])
    classes = data.classes if options["classes"] else ()
    facts = Foreign(
        name=options["model"].rpartition(":")[2],
        classes=classes,
        **{name: options[name] for name in _OWN},
    )
    return from_module(module, data, facts, sha256)


def _held_out(options: dict[str, Any], image: ImageSpec) -> Dataset | None:
    """The test images of --data, or all that it has, as the model takes them."""
    if options["data"] is None:
        return None
    size = parse_size(options["size"]) or image.shape[1:]
    return load_held_out(options["data"], print_status, size=size, mode=image.mode)


def load_factory(name: str) -> Modules:
    """Import `package.module:factory` and call it.

    Raises:
        UsageError: no such module or factory, it raised, or made something else than a module.
    """
    place, _, attribute = name.partition(":")
    if not place or not attribute:
        raise UsageError(f"--model {name}: expected PACKAGE.MODULE:FACTORY")
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(place), attribute)
        made = factory if isinstance(factory, nn.Module) else factory()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--model {name}: {error}") from error
    except Exception as error:
        # It is the user's own code, which may raise anything.
        raise UsageError(f"--model {name}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    parts = made if isinstance(made, tuple) and len(made) == 2 else (made,)
    if not all(isinstance(part, nn.Module) for part in parts):
        raise UsageError(
            f"--model {name}: made a {type(made).__name__}, expected a torch module or a pair "
            "(encoder, decoder)."
        )
    return made


def load_weights(module: Modules, path: Path) -> str:
    """Load a state dict, of a pair both with the prefixes `encoder.` and `decoder.`.

    Returns:
        The sha256 of the file.

    Raises:
        NotFound: no such file.
        InputError: not a state dict, or one that does not fit the module.
    """
    raw = read_bytes(path)
    try:
        state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, UnpicklingError) as error:
        raise InputError(
            f"{path}: not tensors alone, which is all that is read. Save model.state_dict()."
        ) from error
    for key in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: not a state dict. Save model.state_dict().")
    whole = (
        nn.ModuleDict({"encoder": module[0], "decoder": module[1]})
        if isinstance(module, tuple)
        else module
    )
    try:
        whole.load_state_dict(dict(state))
    except RuntimeError as error:
        line = " ".join(str(error).split())
        raise InputError(f"{path}: does not fit the module: {line}") from error
    return hashlib.sha256(raw).hexdigest()


def _write_rest(
    exported: Exported, out: Path, options: dict[str, Any], held_out: Dataset | None
) -> None:
    """The report, the Triton repository and the page."""
    if options["report"] is not None:
        name = f"{out.stem if out.suffix == '.zip' else out.name}-report"
        folder = Path(options["report"]) if options["report"] else out.with_name(name)
        write_report(exported, folder)
        print_status(f"wrote {folder / 'parity.html'}")
    if options["triton"] is not None:
        prefix = out.stem if out.suffix == ".zip" else out.name
        names = write_triton(exported.manifest, exported.files, options["triton"], prefix)
        print_status(f"wrote {options['triton']} with {', '.join(names)}")
    if options["html"] is not None:
        bundle = open_bundle(out)
        if held_out is None:  # a module of one's own was checked with its training images
            held_out = _held_out(options, bundle.manifest.spec.image)
        points = NO_POINTS if held_out is None else encode_points(bundle, held_out)
        raw = single_file(Parts(bundle, out.name, points))
        write_atomic(options["html"], raw)
        print_status(f"wrote {options['html']}, {len(raw):,} bytes")
