"""Checks that several kinds share: names, labels, selectors, ports, addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator

from meshapi.errors import Problem
from meshapi.resources.meta import LabelSelector

# All of these are for fullmatch: with match, `$` would let a trailing newline through.
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
HTTP_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

LABEL_FIX = "use lower-case letters, digits and '-', at most 63, starting and ending alphanumeric"

Problems = Iterator[Problem]

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def labels(path: str, given: dict[str, str]) -> Problems:
    for key, value in given.items():
        prefix, slash, name = key.rpartition("/")
        if not _LABEL_NAME.fullmatch(name) or (slash and not DNS_SUBDOMAIN.fullmatch(prefix)):
            yield Problem(f"{path}[{key!r}]", "not a valid label name", "write [prefix/]name")
        if value and not _LABEL_NAME.fullmatch(value):
            yield Problem(
                f"{path}[{key!r}]",
                f"{value!r} is not a valid label value",
                "at most 63 letters, digits, '-', '_' and '.'",
            )


def selector(path: str, given: LabelSelector) -> Problems:
    yield from labels(f"{path}.matchLabels", given.match_labels)
    for i, expression in enumerate(given.match_expressions):
        at = f"{path}.matchExpressions[{i}].values"
        wants_values = expression.operator in ("In", "NotIn")
        if wants_values and not expression.values:
            yield Problem(at, "empty", f"operator {expression.operator} needs values")
        if not wants_values and expression.values:
            yield Problem(at, "not empty", f"operator {expression.operator} takes no values")


def port_name(path: str, name: str | None, seen: dict[str, int], index: int) -> Problems:
    if name is None:
        return
    if not PORT_NAME.fullmatch(name):
        yield Problem(path, f"{name!r} is not a port name", "at most 15 of a-z, 0-9 and '-'")
    first = seen.setdefault(name, index)
    if first != index:
        yield Problem(path, f"{name!r} names the port at index {first} already", "rename one")


def ip(path: str, text: str) -> Problems:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        yield Problem(path, f"{text!r} is not an IP address", "write an IPv4 or IPv6 address")
        return
    if address.is_unspecified or address.is_multicast:
        yield Problem(path, f"{text} is nobody's address", "write a unicast address")
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            yield Problem(path, f"{text!r} names an interface", "leave out the part from '%' on")
        if address.ipv4_mapped is not None:
            yield Problem(path, f"{text} is an IPv4 address", f"write {address.ipv4_mapped}")


def network(path: str, text: str, *, exact: bool = False) -> Problems:
    """An address block or a single address; with ``exact`` no bit may be set behind its prefix."""
    block = parse_network(text)
    if block is None or "%" in text:
        yield Problem(
            path, f"{text!r} is not an address block", "write e.g. 10.0.0.0/8 or fd00::/8"
        )
        return
    if isinstance(block, ipaddress.IPv6Network) and block.subnet_of(_MAPPED):
        yield Problem(path, f"{text} is an IPv4 block", "write it as IPv4")
    if exact and ipaddress.ip_address(text.partition("/")[0]) != block.network_address:
        host = text.partition("/")[0]
        yield Problem(path, f"{text} is a part of {block}", f"write {block}, or {host} alone")


def one_of(path: str, given: Collection[str], known: Collection[str]) -> Problems:
    """Exactly one of the ``known`` fields must be ``given``."""
    if not given:
        yield Problem(path, "empty", f"give one of {', '.join(known)}")
    elif len(given) > 1:
        yield Problem(path, f"holds {' and '.join(given)}", "one field each; split it")


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The address block that ``text`` names, host bits ignored as Kubernetes does, or None."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
