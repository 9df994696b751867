"""``make demo``: a whole mesh, shown at work with real programs; fails if a step does not hold."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from lab import api, askdns, machine, record
from lab.narrator import Narrator
from meshapi import nodecontract
from meshapi.errors import HopliteError

_HERE = Path(__file__).parent
_REQUESTS = 200
_CANARY = range(4, 46)  # of 200 at 10 %: 20, give or take what is one in 100,000

_SUMMARY = """\
In {seconds} seconds you have seen a service mesh without sidecars: nothing
was added to these seven programs, and none of them knows.

[bold]In the kernel[/], on the node where it starts, each connection was
load-balanced, allowed or refused, and counted. The cache, DNS and the
backup never met a proxy.

[bold]Through one proxy per node[/] went service web alone, because it
alone has a route.

[bold]By identity, not by address[/] is a workload known: by its cgroup and
service account, even in its node's own network.

It is still running. Go on with

  export PATH={scripts}:$PATH
  eval "$(hoplite-lab env --name {name})"
  hopctl get nodes
  hopctl flows --since 5m
  hopctl get httproute shop/web-canary -o yaml
  sudo {scripts}/hoplite-lab exec node1/shop/frontend -- bash

and remove every trace of it with [bold]sudo make demo-down[/]."""


class Demo:
    """The steps, in order."""

    def __init__(self, narrator: Narrator, name: str) -> None:
        self.tell = narrator
        self.name = name

    def run(self) -> None:
        for step in (
            self.start,
            self.look_around,
            self.apply,
            self.names,
            self.canary,
            self.policy,
            self.datagrams,
            self.host_network,
            self.quarantine,
            self.flows,
            self.metrics,
        ):
            step()

    def start(self) -> None:
        self.tell.step(
            "A mesh on this machine",
            "A controller, and two nodes in network namespaces: each with an agent that loads eBPF,"
            " a node proxy, and workloads that know nothing of it.",
        )
        self.tell.run("hoplite-lab", "up", _shown(_HERE / "demo.yaml"), "--name", self.name)
        self.lab = api.load(self.name)
        self.tell.env = self.lab.env

    def look_around(self) -> None:
        self.tell.step("What there is")
        nodes = self.tell.run("hopctl", "get", "nodes")
        self.tell.expect("node1" in nodes and "node2" in nodes, "both nodes have joined")
        workloads = self.tell.run("hopctl", "get", "workloads")
        self.tell.expect(
            all(w.resource in workloads for w in self.lab.record.plan.workloads),
            f"all {len(self.lab.record.plan.workloads)} workloads are known",
        )

    def apply(self) -> None:
        self.tell.step(
            "Services, a route and a policy",
            "Kubernetes and Gateway API resources, with no Kubernetes; --wait returns when every"
            " node enforces them.",
        )
        applied = self.tell.run(
            "hopctl", "apply", "-f", _shown(_HERE / "demo-mesh.yaml"), "--wait=30"
        )
        self.tell.expect("2 of 2 nodes enforce" in applied, "both nodes enforce them")
        self.tell.run("hopctl", "get", "services")

    def names(self) -> None:
        self.tell.step(
            "Names", "Every node's agent answers DNS, also while the controller is away."
        )
        near = self._exec("node1/shop/frontend", "getent", "hosts", "web")
        far = self._exec("node2/dev/tester", "getent", "hosts", "web.shop.svc.cluster.local")
        self.tell.expect(
            bool(near) and near.split()[0] == far.split()[0],
            "in its own namespace a service is called web, elsewhere web.shop or longer",
        )

    def canary(self) -> None:
        self.tell.step(
            "Layer 7 where it is needed: 90 % to version 1, 10 % to version 2",
            f"The frontend sends {_REQUESTS} requests to service web.",
        )
        url = f"http://web/[1-{_REQUESTS}]"
        out = self._exec("node1/shop/frontend", "curl", "-sS", url, show=_counted)
        seen = Counter(out.splitlines())
        self.tell.expect(
            sum(seen.values()) == _REQUESTS
            and set(seen) == {"web v1", "web v2"}
            and seen["web v2"] in _CANARY,
            f"no request lost, {seen['web v1']} by v1 on node1 and {seen['web v2']} by v2 on node2",
        )
        routes = self.tell.run("hopctl", "get", "httproutes")
        self.tell.expect(
            routes.split()[-3:] == ["True"] * 3, "the route is accepted, resolved and programmed"
        )

    def policy(self) -> None:
        self.tell.step("Who may reach the cache: shop, not dev")
        allowed = self._exec("node1/shop/frontend", "redis-cli", "-h", "cache", "PING")
        self.tell.expect(allowed.strip() == "PONG", "shop/frontend reaches the cache")
        denied = self._exec("node2/dev/tester", "redis-cli", "-h", "cache.shop", "PING", fails=True)
        self.tell.expect("not permitted" in denied, "dev/tester is refused in its kernel")
        why = self.tell.run("hopctl", "flows", "--from", "dev/tester", "--verdict", "DENY")
        self.tell.expect("INGRESS_DENIED" in why, "and the record says why")

    def datagrams(self) -> None:
        self.tell.step("UDP", "A DNS server as a service; the answer comes from its address.")
        script = str(Path(askdns.__file__))
        out = self._exec("node1/shop/frontend", "python3", script, "names", "shop.example")
        self.tell.expect(
            out.startswith("shop.example is 192.0.2.53, says 10.96."),
            "the application sees the service it dialled, not the pod behind it",
        )

    def host_network(self) -> None:
        self.tell.step(
            "A workload in the node's own network",
            "shop/backup shares node2's addresses. Its cgroup tells it from the node's other"
            " processes: what it may do, they may not.",
        )
        cache = self.lab.workload("node1/shop/cache").address4
        ping = ("redis-cli", "-h", cache, "PING")
        allowed = self._exec("node2/shop/backup", *ping)
        self.tell.expect(allowed.strip() == "PONG", "shop/backup reaches the cache")
        denied = self._exec("node2", *ping, fails=True)
        self.tell.expect("not permitted" in denied, "another process of node2 does not")
        out = self._exec("node1/shop/frontend", "curl", "-sS", "http://backup/")
        self.tell.expect("own network" in out, "and it is reached as a service")

    def quarantine(self) -> None:
        self.tell.step(
            "A workload cut off by one command",
            "Its open connections end too. Its processes go on, so that it can be examined.",
        )
        words = ("hopctl", "quarantine", "shop/frontend")
        self.tell.run(*words, "--reason", "odd traffic", "--wait")
        ping = ("redis-cli", "-h", self.lab.workload("node1/shop/cache").address4, "PING")
        denied = self._exec("node1/shop/frontend", *ping, fails=True)
        self.tell.expect("not permitted" in denied, "shop/frontend reaches nothing any more")
        why = self.tell.run("hopctl", "flows", "--from", "shop/frontend", "--verdict", "DENY")
        self.tell.expect("QUARANTINED" in why, "and the record says why")
        self.tell.run(*words, "--lift", "--wait")
        allowed = self._exec("node1/shop/frontend", *ping)
        self.tell.expect(allowed.strip() == "PONG", "lifted: it reaches the cache again")

    def flows(self) -> None:
        self.tell.step("Who talked to whom", "From both nodes, through the controller.")
        table = self.tell.run("hopctl", "flows", "--since", "1m")
        self.tell.expect("DENY" in table and "frontend" in table, "every connection is there")
        self.tell.expect(
            "proxy" in self._paths("shop/web"), "service web went through the node proxy"
        )
        self.tell.expect(
            self._paths("shop/cache") == {"direct"}, "the cache did not: that stays in the kernel"
        )

    def metrics(self) -> None:
        self.tell.step("Metrics for Prometheus", "Of agent, node proxy and controller.")
        socket = str(self.lab.agent_socket("node1"))
        agent = self.tell.run(
            "curl", "-sS", "--unix-socket", socket, "http://agent/metrics", show=_some("hoplite_")
        )
        url = f"http://127.0.0.1:{nodecontract.PROXY_METRICS_PORT}/metrics"
        proxy = self._exec("node1", "curl", "-sS", url, show=_some("hoplite_l7proxy_"))
        controller = self.tell.run(
            "sh",
            "-c",
            'curl -sS --cacert $HOPLITE_CA_FILE -H "Authorization: Bearer $(cat'
            ' $HOPLITE_TOKEN_FILE)" $HOPLITE_SERVER/metrics',
            show=_some("hoplite_controller_"),
        )
        self.tell.expect(
            "hoplite_" in agent
            and "hoplite_l7proxy_" in proxy
            and "hoplite_controller_" in controller,
            "all three answer",
        )

    def _exec(
        self,
        target: str,
        *command: str,
        fails: bool = False,
        show: Callable[[str], str] | None = None,
    ) -> str:
        words = ("hoplite-lab", "exec", "--name", self.name, target, "--", *command)
        return self.tell.run(*words, fails=fails, show=show)

    def _paths(self, to: str) -> set[str]:
        """Which ways the recorded flows to a service went."""
        lines = self.tell.run("hopctl", "flows", "--to", to, "-o", "json", show=_first_line)
        return {json.loads(line)["path"] for line in lines.splitlines()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.demo", description=__doc__)
    parser.add_argument("--name", default="demo", help="the lab's name (default: demo)")
    name = parser.parse_args().name
    console = Console()
    began = time.monotonic()
    try:
        machine.require_root("up")
        if api.stop(name):
            console.print("The demo that was up has been removed.")
        Demo(Narrator(console), name).run()
    except HopliteError as error:
        console.print(f"\n[bold red]The demo failed[/] at {escape(str(error))}", soft_wrap=True)
        if name in record.labs():
            console.print("It is left for a look (hoplite-lab status, hoplite-lab logs).")
            console.print("sudo make demo-down removes it.")
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; sudo make demo-down removes what there is.")
        return 130
    scripts = Path(sys.executable).parent
    text = _SUMMARY.format(seconds=f"{time.monotonic() - began:.0f}", scripts=scripts, name=name)
    console.print(Panel(text, title="What this was", expand=False))
    return 0


def _shown(path: Path) -> str:
    """Relative to where the reader is, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _counted(text: str) -> str:
    counts = Counter(text.splitlines())
    return "".join(f"{count:5} x {line}\n" for line, count in counts.most_common(8))


def _first_line(text: str) -> str:
    lines = text.splitlines()
    return f"{lines[0]}\n… {len(lines) - 1} more\n" if len(lines) > 1 else text


def _some(prefix: str) -> Callable[[str], str]:
    """The first few samples whose name begins with ``prefix``."""

    def show(text: str) -> str:
        samples = [line for line in text.splitlines() if line.startswith(prefix)]
        return "\n".join([*samples[:4], f"… {max(0, len(samples) - 4)} more\n"])

    return show


if __name__ == "__main__":
    sys.exit(main())
