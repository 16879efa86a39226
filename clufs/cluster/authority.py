"""The making of keys: a cluster's authority, and a certificate for each member.

Apart from `keys`, so that the daemon need not load the library that makes them.

Nothing expires: all members would fall silent in the same second, and a clock that was never set
(1970) must not keep a member out. Who shall be out is taken out of the configuration; after a theft
of keys, make a new directory for all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from clufs.cluster.keys import AUTHORITY_FILE, MEMBER_FILE
from clufs.errors import InvalidRequest, StateError

AUTHORITY_KEY_FILE = "ca.key"

_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280 4.1.2.5: no expiration
_NAME_MAX = 64  # X.520, ub-common-name
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def make_keys(directory: Path, members: Sequence[str]) -> list[Path]:
    """Make keys below `directory` and return each member's directory.

    The authority that is already there is used: so members are added later, and one that is named
    again gets a new certificate; its old one stays good. Files are replaced whole, never half.
    Private keys are readable by their owner only.

    InvalidRequest: a name that cannot be one of a member. StateError: a file cannot be written, or
    what is there is no authority.
    """
    for name in members:
        _check_name(name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        certificate, key = _authority(directory)
        made = []
        for name in members:
            place = directory / name
            place.mkdir(mode=0o700, exist_ok=True)
            _write(place / AUTHORITY_FILE, certificate.public_bytes(Encoding.PEM), 0o644)
            _write(place / MEMBER_FILE, _member(name, certificate, key), 0o600)
            made.append(place)
    except OSError as error:
        raise StateError(f"{error.filename}: {error.strerror}") from error
    return made


def _check_name(name: str) -> None:
    plain = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not plain or name[0] == "." or len(name) > _NAME_MAX:
        raise InvalidRequest(f"{name!r}: not a member's name")
    if name in (AUTHORITY_FILE, AUTHORITY_KEY_FILE):
        raise InvalidRequest(f"{name!r}: the name of the authority's file")


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return the authority in `directory`, made if there is none."""
    paths = directory / AUTHORITY_FILE, directory / AUTHORITY_KEY_FILE
    # The certificate is written last: a key without one was never used.
    if paths[0].exists():
        return _load_authority(*paths)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clufs cluster authority")])
    certificate = _signed(name, key.public_key(), name, key, authority=True)
    _write(paths[1], _pem(key), 0o600)
    _write(paths[0], certificate.public_bytes(Encoding.PEM), 0o644)
    return certificate, key


def _load_authority(
    certificate_path: Path, key_path: Path
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except ValueError as error:
        raise StateError(f"{certificate_path}: not a certificate") from error
    try:
        key = load_pem_private_key(key_path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise StateError(f"{key_path}: not a private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise StateError(f"{key_path}: not the key of {certificate_path}")
    return certificate, key


def _member(name: str, authority: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a new private key and its certificate, in PEM."""
    own = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = _signed(subject, own.public_key(), authority.subject, key, authority=False)
    return _pem(own) + certificate.public_bytes(Encoding.PEM)


def _signed(
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> x509.Certificate:
    """Return a certificate; one of an authority signs others, one of a member is for both ends of TLS."""
    usages = {"key_cert_sign", "crl_sign"} if authority else {"digital_signature"}
    usage = x509.KeyUsage(**{name: name in usages for name in _USAGES})
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_ALWAYS)
        .not_valid_after(_NEVER)
        .add_extension(x509.BasicConstraints(authority, 0 if authority else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if not authority:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes, mode: int) -> None:
    """Put `data` at `path`, on disk and whole, with `mode` from the first byte on."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
