"""The decision itself: wanted objects, judged against the state that results from all of them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from controller import identities
from controller.admission import addresses, workloads
from controller.admission.metadata import adopt, check_lock, seal
from controller.admission.plan import AdmissionError, Plan, Refusal, Rules, Write
from controller.admission.singles import singles
from controller.admission.warnings import warnings
from controller.errors import AlreadyExistsError
from controller.state import State
from meshapi.errors import ConflictError, ForbiddenError, NotFoundError, Problem
from meshapi.identity import WorkloadIdentity
from meshapi.resources import (
    Key,
    Namespace,
    NetworkPolicy,
    Resource,
    Service,
    Workload,
    key_of,
    kind_of,
)
from meshapi.resources.checks import check
from meshapi.resources.core import ClientIPConfig, SessionAffinityConfig
from meshapi.selectors import NAMESPACE_NAME_LABEL

BUILT_IN_NAMESPACES = ("default", "hoplite-system")

Drafts = dict[Key, Resource]


def create(state: State, wanted: Resource, rules: Rules) -> Plan:
    """Admit one object that must not exist yet."""
    if state.get(key_of(wanted)) is not None:
        raise AlreadyExistsError(f"{key_of(wanted)} already exists", fix="replace or apply it")
    return admit(state, [wanted], rules)


def admit(state: State, wanted: Sequence[Resource], rules: Rules) -> Plan:
    """Admit objects that are created or replaced together, or refuse with every reason."""
    index = _index(wanted)
    drafts: Drafts = {}
    for resource in wanted:
        old = state.get(key_of(resource))
        check_lock(old, resource)
        drafts[key_of(resource)] = _default(adopt(old, resource, rules))
    problems = _service_addresses(state, drafts, rules)
    numbers = _identities(state, drafts, rules)
    after = state.with_changes(drafts)
    problems += _namespaces(after, drafts) + _occupancy(after, drafts, rules)
    problems += singles(after, drafts)
    if problems:
        raise AdmissionError(
            sorted((Refusal(index[k], str(k), p) for k, p in problems), key=lambda r: r.index)
        )
    sealed = {key: seal(state.get(key), new) for key, new in drafts.items()}
    return Plan(
        writes=tuple(
            Write(key, state.get(key), new) for key, new in sealed.items() if new != state.get(key)
        ),
        admitted=tuple(sealed.values()),
        identities=numbers,
        warnings=tuple(warnings(after, sealed.values())),
    )


def remove(state: State, key: Key, *, uid: str = "", resource_version: str = "") -> Plan:
    """Admit a deletion; ``uid`` and ``resource_version`` are conditions if given."""
    old = state.get(key)
    if old is None:
        raise NotFoundError(f"{key} does not exist")
    check_lock(old, _named(old, uid, resource_version))
    if isinstance(old, Namespace):
        _check_empty(state, key.name)
    return Plan(writes=(Write(key, old, None),), admitted=(old,))


def _index(wanted: Sequence[Resource]) -> dict[Key, int]:
    index: dict[Key, int] = {}
    for i, resource in enumerate(wanted):
        key = key_of(resource)
        first = index.setdefault(key, i)
        if first != i:
            problem = Problem("$", f"stands there twice (first at index {first})", "keep one")
            raise AdmissionError([Refusal(i, str(key), problem)])
    return index


def _default(resource: Resource) -> Resource:
    """The object with the defaults that Kubernetes writes too."""
    if isinstance(resource, Namespace):
        meta = resource.metadata
        labels = {**meta.labels, NAMESPACE_NAME_LABEL: meta.name}
        return replace(resource, metadata=replace(meta, labels=labels))
    if isinstance(resource, NetworkPolicy) and not resource.spec.policy_types:
        types = ("Ingress", "Egress") if resource.spec.egress else ("Ingress",)
        return replace(resource, spec=replace(resource.spec, policy_types=types))
    if isinstance(resource, Service) and resource.spec.session_affinity == "ClientIP":
        spec = resource.spec
        config = spec.session_affinity_config or SessionAffinityConfig(client_ip=ClientIPConfig())
        return replace(resource, spec=replace(spec, session_affinity_config=config))
    if isinstance(resource, Workload):
        return workloads.canonical(resource)
    return resource


def _service_addresses(state: State, drafts: Drafts, rules: Rules) -> list[tuple[Key, Problem]]:
    """Give every drafted service its addresses: those that fix theirs come first."""
    services = {k: r for k, r in drafts.items() if isinstance(r, Service)}
    if not services:
        return []
    current = state.of(Service)
    used = {a: key for key, s in current.items() for a in s.spec.addresses}
    problems: list[tuple[Key, Problem]] = []
    asked: dict[Key, addresses.Request] = {}
    for key, service in services.items():
        wishes = addresses.request(service, current.get(key), rules.ranges)
        if isinstance(wishes, list):
            problems += [(key, p) for p in wishes]
            continue
        found = addresses.claim(service, current.get(key), wishes, rules.ranges, used)
        problems += [(key, p) for p in found]
        if not found:
            asked[key] = wishes
            used.update({str(a): key for a in wishes.addresses})
    for key, wishes in asked.items():
        filled = addresses.fill(services[key], wishes, rules.ranges, used)
        if isinstance(filled, Problem):
            problems.append((key, filled))
            continue
        drafts[key] = filled
        if filled.spec.headless:  # perhaps by what it was before, which its own check did not see
            problems += [(key, p) for p in check(filled)]
    return problems


def _identities(state: State, drafts: Drafts, rules: Rules) -> dict[WorkloadIdentity, int]:
    """Stamp every drafted workload with its identity; the numbers that are new are returned."""
    wanted = {
        key: workloads.identity_of(r, rules.trust_domain)
        for key, r in drafts.items()
        if isinstance(r, Workload)
    }
    fresh = identities.assign(state.identities, wanted.values())
    for key, identity in wanted.items():
        number = fresh.get(identity) or state.identities[identity]
        draft, old = drafts[key], state.of(Workload).get(key)
        if isinstance(draft, Workload):
            drafts[key] = workloads.stamp(old, draft, identity, number)
    return fresh


def _namespaces(after: State, drafts: Drafts) -> list[tuple[Key, Problem]]:
    return [
        (
            key,
            Problem(
                "$.metadata.namespace",
                f"namespace {key.namespace!r} does not exist",
                "create it first, or apply it together with this",
            ),
        )
        for key, resource in drafts.items()
        if kind_of(resource).namespaced and after.namespace(key.namespace) is None
    ]


def _occupancy(after: State, drafts: Drafts, rules: Rules) -> list[tuple[Key, Problem]]:
    drafted = {k: r for k, r in drafts.items() if isinstance(r, Workload)}
    if not drafted:
        return []
    occupancy = workloads.Occupancy(after.of(Workload).values(), drafted.values(), rules.ranges)
    return [(key, problem) for key, w in drafted.items() for problem in occupancy.problems(w)]


def _named(old: Resource, uid: str, resource_version: str) -> Resource:
    meta = replace(old.metadata, uid=uid, resource_version=resource_version)
    return replace(old, metadata=meta)


def _check_empty(state: State, name: str) -> None:
    if name in BUILT_IN_NAMESPACES:
        raise ForbiddenError(f"Namespace {name} belongs to the mesh and cannot be deleted")
    inside = [
        str(key) for objects in state.kinds.values() for key in objects if key.namespace == name
    ]
    if inside:
        shown = ", ".join(sorted(inside)[:5])
        more = f" and {len(inside) - 5} more" if len(inside) > 5 else ""
        raise ConflictError(
            f"Namespace {name} is not empty: it holds {shown}{more}", fix="delete these first"
        )
