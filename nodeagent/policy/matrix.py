"""Which pairs of classes have an answer of their own, kept up to date change by change.

A row is one direction of one member that policies close: its default, which holds for whoever no
rule singles out, and the peers for which something else holds. Only pairs of which this node sees
connections are followed: those whose source connects from here or whose destination is here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from nodeagent.policy.conditions import Atom, atoms
from nodeagent.policy.decisions import (
    ALWAYS_OPEN,
    Answer,
    Direction,
    at_port,
    both,
)
from nodeagent.policy.members import ANYBODY, Member, PolicyClass, Trait, members, traits
from nodeagent.policy.policyset import DIRECTIONS, Chains, PolicySet

Number = int  # of a class
Pair = tuple[Number | None, Number | None]  # source, destination; None: whoever
Key = tuple[Member, Direction]
Affected = tuple[tuple[Trait, ...], Callable[[Member], bool]]
LookUp = Callable[[Member, Direction], Chains | None]


@dataclass
class Row:
    """``asked`` are the atoms of its rules, ``port_names`` the names of ports in them."""

    chains: Chains
    default: Answer
    asked: frozenset[Atom]
    port_names: frozenset[str]
    special: dict[Member, Answer] = field(default_factory=dict)

    def answer(self, peer: Member) -> Answer:
        return self.special.get(peer, self.default)


class Matrix:
    """Feed it classes and policies; ``changes`` says what became of the pairs."""

    def __init__(self) -> None:
        self._chains: LookUp = PolicySet().chains
        self._whole: dict[Number, PolicyClass] = {}
        self._classes: dict[Number, list[tuple[Member, int | None]]] = {}
        self._sources: set[Number] = set()  # classes from which this node connects
        self._destinations: set[Number] = set()  # classes to which connections arrive here
        self._mapped: set[Number] = set()  # classes reached on other ports than are dialled
        self._members: dict[Member, set[Number]] = {}  # and the classes that they are in
        self._having: dict[Trait, set[Member]] = defaultdict(set)
        self._rows: dict[Key, Row] = {}
        self._asking: dict[Trait | None, dict[Atom, set[Key]]] = defaultdict(dict)
        self._naming: dict[str, set[Key]] = defaultdict(set)
        self._pairs: dict[Pair, Answer] = {}
        self._pairs_of: dict[Number, set[Pair]] = defaultdict(set)
        self._dirty: set[Pair] = set()

    # -- what is asked of it -----------------------------------------------------------------------

    def closed(self, number: Number, direction: Direction) -> bool:
        """Whether answers must be looked up for this direction of the class."""
        return any((member, direction) in self._rows for member, _ in self._classes[number])

    def answer(self, source: Number, destination: Number) -> Answer:
        """What may pass from one class to another."""
        result = ALWAYS_OPEN
        for sender, _ in self._classes[source]:
            for receiver, port in self._classes[destination]:
                one = both(
                    self._one_way((sender, "egress"), receiver),
                    self._one_way((receiver, "ingress"), sender),
                )
                result = both(result, one if port is None else at_port(one, port))
        return result

    def changes(self) -> dict[Pair, Answer | None]:
        """The pairs and defaults whose entry is another since the last call; None: gone."""
        changed: dict[Pair, Answer | None] = {}
        for pair in self._dirty:
            wanted = self._entry(pair)
            if wanted == self._pairs.get(pair):
                continue
            changed[pair] = wanted
            if wanted is None:
                del self._pairs[pair]
            else:
                self._pairs[pair] = wanted
            self._index(pair, present=wanted is not None)
        self._dirty = set()
        return changed

    def _index(self, pair: Pair, *, present: bool) -> None:
        for number in pair:
            if number is None:
                continue
            if present:
                self._pairs_of[number].add(pair)
            else:
                self._pairs_of[number].discard(pair)

    # -- what it is told ---------------------------------------------------------------------------

    def add(self, number: Number, what: PolicyClass, *, source: bool, destination: bool) -> None:
        """A class is there, or is more than it was: connections begin here, or arrive here."""
        known = number in self._classes
        if (
            known
            and (not source or number in self._sources)
            and (not destination or number in self._destinations)
        ):
            return
        self._whole[number] = what
        self._classes[number] = members(what)
        if source:
            self._sources.add(number)
        if destination:
            self._destinations.add(number)
        if any(port is not None for _, port in self._classes[number]):
            self._mapped.add(number)
        for member, _ in self._classes[number]:
            self._enter(member, number)
        for member, _ in self._classes[number]:
            for direction in DIRECTIONS:
                self._renew((member, direction))
            for key in self._asked_about(member):
                self._single_out(key, member)
        self._mark(number)

    def restrict(self, number: Number, *, source: bool, destination: bool) -> None:
        """A class is less than it was: no connections begin here, or arrive here, any more."""
        if (number in self._sources) == source and (number in self._destinations) == destination:
            return
        what = self._whole[number]
        self.remove(number)
        self.add(number, what, source=source, destination=destination)

    def remove(self, number: Number) -> None:
        """A class is gone."""
        for pair in list(self._pairs_of[number]):
            self._dirty.add(pair)
        self._dirty |= {(number, None), (None, number)}
        for member, _ in self._classes.pop(number):
            self._members[member].discard(number)
            if not self._members[member]:
                self._forget(member)
        del self._whole[number]
        for numbers in (self._sources, self._destinations, self._mapped):
            numbers.discard(number)

    def set_policies(self, chains: LookUp, affected: Iterable[Affected] | None) -> set[Number]:
        """Other policies hold for those affected, or for all. The classes whose closedness changed.

        A member is affected if it has all traits of one entry and its question says so.
        """
        self._chains = chains
        flipped: set[Number] = set()
        chosen: Iterable[Member] = self._members
        if affected is not None:
            chosen = {m for needs, asks in affected for m in self._pool(needs) if asks(m)}
        for member in chosen:
            before = [(member, d) in self._rows for d in DIRECTIONS]
            for direction in DIRECTIONS:
                self._renew((member, direction))
            if before != [(member, d) in self._rows for d in DIRECTIONS]:
                flipped |= self._members[member]
        return flipped

    # -- rows --------------------------------------------------------------------------------------

    def _renew(self, key: Key) -> None:
        """Compute a row anew; the pairs that it may change are marked."""
        member, direction = key
        before = self._rows.pop(key, None)
        if before is not None:
            self._unask(key, before)
        chains = self._chains(member, direction)
        after = self._row(chains) if chains is not None else None
        if after is not None:
            self._rows[key] = after
            self._ask(key, after)
            for peer in self._candidates(key, after):
                answer = after.chains.answer(peer)
                if answer != after.default:
                    after.special[peer] = answer
        if (before and before.default) != (after and after.default):
            for number in self._members[member]:
                self._dirty.add(_pair(direction, number, None))
                self._dirty |= self._pairs_of[number]
                if direction == "egress":
                    self._dirty |= {(number, mapped) for mapped in self._mapped}
        touched = (before.special.keys() if before else set()) | (
            after.special.keys() if after else set()
        )
        self._mark_peers(key, touched)

    def _row(self, chains: Chains) -> Row:
        found = list(chains.clauses())
        return Row(
            chains,
            chains.answer(ANYBODY),
            frozenset(atom for clause in found for atom in atoms(clause.peers)),
            frozenset(name for clause in found for name in clause.ports.names),
        )

    def _candidates(self, key: Key, row: Row) -> Iterable[Member]:
        """The peers that a row might single out, of those that this node cares for."""
        found: set[Member] = set()
        everybody: Iterable[Member] = self._peers(key)
        for atom in row.asked:
            usual = atom.matches(ANYBODY)
            pool = everybody if usual or not atom.needs else self._pool(atom.needs)
            found.update(m for m in pool if atom.matches(m) != usual)
        if key[1] == "egress" and row.port_names:
            found.update(m for m in everybody if _names(m) & row.port_names)
        return [m for m in found if self._cares(key, m)]

    def _pool(self, needs: tuple[Trait, ...]) -> Iterable[Member]:
        """The members among which those that have all these traits are."""
        if not needs:
            return self._members
        return min((self._having.get(trait, ()) for trait in needs), key=len)

    def _peers(self, key: Key) -> Iterable[Member]:
        member, direction = key
        if self._members[member] & self._here(direction):
            return self._members
        other = self._sources if direction == "ingress" else self._destinations
        return {m for number in other for m, _ in self._classes[number]}

    def _cares(self, key: Key, peer: Member) -> bool:
        """Whether this node sees connections between the two."""
        member, direction = key
        if self._members[member] & self._here(direction):
            return True
        other = self._sources if direction == "ingress" else self._destinations
        return bool(self._members[peer] & other)

    def _here(self, direction: Direction) -> set[Number]:
        return self._sources if direction == "egress" else self._destinations

    def _asked_about(self, member: Member) -> Iterator[Key]:
        """The rows whose rules treat a member unlike anybody."""
        found: set[Key] = set()
        for trait in (*traits(member), None):
            for atom, keys in self._asking.get(trait, {}).items():
                if atom.matches(member) != atom.matches(ANYBODY):
                    found |= keys
        for name in _names(member):
            found |= self._naming.get(name, set())
        yield from found

    def _single_out(self, key: Key, peer: Member) -> None:
        row = self._rows[key]
        if not self._cares(key, peer):
            return
        answer = row.chains.answer(peer)
        if answer != row.default:
            row.special[peer] = answer
        elif peer in row.special:
            del row.special[peer]
        self._mark_peers(key, (peer,))

    def _ask(self, key: Key, row: Row) -> None:
        for atom in row.asked:
            self._asking[_asked_by(atom)].setdefault(atom, set()).add(key)
        for name in row.port_names:
            if key[1] == "egress":
                self._naming[name].add(key)

    def _unask(self, key: Key, row: Row) -> None:
        for atom in row.asked:
            trait = _asked_by(atom)
            keys = self._asking[trait][atom]
            keys.discard(key)
            if not keys:
                del self._asking[trait][atom]
            if not self._asking[trait]:
                del self._asking[trait]
        for name in row.port_names:
            self._naming[name].discard(key)

    def _enter(self, member: Member, number: Number) -> None:
        if member not in self._members:
            self._members[member] = set()
            for trait in traits(member):
                self._having[trait].add(member)
        self._members[member].add(number)

    def _forget(self, member: Member) -> None:
        for direction in DIRECTIONS:
            row = self._rows.pop((member, direction), None)
            if row is not None:
                self._unask((member, direction), row)
        for key in self._asked_about(member):
            self._rows[key].special.pop(member, None)
        del self._members[member]
        for trait in traits(member):
            self._having[trait].discard(member)
            if not self._having[trait]:
                del self._having[trait]

    # -- pairs -------------------------------------------------------------------------------------

    def _mark(self, number: Number) -> None:
        """Look at everything again that a class is part of."""
        self._dirty |= {(number, None), (None, number)} | self._pairs_of[number]
        for member, _ in self._classes[number]:
            for direction in DIRECTIONS:
                row = self._rows.get((member, direction))
                if row is not None:
                    self._mark_peers((member, direction), row.special)
        if number in self._mapped:
            self._dirty |= {(source, number) for source in self._sources}
        self._dirty |= {(number, mapped) for mapped in self._mapped}

    def _mark_peers(self, key: Key, peers: Iterable[Member]) -> None:
        member, direction = key
        for peer in peers:
            for mine in self._members.get(member, ()):
                for theirs in self._members.get(peer, ()):
                    self._dirty.add(_pair(direction, mine, theirs))

    def _entry(self, pair: Pair) -> Answer | None:
        source, destination = pair
        if source is None or destination is None:
            return self._default(pair)
        if source not in self._classes or destination not in self._classes:
            return None
        if source not in self._sources and destination not in self._destinations:
            return None
        if not self._singled_out(source, destination):
            return None
        return self.answer(source, destination)

    def _default(self, pair: Pair) -> Answer | None:
        number, direction = _default_of(pair)
        if number not in self._classes or not self.closed(number, direction):
            return None
        result = ALWAYS_OPEN
        for member, port in self._classes[number]:
            row = self._rows.get((member, direction))
            if row is not None:
                one = row.default if port is None else at_port(row.default, port)
                result = both(result, one)
        return result

    def _singled_out(self, source: Number, destination: Number) -> bool:
        for sender, _ in self._classes[source]:
            egress = self._rows.get((sender, "egress"))
            for receiver, port in self._classes[destination]:
                ingress = self._rows.get((receiver, "ingress"))
                if egress is not None and (port is not None or receiver in egress.special):
                    return True
                if ingress is not None and sender in ingress.special:
                    return True
        return False

    def _one_way(self, key: Key, peer: Member) -> Answer:
        row = self._rows.get(key)
        return ALWAYS_OPEN if row is None else row.answer(peer)


def _asked_by(atom: Atom) -> Trait | None:
    """The trait of those that an atom may treat unlike anybody; None: whoever."""
    return None if atom.matches(ANYBODY) or not atom.needs else atom.needs[0]


def _names(member: Member) -> set[str]:
    return {name for name, _, _ in member.ports}


def _pair(direction: Direction, mine: Number, theirs: Number | None) -> Pair:
    return (mine, theirs) if direction == "egress" else (theirs, mine)


def _default_of(pair: Pair) -> tuple[Number, Direction]:
    source, destination = pair
    if source is not None:
        return source, "egress"
    assert destination is not None  # noqa: S101 - a pair names at least one
    return destination, "ingress"
