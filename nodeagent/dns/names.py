"""Names as the zone has them, as tuples of labels, and as dnspython has them. Pure."""

from __future__ import annotations

import dns.name

Labels = tuple[str, ...]  # lower-case, leftmost first, without the root


def labels_of(name: dns.name.Name) -> Labels:
    """The labels of an absolute name; octets beyond ASCII become characters one by one."""
    return tuple(label.lower().decode("latin-1") for label in name.labels[:-1])


def name_of(labels: Labels) -> dns.name.Name:
    """The absolute name; ``dns.exception.DNSException`` if DNS cannot carry it."""
    return dns.name.Name([*(label.encode("latin-1") for label in labels), b""])
