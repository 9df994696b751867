"""Everything a lab's processes need to be somewhere: bpffs, namespaces, cgroups, files, homes."""

from __future__ import annotations

from pathlib import Path

from lab import bpffs, cgroups, resolv, topology
from lab.names import LabNames
from lab.plan import AGENT_CGROUP, PROXY_CGROUP, SYSTEM_CGROUP, Plan


def make(plan: Plan, cgroup: Path) -> None:
    """Make the places of a lab whose cgroup is ``cgroup``; no process is started."""
    bpffs.ensure()
    topology.build(plan)
    cgroups.make(cgroup / "controller")
    names = LabNames(plan.lab)
    for namespace in ("", *{w.namespace for w in plan.workloads}):
        path = names.resolv_conf(namespace)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(resolv.text(namespace))
    for node in plan.nodes:
        names.home(node.name).mkdir(parents=True)
        for group in (AGENT_CGROUP, PROXY_CGROUP, SYSTEM_CGROUP):
            cgroups.make(cgroup / node.name / group)
        for workload in node.workloads:
            names.home(workload.target).mkdir()
            cgroups.make(cgroup / node.name / workload.cgroup)
