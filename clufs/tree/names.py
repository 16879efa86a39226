"""Names of lock files and how names and values are shown in text."""

import re

from clufs.errors import InvalidRequest, NameTooLong
from clufs.limits import NAME_MAX_BYTES, SUBLOCK_DEPTH_MAX

SUB = b".sub"

_ESCAPE = re.compile(rb"\\([0-3][0-7]{2})")
_BAD_ESCAPE = re.compile(rb"\\(?![0-3][0-7]{2})")

_VISIBLE = [
    chr(code) if 0x20 <= code < 0x7F and code != 0x5C else f"\\{code:03o}" for code in range(256)
]


def shown(raw: bytes) -> str:
    """`raw` as one line of text: UTF-8 stays, control and undecodable bytes are `\\ooo` (contract 1)."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return "".join(_VISIBLE[byte] for byte in raw)
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        char if char.isprintable() and char != "\\" else "".join(_VISIBLE[b] for b in char.encode())
        for char in text
    )


def shown_word(raw: bytes) -> str:
    """Like `shown`, with blanks as `\\040` too: one word of a line."""
    return shown(raw).replace(" ", "\\040")


def read_word(text: bytes) -> bytes:
    """The bytes that `shown_word` shows as `text`. Raises InvalidRequest on a bad escape."""
    if _BAD_ESCAPE.search(text):
        raise InvalidRequest(f"bad escape in '{shown(text)}'")
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), text)


def ranges_of(key: bytes) -> bytes:
    """The resource block of the byte ranges of a lock file, beside its own: no file has such a name."""
    return key.replace(b"/", b"\0")


def file_of(name: bytes) -> bytes:
    """The lock file that a resource block is of, its own or that of its ranges."""
    return name.replace(b"\0", b"/")


def check_lock_name(name: bytes) -> None:
    """A lock name is 1 to 251 bytes and does not end in `.sub` (contract 2).

    Raises NameTooLong or InvalidRequest.
    """
    if len(name) > NAME_MAX_BYTES:
        raise NameTooLong(f"a lock name has at most {NAME_MAX_BYTES} bytes, this one {len(name)}")
    if name.endswith(SUB):
        raise InvalidRequest(f"a lock name may not end in '.sub': '{shown(name)}'")


def check_depth(path: bytes) -> None:
    """Raises InvalidRequest when a sublock lies deeper than clufs follows."""
    if path.count(SUB + b"/") >= SUBLOCK_DEPTH_MAX:
        raise InvalidRequest(f"sublocks go at most {SUBLOCK_DEPTH_MAX} deep")


def parent_block(name: bytes) -> bytes | None:
    """The resource block above a sublock's (`ns/a.sub/b` has `ns/a`), None for a root lock."""
    directory = name.rpartition(b"/")[0]
    return directory[: -len(SUB)] if directory.endswith(SUB) and b"/" in directory else None
