"""How a policy is to be enforced, written as annotations on it. Pure.

``mesh.hoplite.io/mode: enforce|audit``, ``…/identity: permissive|strict`` and
``…/established: cut|keep|drain <seconds>`` on every kind of policy; Istio's ``istio.io/dry-run``
on an AuthorizationPolicy means audit.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from meshapi.errors import Problem
from meshapi.resources.authorization import AuthorizationPolicy
from meshapi.resources.networking import NetworkPolicy
from meshapi.resources.policyapi import ClusterNetworkPolicy

Policy = NetworkPolicy | ClusterNetworkPolicy | AuthorizationPolicy
POLICIES = (NetworkPolicy, ClusterNetworkPolicy, AuthorizationPolicy)

MODE = "mesh.hoplite.io/mode"
IDENTITY = "mesh.hoplite.io/identity"
ESTABLISHED = "mesh.hoplite.io/established"
DRY_RUN = "istio.io/dry-run"

MAX_DRAIN = 86_400  # seconds

_OURS = (MODE, IDENTITY, ESTABLISHED)
_DRAIN = re.compile(r"drain ([1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True)
class Cut:
    """Connections that the policy refuses now are ended at once."""


@dataclass(frozen=True)
class Keep:
    """Connections that are open stay, whatever the policy says now."""


@dataclass(frozen=True)
class Drain:
    """Connections that the policy refuses now are ended after so many seconds."""

    seconds: int


Established = Cut | Keep | Drain


@dataclass(frozen=True)
class PolicyOptions:
    """``audit``: refusals are only recorded. ``strict``: what it allows, it allows to
    authenticated identities alone. ``established``: what becomes of open connections.
    """

    audit: bool = False
    strict: bool = False
    established: Established = Cut()


def options_of(policy: Policy) -> PolicyOptions:
    """A policy's options. What ``problems`` would refuse counts as not written: enforce, cut."""
    notes = policy.metadata.annotations
    return PolicyOptions(
        audit=notes.get(MODE) == "audit" or _dry_run(policy),
        strict=notes.get(IDENTITY) == "strict",
        established=_established(notes.get(ESTABLISHED, "cut")) or Cut(),
    )


def problems(policy: Policy) -> Iterator[Problem]:
    """What is wrong with a policy's annotations, unknown ones of ours included."""
    notes = policy.metadata.annotations
    yield from _word(notes, MODE, ("enforce", "audit"))
    yield from _word(notes, IDENTITY, ("permissive", "strict"))
    if ESTABLISHED in notes and _established(notes[ESTABLISHED]) is None:
        yield Problem(
            _at(ESTABLISHED),
            f"{notes[ESTABLISHED]!r} is not known",
            f"write cut, keep or drain <seconds> (1 to {MAX_DRAIN})",
        )
    yield from _dry_run_problems(policy)
    for key in notes:
        domain, _, _ = key.rpartition("/")
        if key not in _OURS and f".{domain}".endswith(".hoplite.io"):
            near = difflib.get_close_matches(key, _OURS, n=1)
            fix = f"did you mean {near[0]}?" if near else f"known are {', '.join(_OURS)}"
            yield Problem(_at(key), f"not an option of a {policy.kind}", fix)


def _dry_run_problems(policy: Policy) -> Iterator[Problem]:
    notes = policy.metadata.annotations
    if DRY_RUN not in notes:
        return
    if not isinstance(policy, AuthorizationPolicy):
        yield Problem(
            _at(DRY_RUN), f"not an option of a {policy.kind}", f"write {MODE}: audit instead"
        )
        return
    yield from _word(notes, DRY_RUN, ("true", "false"))
    meant = {"true": "audit", "false": "enforce"}.get(notes[DRY_RUN], "")
    if meant and notes.get(MODE, meant) != meant:
        yield Problem(_at(DRY_RUN), f"contradicts {MODE}: {notes[MODE]}", "keep one of the two")


def _dry_run(policy: Policy) -> bool:
    notes = policy.metadata.annotations
    return isinstance(policy, AuthorizationPolicy) and notes.get(DRY_RUN) == "true"


def _established(text: str) -> Established | None:
    if text in ("cut", "keep"):
        return Cut() if text == "cut" else Keep()
    match = _DRAIN.fullmatch(text)
    return Drain(int(match[1])) if match and int(match[1]) <= MAX_DRAIN else None


def _word(notes: dict[str, str], key: str, known: tuple[str, ...]) -> Iterator[Problem]:
    if key in notes and notes[key] not in known:
        yield Problem(_at(key), f"{notes[key]!r} is not known", f"write {' or '.join(known)}")


def _at(key: str) -> str:
    return f"$.metadata.annotations[{key!r}]"
