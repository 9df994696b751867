"""Who is behind an address: the maps peers and listeners. Pure."""

from __future__ import annotations

from collections import defaultdict

from meshapi import identity
from meshapi.resources import MeshNode, Workload
from nodeagent import layout
from nodeagent.desired.numbers import number
from nodeagent.desired.units import Sheet
from nodeagent.layout import End, address_bytes, port_bytes, version_of
from nodeagent.policy.members import WORLD, Shared
from nodeagent.state import name_of

LOCAL, QUARANTINED = int(End.LOCAL), int(End.QUARANTINED)  # plain numbers are much faster

_LOOPBACK = bytes(16)  # stands for the loopback addresses of this node


def address(sheet: Sheet, text: str) -> None:
    """What an address is: a service's, a node's, a node proxy's or a workload's, in this order."""
    index = sheet.state.index
    if text in index.virtual:
        _peer(sheet, text, identity.UNKNOWN, sheet.number(WORLD), End.VIP)
    elif text in (sheet.facts.proxy4, sheet.facts.proxy6):
        _peer(sheet, text, identity.NODE, sheet.number(WORLD), End.LOCAL_NODE)
    elif text in index.proxy_at:
        node = sheet.state.nodes[index.proxy_at[text][0]]
        number_ = sheet.number(sheet.ends.proxy_address(node, text))
        _peer(sheet, text, identity.PROXY, number_, End.PROXY, node.metadata.name)
    elif text in index.node_at:
        _node(sheet, sheet.state.nodes[index.node_at[text][0]], text)
    elif text in index.at_address:
        _workload(sheet, sheet.state.workloads[index.at_address[text][-1]], text)


def listeners(sheet: Sheet, node: str) -> None:
    """A node's host-network workloads are known by their ports where its address is shared.

    Of several with one port any may be the one that listens: all of them must be allowed.
    """
    having: dict[tuple[str, int, str], list[Workload]] = defaultdict(list)
    for name in sheet.state.index.on_node.get(node, ()):
        workload = sheet.state.workloads[name]
        if workload.spec.network == "host":
            for text in sheet.state.addresses(workload):
                for port in workload.spec.ports:
                    having[text, port.port, port.protocol].append(workload)
    for (text, port_, protocol), found in having.items():
        end = (port_bytes(port_), layout.PROTOCOLS[protocol])
        value = _listener(sheet, found, version_of(text))
        sheet.put("listeners", layout.ENDPOINT.pack(address_bytes(text), *end), value)
        if node == sheet.state.node:  # dialled on loopback, from the host's own network
            sheet.put("listeners", layout.ENDPOINT.pack(_LOOPBACK, *end), value)


def node_number(node: str) -> int:
    """The number by which the kernel knows a node; 0 is no node."""
    return number("node", node)


def local_flags(sheet: Sheet, workload: Workload, number_: int) -> int:
    """END_* of a workload's class, and whether it runs here or is cut off."""
    flags = sheet.closed(number_)
    if workload.spec.node_name == sheet.state.node:
        flags |= LOCAL
    if sheet.state.quarantine_of(name_of(workload)) is not None:
        flags |= QUARANTINED
    return flags


def _node(sheet: Sheet, node: MeshNode, text: str) -> None:
    number_ = sheet.number(sheet.ends.node_address(node, text))
    flags = int(End.SHARED)
    if node.metadata.name == sheet.state.node:
        flags |= End.LOCAL_NODE
    else:
        flags |= sheet.closed(number_)
    _peer(sheet, text, identity.NODE, number_, flags, node.metadata.name)


def _workload(sheet: Sheet, workload: Workload, text: str) -> None:
    number_ = sheet.number(sheet.ends.workload(workload, version_of(text)))
    flags = local_flags(sheet, workload, number_)
    _peer(sheet, text, workload.status.identity, number_, flags, workload.spec.node_name)


def _listener(sheet: Sheet, found: list[Workload], version: int) -> bytes:
    first = found[0]
    members = frozenset((sheet.ends.workload(w, version), None) for w in found)
    what = Shared(members) if len(found) > 1 else sheet.ends.workload(first, version)
    number_ = sheet.number(what)
    who = {w.status.identity for w in found}
    flags = 0
    for workload in found:
        flags |= local_flags(sheet, workload, number_)
    return layout.PEER.pack(
        who.pop() if len(who) == 1 else identity.NODE,
        number_,
        flags,
        node_number(first.spec.node_name),
    )


def _peer(  # noqa: PLR0917 - a map entry, field by field
    sheet: Sheet, text: str, who: int, class_: int, flags: int, node: str = ""
) -> None:
    value = layout.PEER.pack(who, class_, flags, node_number(node) if node else 0)
    sheet.put("peers", address_bytes(text), value)
