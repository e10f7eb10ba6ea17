"""Every code block of every page, and the one table that says how each is run: `WAYS`.

A block of Python is one piece. A block of commands is a piece a line. A block of anything else is a
piece that some other test reads. A new piece must fit a row of WAYS, else `test_pages.py` fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
)
SHELL = ("sh", "console")
COMMANDS = (
    "vae-|pip |python3? |npm |pytest|make|gcc|mlserver|tritonserver|cp |eval |scripts/|pre-commit|"
    "torchrun"
)

RUN, TRAIN, EXPORT, PYTHON = "vae-run", "vae-train", "vae-export", "python"


@dataclass(frozen=True)
class Way:
    """How the pieces of some pages that begin in some way are run.

    Attributes:
        pages: a pattern of paths.
        begins: a regular expression for the beginning of the piece, its language in front.
        how: RUN, TRAIN, EXPORT or PYTHON: `test_pages.py` runs it; the path of a test that does; or
            the reason why none does.
    """

    pages: str
    begins: str
    how: str


_REGISTRY = "needs a package registry; tests/test_wheel.py installs what this would"
_HOURS = "measures for minutes to hours; its test runs a small case"
WAYS = (
    Way("docs/tutorial.md", r"(sh|python|text): ", "scripts/pictures tutorial runs the page"),
    Way("docs/gallery.md", r"(sh|python|text): ", "scripts/pictures gallery runs the page"),
    Way("*", r"sh: vae-run batch .*--scheduler", "needs a cluster that is running elsewhere"),
    Way("*", r"sh: vae-run ", RUN),
    Way("*", r"sh: (vae-train|torchrun) ", TRAIN),
    Way("*", r"sh: vae-export .*--model ", "tests/export/test_foreign.py"),
    Way("*", r"sh: vae-export ", EXPORT),
    Way("*", r"python: from vae_export import export", "tests/export/test_foreign.py"),
    Way("*", r"python: ", PYTHON),
    Way("README.md", r"sh: python3 -m venv .*vae-run sample", "tests/test_wheel.py"),
    Way("*", r"sh: (\S+=\S+ )?(pip install|npm ci|npm run engine)", _REGISTRY),
    Way("*", r"sh: python -m vae_runtime\.studio\.fetch", "tests/studio/test_build.py"),
    Way("*", r"sh: scripts/test", "is what runs these tests"),
    Way("docs/commands.md", r"sh: eval ", "changes the shell that reads it"),
    Way("docs/quality.md", r"sh: scripts/embed", "trains for half an hour"),
    Way("docs/quality.md", r"sh: python -m tests\.quality", _HOURS),
    Way("docs/performance.md", r"sh: python -m tests\.performance", _HOURS),
    Way("docs/scale.md", r"sh: python tests/performance/scale", _HOURS),
    Way("docs/embedding.md", r"sh: python -m tests\.embedding", "tests/embedding/test_table.py"),
    Way("docs/scale.md", r"sh: pytest -m slow tests/arrow", "is a test"),
    Way("docs/studio.md", r"js: ", "tests/studio/test_engine.py"),
    Way("docs/training.md", r"toml: ", "tests/train/test_docs.py"),
    Way("docs/bundle-format.md", r"(json|hex|text)", "tests/runtime/test_bundle_format.py"),
    Way("docs/export.md", r"text: \|onnxruntime - torch", "is a formula"),
    Way("docs/export.md", r"text: error: ", "tests/export/test_gate.py"),
    Way("docs/export.md", r"text: model      graphs", "is what tests/performance/export.py prints"),
    Way("CONTRIBUTING.md", r"text: ", "tests/test_structure.py"),
    Way("examples/bare_onnxruntime/*", r"sh: ", "tests/embedding/test_python.py"),
    Way("examples/pillow_script/*", r"sh: ", "tests/embedding/test_python.py"),
    Way("examples/web_app/*", r"sh: ", "tests/embedding/test_python.py"),
    Way("examples/node/*", r"(sh|js): ", "tests/embedding/test_node.py"),
    Way("examples/c/*", r"(sh|c): ", "tests/embedding/test_c.py"),
    Way("examples/c_api/*", r"sh: ", "tests/embedding/test_c.py"),
    Way("examples/mlserver/*", r"sh: ", "tests/embedding/test_servers.py"),
    Way("examples/triton/*", r"sh: ", "tests/embedding/test_servers.py"),
)


@dataclass(frozen=True)
class Piece:
    """A block, or a line of a block of commands.

    Attributes:
        page, line: where it stands.
        language: `sh`, `python`, … or `text`.
        text: without its indentation, prompt and comment.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def way(self) -> Way | None:
        """The first row of WAYS that it fits."""
        begin = f"{self.language}: {self.text}"
        fits = (w for w in WAYS if fnmatch(self.page, w.pages) and re.match(w.begins, begin))
        return next(fits, None)


def pieces() -> list[Piece]:
    """All of all pages."""
    return [
        piece
        for path in PAGES
        for line, language, text in _blocks(path.read_text())
        for piece in _split(path.relative_to(ROOT).as_posix(), line, language, text)
    ]


def _blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, language and text of each block, in fences or indented by four columns."""
    fence = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.M)
    for found in fence.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, found[1], found[2]
    plain = fence.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in re.finditer(r"(?:(?<=\n\n)|\A)((?: {4}.*\n?|\n(?= {4}))+)", plain):
        body = "\n".join(line[4:] for line in found[0].splitlines())
        yield plain.count("\n", 0, found.start()) + 1, _guess(body), body


def _guess(body: str) -> str:
    """The language of a block that names none."""
    if re.match(r"(from|import) \w+(\.\w+)*( import| as|$)", body):
        return "python"
    if re.match(r"import \{|float ", body):
        return "js" if body.startswith("import") else "c"
    return "sh" if re.match(rf"(\S+=\S+ )?({COMMANDS})", body) else "text"


def _split(page: str, line: int, language: str, body: str) -> Iterator[Piece]:
    language = language or _guess(body)
    if language not in SHELL:
        yield Piece(page, line, language, body)
        return
    start = ""
    for number, text in enumerate(body.splitlines(), line + 1):
        if language == "console" and not text.startswith("$ "):
            continue  # what the command before it printed
        start += ("\n" if start else "") + text.removeprefix("$ ")
        if start.count("'") % 2 or start.endswith("\\"):
            continue  # the command goes on
        # Words that explain stand behind a `#`, or two spaces.
        command = re.split(r"\s+#\s|\s{2,}(?![-\]])", start)[0].strip()
        if command:
            yield Piece(page, number, "sh", command.replace("\\\n", " "))
        start = ""
