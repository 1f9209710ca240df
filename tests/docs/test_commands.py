"""The commands that pages show and workflows run exist, with every option; links between pages lead
somewhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from npu_sim.cli import app
from tests.docs.documents import ROOT

PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*/*.md"))
    if path.name != "LICENSE.md"
)
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
# A command in a block or between backticks, after variables that it is given.
_COMMAND = re.compile(
    r"(?:^ *|`|run: )(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?((?:npu-sim|make) [^`\n#]*)", re.M
)
_EXAMPLE = re.compile(r"^ +(?:[A-Z_]+=\S+ )*(npu-sim [^\n#]*)", re.M)


def commands(text: str, pattern: re.Pattern[str], program: str) -> Iterator[list[str]]:
    """The arguments of each command of ``program`` in a text."""
    for match in pattern.finditer(text.replace("\\\n", " ")):
        # `… > file`, `… | program` and `"…` belong to the shell or to the sentence.
        words = re.split(r" [|>&]", match[1])[0]
        if words.split()[0] == program:
            yield shlex.split(words)[1:]


def problems(arguments: list[str]) -> list[str]:
    """What `npu-sim` does not know of a command's arguments."""
    command: Any = typer.main.get_command(app)
    words = list(arguments)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        known = command.commands.get(words[0])
        if known is None:
            return [words[0]]
        command = known
        words.pop(0)
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    given = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [name for name in given if name not in options | {"--help"}]


@pytest.mark.parametrize(
    "page", [*PAGES, *WORKFLOWS], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    unknown = [found for c in commands(text, _COMMAND, "npu-sim") for found in problems(c)]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    made = [w for c in commands(text, _COMMAND, "make") for w in c if re.match(r"[a-z][a-z-]*$", w)]
    assert (unknown, [t for t in made if t not in targets]) == ([], [])


def test_examples_of_the_command_line_exist() -> None:
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        shown = list(commands(command.help or "", _EXAMPLE, "npu-sim"))
        assert shown or name == "cache", name
        assert [found for c in shown for found in problems(c)] == [], name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    places = [link for link in links if not link.startswith("http")]
    assert [link for link in places if not (page.parent / link).exists()] == []
