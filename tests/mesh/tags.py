"""Tags as a node would write them, with its own keys: what a thief of the node could make."""

from __future__ import annotations

import struct
from pathlib import Path

from lab import api
from lab.names import LabNames
from meshapi.identity import claim
from nodeagent.config import DEFAULT_SIZES
from nodeagent.datapath.libbpf import KernelMap
from nodeagent.desired.addresses import node_number
from nodeagent.layout import KEY_SENDING, NODE_KEY, NODE_KEY_ID, address_bytes, map_specs
from tests.mesh.asking import ask_agent, eventually
from tests.siphash import siphash

EXPERIMENT = 0x4850


def node_keys(lab: api.Lab, node: str) -> dict[bytes, bytes]:
    """A node's map node_keys, read past its agent."""
    spec = next(s for s in map_specs(DEFAULT_SIZES) if s.name == "node_keys")
    path = LabNames(lab.name).pins / node / "maps" / spec.pin
    opened = KernelMap(Path(path), spec.key, spec.value)
    try:
        return dict(opened.items())
    finally:
        opened.close()


def sending_key(lab: api.Lab, sender: str, receiver: str) -> tuple[bytes, int]:
    """The key that a node sends to another with, and the epochs that stand in the SYN."""
    raw = node_keys(lab, sender)[NODE_KEY_ID.pack(node_number(receiver), KEY_SENDING, 0)]
    key, epochs = NODE_KEY.unpack(raw)
    return key, epochs


def option(
    key: tuple[bytes, int],
    source: tuple[str, int],
    destination: tuple[str, int],
    sequence: int,
    who: tuple[str, str],
) -> bytes:
    """The 16 bytes of the TCP option."""
    secret, epochs = key
    head = struct.pack("!BBHI", 253, 16, EXPERIMENT | epochs, claim(*who))
    tuple_ = address_bytes(source[0]) + address_bytes(destination[0])
    tuple_ += struct.pack("!HHI", source[1], destination[1], sequence)
    return head + siphash(secret, tuple_ + head)


def standing(lab: api.Lab, node: str) -> dict[str, object]:
    """How a node's own keys stand, by its agent's word."""
    found: dict[str, object] = ask_agent(lab, node, "/config_dump")["identityKeys"] or {}
    return found


def wait_until_tagged(lab: api.Lab) -> None:
    """Until every node sends with its key to every other."""
    names = [node.name for node in lab.record.plan.nodes]

    def all_send() -> bool:
        return all(
            len(list(node_keys(lab, name))) >= 2 * (len(names) - 1)
            and standing(lab, name).get("sending")
            for name in names
        )

    eventually(all_send, patience=30)
