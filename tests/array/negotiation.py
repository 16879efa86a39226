"""Keys of login and text negotiation (RFC 7143, 6 and 13): what the target answers to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

SEGMENT_BYTES = 262144
FIRST_BURST_BYTES = 65536
BURST_BYTES = 262144


@dataclass
class Parameters:
    """What holds for a session. send_max: the longest data of a unit that the initiator takes."""

    send_max: int = 8192
    first_burst: int = FIRST_BURST_BYTES
    burst: int = BURST_BYTES
    initial_r2t: bool = True
    immediate_data: bool = True
    said: dict[str, str] = field(default_factory=dict)


def parse(data: bytes) -> dict[str, str]:
    """`key=value` and a zero byte, many times."""
    pairs = (one.partition("=") for one in data.decode("utf-8", "replace").split("\0") if one)
    return {key: value for key, _, value in pairs}


def encode(pairs: dict[str, str]) -> bytes:
    """As `parse` reads."""
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs.items())


def _lowest(limit: int) -> Callable[[str], str]:
    return lambda offered: str(min(int(offered), limit))


def _fixed(answer: str) -> Callable[[str], str]:
    return lambda _: answer


_NEGOTIATED: dict[str, Callable[[str], str]] = {
    "AuthMethod": _fixed("None"),
    "HeaderDigest": _fixed("None"),
    "DataDigest": _fixed("None"),
    "MaxConnections": _fixed("1"),
    "InitialR2T": lambda offered: offered,  # the OR of both: we do not insist
    "ImmediateData": lambda offered: offered,  # the AND of both: we take it
    "MaxBurstLength": _lowest(BURST_BYTES),
    "FirstBurstLength": _lowest(FIRST_BURST_BYTES),
    "DefaultTime2Wait": lambda offered: offered,
    "DefaultTime2Retain": _fixed("0"),
    "MaxOutstandingR2T": _fixed("1"),
    "DataPDUInOrder": _fixed("Yes"),
    "DataSequenceInOrder": _fixed("Yes"),
    "ErrorRecoveryLevel": _fixed("0"),
    "IFMarker": _fixed("No"),
    "OFMarker": _fixed("No"),
}

DECLARED = ("InitiatorName", "InitiatorAlias", "TargetName", "SessionType", "SendTargets")


def negotiate(parameters: Parameters, offered: dict[str, str]) -> dict[str, str]:
    """Answer what the initiator offered, and note in `parameters` what holds from now on."""
    answers = {}
    for key, value in offered.items():
        parameters.said[key] = value
        if key == "MaxRecvDataSegmentLength":
            parameters.send_max = int(value)
            answers[key] = str(SEGMENT_BYTES)
        elif key in _NEGOTIATED:
            answers[key] = _NEGOTIATED[key](value)
        elif key not in DECLARED:
            answers[key] = "NotUnderstood"
    parameters.burst = int(answers.get("MaxBurstLength", parameters.burst))
    parameters.first_burst = int(answers.get("FirstBurstLength", parameters.first_burst))
    parameters.initial_r2t = (
        answers.get("InitialR2T", "Yes" if parameters.initial_r2t else "No") == "Yes"
    )
    parameters.immediate_data = (
        answers.get("ImmediateData", "Yes" if parameters.immediate_data else "No") == "Yes"
    )
    return answers
