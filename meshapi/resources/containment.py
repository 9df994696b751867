"""mesh.hoplite.io/v1alpha1: Quarantine and BlockList, for when something has gone wrong."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from meshapi.resources.meta import Condition, ObjectMeta, SparsePart


class AllowedPeer(SparsePart, frozen=True):
    """A workload, or a block of addresses: ``namespace`` and ``workload``, or ``cidr`` alone."""

    namespace: str = ""
    workload: str = ""
    cidr: str = ""


class QuarantineSpec(SparsePart, frozen=True):
    """``workload`` is of the quarantine's own namespace; it need not exist yet."""

    workload: str
    allow_from: tuple[AllowedPeer, ...] = ()
    reason: str = ""


class QuarantineStatus(SparsePart, frozen=True):
    conditions: tuple[Condition, ...] = ()
    connections_cut: int = 0


class Quarantine(SparsePart, frozen=True):
    """Nothing goes to or from the workload but what ``allow_from`` lets in; above every policy."""

    api_version: Literal["mesh.hoplite.io/v1alpha1"]
    kind: Literal["Quarantine"]
    metadata: ObjectMeta
    spec: QuarantineSpec
    status: QuarantineStatus = QuarantineStatus()


class BlockListSpec(SparsePart, frozen=True):
    """Addresses and address blocks that nobody in the mesh talks to."""

    cidrs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    reason: str = ""


class BlockListStatus(SparsePart, frozen=True):
    conditions: tuple[Condition, ...] = ()
    connections_cut: int = 0


class BlockList(SparsePart, frozen=True):
    """What is refused before anything else is asked, in both directions, on every node."""

    api_version: Literal["mesh.hoplite.io/v1alpha1"]
    kind: Literal["BlockList"]
    metadata: ObjectMeta
    spec: BlockListSpec
    status: BlockListStatus = BlockListStatus()
