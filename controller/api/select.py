"""Query parameters that choose objects: label and field selectors. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from controller.errors import BadRequestError
from meshapi import selectors
from meshapi.resources import LabelSelector, LabelSelectorRequirement, Resource

_REQUIREMENT = re.compile(
    r"(?P<absent>!)?\s*(?P<key>[A-Za-z0-9][A-Za-z0-9._/-]*)\s*"
    r"(?:(?P<op>==|=|!=)\s*(?P<value>[A-Za-z0-9._-]*)"
    r"|\s(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?\s*(?:,|$)\s*"
)
_FIELDS = {"metadata.name": "name", "metadata.namespace": "namespace"}


@dataclass(frozen=True)
class Selection:
    """Which objects of a kind are wanted; empty parts want all."""

    namespace: str = ""
    name: str = ""
    labels: LabelSelector = field(default_factory=LabelSelector)

    def takes(self, resource: Resource) -> bool:
        meta = resource.metadata
        return (
            (not self.namespace or meta.namespace == self.namespace)
            and (not self.name or meta.name == self.name)
            and selectors.matches(self.labels, meta.labels)
        )


def selection(namespace: str, label_selector: str, field_selector: str) -> Selection:
    """What a list or a watch asks for; two different namespaces or names select nothing."""
    fields = parse_fields(field_selector)
    wanted = fields.get("namespace", namespace)
    if namespace and wanted != namespace:
        raise BadRequestError(
            f"metadata.namespace={wanted} in a request for namespace {namespace}",
            where="fieldSelector",
        )
    return Selection(wanted, fields.get("name", ""), parse_labels(label_selector))


def parse_labels(text: str) -> LabelSelector:
    """``a=b,c!=d,e,!f,g in (x,y),h notin (z)`` as a selector."""
    requirements = []
    position = 0
    while position < len(text):
        match = _REQUIREMENT.match(text, position)
        if match is None:
            raise BadRequestError(
                f"cannot read {text[position:]!r}",
                where="labelSelector",
                fix="write key=value, key!=value, key, !key or key in (a,b), joined by commas",
            )
        requirements.append(_requirement(match))
        position = match.end()
    return LabelSelector(match_expressions=tuple(requirements))


def parse_fields(text: str) -> dict[str, str]:
    """``metadata.name=x,metadata.namespace=y``; no other field can be selected."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.replace("==", "=", 1).partition("=")
        if not equals or name not in _FIELDS:
            raise BadRequestError(
                f"cannot select by {part!r}",
                where="fieldSelector",
                fix=f"use {' or '.join(f'{known}=…' for known in _FIELDS)}",
            )
        found[_FIELDS[name]] = value
    return found


def check_parameters(query: Mapping[str, str], known: Collection[str], count: int) -> None:
    """Refuse parameters that this endpoint does not act on, and repeated ones."""
    for name in query:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise BadRequestError(
                f"{name!r} is not a parameter here", where="query", fix=f"known are: {listed}"
            )
    if count != len(query):
        raise BadRequestError("a parameter stands there twice", where="query")


def _requirement(match: re.Match[str]) -> LabelSelectorRequirement:
    key, operator = match["key"], match["op"]
    if match["absent"]:
        if operator or match["set"]:
            raise BadRequestError(f"cannot read {match[0]!r}", where="labelSelector")
        return LabelSelectorRequirement(key=key, operator="DoesNotExist")
    if match["set"]:
        values = tuple(v.strip() for v in match["values"].split(","))
        return _one_of(key, values, wanted=match["set"] == "in")
    if operator is None:
        return LabelSelectorRequirement(key=key, operator="Exists")
    return _one_of(key, (match["value"],), wanted=operator != "!=")


def _one_of(key: str, values: tuple[str, ...], *, wanted: bool) -> LabelSelectorRequirement:
    return LabelSelectorRequirement(key=key, operator="In" if wanted else "NotIn", values=values)
