"""Keys: made once, private, added to, and good for exactly one cluster."""

import ssl
import stat
from pathlib import Path

import pytest

from clufs.cli import keygen
from clufs.cluster.authority import make_keys
from clufs.cluster.keys import Keys, peer_name
from clufs.errors import ConfigError, InvalidRequest, StateError, UsageError


def names(server: Keys, client: Keys) -> tuple[str, str]:
    """Shake hands in memory and return whom the server and the client saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.accepting().wrap_bio(to_server, to_client, server_side=True),
        client.dialing().wrap_bio(to_client, to_server),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert {end.version() for end in ends} == {"TLSv1.3"}
    return peer_name(ends[0]), peer_name(ends[1])


def test_each_end_sees_the_name_of_the_other(tmp_path: Path) -> None:
    a, b = map(Keys.in_directory, make_keys(tmp_path, ["provolone", "polisham"]))
    assert names(a, b) == ("polisham", "provolone")


def test_members_are_added_and_renewed_by_the_same_authority(tmp_path: Path) -> None:
    (a,) = make_keys(tmp_path, ["a"])
    authority = (tmp_path / "ca.pem").read_bytes()
    before = (a / "member.pem").read_bytes()
    make_keys(tmp_path, ["a", "b"])
    assert (tmp_path / "ca.pem").read_bytes() == authority
    assert (a / "member.pem").read_bytes() != before
    assert names(Keys.in_directory(a), Keys.in_directory(tmp_path / "b")) == ("b", "a")


def test_another_clusters_member_is_refused(tmp_path: Path) -> None:
    (a,) = make_keys(tmp_path / "one", ["a"])
    (b,) = make_keys(tmp_path / "two", ["b"])
    with pytest.raises(ssl.SSLCertVerificationError):
        names(Keys.in_directory(a), Keys.in_directory(b))


def test_private_keys_are_private(tmp_path: Path) -> None:
    (place,) = make_keys(tmp_path, ["a"])
    for path in (tmp_path / "ca.key", place / "member.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(tmp_path.rglob("*.new"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "ca.pem", "ca.key", "é", "a" * 65])
def test_what_is_no_name_makes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        make_keys(tmp_path / "keys", ["good", name])
    assert not (tmp_path / "keys").exists()


def test_what_is_no_authority_is_named(tmp_path: Path) -> None:
    make_keys(tmp_path, ["a"])
    (tmp_path / "ca.key").write_text("nonsense")
    with pytest.raises(StateError, match=r"ca\.key: not a private key"):
        make_keys(tmp_path, ["b"])
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(StateError, match=r"ca\.pem: not a certificate"):
        make_keys(tmp_path, ["b"])


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    (place,) = make_keys(tmp_path, ["a"])
    (place / "member.pem").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"member\.pem: not what"):
        Keys.in_directory(place).dialing()
    (place / "ca.pem").unlink()
    with pytest.raises(ConfigError, match=r"ca\.pem: cannot be read"):
        Keys.in_directory(place).accepting()


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert keygen.main(["--dir", str(tmp_path), "a", "b"]) == 0
    assert capsys.readouterr().out == f"a: {tmp_path}/a\nb: {tmp_path}/b\n"
    with pytest.raises(UsageError, match="usage: clufs keygen"):
        keygen.main(["--dir", str(tmp_path)])
