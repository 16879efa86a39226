"""The rule of the rooms: who may import whom, how long a module may be, what the pure rooms may not know.

`cli -> daemon -> fuse, lab -> tree -> member -> actions -> caa, registry, storage -> cluster -> dlm`,
and all of them `-> errors, limits, timeouts`.

Rooms on one level do not know each other. Any other module directly below clufs (config, logging
and the like) is a helper of the daemon: it stands on the lowest level only and is used by daemon
and cli only.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

LINES_MAX = 500

LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors", "limits", "timeouts"),
    ("dlm",),
    ("cluster",),
    ("caa", "storage"),
    ("registry",),
    ("actions",),
    ("member",),
    ("tree",),
    ("fuse", "lab"),
    ("daemon",),
    ("cli",),
)
BASE = LEVELS[0]
HELPERS_ARE_FOR = ("daemon", "cli")

# Whatever would make two runs of the lock manager or of the planner from one seed differ.
IMPURE = frozenset(
    "asyncio datetime io logging os pathlib random secrets select selectors signal socket"
    " subprocess threading time trio uuid".split()
)
PURE_ROOMS = ("dlm", "caa")

_LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def violations(package: Path) -> list[str]:
    """Return one sentence for each place below `package` that breaks the rule."""
    found = []
    for path in sorted(package.rglob("*.py")):
        where = path.relative_to(package)
        source = path.read_text(encoding="utf-8")
        lines = source.count("\n")
        if lines > LINES_MAX:
            found.append(f"{where} has {lines} lines, more than {LINES_MAX}")
        for line, imported in _imports(ast.parse(source, str(path)), package.name, where):
            why = _why_not(where.parts[0].removesuffix(".py"), imported, package.name)
            if why:
                found.append(f"{where}:{line} imports {imported}: {why}")
    return found


def _imports(tree: ast.Module, package: str, where: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute dotted name of everything imported, also inside functions."""
    parents = [package, *where.with_suffix("").parts][:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from clufs import dlm` names its rooms after the word import.
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name) for name in (names if module == package else [module]))


def _why_not(importer: str, imported: str, package: str) -> str:
    """Return why the room `importer` may not import `imported`, or an empty string."""
    parts = imported.split(".")
    if parts[0] != package:
        impure = importer in PURE_ROOMS and parts[0] in IMPURE
        return f"{importer} is pure" if impure else ""
    room = parts[1] if len(parts) > 1 else ""
    if room in ("", importer) or room.startswith("__") or importer == "__init__":
        return ""
    if room not in _LEVEL_OF:
        allowed = importer in HELPERS_ARE_FOR
        return "" if allowed else f"{room} is a helper of {' and '.join(HELPERS_ARE_FOR)}"
    if importer not in _LEVEL_OF:
        return "" if room in BASE else f"helpers import {', '.join(BASE)} only"
    if importer in BASE and room in BASE:
        return ""
    above = _LEVEL_OF[importer] > _LEVEL_OF[room]
    return "" if above else f"{importer} does not stand above {room}"
