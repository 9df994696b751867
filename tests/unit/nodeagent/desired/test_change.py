"""A change of desired state, half-way: every connect() gets the old answer or the new one.

Random meshes, a random change of one thing (all policies together, one workload, one service);
after every single map write the model of the datapath is asked. Changes of several things in one
revision take effect one after the other, as they would in separate revisions.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshapi.codec import decode
from meshapi.identity import claim
from meshapi.resources import Key, Resource, key_of
from meshapi.verdict import Reason, Verdict
from meshapi.watch import Snapshot
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.plan import Delta, Table, difference, ordered_removals, ordered_writes
from nodeagent.desired.units import Facts
from nodeagent.state import advance
from nodeagent.state import difference as changes_between
from tests.unit.nodeagent.desired.model import Kernel, Outcome

ADDRESSES = ("10.244.1.1", "10.244.1.2", "10.244.2.1")
LABELS = st.sampled_from(({"app": "a"}, {"app": "b"}, {"app": "b", "tier": "x"}))
PORTS = (80, 81, 443)


@dataclass(frozen=True)
class Mesh:
    """The parts of a small mesh that changes are about."""

    labels: tuple[dict[str, str], ...]
    ready: tuple[bool, ...]
    policies: tuple[dict[str, object], ...]
    selector: dict[str, str]
    redirected: bool
    blocked: tuple[str, ...] = ()

    def compiled(self) -> Compiler:
        compiler = Compiler("n1")
        take(compiler, {}, self)
        return compiler

    def parts(self) -> tuple[dict[Key, Resource], Facts]:
        objects: list[Resource] = [
            decode(o) for o in (*self._nodes(), *self._workloads(), self._service())
        ]
        objects += [decode(o) for o in (*self.policies, self._route())]
        if self.blocked:
            objects.append(decode(self._block_list()))
        facts = Facts(
            cgroups={("shop", "w0"): (100, 3), ("shop", "w1"): (101, 3)},
            redirected=frozenset({("shop", "web", 80)} if self.redirected else ()),
            proxy4="169.254.77.1",
            proxy6="fd00::1",
            proxy_port=15001,
        )
        return {key_of(o): o for o in objects}, facts

    def _nodes(self) -> list[dict[str, object]]:
        return [
            {
                "apiVersion": "mesh.hoplite.io/v1alpha1",
                "kind": "MeshNode",
                "metadata": {"name": name},
                "spec": {"addresses": [address]},
            }
            for name, address in (("n1", "172.30.0.11"), ("n2", "172.30.0.12"))
        ]

    def _workloads(self) -> list[dict[str, object]]:
        return [
            {
                "apiVersion": "mesh.hoplite.io/v1alpha1",
                "kind": "Workload",
                "metadata": {"name": f"w{i}", "namespace": "shop", "labels": labels},
                "spec": {
                    "nodeName": "n2" if i == 2 else "n1",
                    "cgroup": f"pods/w{i}",
                    "addresses": [ADDRESSES[i]],
                    "ports": [{"name": "http", "port": 80}],
                },
                "status": {"identity": 256 + i, "ready": ready},
            }
            for i, (labels, ready) in enumerate(zip(self.labels, self.ready, strict=True))
        ]

    def _service(self) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "selector": self.selector,
                "clusterIPs": ["10.96.0.1"],
                "ports": [{"port": 80, "targetPort": "http"}],
            },
        }

    def _block_list(self) -> dict[str, object]:
        return {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "BlockList",
            "metadata": {"name": "bad"},
            "spec": {"cidrs": list(self.blocked)},
        }

    def _route(self) -> dict[str, object]:
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "parentRefs": [{"kind": "Service", "name": "web"}],
                "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
            },
        }


rule_ports = st.sampled_from(
    ([], [{"port": 80}], [{"port": "http"}], [{"port": 80, "endPort": 81}], [{"port": 443}])
)
rule_peers = st.sampled_from(
    (
        [],
        [{"podSelector": {"matchLabels": {"app": "a"}}}],
        [{"namespaceSelector": {}}],
        [{"ipBlock": {"cidr": "10.244.1.0/24", "except": ["10.244.1.2/32"]}}],
    )
)
policies = st.builds(
    lambda number, subject, direction, peers, ports: {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"p{number}", "namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": subject},
            "policyTypes": ["Ingress" if direction == "ingress" else "Egress"],
            direction: [{("from" if direction == "ingress" else "to"): peers, "ports": ports}],
        },
    },
    st.integers(0, 2),
    st.sampled_from(({}, {"app": "a"}, {"app": "b"})),
    st.sampled_from(("ingress", "egress")),
    rule_peers,
    rule_ports,
)
meshes = st.builds(
    Mesh,
    st.tuples(LABELS, LABELS, LABELS),
    st.tuples(st.just(True), st.booleans(), st.booleans()),
    st.lists(policies, max_size=2, unique_by=lambda p: p["metadata"]["name"]).map(tuple),
    st.sampled_from(({"app": "a"}, {"app": "b"})),
    st.booleans(),
    st.sampled_from(((), (), ("10.244.1.0/24", "192.0.2.1"), ("10.244.2.1",), ("::/0",))),
)

DIALLED = [(cgroup, a, p) for cgroup in (100, 101) for a in ADDRESSES for p in PORTS]
DIALLED += [(cgroup, "10.96.0.1", p) for cgroup in (100, 101) for p in (80, 99)]


def take(compiler: Compiler, before: dict[Key, Resource], mesh: Mesh) -> list[Delta]:
    """Tell the compiler of a mesh that differs from ``before``."""
    objects, facts = mesh.parts()
    snapshot = Snapshot(compiler.state.revision + 1, objects)
    changes = changes_between(before, snapshot)
    return compiler.update(advance(compiler.state, snapshot, changes), changes, facts)


Answers = dict[tuple[int, str, int], set[Outcome]]


def answers(kernel: Kernel) -> Answers:
    found: Answers = {dialled: kernel.connect(*dialled) or set() for dialled in DIALLED}
    for cgroup in (100, 101):
        for address in (*ADDRESSES, "192.0.2.1"):
            arrived = kernel.accept(cgroup, address, 80)
            found[cgroup, f"from {address}", 80] = {arrived} if arrived else set()
        claimed = kernel.accept(cgroup, ADDRESSES[2], 80, claim=claim("shop", "w2"))
        found[cgroup, "from w2 by its claim", 80] = {claimed} if claimed else set()
    return found


def unlike(got: set[Outcome], before: set[Outcome], after: set[Outcome]) -> set[Outcome]:
    """Outcomes that neither the old nor the new state gives (why it refuses may differ)."""
    known = {(o.verdict, o.to) for o in before | after}
    return {o for o in got if (o.verdict, o.to) not in known}


def one_change(old: Mesh, other: Mesh, what: str) -> Mesh:
    """``old`` with one thing taken from ``other``."""
    if what == "labels":
        return replace(old, labels=(*old.labels[:2], other.labels[2]))
    return replace(old, **{what: getattr(other, what)})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    meshes,
    meshes,
    st.sampled_from(("policies", "labels", "ready", "selector", "redirected", "blocked")),
)
def test_every_step_answers_like_before_or_after(old: Mesh, other: Mesh, what: str) -> None:
    new = one_change(old, other, what)
    compiler = old.compiled()
    kernel = Kernel(copy.deepcopy(compiler.tables))
    before = answers(kernel)
    deltas = take(compiler, old.parts()[0], new)
    after = answers(Kernel(compiler.tables))
    late: dict[str, set[bytes]] = {}
    for delta in deltas:
        walk(kernel, delta, late, before, after)
    assert answers(kernel) == after
    remove(kernel, late, after, after)
    while (settled := compiler.settle()) is not None:
        late = {}
        walk(kernel, settled, late, after, after)
        remove(kernel, late, after, after)
    assert kernel.tables == compiler.tables
    assert compiler.tables == new.compiled().tables


def walk(
    kernel: Kernel, delta: Delta, late: dict[str, set[bytes]], before: Answers, after: Answers
) -> None:
    """Carry out a delta, asking after every single write; what is late is collected."""
    for name, entries in ordered_writes(delta):
        for key, value in entries:
            kernel.tables[name][key] = value
            late.get(name, set()).discard(key)
            check(kernel, before, after)
    remove(kernel, delta.removals, before, after)
    for name, keys in delta.late.items():
        late.setdefault(name, set()).update(keys)


def remove(
    kernel: Kernel, removals: dict[str, set[bytes]], before: Answers, after: Answers
) -> None:
    for name, keys in ordered_removals({n: removals.get(n, set()) for n in kernel.tables}):
        for key in keys:
            kernel.tables[name].pop(key, None)
            check(kernel, before, after)


def check(kernel: Kernel, before: Answers, after: Answers) -> None:
    for dialled, got in answers(kernel).items():
        strange = unlike(got, before[dialled], after[dialled])
        assert not strange, (dialled, strange, before[dialled], after[dialled])


@settings(max_examples=60, deadline=None)
@given(meshes)
def test_no_known_pair_is_ever_pending(mesh: Mesh) -> None:
    for got in answers(Kernel(mesh.compiled().tables)).values():
        assert Reason.POLICY_PENDING not in {o.reason for o in got}


def test_ipv4_lies_in_no_ipv6_block() -> None:
    """Though addresses are kept as IPv6: the world is not let in by a policy about ::/0."""
    peers = [{"ipBlock": {"cidr": "::/0"}}]
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": peers}]},
    }
    mesh = Mesh(({"app": "a"},) * 3, (True,) * 3, (policy,), {"app": "a"}, redirected=False)
    kernel = Kernel(mesh.compiled().tables)
    outcomes = [kernel.accept(100, remote, 80) for remote in ("192.0.2.1", "2001:db8::1")]
    assert [o.verdict for o in outcomes if o] == [Verdict.DENY, Verdict.ALLOW]


def test_a_restart_writes_nothing() -> None:
    mesh = Mesh(({"app": "a"},) * 3, (True,) * 3, (), {"app": "a"}, redirected=True)
    held: dict[str, Table] = mesh.compiled().tables
    delta = difference(held, mesh.compiled().tables)
    assert (delta.written, delta.removed) == (0, 0)


def test_a_service_without_backends_refuses() -> None:
    mesh = Mesh(({"app": "a"},) * 3, (True,) * 3, (), {"app": "b"}, redirected=False)
    kernel = Kernel(mesh.compiled().tables)
    assert kernel.connect(100, "10.96.0.1", 80) == {Outcome(Verdict.DENY, Reason.NO_BACKEND)}
