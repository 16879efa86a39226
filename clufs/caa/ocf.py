"""How an agent of the Open Cluster Framework is called, and what its exit status means (OCF resource agent API 1.1)."""

from __future__ import annotations

from collections.abc import Mapping

from clufs.caa.environment import OCF_PREFIX, USER_PREFIX

ROOT = "/usr/lib/ocf"
"""Where agents are: ROOT/resource.d/PROVIDER/AGENT."""

SUCCESS = 0
NOT_RUNNING = 7
DEGRADED = 190
"""Active, but it will fail sooner: counts as running."""

ACTIONS = {"start": "start", "stop": "stop", "check": "monitor"}
"""CAA's entries in OCF's words."""

_MEANINGS = {
    SUCCESS: "success",
    1: "generic error",
    2: "invalid argument",
    3: "action not implemented",
    4: "insufficient privileges",
    5: "not installed",
    6: "not configured",
    NOT_RUNNING: "not running",
    8: "running, promoted",
    9: "failed, promoted",
    DEGRADED: "degraded",
    191: "degraded, promoted",
}

_RUNNING = (SUCCESS, 8, DEGRADED, 191)


def meaning(status: int) -> str:
    """An exit status in words."""
    return _MEANINGS.get(status, f"exit status {status}, which OCF does not define")


def is_success(entry: str, status: int) -> bool:
    """Whether the status says that the entry did what it is for; a check: that it runs."""
    return status in _RUNNING if entry == "check" else status == SUCCESS


def agent_environment(
    resource: str,
    provider: str,
    agent: str,
    timeout_s: float,
    attributes: Mapping[str, str],
    root: str,
) -> dict[str, str]:
    """What the agent gets beside the environment of every action.

    attributes: the environment of an action. Its parameters are OCF_ and USR_ attributes without
    their prefix; OCF_ counts more. Most parameters are in lower case, profiles often in
    upper case: a name in upper case is given in lower case, too, unless that is an attribute itself.
    """
    given: dict[str, str] = {}
    for prefix in (USER_PREFIX, OCF_PREFIX):
        found = {k.removeprefix(prefix): v for k, v in attributes.items() if k.startswith(prefix)}
        exact = {name: value for name, value in found.items() if name}
        given |= {name.lower(): value for name, value in exact.items()} | exact
    return {
        **{f"OCF_RESKEY_{name}": value for name, value in given.items()},
        # Agents that wait for their application take it as their limit.
        "OCF_RESKEY_CRM_meta_timeout": str(int(timeout_s * 1000)),
        "OCF_RESKEY_crm_feature_set": "3.0.1",
        "OCF_ROOT": root,
        "OCF_RA_VERSION_MAJOR": "1",
        "OCF_RA_VERSION_MINOR": "1",
        "OCF_RESOURCE_INSTANCE": resource,
        "OCF_RESOURCE_TYPE": agent,
        "OCF_RESOURCE_PROVIDER": provider,
    }
