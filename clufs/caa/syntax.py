"""The syntax that profiles and templates share: `KEY=value`, `#` comments, `\\` continuation (manual 2.2).

Blanks around `=` and at both ends of a line do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clufs.caa.attributes import place
from clufs.errors import ProfileRefused

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Line:
    """One assignment; number: of its first line, from 1."""

    number: int
    attribute: str
    value: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a text is refused. line: 0 where no line is at fault but what is missing."""

    where: str
    line: int
    attribute: str
    why: str

    def __str__(self) -> str:
        line = f" line {self.line}" if self.line else ""
        attribute = f"{self.attribute}: " if self.attribute else ""
        return f"{self.where}{line}: {attribute}{self.why}"


def refuse(problems: list[Problem]) -> None:
    """Raises ProfileRefused with every problem, if there is one."""
    if problems:
        raise ProfileRefused(*map(str, problems))


def whole_lines(text: bytes, where: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line that says something, continuations joined.

    Raises ProfileRefused where the text is not UTF-8, has control characters or ends in a `\\`.
    """
    first, joined = 0, ""
    for at, raw in enumerate(text.removesuffix(b"\n").split(b"\n"), 1):
        part = _decoded(raw, at, where)
        if first:
            # Blanks on either side of the break are one blank; without any the halves are one word.
            blank = joined[-1:].isspace() or part[:1].isspace()
            joined = joined.rstrip() + (" " if blank else "") + part.lstrip()
        elif part.lstrip().startswith("#"):
            continue
        else:
            first, joined = at, part
        joined = joined.rstrip()
        if joined.endswith("\\"):
            # What stood before the break decides, below, whether the halves are one word.
            joined = joined[:-1]
            continue
        if joined.strip():
            yield first, joined.strip()
        first, joined = 0, ""
    if first:
        refuse([Problem(where, first, "", "a '\\' continues the line, and nothing follows")])


def _decoded(raw: bytes, at: int, where: str) -> str:
    try:
        part = raw.decode().removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ProfileRefused(str(Problem(where, at, "", "is not UTF-8 text"))) from error
    if _CONTROL.search(part):
        refuse([Problem(where, at, "", "has a control character")])
    return part


def parse(text: bytes, where: str = "profile") -> list[Line]:
    """The assignments of a profile or template, in their order.

    Raises ProfileRefused, which names every line that is none.
    """
    lines: list[Line] = []
    problems: list[Problem] = []
    for number, whole in whole_lines(text, where):
        attribute, equals, value = whole.partition("=")
        attribute = attribute.rstrip()
        if equals and _KEY.fullmatch(attribute):
            lines.append(Line(number, attribute, value.lstrip()))
        else:
            problems.append(Problem(where, number, "", f"'{whole}' is not KEY=value"))
    refuse(problems)
    return lines


def changed(text: bytes, values: Mapping[str, str]) -> bytes:
    """A valid profile's text with other values; comments, and all that is not changed, stay as they are.

    An attribute that the text lacks comes before the first that a profile has after it.
    """
    left = dict(values)
    blocks = list(_blocks(text.decode()))
    for at, (attribute, _) in enumerate(blocks):
        if attribute in left:
            blocks[at] = (attribute, [f"{attribute}={left.pop(attribute)}"])
    for attribute, value in left.items():
        after = [
            at for at, (name, _) in enumerate(blocks) if name and place(name) > place(attribute)
        ]
        blocks.insert(min(after, default=len(blocks)), (attribute, [f"{attribute}={value}"]))
    return "".join(f"{line}\n" for _, lines in blocks for line in lines).encode()


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """The text in pieces: an assignment with its continuations, or a line that is none (attribute empty)."""
    block: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        block.append(line)
        if block[0].lstrip().startswith("#") or not line.rstrip().endswith("\\"):
            attribute, equals, _ = block[0].partition("=")
            is_comment = block[0].lstrip().startswith("#")
            yield (attribute.strip() if equals and not is_comment else "", block)
            block = []
