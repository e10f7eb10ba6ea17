"""Cases for the JSON of manifests: rules J."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from tests.conformance.corpus import GOOD, Case, Change, file_case, manifest_case, put, text_case
from tests.conformance.manifests import BOX, GAUSSIAN, with_sigma
from vae_runtime.bundle.checksums import manifest_with_checksum
from vae_runtime.bundle.manifest import NAME

Edit = Callable[[str], str]


def all_cases() -> Iterator[Case]:
    """Rules J."""
    yield from syntax_cases()
    yield from duplicate_cases()
    yield from depth_cases()
    yield from number_cases()
    yield from bool_cases()
    yield from text_cases()
    yield from freedom_cases()


def insert(text: str) -> Edit:
    """Insert members at the start of `training`."""
    return lambda whole: whole.replace('"training": {', '"training": {' + text + ",", 1)


def syntax_cases() -> Iterator[Case]:
    """Text that is not JSON or not UTF-8."""
    for name, raw in {
        "a list": b"[]", "nothing": b"", "text": b"hello", "null": b"null", "a bracket": b"{",
        "all bytes": bytes(range(256)), "UTF-16": '{"format": "1.0"}'.encode("utf-16"),
        "100,000 brackets": b"[" * 100_000, "100,000 braces": b'{"a":' * 100_000,
        "a byte order mark": b"\xef\xbb\xbf" + GOOD[NAME],
        "Latin-1": manifest_with_checksum(GOOD[NAME].replace(b'"tests"', b'"t\xe4sts"')),
        "a list with a checksum": manifest_with_checksum(b'{"format": []}'),
    }.items():  # fmt: skip
        yield file_case("J1", name, "InputError", GOOD | {NAME: raw})
    edits: dict[str, Edit] = {
        "a comment": lambda t: t.replace('"id"', '/* id */ "id"'),
        "a trailing comma": lambda t: t.rstrip()[:-1] + ",}",
        "single quotes": lambda t: t.replace('"cvae"', "'cvae'"),
        "two documents": lambda t: t + "{}",
        "a raw control character": insert('"a": "\n"'),
        "an unknown escape": insert(r'"a": "\x"'),
    }
    for name, edit in edits.items():
        yield text_case("J1", name, edit, "InputError")
    for number in ("01", "+1", ".5", "1.", "0x10", "1_000"):
        yield text_case("J1", f"the number {number}", insert(f'"a": {number}'), "InputError")


def duplicate_cases() -> Iterator[Case]:
    """Duplicate keys."""
    edits: dict[str, Edit] = {
        "at the top": lambda t: t.replace('"id"', '"family": "cvae", "id"'),
        "once escaped": lambda t: t.replace('"id"', '"famil\\u0079": "cvae", "id"'),
        "deep inside": insert('"a": {"b": [{"c": 1, "c": 1}]}'),
        "the checksum": lambda t: t.replace('"id"', '"sha256": "", "id"'),
        "a key nobody knows": insert('"x": 1, "x": 1'),
    }
    for name, edit in edits.items():
        yield text_case("J2", name, edit, "InputError")


def depth_cases() -> Iterator[Case]:
    """The deepest nesting that is allowed, and deeper."""
    for depth in (64, 65, 1500):
        rule, verdict = ("J9", "accept") if depth == 64 else ("J3", "InputError")
        inside = depth - 2  # the manifest and `training` are two levels
        lists = insert('"a": ' + "[" * inside + "]" * inside)
        yield text_case(rule, f"{depth} levels of lists", lists, verdict)
        objects = insert('"a": ' + '{"b":' * (inside - 1) + "{}" + "}" * (inside - 1))
        yield text_case(rule, f"{depth} levels of objects", objects, verdict)


def number_cases() -> Iterator[Case]:
    """Notations of numbers."""
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400, "1" * 5000):
        name = f"{number[:9]} of {len(number)}"
        yield text_case("J4", name, insert(f'"a": [{number}]'), "InputError")
    for key in ("height", "opset", "ir"):
        for form in ("{}.0", "{}e0", "{}E+0"):
            yield text_case("J5", f"{key} as {form}", spelled(key, form), "InputError")
    yield text_case("J5", "bytes with a fraction", spelled("bytes", "{}.0"), "InputError")
    shape: Edit = lambda t: compact(t).replace('["batch",2]', '["batch",2.0]')  # noqa: E731
    yield text_case("J5", "a shape with a fraction", shape, "InputError")
    for form in ("[0.0, 1.0]", "[0, 1]", "[0e0, 1E0]", "[-0, 1.000]"):
        yield text_case("J6", f"range as {form}", ranged(form), "accept")


def spelled(key: str, form: str) -> Edit:
    """Write the first value of `key`, an integer, in another notation."""

    def edit(text: str) -> str:
        before, _, after = text.partition(f'"{key}": ')
        digits = after[: len(after) - len(after.lstrip("0123456789"))]
        return f'{before}"{key}": {form.format(digits)}{after[len(digits) :]}'

    return edit


def ranged(form: str) -> Edit:
    return lambda text: compact(text).replace('"range":[0,1]', f'"range": {form}')


def compact(text: str) -> str:
    """Write the manifest without white space and checksum."""
    data = json.loads(text)
    del data["sha256"]
    return json.dumps(data, separators=(",", ":"))


def bool_cases() -> Iterator[Case]:
    """Booleans in place of numbers."""
    changes: dict[str, Change] = {
        "channels": put("image", "channels", to=True),
        "height": put("image", "height", to=True),
        "range": put("image", "range", to=[False, True]),
        "sigma": with_sigma(True),
        "a shape": put("graphs", 0, "inputs", 0, "shape", 1, to=True),
        "opset": put("graphs", 0, "opset", to=True),
        "a prior's mean": put("prior", to=GAUSSIAN | {"mean": [[[True, 0.5]]]}),
        "a prior's weights": put("prior", to=GAUSSIAN | {"weights": [[True]]}),
        "a prior's box": put("prior", to=BOX | {"low": [0.5, False], "high": [1, True]}),
    }
    for name, change in changes.items():
        yield manifest_case("J7", f"in {name}", change)


def text_cases() -> Iterator[Case]:
    """Lone surrogates."""
    for name, text in {
        "the first half": r'"a": "\ud83d"', "the second half": r'"a": "\udcbb"',
        "halves in the wrong order": r'"a": "\udcbb\ud83d"', "half in a key": r'"\ud83d": 1',
        "half as UTF-8": '"a": "\ud83d"',
    }.items():  # fmt: skip
        yield text_case("J8", name, insert(text), "InputError")


def freedom_cases() -> Iterator[Case]:
    """Other notations of the same values, and unknown keys."""
    edits: dict[str, Edit] = {
        "a whole pair": insert(r'"a": "\ud83d\udcbb"'),
        "UTF-8": insert('"größe": "💻"'),
        "escapes": lambda t: t.replace('"cvae"', r'"\u0063\u0076ae"'),
        "escaped controls": insert(r'"a": "\u0000\b\f\n\r\t\"\\\/"'),
        "CR LF": lambda t: "{" + t[t.index('"format"') :].replace("\n", "\r\n"),
        "no white space": compact,
        "another order": lambda t: json.dumps(dict(reversed(json.loads(compact(t)).items()))),
    }
    for name, edit in edits.items():
        yield text_case("J9", name, edit, "accept")
    changes: dict[str, Change] = {
        "of the manifest": put("colour", to="blue"),
        "of a graph": put("graphs", 0, "x", to=1),
        "of the image": put("image", "dpi", to=None),
        "of a tensor": put("graphs", 0, "inputs", 0, "unit", to="mm"),
        "of the prior": put("prior", "source", to=[1]),
        "`__proto__`": put("__proto__", to={"a": 1}),
    }
    for name, change in changes.items():
        yield manifest_case("J10", name, change, "accept")
