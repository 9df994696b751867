from __future__ import annotations

import ipaddress

from lab import plan
from lab.labfile import LabFile, parse
from meshapi.resources import Namespace, Workload
from meshapi.resources.checks import check

TEXT = """
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
    - name: node1
      workloads:
        - {name: agent, namespace: ops, network: host, ports: [{port: 9100}]}
        - {name: web, namespace: shop, labels: {app: web}, ports: [{name: http, port: 80}]}
    - name: node2
      workloads:
        - {name: web, namespace: shop}
        - {name: tester, namespace: dev, command: [sleep, "1"], env: {A: b}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: blue}}
"""


def planned() -> tuple[plan.Plan, LabFile]:
    file = parse(TEXT, "f.yaml")
    return plan.make(file, "lab"), file


def test_nodes_and_pods_are_numbered_from_one() -> None:
    made, _ = planned()
    first, second = made.nodes
    assert (first.address4, first.address6) == ("172.30.0.11", "fd00:30::11")
    assert (second.pods4, second.proxy6) == ("10.244.2.0/24", "fd00:244:2::fffe")
    assert first.workloads[0].addresses == ()
    assert first.workloads[1].addresses == ("10.244.1.11", "fd00:244:1::11")
    assert second.workloads[1].addresses == ("10.244.2.12", "fd00:244:2::12")


def test_a_nodes_labels_and_a_workloads_weight_are_kept() -> None:
    text = TEXT.replace("- name: node1", "- name: node1\n      labels: {zone: a}", 1)
    file = parse(text.replace("{name: tester,", "{name: tester, weight: 7,"), "f.yaml")
    made = plan.make(file, "lab")
    assert [node.labels for node in made.nodes] == [{"zone": "a"}, {}]
    weights = {
        r.metadata.name: r.spec.weight
        for r in plan.resources(made, file)
        if isinstance(r, Workload)
    }
    assert weights == {"agent": 1, "web-node1": 1, "web-node2": 1, "tester": 7}


def test_pods_lie_in_their_nodes_prefix_and_no_address_is_used_twice() -> None:
    workloads = "".join(f"        - {{name: w{i}}}\n" for i in range(240))
    nodes = "".join(f"    - name: n{i}\n      workloads:\n{workloads}" for i in range(200))
    file = parse(
        f"apiVersion: lab.hoplite.io/v1alpha1\nkind: Lab\nspec:\n  nodes:\n{nodes}", "big.yaml"
    )
    made = plan.make(file, "big")
    seen: set[str] = {plan.FABRIC4, plan.FABRIC6}
    count = len(seen)
    for node in made.nodes:
        used = [node.address4, node.address6, node.proxy4, node.proxy6]
        for workload in node.workloads:
            assert ipaddress.ip_address(workload.address4) in ipaddress.ip_network(node.pods4)
            assert ipaddress.ip_address(workload.address6) in ipaddress.ip_network(node.pods6)
            used += workload.addresses
        seen.update(used)
        count += len(used)
    assert len(seen) == count


def test_where_each_workload_is() -> None:
    made, _ = planned()
    host, web = made.nodes[0].workloads
    assert (host.cgroup, host.netns) == ("host/ops_agent", "hl-lab.node1")
    assert (web.cgroup, web.netns) == ("pods/shop_web", "hl-lab.node1.shop.web")
    assert [w.target for w in made.workloads][-1] == "node2/dev/tester"


def test_the_resources_are_what_the_controller_takes() -> None:
    made, file = planned()
    resources = plan.resources(made, file)
    assert [check(r) for r in resources] == [[]] * len(resources)
    namespaces = {r.metadata.name: r for r in resources if isinstance(r, Namespace)}
    assert namespaces["shop"].metadata.labels == {"team": "blue"}
    assert set(namespaces) == {"ops", "shop", "dev"}
    workloads = {r.metadata.name: r for r in resources if isinstance(r, Workload)}
    assert set(workloads) == {"agent", "web-node1", "web-node2", "tester"}
    assert workloads["web-node1"].metadata.labels == {
        "app": "web",
        "lab.hoplite.io/workload": "web",
    }
    assert workloads["agent"].spec.network == "host"
