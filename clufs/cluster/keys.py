"""By what members know each other on their streams: the cluster's authority and a certificate each.

A directory of keys, as `clufs keygen` makes one for each member, has two files: `ca.pem`, the
certificate of the cluster's authority, and `member.pem`, the member's private key and certificate.

TLS 1.3 alone is spoken, and both ends show a certificate. That it is the cluster's is checked by
OpenSSL; that it is the one of the member meant is the caller's part, by `peer_name`.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clufs.errors import ConfigError, StrangerRefused

AUTHORITY_FILE = "ca.pem"
MEMBER_FILE = "member.pem"


@dataclass(frozen=True, slots=True)
class Keys:
    """Where a member's keys are. authority: a certificate; member: private key and certificate."""

    authority: Path
    member: Path

    @classmethod
    def in_directory(cls, directory: str | Path) -> Keys:
        """The keys that `clufs keygen` made in `directory`."""
        return cls(Path(directory) / AUTHORITY_FILE, Path(directory) / MEMBER_FILE)

    def accepting(self) -> ssl.SSLContext:
        """Return the context for connections that come in; ConfigError names the file at fault."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        # Nobody resumes a TLS session here, and a ticket would be written to each connection.
        context.num_tickets = 0
        return context

    def dialing(self) -> ssl.SSLContext:
        """Return the context for connections that are made; ConfigError names the file at fault."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # A member has a name in the cluster, which need not be one of a host.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        path = self.authority
        try:
            context.load_verify_locations(path)
            path = self.member
            # An encrypted key would ask on the terminal; a daemon has none.
            context.load_cert_chain(path, password="")
        except ssl.SSLError as error:
            raise ConfigError(f"{path}: not what `clufs keygen` makes: {error.reason}") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        return context


def peer_name(tls: ssl.SSLObject | ssl.SSLSocket) -> str:
    """Return the member's name in the other end's certificate; StrangerRefused if it has none."""
    shown: dict[str, Any] = tls.getpeercert() or {}
    names = [
        str(value)
        for part in shown.get("subject", ())
        for key, value in part
        if key == "commonName"
    ]
    if len(names) != 1:
        raise StrangerRefused("its certificate has no member's name")
    return names[0]
