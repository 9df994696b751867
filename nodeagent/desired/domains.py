"""Domain names that policies speak of, and whose DNS answers are believed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from nodeagent import layout
from nodeagent.desired.numbers import number
from nodeagent.desired.spread import backends
from nodeagent.desired.units import Sheet
from nodeagent.layout import address_bytes, port_bytes
from nodeagent.policy.members import WORLD, Member

_FNV_BASIS, _FNV_PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1
_UDP = layout.PROTOCOLS["UDP"]


def domain_number(pattern: str) -> int:
    """The number of a domain name pattern: a class's number XOR it is the class of addresses that
    a name of this pattern was resolved to (bpf/names.h).
    """
    return number("domain", pattern)


def name_hash(name: str) -> int:
    """FNV-1a, 64 bits, over a name as in RFC 1035 without its root, from its end (bpf/dns.c)."""
    wire = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    found = _FNV_BASIS
    for byte in reversed(wire):
        found = (found ^ byte) * _FNV_PRIME & _MASK
    return found


def domains(sheet: Sheet, patterns: Iterable[str]) -> None:
    """The names to look for, and the classes of addresses found so, wherever these lie."""
    bases = {WORLD, *(Member(blocks=held) for held in sheet.ends.blocks.regions().values())}
    for pattern in patterns:
        for base in bases:
            sheet.number(replace(base, domains=frozenset({pattern})))
        suffix = pattern.removeprefix("*.")
        key = layout.DOMAIN_KEY.pack(name_hash(suffix), suffix != pattern)
        sheet.put("domains", key, domain_number(pattern).to_bytes(4, "little"))


def resolvers(sheet: Sheet) -> None:
    """Whose answers are learnt from; behind a virtual address its backends."""
    for address, port in sheet.facts.resolvers:
        for reached, reached_port in _behind(sheet, address, port):
            key = layout.ENDPOINT.pack(address_bytes(reached), port_bytes(reached_port), _UDP)
            sheet.put("resolvers", key, b"\1")


def _behind(sheet: Sheet, address: str, port: int) -> Iterator[tuple[str, int]]:
    names = sheet.state.index.virtual.get(address)
    if not names:
        yield address, port
        return
    service = sheet.state.services[names[0]]
    for service_port in service.spec.ports:
        if (service_port.port, service_port.protocol) == (port, "UDP"):
            for backend in backends(sheet.state, service, service_port, layout.version_of(address)):
                yield backend.address, backend.port
