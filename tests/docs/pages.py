"""Find the code blocks of all pages. The table `RULES` defines how each is tested.

Each line of a block of commands is one example; so is any other block as a whole. `test_pages.py`
fails if an example matches no rule.
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
    ROOT / "runtime" / "javascript" / "README.md",
)
SHELL = ("sh", "console")
COMMANDS = (
    "vae-|pip |python3? |npm |pytest|make|gcc|mlserver|tritonserver|cp |eval |scripts/|pre-commit|"
    "torchrun|jupyter|curl |pyinstaller "
)

RUN, TRAIN, EXPORT, PYTHON = "vae-run", "vae-train", "vae-export", "python"


@dataclass(frozen=True)
class Rule:
    """How the matching examples of some pages are tested.

    Attributes:
        pages: a glob pattern of paths.
        begins: a regular expression for the start of `LANGUAGE: TEXT`.
        how: RUN, TRAIN, EXPORT or PYTHON if `test_pages.py` runs the example. Otherwise the path of
            the test that covers it, or the reason why it is not tested.
    """

    pages: str
    begins: str
    how: str


_REGISTRY = "needs a package registry; tests/test_wheel.py installs the same packages"
_LONG = "takes minutes to hours; its own test runs a small case"
RULES = (
    Rule("docs/tutorial.md", r"(sh|python|text): ", "scripts/pictures tutorial runs the page"),
    Rule("docs/gallery.md", r"(sh|python|text): ", "scripts/pictures gallery runs the page"),
    Rule("docs/troubleshooting.md", r"text: ", "tests/docs/test_troubleshooting.py"),
    Rule("docs/bucket.md", r"(sh|python): ", "tests/arrow/test_object_store.py"),
    Rule("*", r"sh: vae-run batch .*--scheduler", "needs a running cluster"),
    Rule("docs/uses.md", r"sh: vae-(train|export) ", "tests/uses/test_uses.py"),
    Rule("*", r"sh: vae-run ", RUN),
    Rule("*", r"sh: (vae-train|torchrun) ", TRAIN),
    Rule("*", r"sh: vae-export .*--model ", "tests/export/test_custom_module.py"),
    Rule("*", r"sh: vae-export ", EXPORT),
    Rule("*", r"python: from vae_export import export", "tests/export/test_custom_module.py"),
    Rule("docs/training.md", r"python: ", "tests/train/test_python_api.py"),
    Rule("*", r"python: ", PYTHON),
    Rule("README.md", r"sh: python3 -m venv .*vae-run sample", "tests/test_wheel.py"),
    Rule("*", r"sh: (\S+=\S+ )?(pip install|npm ci)", _REGISTRY),
    Rule("*", r"sh: python -m vae_runtime\.studio\.fetch", "tests/studio/test_build.py"),
    Rule("*", r"sh: scripts/test", "runs this test"),
    Rule("docs/commands.md", r"sh: eval ", "changes the shell that runs it"),
    Rule("docs/quality.md", r"sh: scripts/embed", "trains for half an hour"),
    Rule("docs/quality.md", r"sh: python -m tests\.quality", _LONG),
    Rule("docs/performance.md", r"sh: python -m tests\.performance", _LONG),
    Rule("docs/uses.md", r"sh: python -m tests\.uses", "tests/uses/test_uses.py"),
    Rule("docs/scale.md", r"sh: python tests/performance/scale", _LONG),
    Rule("docs/embedding.md", r"sh: python -m tests\.embedding", "tests/embedding/test_table.py"),
    Rule("docs/scale.md", r"sh: pytest -m slow tests/arrow", "is a test"),
    Rule("docs/embedding.md", r"sh: pyinstaller ", "tests/embedding/test_frozen.py"),
    Rule("docs/embedding.md", r"(csharp|rust): ", "the page says that it is not run"),
    Rule("docs/server.md", r"sh: curl ", "tests/runtime/test_server.py"),
    Rule("docs/training.md", r"toml: ", "tests/train/test_docs.py"),
    Rule("examples/notebook/*", r"sh: jupyter ", "tests/train/test_python_api.py"),
    Rule("docs/data.md", r"text: ", "tests/runtime/test_layouts.py"),
    Rule("docs/bundle-format.md", r"(json|hex|text)", "tests/runtime/test_bundle_format.py"),
    Rule("docs/export.md", r"text: error: ", "tests/export/test_parity_check.py"),
    Rule("docs/export.md", r"text: model      graphs", "is printed by tests/performance/export.py"),
    Rule("CONTRIBUTING.md", r"text: ", "tests/test_structure.py"),
    Rule("examples/bare_onnxruntime/*", r"sh: ", "tests/embedding/test_python.py"),
    Rule("examples/pillow_script/*", r"sh: ", "tests/embedding/test_python.py"),
    Rule("examples/web_app/*", r"sh: ", "tests/embedding/test_python.py"),
    Rule("runtime/javascript/*", r"(html|js|ts): ", "tests/javascript/test_package.py"),
    Rule("runtime/javascript/*", r"sh: npm ", _REGISTRY),
    Rule("examples/c/*", r"(sh|c): ", "tests/embedding/test_c.py"),
    Rule("examples/c_api/*", r"sh: ", "tests/embedding/test_c.py"),
    Rule("examples/mlserver/*", r"sh: ", "tests/embedding/test_servers.py"),
    Rule("examples/triton/*", r"sh: ", "tests/embedding/test_servers.py"),
)


@dataclass(frozen=True)
class Example:
    """A code block, or one line of a block of commands.

    Attributes:
        page, line: where it is.
        language: `sh`, `python`, … or `text`.
        text: its text without indentation, prompt or comment.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def rule(self) -> Rule | None:
        """The first matching rule."""
        text = f"{self.language}: {self.text}"
        matches = (r for r in RULES if fnmatch(self.page, r.pages) and re.match(r.begins, text))
        return next(matches, None)


def find_examples() -> list[Example]:
    """Find the examples of all pages."""
    return [
        example
        for path in PAGES
        for line, language, text in _blocks(path.read_text())
        for example in _split(path.relative_to(ROOT).as_posix(), line, language, text)
    ]


def _blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, language and text of each block, fenced or indented by four columns."""
    fence = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.M)
    for match in fence.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1], match[2]
    plain = fence.sub(lambda match: "\n" * match[0].count("\n"), text)
    for match in re.finditer(r"(?:(?<=\n\n)|\A)((?: {4}.*\n?|\n(?= {4}))+)", plain):
        body = "\n".join(line[4:] for line in match[0].splitlines())
        yield plain.count("\n", 0, match.start()) + 1, _guess(body), body


def _guess(body: str) -> str:
    """Guess the language of a block that names none."""
    if re.match(r"(from|import) \w+(\.\w+)*( import| as|$)", body):
        return "python"
    if re.match(r"import \{|float ", body):
        return "js" if body.startswith("import") else "c"
    return "sh" if re.match(rf"(\S+=\S+ )?({COMMANDS})", body) else "text"


def _split(page: str, line: int, language: str, body: str) -> Iterator[Example]:
    language = language or _guess(body)
    if language not in SHELL:
        yield Example(page, line, language, body)
        return
    command = ""
    for number, text in enumerate(body.splitlines(), line + 1):
        if language == "console" and not text.startswith("$ "):
            continue  # output of the previous command
        command += ("\n" if command else "") + text.removeprefix("$ ")
        if command.count("'") % 2 or command.endswith("\\"):
            continue  # the command continues
        # An explanation follows a `#` or two spaces.
        words = re.split(r"\s+#\s|\s{2,}(?![-\]])", command)[0].strip()
        if words:
            yield Example(page, number, "sh", words.replace("\\\n", " "))
        command = ""
