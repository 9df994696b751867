"""The mesh's own processes in a lab: their configuration, their place, their start."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import netns, resolv
from lab.account import ROOT, Account
from lab.endpoint import Endpoint
from lab.names import LabNames
from lab.plan import AGENT_CGROUP, FABRIC4, FABRIC6, PROXY_CGROUP, PlannedNode
from lab.processes import PATH, Place, Running, place_in, start
from meshapi import nodecontract

SERVICE_CIDRS = ["10.96.0.0/16", "fd00:96::/112"]
_UPLINK = "eth0"  # a node's only interface but for its pods' (lab/topology.py)
_NODE_SERVER = f"https://{FABRIC4}:{nodecontract.CONTROLLER_PORT}"


@dataclass(frozen=True)
class Daemons:
    """Starts the daemons of one lab. ``cgroup`` is the lab's; ``account`` is not root's own."""

    names: LabNames
    cgroup: Path
    account: Account

    def controller(self, fabric: str) -> tuple[Running, Endpoint]:
        """Start the controller on sockets made here: one for people, two for the nodes."""
        home = self.names.controller
        state = home / "state"
        self.account.own(home, state)
        settings = {
            "listen": [],
            "stateDir": str(state),
            "meshDomain": resolv.DOMAIN,
            "serviceCIDRs": SERVICE_CIDRS,
            "serverNames": ["localhost", "127.0.0.1", FABRIC4, FABRIC6],
        }
        config = _write(home, settings, self.account)
        with ExitStack() as stack:
            near = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            far = [stack.enter_context(s) for s in netns.within(fabric, _fabric_sockets)]
            fds = tuple(s.fileno() for s in (near, *far))
            place = self._unprivileged(self.cgroup / "controller", listen_fds=fds)
            running = self._start("controller", "controller", config, place)
            server = f"https://127.0.0.1:{near.getsockname()[1]}"
        return running, Endpoint(server, state / "ca" / "ca.pem", state / "admin.token")

    def agent(self, node: PlannedNode, join_token: str, dns_upstreams: tuple[str, ...]) -> Running:
        home = self.names.node(node.name) / "agent"
        state, run = home / "state", home / "run"
        Account(0, 0).own(home, state, run)
        settings = {
            "nodeName": node.name,
            "controller": _NODE_SERVER,
            "joinToken": join_token,
            "stateDir": str(state),
            "runDir": str(run),
            "cgroupRoot": str(self.cgroup / node.name),
            "proxyCgroup": PROXY_CGROUP,
            "proxyUid": self.account.uid,
            "pinDir": str(self.names.pins / node.name),
            "addresses": [node.address4, node.address6],
            "uplinks": [_UPLINK],
            "proxyAddresses": [node.proxy4, node.proxy6],
            "nodeLabels": node.labels,
            "metricsListen": f"127.0.0.1:{nodecontract.AGENT_METRICS_PORT}",
            "dnsUpstreams": list(dns_upstreams),
        }
        config = _write(home, settings, Account(0, 0))
        place = place_in(self.cgroup / node.name / AGENT_CGROUP, node.netns)
        return self._start(f"{node.name}/agent", "nodeagent", config, place)

    def l7proxy(self, node: PlannedNode) -> Running:
        home = self.names.node(node.name) / "l7proxy"
        state, run = home / "state", home / "run"
        self.account.own(home, state, run)
        settings = {
            "nodeName": node.name,
            "controller": _NODE_SERVER,
            "stateDir": str(state),
            "runDir": str(run),
            "agentSocket": str(self.proxy_socket(node.name)),
            "sourceAddresses": [node.proxy4, node.proxy6],
            "metricsListen": f"127.0.0.1:{nodecontract.PROXY_METRICS_PORT}",
        }
        config = _write(home, settings, self.account)
        place = self._unprivileged(
            self.cgroup / node.name / PROXY_CGROUP, netns=str(netns.path(node.netns))
        )
        return self._start(f"{node.name}/l7proxy", "l7proxy", config, place)

    def proxy_socket(self, node: str) -> Path:
        """Where a node's agent listens for its l7proxy."""
        return self.names.node(node) / "agent" / "run" / nodecontract.PROXY_SOCKET

    def _unprivileged(self, cgroup: Path, **more: Any) -> Place:
        account = self.account
        return Place(cgroup=str(cgroup), privileged=False, uid=account.uid, gid=account.gid, **more)

    def _start(self, name: str, module: str, config: Path, place: Place) -> Running:
        command = [sys.executable, "-m", module, "--config", str(config)]
        return start(name, place, command, environment(), self.names.log(name))


def _fabric_sockets() -> list[socket.socket]:
    port = nodecontract.CONTROLLER_PORT
    return [
        socket.create_server((FABRIC4, port)),
        socket.create_server((FABRIC6, port), family=socket.AF_INET6),
    ]


def _write(home: Path, settings: dict[str, Any], reader: Account) -> Path:
    """Write a daemon's configuration for nobody but its reader: it may hold a token."""
    config = home / "config.yaml"
    config.touch(mode=0o600)
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    os.chown(config, reader.uid, reader.gid)
    return config


def environment(release: Path = ROOT) -> dict[str, str]:
    """Nothing of the caller's: its ``HOPLITE_…`` variables would override the configuration."""
    return {"PATH": PATH, "HOME": "/", "LANG": "C.UTF-8", "PYTHONPATH": str(release)}
