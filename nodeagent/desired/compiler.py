"""Keeps desired state: what every kernel map must hold, change by change. No I/O.

``update`` takes a new state and says what to write and remove; ``settle`` what can go that only
changes on their way needed. The result is always that of compiling the newest state alone
(tests/unit/nodeagent/desired compares the two), and every step on the way answers as before or as
after:

- a policy that mentions a new address block splits classes, so classes are split first, under the
  policies of before, and joined again when the block is mentioned no more, under those of after;
- policies change in two steps: first those of before and those of after both hold (whatever mixture
  of entries a packet meets, it is refused by one of them or allowed by both), then those of after;
- whom a quarantine lets in is known as its guest before it is in force, and until it is not;
- referents are written before references, and stay a while after them (plan.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from meshapi.resources import BlockList, Namespace, Quarantine
from nodeagent.desired import addresses, dirty, domains, local, services
from nodeagent.desired.domains import domain_number
from nodeagent.desired.encode import Encoder
from nodeagent.desired.ends import Ends, guests
from nodeagent.desired.local import Settings
from nodeagent.desired.numbers import Numbering, number
from nodeagent.desired.plan import MAPS, Delta, Table
from nodeagent.desired.services import resting
from nodeagent.desired.units import (
    BLOCKS,
    DOMAINS,
    NODE,
    RESOLVERS,
    THERE,
    Facts,
    PortName,
    Sheet,
    Unit,
    Use,
)
from nodeagent.layout import (
    CLASS_ANY,
    POLICY_KEY,
    SERVICE,
    SERVICE_REDIRECT,
    SETTINGS_BLOCKED,
    SETTINGS_IDENTITY,
    SETTINGS_L7,
    SETTINGS_NAMES,
    SETTINGS_QUARANTINE,
    End,
    address_text,
)
from nodeagent.policy.blocklists import Blocked
from nodeagent.policy.blocks import Blocks
from nodeagent.policy.decisions import Answer, Decision, Protocol, Rule, at
from nodeagent.policy.matrix import Affected, Matrix, Pair
from nodeagent.policy.members import WORLD, Member, PolicyClass, canonical
from nodeagent.policy.policyset import (
    BothHold,
    PolicySet,
    mentioned_blocks,
    mentioned_domains,
    policy_set,
)
from nodeagent.state import POLICIES, Changes, NodeState, name_of

WORLD_NUMBER = 0  # the class of addresses that no policy mentions


@dataclass
class _Class:
    """A class, and the units that refer to it."""

    what: PolicyClass
    users: dict[Unit, Use] = field(default_factory=dict)

    @property
    def use(self) -> Use:
        uses = self.users.values()
        return Use(any(u.source for u in uses), any(u.destination for u in uses))


# What a unit wants at present: its keys by map, and its classes.
_Written = tuple[tuple[tuple[str, bytes], ...], tuple[int, ...]]
_NOTHING: _Written = ((), ())


class Compiler:
    """One node's desired state. ``tables`` is the whole of it."""

    def __init__(self, node: str) -> None:
        self.tables: dict[str, Table] = {name: {} for name in MAPS}
        self.services: dict[int, PortName] = {}
        self.state = NodeState(node)
        self.facts = Facts()
        self._ends = Ends(self.state, Blocks())
        self._policies = PolicySet()
        self._matrix = Matrix()
        self._encoder = Encoder()
        self._numbering = Numbering()
        self._numbering.claim(WORLD_NUMBER, WORLD)
        self._numbering.claim(CLASS_ANY, None)
        self._classes: dict[int, _Class] = {}
        self._numbers: dict[PolicyClass, int] = {}
        self._flags: dict[int, int] = {}  # END_EGRESS, END_INGRESS by class
        self._retired: set[int] = set()  # classes without users that packets may still carry
        self._units: dict[Unit, _Written] = {}
        self._answers: dict[Pair, Answer] = {}
        self._uses: Counter[Answer] = Counter()
        self._node_classes = (WORLD_NUMBER, WORLD_NUMBER)
        self._redirects = 0
        self._blocked = Blocked()
        self._delta = Delta()

    # -- what is asked of it -----------------------------------------------------------------------

    @property
    def rules(self) -> dict[int, Rule]:
        """What the rule numbers stand for."""
        return self._encoder.rules

    @property
    def classes(self) -> dict[int, PolicyClass]:
        """What the class numbers stand for."""
        return {number_: known.what for number_, known in self._classes.items()}

    @property
    def settings(self) -> Settings:
        flags = SETTINGS_L7 if self._redirects else 0
        flags |= SETTINGS_NAMES if self.tables["domains"] else 0
        flags |= SETTINGS_QUARANTINE if self.state.quarantines else 0
        flags |= SETTINGS_BLOCKED if self._blocked else 0
        flags |= SETTINGS_IDENTITY if self.facts.identity else 0
        return local.settings(self.facts, self._node_classes, flags)

    def knows(self, number_: int) -> bool:
        """Whether a class number is in use."""
        return number_ in self._classes

    def blocked(self, address: bytes) -> Rule | None:
        """The rule of a block list that an address is under."""
        return self._blocked.rule(address)

    def rule_number(self, rule: Rule) -> int:
        """The number by which the kernel knows a rule."""
        return self._encoder.rule_number(rule)

    def outside(self, address: bytes) -> int:
        """The class number of an address that is nobody's in the mesh."""
        held = self._ends.blocks.holding_address(address_text(address))
        return self._numbers.get(Member(blocks=held), WORLD_NUMBER)

    def decide(self, source: int, destination: int, protocol: Protocol, port: int) -> Decision:
        """The decision for a pair of class numbers that are in use."""
        return at(self._matrix.answer(source, destination), protocol, port)

    # -- what it is told ---------------------------------------------------------------------------

    def update(self, state: NodeState, changes: Changes, facts: Facts) -> list[Delta]:
        """The deltas to apply in turn; the last one leads to what ``state`` and ``facts`` ask."""
        first = self.state.revision == 0
        deltas = []
        if _about_policy(changes) and not first:
            both = self._ends.blocks | _blocks(state)
            if both != self._ends.blocks:
                deltas.append(self._split(both))
        elif first:
            self._ends.blocks = _blocks(state)
        if not first:
            deltas += self._welcome(r for r in changes.new.values() if isinstance(r, Quarantine))
        policies, affected = self._new_policies(state, changes)
        if policies is not self._policies and not first:
            together = BothHold(self._policies, policies)
            flipped = self._matrix.set_policies(together.chains, affected)
            deltas.append(self._finish(self._users(flipped)))
        before, self.state, self._ends.state = self.state, state, state
        self._blocked = _blocked(self._blocked, state, changes)
        stale = dirty.by_facts(self.facts, facts) | dirty.by_health(self.facts, facts, state)
        self.facts = facts
        if any(address in state.index.virtual for address, _ in facts.resolvers):
            stale.add(RESOLVERS)
        if first or state.mesh != before.mesh:
            stale |= dirty.everything(state, facts)
        if not first:
            stale |= self._touched(before, changes)
        if policies is not self._policies:
            self._policies = policies
            stale |= {DOMAINS} | self._users(self._matrix.set_policies(policies.chains, affected))
        return [*deltas, self._finish(stale), *self._welcome(())]

    def settle(self) -> Delta | None:
        """What only a change on its way needed is dropped; None if there is nothing."""
        wanted = _blocks(self.state)
        if wanted == self._ends.blocks and not self._retired:
            return None
        self._release(tuple(self._retired))
        self._retired.clear()
        return self._split(wanted) if wanted != self._ends.blocks else self._finish(set())

    # -- steps -------------------------------------------------------------------------------------

    def _split(self, blocks: Blocks) -> Delta:
        """Tell other address blocks apart, under the same state and policies."""
        changed = self._ends.blocks ^ blocks
        self._ends.blocks = blocks
        index = self.state.index
        known = (*index.at_address, *index.node_at, *index.proxy_at)
        inside = {a for a in known if changed.touches(a)}
        names = {name for a in inside for name in index.at_address.get(a, ())}
        for node in {n for a in inside for n in index.node_at.get(a, ())}:
            names.update(index.on_node.get(node, ()))
        self._ends.forget(names)
        stale: set[Unit] = {BLOCKS, DOMAINS, NODE} | {("address", a) for a in inside}
        return self._finish(stale | dirty.units(self.state, self.state, Changes(), names))

    def _welcome(self, quarantines: Iterable[Quarantine]) -> list[Delta]:
        """Guests of these quarantines, besides those of the state's own, are guests; under the same
        state and policies.
        """
        former, self._ends.welcome = self._ends.welcome, guests(quarantines)
        names = {*former, *self._ends.welcome}
        self._ends.forget(names)
        stale = dirty.units(self.state, self.state, Changes(), names)
        return [self._finish(stale)] if stale else []

    def _touched(self, before: NodeState, changes: Changes) -> set[Unit]:
        """The units of what has changed; the guests of a lifted quarantine are guests still."""
        self._ends.welcome = guests(r for r in changes.old.values() if isinstance(r, Quarantine))
        names = dirty.touched_workloads(self.state, changes)
        self._ends.forget(names)
        for namespace in changes.of(Namespace):
            self._ends.forget_namespace(namespace.metadata.name)
        return dirty.units(before, self.state, changes, names)

    def _new_policies(
        self, state: NodeState, changes: Changes
    ) -> tuple[PolicySet, list[Affected] | None]:
        """The policies of a state, and for whom they differ from those that hold; None: for all."""
        mesh_changed = state.mesh != self.state.mesh
        if not _about_policy(changes) and not mesh_changed:
            return self._policies, []
        # Those that were lifted are as they were until nobody is under them any more.
        lifted = [r for k, r in changes.old.items() if k not in changes.new]
        contained = [r for r in lifted if isinstance(r, Quarantine)]
        contained += state.quarantines.values()
        latter = policy_set(state.policies.values(), contained, state.mesh)
        if mesh_changed:
            return latter, None
        subjects = [latter.subject(policy) for policy in changes.of(*POLICIES)]
        affected: list[Affected] = [(subject.needs, subject.matches) for subject in subjects]
        for quarantine in changes.of(Quarantine):
            trait = ("quarantined", "/".join(name_of(quarantine)))
            affected.append(((trait,), lambda _: True))
        return latter, affected

    def _finish(self, stale: set[Unit]) -> Delta:
        """Compute stale units, then those whose classes they opened or closed, then the pairs."""
        behind = dirty.behind_interfaces(stale, self.facts)
        for unit in (*stale, *behind.difference(stale)):
            self._retire_classes(self._compute(unit))
        for pair, answer in self._matrix.changes().items():
            self._answer(pair, answer)
        delta, self._delta = self._delta, Delta()
        delta.settings = self.settings
        return delta

    # -- units -------------------------------------------------------------------------------------

    def _compute(self, unit: Unit) -> set[int]:
        """Make a unit's entries what it wants now; the classes that it does not need any more."""
        sheet = Sheet(
            self.state,
            self.facts,
            self._ends,
            self._number,
            self._closed,
            self.rule_number,
            self._blocked,
        )
        self._fill(sheet, unit)
        keys, classes = self._units.get(unit, _NOTHING)
        entries = sheet.entries
        for (name, key), value in entries.items():
            self._put(name, key, value)
        for place in keys:
            if place not in entries:
                self._drop(*place, late=place[0] in _LATE)
        for number_, use in sheet.classes.items():
            self._classes[number_].users[unit] = use
        gone = {number_ for number_ in classes if number_ not in sheet.classes}
        for number_ in gone:
            del self._classes[number_].users[unit]
        if sheet.services:
            self.services.update(sheet.services)
        if entries or sheet.classes:
            self._units[unit] = (tuple(entries), tuple(sheet.classes))
        else:
            self._units.pop(unit, None)
        return gone

    def _fill(self, sheet: Sheet, unit: Unit) -> None:
        match unit:
            case ("service", namespace, name):
                services.service(sheet, (namespace, name))
            case ("local", namespace, name):
                local.workload(sheet, (namespace, name))
            case ("domains",):
                domains.domains(sheet, mentioned_domains(self.state.policies.values()))
            case ("blocked",):
                local.blocked(sheet, self.rule_number)
            case ("node",):
                self._node_classes = local.node(sheet)
            case (kind, *of_what):
                _FILL[kind](sheet, *of_what)

    def _put(self, name: str, key: bytes, value: bytes) -> None:
        table = self.tables[name]
        former = table.get(key)
        if former == value:
            return
        if name == "services":
            self._redirects += _is_redirect(value) - _is_redirect(former)
        table[key] = value
        self._delta.put(name, key, value)

    def _drop(self, name: str, key: bytes, *, late: bool) -> None:
        former = self.tables[name].pop(key, None)
        if former is None:
            return
        if name == "services":
            self._redirects -= _is_redirect(former)
        if late and name == "backends":
            self._delta.retire(name, key, resting(former))  # clients with an affinity let go of it
        else:
            self._delta.drop(name, key, late=late)

    # -- classes -----------------------------------------------------------------------------------

    def _number(self, what: PolicyClass, use: Use) -> int:
        """The number of a class; known to the matrix from now on."""
        number_ = self._numbers.get(what)
        if number_ is None:
            number_ = self._new_number(what)
            self._numbers[what] = number_
            self._classes[number_] = _Class(what)
        elif use is THERE:
            return number_
        self._matrix.add(number_, what, source=use.source, destination=use.destination)
        return number_

    def _new_number(self, what: PolicyClass) -> int:
        if what == WORLD:
            return WORLD_NUMBER
        number_ = _number_of_class(what)
        self._numbering.claim(number_, what)
        return number_

    def _closed(self, number_: int) -> int:
        """END_EGRESS and END_INGRESS, as far as the class is closed."""
        flags = self._flags.get(number_)
        if flags is None:
            flags = 0
            if self._matrix.closed(number_, "egress"):
                flags |= int(End.EGRESS)
            if self._matrix.closed(number_, "ingress"):
                flags |= int(End.INGRESS)
            self._flags[number_] = flags
        return flags

    def _retire_classes(self, numbers: Iterable[int]) -> None:
        """Classes that a unit does not need any more. They keep their answers for a while: a packet
        half-way may carry one of them and meet an end whose class is new already.
        """
        for number_ in numbers:
            known = self._classes[number_]
            if not known.users and isinstance(known.what, Member) and known.what.domains:
                self._release((number_,))  # asked about only when the address alone was refused
            else:
                self._retired.add(number_)

    def _release(self, numbers: Iterable[int]) -> None:
        """Forget classes that nobody has begun to use again; of others what they were used for."""
        for number_ in numbers:
            known = self._classes[number_]
            if known.users:
                use = known.use
                self._matrix.restrict(number_, source=use.source, destination=use.destination)
                continue
            self._retired.discard(number_)
            self._matrix.remove(number_)
            if number_ != WORLD_NUMBER:
                self._numbering.release(number_)
            del self._classes[number_], self._numbers[known.what]
            self._flags.pop(number_, None)

    def _users(self, flipped: Iterable[int]) -> set[Unit]:
        """The units that classes which were opened or closed are part of."""
        for number_ in flipped:
            self._flags.pop(number_, None)
        return {unit for number_ in flipped for unit in self._classes[number_].users}

    # -- pairs -------------------------------------------------------------------------------------

    def _answer(self, pair: Pair, answer: Answer | None) -> None:
        key = POLICY_KEY.pack(*(CLASS_ANY if n is None else n for n in pair))
        former = self._answers.pop(pair, None)
        if answer is not None:
            self._answers[pair] = answer
            encoded = self._encoder.encode(answer)
            self._uses[answer] += 1
            for rule_key, value in encoded.rules.items():
                self._put("port_rules", rule_key, value)
            self._put("policy", key, encoded.decision)
        else:
            self._drop("policy", key, late=None in pair)
        if former is not None:
            self._retire(former)

    def _retire(self, answer: Answer) -> None:
        self._uses[answer] -= 1
        if self._uses[answer]:
            return
        del self._uses[answer]
        for rule_key in self._encoder.forget(answer).rules:
            self._drop("port_rules", rule_key, late=True)


def _number_of_class(what: PolicyClass) -> int:
    """Taken from content; with domain name patterns, what bpf/policy.h computes."""
    if not isinstance(what, Member) or not what.domains:
        return number(canonical(what))
    base = replace(what, domains=frozenset())
    number_ = WORLD_NUMBER if base == WORLD else number(canonical(base))
    for pattern in what.domains:
        number_ ^= domain_number(pattern)
    return number_


# Units that need no more than a sheet and what their name says.
_FILL: dict[str, Callable[..., None]] = {
    "address": addresses.address,
    "listeners": addresses.listeners,
    "residents": addresses.residents,
    "interface": lambda sheet, index: local.interface(sheet, int(index)),
    "blocks": local.blocks,
    "resolvers": domains.resolvers,
}

# What packets half-way may still refer to after the last reference is gone.
_LATE = {"slots", "backends"}


def _is_redirect(service: bytes | None) -> int:
    return int(service is not None and SERVICE.unpack(service)[5] == SERVICE_REDIRECT)


def _blocks(state: NodeState) -> Blocks:
    return mentioned_blocks(state.policies.values(), state.quarantines.values())


def _blocked(former: Blocked, state: NodeState, changes: Changes) -> Blocked:
    """The block lists of a state, the same object if they are the former ones."""
    changed = any(True for _ in changes.of(BlockList))
    return Blocked(state.block_lists.values()) if changed else former


def _about_policy(changes: Changes) -> bool:
    return any(True for _ in changes.of(*POLICIES, Quarantine))
