"""What test_reboot.py runs inside a guest under systemd: a node's life before and after a reboot.

``python -m tests.kernels.reboot VERB``; results go to the shared directory. It attaches to the root
cgroup, and so refuses to run anywhere else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml

from lab.processes import launcher, place_in
from lab.vm.guest import SHARED
from tests.mesh.asking import ask_unix, eventually
from tests.mesh.programs import DIAL, SERVER
from tests.mesh.test_established import HOLD

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
RUNTIME_UNITS = Path("/run/systemd/system")
RESULTS = Path(SHARED)
CGROUPS = Path("/sys/fs/cgroup/pods")
AGENT_SOCKET = Path("/run/hoplite/agent.sock")
AGENT = "hoplite-agent.service"
# Any of the units that hoplite-agent.service comes before; the real one is not needed.
CONTAINER_RUNTIME = "containerd.service"

PODS = {"vault": "10.244.1.10", "friend": "10.244.1.11", "outsider": "10.244.1.12"}
PORT = 7000

MESH = "".join(
    f"""
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {{name: {pod}, namespace: default, labels: {{app: {pod}}}}}
spec:
  nodeName: n1
  cgroup: pods/{pod}
  serviceAccount: {pod}
  addresses: [{address}]
---"""
    for pod, address in PODS.items()
) + textwrap.dedent("""
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: vault, namespace: default}
    spec:
      podSelector: {matchLabels: {app: vault}}
      ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}]}]
    ---
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: outsider, namespace: default}
    spec: {podSelector: {matchLabels: {app: outsider}}, policyTypes: [Egress]}
    """)


def main(verb: str) -> None:
    if "hoplite.run=" not in Path("/proc/cmdline").read_text():
        sys.exit("this is for a guest of lab.vm only")
    {"before": before, "after": after, "broken": broken, "workloads": workloads}[verb]()


def before() -> None:
    """The first life: a mesh of one node is set up, and its policy is in force."""
    install()
    make_pods()
    serve("vault")
    unguarded = {pod: dial(pod, 1) for pod in ("friend", "outsider")}
    run("systemctl", "start", "hoplite-controller.socket", "hoplite-controller.service")
    state = Path("/var/lib/hoplite/controller")
    eventually((state / "admin.token").exists)
    os.environ |= {
        "HOPLITE_SERVER": "https://127.0.0.1:7443",
        "HOPLITE_CA_FILE": str(state / "ca" / "ca.pem"),
        "HOPLITE_TOKEN_FILE": str(state / "admin.token"),
    }
    token = run(sys.executable, "-m", "hopctl", "token", "create", "--node", "n1")
    Path("/etc/hoplite/join-token").write_text(token)
    run("systemctl", "start", AGENT)
    run(sys.executable, "-m", "hopctl", "apply", "-f", "-", "--wait", stdin=MESH)
    run("systemctl", "start", "hoplite-l7proxy.service")
    eventually(enrolled)
    eventually(lambda: bool(node()["status"].get("l7proxy", {}).get("ready")), 30)
    guarded = {pod: dial(pod, 1) for pod in ("friend", "outsider")}
    write(
        {
            "unguarded": unguarded,
            "guarded": guarded,
            "node": node(),
            "cut": cut("friend"),
            "logs": list(journal()),
        }
    )


def after() -> None:
    """The second: the controller is away, and a container runtime starts with the machine."""
    install()
    container_runtime()
    run("systemctl", "start", "machine.target")
    eventually(lambda: property_of(CONTAINER_RUNTIME, "ActiveState") in {"active", "failed"}, 60)
    results = json.loads((RESULTS / "workloads.json").read_text())
    began = property_of(CONTAINER_RUNTIME, "ExecMainStartTimestampMonotonic")
    write({**results, "runtime began": int(began), "journal": journal()})


def broken() -> None:
    """A life in which the agent cannot start, with hoplite-enforced.service enabled."""
    install(cgroupRoot="/sys/fs/cgroup/there-is-none")
    container_runtime()
    run("systemctl", "enable", "--runtime", "hoplite-enforced.service")
    subprocess.run(["systemctl", "start", "machine.target"], check=False)
    eventually(lambda: property_of("hoplite-enforced.service", "ActiveState") == "failed", 60)
    write(
        {
            "runtime": property_of(CONTAINER_RUNTIME, "ActiveState"),
            "began": property_of(CONTAINER_RUNTIME, "ExecMainStartTimestampMonotonic"),
            "journal": journal(),
        }
    )


def workloads() -> None:
    """What a container runtime does, and this one never asks whether the agent is there."""
    make_pods()
    serve("vault")
    found = {pod: dial(pod, 20) for pod in ("outsider", "friend")}
    (RESULTS / "workloads.json").write_text(json.dumps(found))


# -- the machine -----------------------------------------------------------------------------------


def install(**changed: str) -> None:
    """As deploy/README.md says, for a node whose state directory outlives the guest."""
    opt, state = Path("/opt/hoplite"), Path("/var/lib/hoplite/agent")
    for folder in (opt, state, RESULTS / "state", Path("/etc/hoplite")):
        folder.mkdir(parents=True, exist_ok=True)
    run("mount", "--bind", str(ROOT), str(opt))
    run("mount", "--bind", str(RESULTS / "state"), str(state))
    run("systemd-sysusers", str(UNITS / "hoplite.sysusers"))
    for unit in UNITS.glob("hoplite-*"):
        shutil.copy(unit, RUNTIME_UNITS)
        if ROOT.is_relative_to("/home") or ROOT.is_relative_to("/root"):
            home = RUNTIME_UNITS / f"{unit.name}.d" / "home.conf"  # the clone is in one
            home.parent.mkdir()
            home.write_text("[Service]\nProtectHome=no\n")
    settings: dict[str, Any] = {
        "nodeName": "n1",
        "controller": "https://127.0.0.1:7443",
        "joinTokenFile": "/etc/hoplite/join-token",
        "addresses": ["192.0.2.1"],
        "cgroupRoot": "/sys/fs/cgroup",
        "iOwnThisMachine": True,
        "proxyCgroup": "hoplite.slice/hoplite-proxy.slice",
        "proxyUid": 967,
        "proxyAddresses": ["192.0.2.101"],
        **changed,
    }
    l7proxy = {key: settings[key] for key in ("nodeName", "controller")}
    l7proxy["sourceAddresses"] = settings["proxyAddresses"]
    Path("/etc/hoplite/agent.yaml").write_text(yaml.safe_dump(settings))
    Path("/etc/hoplite/l7proxy.yaml").write_text(yaml.safe_dump(l7proxy))
    shutil.copy(ROOT / "deploy" / "config" / "controller.yaml", "/etc/hoplite")
    run("systemctl", "daemon-reload")


def container_runtime() -> None:
    """A service of a container runtime's name, and what a machine starts at boot."""
    command = f"{sys.executable} -m tests.kernels.reboot workloads"
    (RUNTIME_UNITS / CONTAINER_RUNTIME).write_text(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutStartSec=infinity\n"
        f"Environment=HOPLITE_LAB_PATIENCE={os.environ.get('HOPLITE_LAB_PATIENCE', '1')}\n"
        f"WorkingDirectory={ROOT}\nExecStart={command}\n"
    )
    (RUNTIME_UNITS / "machine.target").write_text(f"[Unit]\nWants={CONTAINER_RUNTIME} {AGENT}\n")
    run("systemctl", "daemon-reload")


def make_pods() -> None:
    """A cgroup and a network namespace for each pod, all on one bridge without an address."""
    run("ip", "link", "add", "pods", "type", "bridge")
    run("ip", "link", "set", "pods", "up")
    for pod, address in PODS.items():
        (CGROUPS / pod).mkdir(parents=True)
        run("ip", "netns", "add", pod)
        run("ip", "link", "add", pod, "type", "veth", "peer", "name", "eth0", "netns", pod)
        run("ip", "link", "set", pod, "master", "pods", "up")
        run("ip", "-n", pod, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", pod, "link", "set", "eth0", "up")


def serve(pod: str) -> None:
    subprocess.Popen(
        inside(pod, SERVER),
        env={**os.environ, "WHO": pod, "PORT": str(PORT), "UDP_PORT": "7001"},
        start_new_session=True,
    )
    eventually(lambda: f":{PORT}" in run("ip", "netns", "exec", pod, "ss", "-Hltn"))


def dial(pod: str, count: int) -> dict[str, int]:
    """Who answered a pod's connections to the vault, or which errno, how often."""
    words = inside(pod, DIAL, PODS["vault"], str(PORT), str(count))
    answers: dict[str, int] = json.loads(run(*words))["answers"]
    return answers


def cut(pod: str) -> str:
    """How an open connection ends, of a process that is not root, when policy refuses it."""
    command = inside(pod, HOLD, PODS["vault"], str(PORT))
    at = command.index(sys.executable, 1)
    command[at:at] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "open\n"
        closed = "{metadata: {name: vault, namespace: default}, apiVersion: networking.k8s.io/v1, "
        closed += "kind: NetworkPolicy, spec: {podSelector: {}, ingress: []}}"
        run(sys.executable, "-m", "hopctl", "apply", "-f", "-", "--wait", stdin=closed)
        try:
            return holding.communicate(timeout=60)[0].strip()
        except subprocess.TimeoutExpired:
            holding.kill()
            return "still open"
        finally:
            run(sys.executable, "-m", "hopctl", "apply", "-f", "-", "--wait", stdin=MESH)


def inside(pod: str, program: str, *words: str) -> list[str]:
    return launcher(place_in(CGROUPS / pod, pod), [sys.executable, "-c", program, *words])


def enrolled() -> bool:
    """Whether the agent has found every pod's cgroup."""
    dump = json.loads(ask_unix(AGENT_SOCKET, "/config_dump"))
    found = {w["name"] for w in dump["inForce"].get("workloads", ()) if w["ready"]}
    return found == set(PODS)


def node() -> Any:
    return json.loads(run(sys.executable, "-m", "hopctl", "get", "node", "n1", "-o", "json"))


def property_of(unit: str, name: str) -> str:
    return run("systemctl", "show", unit, "--value", f"--property={name}").strip()


def journal() -> dict[str, int]:
    """What the agent said, and when (microseconds since boot)."""
    lines = run("journalctl", "--no-pager", "--output=json", f"--unit={AGENT}").splitlines()
    entries = [json.loads(line) for line in lines]
    return {str(e["MESSAGE"]): int(e["__MONOTONIC_TIMESTAMP"]) for e in entries}


def write(results: dict[str, Any]) -> None:
    (RESULTS / "results.json").write_text(json.dumps(results))


def run(*words: str, stdin: str = "") -> str:
    done = subprocess.run(words, input=stdin, text=True, capture_output=True, check=False)
    if done.returncode:
        units = subprocess.run(
            ["journalctl", "--no-pager", "--output=cat", "--lines=60"],
            capture_output=True,
            text=True,
            check=False,
        )
        raise SystemExit(f"{words}: {done.stdout}{done.stderr}\n{units.stdout}")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1])
