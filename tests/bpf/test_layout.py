"""The structures of bpf/types.h and of nodeagent/layout.py are the same bytes.

BCC's own compiler says where each C field lies; Python's side is a format string and field names.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import bpf
from meshapi import verdict
from nodeagent import layout
from nodeagent.config import DEFAULT_SIZES

FOLDER = Path(bpf.__file__).parent

# C structure -> (Python's packing, its fields in C's names, "" where Python packs no value)
TWINS: dict[str, tuple[struct.Struct, str]] = {
    "endpoint": (layout.ENDPOINT, "address port protocol"),
    "settings": (
        layout.SETTINGS,
        """pod_proxy4 pod_proxy6 host_netns proxy_port flags policy_epoch
        node_class4 node_class6 levels seed""",
    ),
    "workload": (layout.WORKLOAD, "identity class4 class6 flags claim"),
    "resident_key": (layout.RESIDENT_KEY, "node claim"),
    "peer": (layout.PEER, "identity class flags node"),
    "block_key": (layout.BLOCK_KEY, "bits address"),
    "service": (layout.SERVICE, " ".join(layout.Service._fields).replace("class_", "class")),
    "backend": (layout.BACKEND, "address port flags identity class node"),
    "slot_key": (layout.SLOT_KEY, "service epoch slot"),
    "slot": (layout.SLOT, "first second threshold"),
    "policy_key": (layout.POLICY_KEY, "source destination"),
    "decision": (layout.DECISION, "rule ports verdict reason flags"),
    "port_rule_key": (layout.PORT_RULE_KEY, "bits list protocol port"),
    "domain_key": (layout.DOMAIN_KEY, "hash wildcard"),
    "flow": (layout.FLOW, " ".join(layout.DatagramFlow._fields)),
    "datagram_key": (layout.DATAGRAM_KEY, "cookie remote port"),
    "pair": (layout.PAIR, " ".join(layout.Pair._fields)),
    "counters": (layout.COUNTERS, " ".join(layout.Counters._fields)),
    "node_key_id": (layout.NODE_KEY_ID, "node use epochs"),
    "node_key": (layout.NODE_KEY, "key epochs"),
    "event": (layout.EVENT, " ".join(layout.Event._fields)),
    "interface_key": (layout.INTERFACE_KEY, "index address"),
    "interface": (layout.INTERFACE, "cgroup identity class flags netns level"),
    "tuple": (layout.TUPLE, "local remote local_port remote_port protocol"),
    "crossing": (layout.CROSSING, "epoch direction captured"),
    "fragment_key": (layout.FRAGMENT_KEY, "source destination identification protocol"),
    "outlier": (layout.OUTLIER, " ".join(layout.Outlier._fields)),
    "limit": (layout.LIMIT, "interval tolerance most id rule"),
    "affinity_key": (layout.AFFINITY_KEY, "client service family"),
    "affinity": (layout.AFFINITY, "used backend"),
    "ejection_key": (layout.EJECTION_KEY, "service family ends"),
    "guard_key": (layout.GUARD_KEY, "cgroup port protocol"),
}

# Structures that only the kernel fills; user space creates the maps and so must know the size.
SIZES = {
    "learnt": "learnt",
    "name": "scratch",
    "arrival": "arrivals",
    "session": "sessions",
    "accepting_key": "accepting",
    "accepting": "accepting",
    "inflight_key": "inflight",
    "origin": "inflight",
    "refused_key": "refused",
    "allowances": "allowances",
    "reservation": "reserved",
}

_PROBE = """
import ctypes, json, os, sys
request = json.load(sys.stdin)
os.environ["BCC_KERNEL_SOURCE"] = request["headers"]
import bcc
module = bcc.BPF(text=request["text"])
answer = {}
for name in request["structures"]:
    leaf = module["m_" + name].Leaf
    fields = {f[0]: getattr(leaf, f[0]).offset for f in getattr(leaf, "_fields_", ())}
    answer[name] = {"size": ctypes.sizeof(leaf), "fields": fields}
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def c_layout() -> dict[str, dict[str, object]]:
    names = [*TWINS, *SIZES]
    text = "#include <uapi/linux/bpf.h>\n" + (FOLDER / "types.h").read_text()
    # map names are cut at 15 characters, so that each structure's map needs a short one
    text += "".join(f'BPF_TABLE("hash", u32, struct {n}, m_{n}, 1);\n' for n in names)
    request = {"headers": str(FOLDER), "text": text, "structures": names}
    run = subprocess.run(
        [sys.executable, "-c", _PROBE],
        input=msgspec.json.encode(request),
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    answer: dict[str, dict[str, object]] = msgspec.json.decode(run.stdout)
    return answer


@pytest.mark.root
@pytest.mark.parametrize("name", TWINS)
def test_same_size_and_offsets(name: str, c_layout: dict[str, dict[str, object]]) -> None:
    packing, fields = TWINS[name]
    assert packing.size == c_layout[name]["size"]
    assert _offsets(packing, fields.split()) == {
        key: value
        for key, value in c_layout[name]["fields"].items()  # type: ignore[attr-defined]
        if key in fields.split()
    }


@pytest.mark.root
@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_kernel_only_structures(name: str, c_layout: dict[str, dict[str, object]]) -> None:
    spec = next(s for s in layout.map_specs(DEFAULT_SIZES) if s.name == SIZES[name])
    expected = spec.key if name.endswith("_key") else spec.value
    assert c_layout[name]["size"] == expected


def test_numbers_agree_with_the_api() -> None:
    defines = _defines("reason.h")
    for prefix, kind in (
        ("VERDICT", verdict.Verdict),
        ("DIRECTION", verdict.Direction),
        ("PATH", verdict.Path),
        ("HOOK", verdict.Hook),
        ("REASON", verdict.Reason),
    ):
        ours = {f"{prefix}_{member.name}": member.value for member in kind}
        theirs = {k: v for k, v in defines.items() if k.startswith(prefix + "_")}
        assert ours == theirs


def test_flags_agree() -> None:
    defines = _defines("types.h")
    assert {f"END_{flag.name}": flag.value for flag in layout.End} == {
        k: v for k, v in defines.items() if k.startswith("END_")
    }
    losses = {f"LOSS_{name.upper()}": index for index, name in enumerate(layout.LOSSES)}
    assert {**losses, "LOSS_MAX": len(layout.LOSSES)} == {
        k: v for k, v in defines.items() if k.startswith("LOSS_")
    }
    assert {f"STATE_{name.upper()}": number for number, name in layout.STATE_NAMES.items()} == {
        k: v for k, v in defines.items() if k.startswith("STATE_")
    }


def test_every_reason_has_a_text() -> None:
    assert set(verdict.REASON_TEXT) == set(verdict.Reason)


def _defines(name: str) -> dict[str, int]:
    found = re.findall(r"^#define\s+(\w+)\s+(\d+)\b", (FOLDER / name).read_text(), re.MULTILINE)
    return {key: int(value) for key, value in found}


def _offsets(packing: struct.Struct, fields: list[str]) -> dict[str, int]:
    """Where each packed value begins: the size of everything in the format before it."""
    parts = re.findall(r"\d*[a-zA-Z]", packing.format.lstrip("="))
    offsets, at, names = {}, 0, iter(fields)
    for part in parts:
        if not part.endswith("x"):
            offsets[next(names)] = at
        at += struct.calcsize("=" + part)
    return offsets
