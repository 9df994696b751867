import stat

import pytest

from controller.ca.files import ServerCertificate, load_authority, write_private
from meshapi.errors import ConfigError


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_ca_is_made_once_and_kept(tmp_path):
    first = load_authority(tmp_path, "test.local")
    assert load_authority(tmp_path, "test.local").certificate == first.certificate
    assert mode(tmp_path / "ca.key") == 0o600
    assert mode(tmp_path / "ca.pem") == 0o644


@pytest.mark.parametrize("lost", ["ca.key", "ca.pem"])
def test_half_a_ca_is_not_replaced(tmp_path, lost):
    load_authority(tmp_path, "test.local")
    (tmp_path / lost).unlink()
    with pytest.raises(ConfigError, match="back from a backup"):
        load_authority(tmp_path, "test.local")
    assert not (tmp_path / lost).exists()


def test_another_trust_domain_is_refused(tmp_path):
    load_authority(tmp_path, "test.local")
    with pytest.raises(ConfigError, match=r"made for trust domain 'test\.local'"):
        load_authority(tmp_path, "other.local")


def test_the_servers_key_is_private_and_renewed(tmp_path):
    authority = load_authority(tmp_path, "test.local")
    certificate = ServerCertificate(tmp_path, authority, ["localhost"])
    before = (tmp_path / "server.pem").read_text()
    assert mode(tmp_path / "server.pem") == 0o600
    certificate.renew()
    assert (tmp_path / "server.pem").read_text() != before


def test_a_private_file_was_never_readable_by_others(tmp_path):
    (tmp_path / "x").write_text("old")
    (tmp_path / "x").chmod(0o644)
    write_private(tmp_path / "x", "new")
    assert mode(tmp_path / "x") == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
