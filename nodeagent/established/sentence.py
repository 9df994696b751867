"""What becomes of a connection that policy refuses now: cut, kept, or drained. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from meshapi.resources import Key
from meshapi.resources.options import Cut, Drain, Established, Keep, options_of
from nodeagent.policy.decisions import Rule
from nodeagent.state import NodeState


def policies_of(rule: Rule) -> list[Key]:
    """The policies that a rule stands for."""
    keys = []
    for name in rule.policy.split(","):
        namespace, _, own = name.rpartition("/")
        keys.append(Key(rule.kind, namespace, own))
    return keys


def established(state: NodeState, rule: Rule | None) -> Established:
    """What the policies of a refusal want of open connections; the strictest word holds.

    A refusal that no policy is behind, and a Quarantine, cut.
    """
    keys = policies_of(rule) if rule is not None else []
    found = [options_of(state.policies[key]).established for key in keys if key in state.policies]
    return _strictest(found)


def _strictest(wishes: Iterable[Established]) -> Established:
    found = list(wishes)
    if not found or any(isinstance(wish, Cut) for wish in found):
        return Cut()
    drains = [wish.seconds for wish in found if isinstance(wish, Drain)]
    return Drain(min(drains)) if drains else Keep()
