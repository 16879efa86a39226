"""What an action script finds in its environment (TruCluster manual 2.3.1 and 2.3.3)."""

from __future__ import annotations

from collections.abc import Mapping

from clufs.caa.interface import Reason

PATH = "/sbin:/usr/sbin:/usr/bin"
"""The manual's default; a script that wants another one sets it."""

USER_PREFIX = "USR_"
OCF_PREFIX = "OCF_"
_CAA_PREFIX = "_CAA_"


def action_environment(
    attributes: Mapping[str, str],
    reason: Reason,
    client_locale: str = "",
    variables: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The whole environment of an action.

    attributes: every attribute of the registered profile, as text. client_locale: of the person's
    shell: LC_ALL, LC_CTYPE, LC_MONETARY, LC_NUMERIC, LC_TIME and LC_MESSAGES with spaces between.
    variables: user-defined attributes from the command line, which count more than the profile's.

    Every attribute is there as `_CAA_<attribute>`, user-defined ones also by their own name.
    """
    merged = {**attributes, **(variables or {})}
    own = (USER_PREFIX, OCF_PREFIX)
    return {
        **{name: text for name, text in merged.items() if name.startswith(own)},
        **{f"{_CAA_PREFIX}{name}": text for name, text in merged.items()},
        "_CAA_REASON": str(reason),
        "_CAA_CLIENT_LOCALE": client_locale,
        "PATH": PATH,
    }
