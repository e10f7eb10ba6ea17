"""Every relative link of every page points to a file and a heading that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from .pages import PAGES, ROOT

pytestmark = pytest.mark.torch_free

FENCE = re.compile(r"^(```|~~~).*?^\1", re.M | re.S)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n?|\n(?= {4}))+")
INLINE_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*<?(\S+?)>?\s*$", re.M)
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*$", re.M)
OTHER_SITE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.I)


def without_code(text: str) -> str:
    """Blank out blocks of code, where brackets are not links and `#` is not a heading."""
    for block in (FENCE, INDENTED):
        text = block.sub(lambda match: "\n" * match[0].count("\n"), text)
    return text


def links(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and target of every link within the repository."""
    text = INLINE_CODE.sub("", without_code(text))
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if not OTHER_SITE.match(target):
            yield text.count("\n", 0, match.start()) + 1, target


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page.

    It drops the markup, lowers the case, removes what is not a letter, digit, space, hyphen or
    underscore, and turns each space into a hyphen. Letters such as é stay. A repeated heading gets
    the suffix -1, -2, and so on.
    """
    found: set[str] = set()
    for heading in HEADING.findall(without_code(text)):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        repeats = (f"{name}-{n}" if n else name for n in range(len(found) + 1))
        found.add(next(anchor for anchor in repeats if anchor not in found))
    return found


def problem(page: Path, target: str) -> str | None:
    """Describe what is wrong with a relative link of a page, if anything."""
    name, _, anchor = unquote(target).partition("#")
    path = page if not name else page.parent / name
    if not path.exists():
        return "no such file"
    if not path.resolve().is_relative_to(ROOT):
        return "outside the repository"
    if anchor and (path.suffix != ".md" or anchor not in anchors(path.read_text())):
        return "no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_have_targets(page: Path) -> None:
    broken = {
        f"{page.relative_to(ROOT)}:{line}: {target}": found
        for line, target in links(page.read_text())
        if (found := problem(page, target))
    }
    assert not broken


def test_links_are_found() -> None:
    total = sum(len(list(links(page.read_text()))) for page in PAGES)
    assert total > 200


PAGE = """
# First page

[a](#first-page) ![b](b.png "title") [c](<c.md#x>) `[d](d.md)` [e](https://example.org/#y)
[![f](f.png)](f.md)

[g]: g.md

```sh
# No heading
[h](h.md)
```

    [i](i.md)

## Fréchet distance
## fp16, `int8`: 2 × the *floor*
## mu and log_var
## [N(0, I)](c.md), again
## First page
"""


def test_the_links_of_a_page() -> None:
    assert sorted(links(PAGE)) == [
        (4, "#first-page"), (4, "b.png"), (4, "c.md#x"), (5, "f.md"), (5, "f.png"), (7, "g.md"),
        (19, "c.md"),
    ]  # fmt: skip


def test_the_anchors_of_a_page() -> None:
    assert anchors(PAGE) == {
        "first-page", "fréchet-distance", "fp16-int8-2--the-floor", "mu-and-log_var",
        "n0-i-again", "first-page-1",
    }  # fmt: skip


def test_broken_links_are_reported(tmp_path: Path) -> None:
    page = ROOT / "docs" / "glossary.md"
    assert problem(page, "#fréchet-distance") is None
    assert problem(page, "#fr%C3%A9chet-distance") is None
    assert problem(page, "#frechet-distance") == "no such heading"
    assert problem(page, "no.md") == "no such file"
    assert problem(page, "../pyproject.toml#x") == "no such heading"
    assert problem(page, "../../" * 20 + "tmp") == "outside the repository"
