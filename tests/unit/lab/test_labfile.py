from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.labfile import LabFile, parse, resource_names
from meshapi.errors import HopliteError
from meshapi.resources import Key

HEAD = "apiVersion: lab.hoplite.io/v1alpha1\nkind: Lab\n"


def nodes(text: str) -> str:
    return HEAD + "spec:\n  nodes:\n" + text


def refusal(text: str) -> str:
    with pytest.raises(HopliteError) as caught:
        parse(text, "f.yaml")
    return str(caught.value)


def test_a_whole_file() -> None:
    file = parse(
        nodes(
            """
  - name: node1
    workloads:
    - name: web
      namespace: shop
      serviceAccount: web
      labels: {app: web}
      network: host
      ports: [{name: http, port: 80, protocol: TCP}]
      command: [nginx, -g, "daemon off;"]
      env: {A: "1"}
---
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"t": "1"}}}
"""
        ),
        "f.yaml",
    )
    (node,) = file.nodes
    (web,) = node.workloads
    assert (web.name, web.namespace, web.service_account, web.network) == (
        "web",
        "shop",
        "web",
        "host",
    )
    assert web.command == ("nginx", "-g", "daemon off;")
    assert [m.resource.kind for m in file.manifests] == ["Namespace"]
    assert file.where(Key("Namespace", "", "shop"), "$.metadata.labels") == "f.yaml:17"
    assert file.where(Key("Workload", "shop", "web"), "$.spec.ports") == "f.yaml:8"
    assert file.where(Key("Namespace", "", "other")) == ""


def test_json_is_yaml_and_the_rest_is_defaulted() -> None:
    file = parse(
        '{"apiVersion": "lab.hoplite.io/v1alpha1", "kind": "Lab", "metadata": {"name": "x"},'
        ' "spec": {"nodes": [{"name": "n", "workloads": [{"name": "w"}]}]}}',
        "f.json",
    )
    (web,) = file.nodes[0].workloads
    assert (web.namespace, web.service_account, web.network) == ("default", "default", "pod")
    assert web.command == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f.yaml: no Lab in it; add apiVersion: lab.hoplite.io/v1alpha1, kind: Lab"),
        ("a: b: c", "f.yaml:1: not YAML"),
        (HEAD, "f.yaml:1: $.spec: missing; this field is required"),
        (HEAD + "spec: {nodes: []}", "f.yaml:3: $.spec.nodes: empty; a lab has at least one node"),
        (HEAD + "spec: {}", "f.yaml:3: $.spec.nodes: missing"),
        (HEAD.replace("v1alpha1", "v1"), "f.yaml:1: $.apiVersion: a Lab is of lab.hoplite.io/v1"),
        (HEAD + "spec: {nodes: [{name: n}]}\n---\n" + HEAD, "f.yaml:5: a second Lab (the first"),
        (nodes("  - {name: n, wokloads: []}"), "f.yaml:5: $.spec.nodes[0].wokloads: unknown field"),
        (nodes("  - {name: N}"), "f.yaml:5: $.spec.nodes[0].name: 'N' is not a node's name"),
        (nodes("  - {name: a.b}"), "'a.b' is not a node's name"),
        (nodes(f"  - {{name: {'n' * 31}}}"), "at most 30"),
        (nodes("  - {name: fabric}"), "'fabric' is a part of every lab; rename the node"),
        (
            nodes("  - {name: n}\n  - {name: m}\n  - {name: n}"),
            "f.yaml:7: $.spec.nodes[2].name: node 'n' stands in $.spec.nodes[0] (f.yaml:5) already",
        ),
        (nodes("  - name: n\n    workloads: [{}]"), "f.yaml:6: $.spec.nodes[0].workloads[0].name"),
        (nodes("  - name: n\n    workloads: [{name: w.x}]"), "'w.x' is not a workload's name"),
        (
            nodes("  - name: n\n    workloads: [{name: w, network: bridge}]"),
            "f.yaml:6: $.spec.nodes[0].workloads[0].network: invalid enum value 'bridge'",
        ),
        (
            nodes("  - name: n\n    workloads:\n    - {name: w, namespace: A_b}"),
            "f.yaml:7: $.spec.nodes[0].workloads[0].namespace: 'A_b' is not a namespace's name",
        ),
        (
            nodes("  - name: n\n    workloads:\n    - {name: w, serviceAccount: '*'}"),
            "f.yaml:7: $.spec.nodes[0].workloads[0].serviceAccount: '*' is not a valid name",
        ),
        (
            nodes(
                "  - name: n\n    workloads:\n    - {name: w, ports: [{port: 80},\n  {port: 0}]}"
            ),
            "f.yaml:8: $.spec.nodes[0].workloads[0].ports[1].port: expected `int` >= 1",
        ),
        (
            nodes("  - name: n\n    workloads:\n    - {name: w, ports: [{port: 80}, {port: 80}]}"),
            "workloads[0].ports[1].port: 80 stands there twice",
        ),
        (
            nodes("  - {name: n, labels: {zone: a b}}"),
            "f.yaml:5: $.spec.nodes[0].labels['zone']: 'a b' is not a valid label value",
        ),
        (
            nodes("  - {name: n, workloads: [{name: w, weight: -1}]}"),
            "f.yaml:5: $.spec.nodes[0].workloads[0].weight: expected `int` >= 0",
        ),
        (
            nodes("  - name: n\n    workloads:\n    - {name: w, labels: {'a b': c}}"),
            "f.yaml:7: $.spec.nodes[0].workloads[0].labels['a b']: not a valid label name",
        ),
        (
            nodes("  - name: n\n    workloads:\n    - name: w\n      env:\n        A: 1"),
            (
                "f.yaml:9: $.spec.nodes[0].workloads[0].env[...]: expected `str`, got `int`; "
                "put it in quotes"
            ),
        ),
        (
            nodes("  - name: n\n    workloads:\n    - name: w\n      env:\n        A=B: x"),
            "f.yaml:9: $.spec.nodes[0].workloads[0].env['A=B']: 'A=B' is not a variable's name",
        ),
        (
            nodes("  - name: n\n    workloads:\n    - {name: w, command: ['']}"),
            "f.yaml:7: $.spec.nodes[0].workloads[0].command[0]: '' cannot be run",
        ),
        (
            nodes('  - name: n\n    workloads:\n    - {name: w, command: [a, "\\0"]}'),
            "command[1]: '\\x00' cannot be run",
        ),
        (
            nodes(
                "  - name: n\n    workloads:\n    - {name: w, labels: {lab.hoplite.io/workload: x}}"
            ),
            "this label is the lab's own; remove it",
        ),
        (
            nodes("  - name: n\n    workloads:\n    - {name: w}\n    - {name: w}"),
            (
                "f.yaml:8: $.spec.nodes[0].workloads[1].name: default/w stands in "
                "$.spec.nodes[0].workloads[0] (f.yaml:7) already; rename one"
            ),
        ),
        (
            nodes(
                "  - name: n\n    workloads:\n"
                "    - {name: a, network: host, ports: [{port: 53, protocol: UDP}]}\n"
                "    - {name: b, network: host, ports: [{port: 53, protocol: UDP}]}"
            ),
            (
                "f.yaml:8: $.spec.nodes[0].workloads[1].ports[0].port: 53/UDP of the node's "
                "network is taken by $.spec.nodes[0].workloads[0].ports[0].port (f.yaml:7)"
            ),
        ),
        (
            HEAD + "spec:\n  nodes: [{name: n}]\n  dns:\n    upstreams: [192.0.2.1, dns.example]",
            (
                "f.yaml:6: $.spec.dns.upstreams[1]: 'dns.example' is not an IP address, with or "
                "without a port; write e.g. 10.244.1.11"
            ),
        ),
        (
            nodes(
                "  - name: n1\n    workloads:\n    - {name: w}\n    - {name: w-n2}\n"
                "  - name: n2\n    workloads:\n    - {name: w}"
            ),
            "its Workload would be named w-n2, as that of $.spec.nodes[0].workloads[1].name",
        ),
        (
            nodes("  - {name: n}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: p}}"),
            "kind 'Pod' is not known",
        ),
        (
            nodes(
                "  - {name: n}\n---\napiVersion: mesh.hoplite.io/v1alpha1\nkind: MeshNode\n"
                "metadata: {name: n}"
            ),
            "f.yaml:7: MeshNode n is made when the lab's node joins; remove it",
        ),
        (
            nodes(
                "  - {name: n}\n---\napiVersion: mesh.hoplite.io/v1alpha1\nkind: Workload\n"
                "metadata: {name: w}\n"
                "spec: {nodeName: other, cgroup: x, addresses: [10.0.0.1]}"
            ),
            (
                "f.yaml:10: Workload default/w: $.spec.nodeName: the lab has no node 'other'; "
                "its nodes are n"
            ),
        ),
        (
            nodes(
                "  - name: n\n    workloads: [{name: w}]\n---\n"
                "apiVersion: mesh.hoplite.io/v1alpha1\nkind: Workload\nmetadata: {name: w}\n"
                "spec: {nodeName: n, cgroup: x, addresses: [10.0.0.1]}"
            ),
            "f.yaml:8: Workload default/w is made for the workload at f.yaml:6",
        ),
    ],
)
def test_every_refusal_names_the_place(text: str, expected: str) -> None:
    assert expected in refusal(text)


def test_upstreams_of_names() -> None:
    assert parse(nodes("  - {name: n}"), "f.yaml").dns_upstreams == ()
    text = nodes("  - {name: n}\n  dns: {upstreams: [10.244.1.11, '[fd00::1]:5353']}")
    assert parse(text, "f.yaml").dns_upstreams == ("10.244.1.11", "[fd00::1]:5353")


def test_too_many() -> None:
    assert "at most 200" in refusal(nodes("".join(f"  - {{name: n{i}}}\n" for i in range(201))))
    pods = "".join(f"    - {{name: w{i}}}\n" for i in range(241))
    assert "more than 240 pods" in refusal(nodes("  - name: n\n    workloads:\n" + pods))


def test_the_same_name_on_several_nodes_gets_the_nodes_name_appended() -> None:
    file = parse(
        nodes(
            (
                "  - {name: n1, workloads: [{name: w}, {name: x}]}\n"
                "  - {name: n2, workloads: [{name: w}, {name: w, namespace: other}]}"
            ),
        ),
        "f.yaml",
    )
    assert resource_names(file.nodes) == {
        (0, 0): "w-n1",
        (0, 1): "x",
        (1, 0): "w-n2",
        (1, 1): "w",
    }


def test_the_same_port_on_hosts_of_different_nodes_is_fine() -> None:
    workload = "workloads: [{name: a, network: host, ports: [{port: 80}]}]"
    file = parse(nodes(f"  - {{name: n1, {workload}}}\n  - {{name: n2, {workload}}}"), "f.yaml")
    assert len(file.nodes) == 2


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, HEAD + text, nodes("  - " + text)):
        try:
            assert isinstance(parse(candidate, "f.yaml"), LabFile)
        except HopliteError as error:
            assert "\n" not in str(error).strip() or "f.yaml" in str(error)
