"""From one state to the next without a wrong answer in between: which builds, one after the other.

Pure. A policy that mentions a new address block splits classes. So classes are split first, under
the policies of before; then the policies change, and no class does; later, when no packet is
half-way any more, what only the time before needed is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.desired.build import Desired, Facts, build
from nodeagent.desired.classes import Blocks
from nodeagent.state import NodeState


@dataclass(frozen=True)
class Held:
    """What the kernel maps were last made equal to, and what that was built from."""

    state: NodeState
    facts: Facts
    desired: Desired


def change(held: Held | None, state: NodeState, facts: Facts) -> list[Desired]:
    """The builds to apply in turn; the last one is what ``state`` and ``facts`` ask for."""
    if held is None:
        return [build(state, facts)]
    both = held.desired.blocks | Blocks(state.policies)
    if both == held.desired.blocks:
        return [build(state, facts, held.desired, both)]
    split = build(held.state, held.facts, held.desired, both)
    return [split, build(state, facts, split, both)]


def settle(held: Held) -> Desired | None:
    """The next build that only drops what is not needed any more, or None when there is none."""
    blocks = Blocks(held.state.policies)
    if blocks != held.desired.blocks:
        return build(held.state, held.facts, held.desired, blocks)
    if held.desired.former is not None:
        return build(held.state, held.facts, None, blocks)
    return None
