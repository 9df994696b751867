"""The words of admission: what it goes by, what it decides, what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controller.config import Network
from meshapi.errors import HopliteError, InvalidError, Problem
from meshapi.identity import WorkloadIdentity
from meshapi.resources import Key, Resource


@dataclass(frozen=True)
class Rules:
    """What does not depend on the objects: configuration, clock and the source of new uids.

    ``ranges`` holds at most one address range per family; the first is a service's default family.
    ``now`` gives RFC 3339 in UTC.
    """

    trust_domain: str
    ranges: tuple[Network, ...]
    now: Callable[[], str]
    new_uid: Callable[[], str]


@dataclass(frozen=True)
class Write:
    """One object's change: ``old`` is None for a creation, ``new`` for a deletion."""

    key: Key
    old: Resource | None
    new: Resource | None


@dataclass(frozen=True)
class Plan:
    """What to write, all of it or nothing.

    ``admitted`` holds every wanted object as it will stand, in the order it was asked for;
    ``writes`` only those that differ from what is there.
    """

    writes: tuple[Write, ...] = ()
    admitted: tuple[Resource, ...] = ()
    identities: Mapping[WorkloadIdentity, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """One problem of the wanted object at ``index``; ``subject`` is its kind and name."""

    index: int
    subject: str
    problem: Problem


class AdmissionError(HopliteError):
    """The objects cannot be written; ``refusals`` holds every reason."""

    def __init__(self, refusals: list[Refusal]) -> None:
        self.refusals = refusals
        super().__init__("; also ".join(f"{r.subject}: {r.problem}" for r in refusals))

    def about_one(self) -> InvalidError:
        """The refusal of a request for one object: its problems with their own paths."""
        return InvalidError(self.refusals[0].subject, [r.problem for r in self.refusals])

    def about_several(self) -> InvalidError:
        """The refusal of a request for several: every path begins with ``$.objects[i]``."""
        return InvalidError(
            "request",
            [
                Problem(
                    f"$.objects[{r.index}]{r.problem.path[1:]}",
                    f"{r.subject}: {r.problem.what}",
                    r.problem.fix,
                )
                for r in self.refusals
            ],
        )
