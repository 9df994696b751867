"""The child that holds the private keys: real X25519, real files."""

from __future__ import annotations

import base64
import hashlib
import hmac
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from meshapi.errors import HopliteError
from nodeagent.keys.child import answer, direction_key
from nodeagent.keys.messages import KeyReply, KeyRequest, OwnKey, Pair


def made(path: Path, node: str, *epochs: int) -> tuple[OwnKey, ...]:
    held: tuple[OwnKey, ...] = ()
    for epoch in epochs:
        held = answer(KeyRequest(str(path), node, epoch)).keys
    return held


def test_a_key_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "identity.keys"
    (one,) = made(path, "n1", 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(one.public)) == 32
    assert answer(KeyRequest(str(path), "n1")).keys == (one,)
    assert base64.b64decode(one.public) not in path.read_bytes()


def test_a_write_that_fails_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "identity.keys"
    held = made(path, "n1", 1)
    path.with_name("identity.keys.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        made(path, "n1", 2)
    assert answer(KeyRequest(str(path), "n1")).keys == held


def test_keys_are_added_and_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "identity.keys"
    one, two = made(path, "n1", 1, 2)
    reply = answer(KeyRequest(str(path), "n1", 3, keep=(2,)))
    assert [key.epoch for key in reply.keys] == [2, 3]
    assert reply.keys[0] == two
    assert len({one.public, two.public, reply.keys[1].public}) == 3
    assert answer(KeyRequest(str(path), "n1", keep=())).keys == ()


def test_two_nodes_come_to_the_same_keys_one_for_each_direction(tmp_path: Path) -> None:
    first, second = tmp_path / "n1", tmp_path / "n2"
    (of_first,), (of_second,) = made(first, "n1", 4), made(second, "n2", 9)
    there = answer(KeyRequest(str(first), "n1", pairs=(Pair(4, "n2", 9, of_second.public),)))
    back = answer(KeyRequest(str(second), "n2", pairs=(Pair(9, "n1", 4, of_first.public),)))
    assert there.shared[0] is not None
    assert back.shared[0] is not None
    assert there.shared[0] == back.shared[0][::-1]
    assert len(set(there.shared[0])) == 2
    assert {len(key) for key in there.shared[0]} == {16}


def test_names_and_epochs_are_part_of_a_key(tmp_path: Path) -> None:
    """So that a node which publishes another's key as its own gets nothing that is of use."""
    first, second = tmp_path / "n1", tmp_path / "n2"
    made(first, "n1", 1)
    (of_second,) = made(second, "n2", 1)
    wanted = tuple(
        Pair(1, name, epoch, of_second.public) for name, epoch in (("n2", 1), ("n3", 1), ("n2", 5))
    )
    found = answer(KeyRequest(str(first), "n1", pairs=wanted)).shared
    assert len({key for both in found if both for key in both}) == 6


def hkdf(secret: bytes, info: bytes) -> bytes:
    extracted = hmac.digest(bytes(32), secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\1", hashlib.sha256)[:16]


def test_a_direction_key_is_hkdf_over_both_ends() -> None:
    secret = bytes(range(32))
    info = (
        b"hoplite identity in the SYN, 1"
        b"\0\2n1" + (3).to_bytes(8, "big") + b"\0\5edge7" + (4).to_bytes(8, "big")
    )
    assert direction_key(secret, ("n1", 3), ("edge7", 4)) == hkdf(secret, info)


@pytest.mark.parametrize(
    "public",
    [
        base64.b64encode(bytes(32)).decode(),  # the point at zero: every agreement gives zero
        base64.b64encode(b"\1" + bytes(31)).decode(),
        base64.b64encode(b"short").decode(),
        "not base64",
    ],
)
def test_nothing_comes_of_a_key_that_is_none(tmp_path: Path, public: str) -> None:
    path = tmp_path / "identity.keys"
    (one,) = made(path, "n1", 1)
    wanted = (Pair(1, "n2", 1, public), Pair(1, "n3", 1, one.public), Pair(7, "n3", 1, one.public))
    shared = answer(KeyRequest(str(path), "n1", pairs=wanted)).shared
    assert [both is not None for both in shared] == [False, True, False]


def test_a_file_that_cannot_be_read_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "identity.keys"
    path.write_text('[{"epoch": "secret"}]')
    with pytest.raises(HopliteError, match="identity keys cannot be read") as refused:
        answer(KeyRequest(str(path), "n1"))
    assert str(path) in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_child_answers_as_a_process_and_refuses_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "identity.keys"

    def run() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "nodeagent.keys.child"],
            input=msgspec.json.encode(KeyRequest(str(path), "n1", 1)),
            capture_output=True,
            check=False,
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert [key.epoch for key in msgspec.json.decode(done.stdout, type=KeyReply).keys] == [1]
    path.write_text("{")
    refused = run()
    assert refused.returncode == 1
    assert len(refused.stderr.decode().splitlines()) == 1
