"""Read a folder of images, in the layouts that people use for splits and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, InputError, LimitError, NotFound, describe_os_error
from ..images import EXTENSIONS, MAX_PHOTO_PIXELS, MAX_PIXELS, Decoded, compose, decode_image
from .classes import sort_names
from .dataset import MAX_BYTES, Dataset, ReadOptions
from .layout import choose_split, remedy, split_of, words

_THUMBNAILS = {"@eadir", "thumbs", "thumbnails", "_thumbs", "_thumbnails"}
_SYSTEM = {"thumbs.db", "desktop.ini"}
# Folders next to splits or images that hold no images to learn from.
_MASKS = {"groundtruth", "gt", "mask", "masks", "labels", "annotations"}
_IMAGES = {"image", "images", "img", "imgs", "photos", "jpegimages"}
_NAMED = 10  # files that an error lists
_SMALLER = "Make images smaller with --size HxW, or --resize in vae-run."


@dataclass
class Tree:
    """The images in and below one folder.

    Attributes:
        path: the folder.
        images: the image files directly in it, sorted.
        folders: the sub-folders that hold images, by name.
        left_out: number of files below it that are not used, by reason.
    """

    path: Path
    images: list[Path] = field(default_factory=list)
    folders: dict[str, Tree] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def walk(self) -> Iterator[Path]:
        """Yield the images directly in the folder, then those of each sub-folder."""
        yield from self.images
        for name in sort_names(self.folders):
            yield from self.folders[name].walk()

    def __len__(self) -> int:
        return len(self.images) + sum(map(len, self.folders.values()))


def load_folder(folder: Path, split: str, options: ReadOptions) -> Dataset:
    """Read a folder of images; the sub-folder of an image is its class.

    `train/`, `val/` and `test/`, or their usual other names, are splits; `train` defines the first
    classes, and classes that only the other split has follow. Symbolic links are followed. Hidden
    files, thumbnails and masks are left out.

    Raises:
        NotFound: there are no images, or none for this split.
        InputError: images are damaged or differ in size, or the layout is ambiguous.
        LimitError: an image has too many pixels, or all images together exceed 4 GiB.
    """
    tree = _scan(folder, set())
    if not len(tree):
        raise _no_images(tree)
    left_out = _other_files(tree)
    tree, splits = _find_splits(_unwrap(tree, left_out), left_out)
    chosen = choose_split(split, splits or ("train",))
    if splits and chosen is None:
        one = next(iter(splits.values())).path
        raise NotFound(f"{folder}: no {split} split, it has {one.name}/. To read that, use {one}")
    if chosen is None:
        raise NotFound(
            f"{folder}: no test split. Put images in {folder.name}/train and {folder.name}/test."
        )
    if splits:
        if chosen != "val" and {"val", "test"} <= set(splits):
            left_out.append(_count(splits["val"]))
        tree = _unwrap(splits[chosen], left_out, in_split=True)
        known = _classes(_unwrap(splits.get("train", tree), [], in_split=True))
    else:
        known = _classes(tree)
    notes = [f"left out: {', '.join(left_out)}"] if left_out else []
    if tree.images and tree.folders:
        names = ", ".join(f"{name}/" for name in sort_names(tree.folders)[:3])
        count = f"{len(tree.images):,} of {len(tree):,}"
        notes.append(f"no labels, as images lie beside {names} ({count})")
    labels, classes = _labels(tree, known)
    paths = list(tree.walk())[: options.limit]
    images, changes = _read(paths, folder, options)
    return Dataset(
        name=folder.resolve().name,
        images=np.stack(images),
        labels=None if labels is None else labels[: options.limit],
        classes=classes,
        files=tuple(map(str, paths)),
        split=chosen,
        part=f"{splits[chosen].path.name}/" if splits else "",
        notes=(*notes, *changes),
    )


def _classes(tree: Tree) -> tuple[str, ...]:
    """Return the classes in order; none if images lie directly in the folder."""
    return () if tree.images else sort_names(tree.folders)


def _labels(tree: Tree, known: tuple[str, ...]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Return the class index of each image in the order of `walk`; unknown classes come last."""
    found = _classes(tree)
    if not found:
        return None, ()
    classes = (*known, *(name for name in found if name not in known))
    index = {name: k for k, name in enumerate(classes)}
    sizes = [len(tree.folders[name]) for name in found]
    return np.repeat(np.array([index[name] for name in found], np.int64), sizes), classes


def _scan(folder: Path, above: set[Path]) -> Tree:
    """Find the images in and below a folder; `above` are the real paths of the folders above."""
    tree, real = Tree(folder), folder.resolve()
    if real in above:  # a link to a folder above
        return tree
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise FileError(f"{folder}: {describe_os_error(error)}") from error
    for path in entries:
        name = path.name.lower()
        hidden = name.startswith(".") or name == "__macosx"
        is_image = path.suffix.lower() in EXTENSIONS
        if path.is_dir():
            below = _scan(path, above | {real})
            if hidden:
                tree.left_out["hidden"] += len(below) + below.left_out["hidden"]
            elif name in _THUMBNAILS:
                tree.left_out[f"in {path.name}/"] += len(below)
            else:
                tree.left_out += below.left_out
                if len(below):
                    tree.folders[path.name] = below
        elif is_image and not hidden and path.is_file():
            tree.images.append(path)
        elif is_image or not (hidden or name in _SYSTEM):
            tree.left_out["hidden" if hidden else path.suffix or path.name] += 1
    return tree


def _other_files(tree: Tree) -> list[str]:
    """Describe the files that are not used, such as `3 hidden` and `2 other files (.csv)`."""
    counts = tree.left_out
    named = [kind for kind in counts if kind == "hidden" or kind.startswith("in ")]
    kinds = sorted(set(counts) - set(named))
    others = sum(counts[kind] for kind in kinds)
    listed = ", ".join(kinds[:5]) + (", …" if kinds[5:] else "")
    found = [f"{counts[kind]:,} {kind}" for kind in named if counts[kind]]
    return found + ([f"{others:,} not images ({listed})"] if others else [])


def _count(tree: Tree) -> str:
    return f"{len(tree):,} in {tree.path.name}/"


def _find_splits(tree: Tree, left_out: list[str]) -> tuple[Tree, dict[str, Tree]]:
    """Return the folder and its splits, if there are any; add what is beside them to `left_out`.

    Raises:
        InputError: there are several data sets.
    """
    splits = _splits(tree)
    if not splits:
        inner = [name for name, below in tree.folders.items() if "train" in _splits(below)]
        if inner and not tree.images:
            raise InputError(
                f"{tree.path}: {inner[0]}/ has splits of its own"
                f"{f', as has {inner[1]}/' if inner[1:] else ''}. Use {tree.path / inner[0]}, or "
                f"move the splits to the top: train/{inner[0]}/, test/{inner[0]}/."
            )
        return tree, {}
    if tree.images:
        left_out.append(f"{len(tree.images):,} beside {', '.join(f'{n}/' for n in tree.folders)}")
    used = [below.path for below in splits.values()]
    left_out.extend(_count(below) for below in tree.folders.values() if below.path not in used)
    return tree, splits


def _splits(tree: Tree) -> dict[str, Tree]:
    """Return the sub-folders that are splits; empty if the sub-folders are classes.

    A folder `train` among folders of other names is a class, such as `bus`, `car` and `train`.
    """
    found: dict[tuple[str, ...], dict[str, Tree]] = {}
    others = False
    for name, below in tree.folders.items():
        split, rest = split_of(name)
        if split:
            found.setdefault(rest, {})[split] = below
        elif not _is_one_of(name, _MASKS):
            others = True
    groups = [group for group in found.values() if len(group) > 1 or not others]
    if len(groups) > 1:
        names = ", ".join(f"{below.path.name}/" for group in groups for below in group.values())
        raise InputError(
            f"{tree.path}: the splits of several data sets ({names}). Give each its own folder "
            "with train/ and test/."
        )
    return groups[0] if groups else {}


def _unwrap(tree: Tree, left_out: list[str], *, in_split: bool = False) -> Tree:
    """Leave out masks, and enter a folder that holds only one folder of folders, as archives do."""
    while not tree.images:
        masks = _masks(tree)
        left_out.extend(_count(tree.folders[name]) for name in masks)
        folders = {name: below for name, below in tree.folders.items() if name not in masks}
        tree = replace(tree, folders=folders)
        ((name, only), *more) = folders.items()
        if more or (only.images and not (masks and _is_one_of(name, _IMAGES))):
            break
        if split_of(name)[0] and not in_split:
            break
        tree = only
    return tree


def _masks(tree: Tree) -> list[str]:
    """Return the sub-folders that hold masks: next to `images`, or with the classes inside."""
    masks = [name for name in tree.folders if _is_one_of(name, _MASKS)]
    others = tree.folders.keys() - set(masks)
    if len(others) == 1 and _is_one_of(next(iter(others)), _IMAGES):
        return masks
    inside = {name: set(tree.folders[name].folders) for name in masks}
    return [name for name in masks if inside[name] and inside[name] <= others]


def _is_one_of(name: str, known: set[str]) -> bool:
    return "".join(words(name)) in known


def _read(
    paths: list[Path], folder: Path, options: ReadOptions
) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Read all images in one mode; return them with a line for each kind of change.

    Raises:
        InputError: images are damaged, with the names of the first ten, or differ in size.
    """
    decoded: list[Decoded] = []
    failures: list[tuple[Path, InputError | LimitError | FileError]] = []
    # A photograph that is made smaller may be large, as the user's own files are trusted.
    max_pixels = MAX_PHOTO_PIXELS if options.size else MAX_PIXELS
    for path in options.track(paths, len(paths)):
        try:
            image = decode_image(path, mode=options.mode, size=options.size, max_pixels=max_pixels)
            decoded.append(image)
        except (InputError, LimitError, FileError) as error:
            failures.append((path, error))
            continue
        if image.pixels.size * len(paths) > MAX_BYTES:
            _, h, w = image.pixels.shape
            raise LimitError(
                f"{folder}: {len(paths):,} images of {h}x{w} pixels need over "
                f"{MAX_BYTES >> 30} GB of memory. {_SMALLER}"
            )
    if failures:
        raise _failed(failures, len(paths), folder)
    images, changes = compose(decoded)
    channels = max(map(len, images))  # grey images among colour images become RGB
    images = [np.repeat(i, channels, axis=0) if len(i) < channels else i for i in images]
    shape = images[0].shape
    other = [k for k, image in enumerate(images) if image.shape != shape]
    if other:
        (h, w), (first_h, first_w) = images[other[0]].shape[1:], shape[1:]
        raise InputError(
            f"{paths[other[0]]}: {h}x{w} pixels, expected {first_h}x{first_w} like "
            f"{paths[0].name}, as {len(images) - len(other):,} of {len(images):,} images are. "
            f"Resize all with --size {first_h}x{first_w}, or --resize in vae-run."
        )
    return images, changes


def _failed(
    failures: list[tuple[Path, InputError | LimitError | FileError]], n: int, folder: Path
) -> InputError | LimitError | FileError:
    """Build one error for all files that could not be read, which lists the first ten."""
    path, first = failures[0]
    if isinstance(first, LimitError):
        return LimitError(str(first).replace("Make it smaller.", _SMALLER))
    if len(failures) == 1:
        return first
    names = ", ".join(str(p.relative_to(folder)) for p, _ in failures[:_NAMED])
    more = f" and {len(failures) - _NAMED:,} more" if len(failures) > _NAMED else ""
    reason = str(first).removeprefix(f"{path}: ")
    return InputError(
        f"{folder}: {len(failures):,} of {n:,} images cannot be read. Replace or remove "
        f"{names}{more}. The first is: {reason}"
    )


def _no_images(tree: Tree) -> NotFound:
    seen = ", ".join(f"{n:,} {kind}" for kind, n in tree.left_out.most_common(5))
    return NotFound(
        f"{tree.path}: no images ({' '.join(EXTENSIONS)}) in it or its sub-folders"
        f"{f'; it has {seen}. {remedy(tree.left_out)}' if seen else ''}"
    )
