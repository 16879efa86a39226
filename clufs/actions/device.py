"""Whether a tape drive or media changer is there and answers."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_SCSI_TAPE = 9  # its major number, linux/major.h
_NO_REWIND = 0x80  # the bit of its minor number, Documentation/scsi/st.rst

# A drive that somebody else uses, or without a medium, answers.
_ANSWERS = (errno.EBUSY, errno.ENOMEDIUM)


def answers(name: str) -> bool:
    """Whether DEVICE_NAME leads to a device special file that can be opened. May block as long as the device does."""
    try:
        target = Path(name).resolve(strict=True)
        about = target.stat()
        if not (stat.S_ISCHR(about.st_mode) or stat.S_ISBLK(about.st_mode)):
            return False
        os.close(os.open(_harmless(target, about), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in _ANSWERS
    except RuntimeError:  # a loop of symbolic links
        return False
    return True


def _harmless(device: Path, about: os.stat_result) -> Path:
    """The same tape drive under a name that does not rewind the tape when it is closed.

    Raises OSError where there is none: then the drive is not known to answer without a loss.
    """
    rewinds = os.major(about.st_rdev) == _SCSI_TAPE and stat.S_ISCHR(about.st_mode)
    if not rewinds or os.minor(about.st_rdev) & _NO_REWIND:
        return device
    wanted = os.makedev(_SCSI_TAPE, os.minor(about.st_rdev) | _NO_REWIND)
    for twin in (
        Path(f"/dev/char/{_SCSI_TAPE}:{os.minor(wanted)}"),
        device.with_name(f"n{device.name}"),
    ):
        if twin.exists() and twin.stat().st_rdev == wanted:
            return twin
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(device))
