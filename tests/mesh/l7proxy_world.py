"""A small world for l7proxy: a network namespace of its own, a controller, an agent and backends.

Controller and agent are real servers that speak meshapi.wire over TLS and a unix socket. Instead of
the agent's eBPF, netfilter redirects the service addresses to the node proxy's port and answers
SO_ORIGINAL_DST, which is the kernel interface that Envoy uses in both cases.
"""

from __future__ import annotations

import asyncio
import ctypes
import datetime as dt
import ipaddress
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pyroute2 import IPRoute
from pyroute2.nftables.expressions import genex
from pyroute2.nftables.main import NFTables

from l7proxy import unixhttp
from l7proxy.envoy.admin import EnvoyAdmin
from meshapi import codec, identity, nodecontract, wire
from meshapi.resources import Key, Resource, key_of

NODE = "node1"
ROOT = Path(__file__).parents[2]
PROXY_HOST = 254  # last part of the node proxy's source addresses; 1 to 9 are for workloads
SOURCES = (f"10.244.1.{PROXY_HOST}", f"fd00:244::{PROXY_HOST}")
_CLONE_NEWNET = 0x40000000
_IFA_F_NODAD = 0x02


# -- the namespace -------------------------------------------------------------------------------


def in_own_network(scenario: Callable[[], Coroutine[Any, Any, None]], seconds: float = 30) -> None:
    """Run ``scenario`` in a thread whose network namespace is new; it goes with its last user."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            _set_up_network()
            asyncio.run(asyncio.wait_for(scenario(), seconds))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, name="scenario")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _set_up_network() -> None:
    """Service addresses have a route, and what goes there is redirected to the node proxy."""
    with IPRoute() as ip:
        lo = ip.link_lookup(ifname="lo")[0]
        ip.link("set", index=lo, state="up")
        ip.route("add", dst="10.96.0.0/16", oif=lo)
        ip.route("add", dst="fd00:96::/64", oif=lo, family=socket.AF_INET6)
        for number in (*range(1, 10), PROXY_HOST):
            for address, length in ((f"10.244.1.{number}", 32), (f"fd00:244::{number}", 128)):
                ip.addr("add", index=lo, address=address, prefixlen=length, flags=_IFA_F_NODAD)
    _redirect(socket.AF_INET, 16, bytes([10, 96]))
    _redirect(socket.AF_INET6, 24, socket.inet_pton(socket.AF_INET6, "fd00:96::")[:8])


def _redirect(family: int, offset: int, prefix: bytes) -> None:
    """``nft``: output chain of type nat, destination ``prefix`` and TCP, redirect to the proxy."""
    nft = NFTables(nfgen_family=family)
    nft.begin()
    nft.table("add", name="t")
    nft.chain("add", table="t", name="out", hook="output", type="nat", priority=-100, policy=1)
    rule = [
        genex("payload", {"dreg": 1, "base": 1, "offset": offset, "len": len(prefix)}),
        genex("cmp", {"sreg": 1, "op": 0, "data": _value(prefix)}),
        genex("meta", {"key": 16, "dreg": 1}),
        genex("cmp", {"sreg": 1, "op": 0, "data": _value(bytes([socket.IPPROTO_TCP]))}),
        genex(
            "immediate",
            {"dreg": 1, "data": _value(struct.pack("!H", nodecontract.PROXY_OUTBOUND_PORT))},
        ),
        genex("redir", {"reg_proto_min": 1}),
    ]
    nft.rule("add", table="t", chain="out", expressions=(rule,))
    nft.commit()
    nft.close()


def _value(content: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", content)]}


# -- certificates --------------------------------------------------------------------------------


class Ca:
    """A certificate authority of the test's own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        self._certificate = self._sign(self._name, self._key.public_key(), 3600, ca=True)
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign_request(self, csr: str, uri: str, seconds: float) -> str:
        request = x509.load_pem_x509_csr(csr.encode())
        assert request.is_signature_valid
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        certificate = self._sign(request.subject, request.public_key(), seconds, names=name)
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def server(self, directory: Path) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "controller")])
        certificate = self._sign(subject, key.public_key(), 3600, names=names)
        path = directory / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(path)
        context.load_verify_locations(cadata=self.pem)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: Any,
        seconds: float,
        *,
        ca: bool = False,
        names: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(seconds=1))
            .not_valid_after(now + dt.timedelta(seconds=seconds))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


# -- controller ----------------------------------------------------------------------------------


class Controller:
    """Feeds one node and takes its reports; every client must have a certificate of ``ca``."""

    def __init__(self, ca: Ca, directory: Path) -> None:
        self._tls = ca.server(directory)
        self._runner: web.AppRunner | None = None
        self._feeds: set[asyncio.Queue[list[wire.FeedFrame]]] = set()
        self._changed = asyncio.Event()
        self.objects: dict[Key, Resource] = {}
        self.revision = 0
        self.reports: list[wire.NodeReport] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get(wire.node_path(NODE, "feed"), self._feed)
        application.router.add_put(wire.node_path(NODE, "report"), self._report)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True
        )
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner:
            for feed in self._feeds:
                feed.put_nowait([])
            await self._runner.cleanup()
            self._runner = None

    def apply(self, *objects: dict[str, Any]) -> int:
        """Store objects, send them as one batch and return the revision."""
        resources = [codec.decode(o) for o in objects]
        frames = [_put(r) for r in resources]
        self.objects.update({key_of(r): r for r in resources})
        return self._batch(frames)

    def delete(self, kind: str, name: str, namespace: str = "shop") -> int:
        del self.objects[Key(kind, namespace, name)]
        return self._batch(
            [wire.FeedFrame(type="DELETE", kind=kind, namespace=namespace, name=name)]
        )

    async def report_when(self, holds: Callable[[wire.NodeReport], bool]) -> wire.NodeReport:
        """Wait until the newest report is one for which ``holds``."""
        while not (self.reports and holds(self.reports[-1])):
            changed = self._changed
            await changed.wait()
        return self.reports[-1]

    def _batch(self, frames: list[wire.FeedFrame]) -> int:
        self.revision += 1
        frames.append(wire.FeedFrame(type="REVISION", revision=self.revision))
        for feed in self._feeds:
            feed.put_nowait(frames)
        return self.revision

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        assert request.query["component"] == "l7proxy"
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[list[wire.FeedFrame]] = asyncio.Queue()
        frames = [wire.FeedFrame(type="RESET"), *map(_put, self.objects.values())]
        frames.append(wire.FeedFrame(type="REVISION", revision=self.revision))
        self._feeds.add(queue)
        try:
            while frames:
                await response.write(b"".join(msgspec.json.encode(f) + b"\n" for f in frames))
                try:
                    frames = await asyncio.wait_for(queue.get(), 15)
                except TimeoutError:
                    frames = [wire.FeedFrame(type="PING")]
        finally:
            self._feeds.discard(queue)
        return response

    async def _report(self, request: web.Request) -> web.Response:
        self.reports.append(msgspec.json.decode(await request.read(), type=wire.NodeReport))
        self._changed.set()
        self._changed = asyncio.Event()
        return web.json_response({})


def _put(resource: Resource) -> wire.FeedFrame:
    return wire.FeedFrame(type="PUT", object=codec.encode(resource))


# -- agent ---------------------------------------------------------------------------------------


class Agent:
    """Signs l7proxy's certificate and takes its word on what is ready."""

    def __init__(self, ca: Ca, path: Path) -> None:
        self._ca = ca
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Event()
        self.path = path
        self.heard: list[wire.ProxyReady] = []
        self.heard_at = 0.0
        self.certificate_seconds = 3600.0
        self.signed = 0
        self.answering = asyncio.Event()
        self.answering.set()

    async def start(self) -> None:
        application = web.Application()
        application.router.add_post("/v1/certificates", self._certificates)
        application.router.add_put("/v1/ready", self._ready)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        self.path.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self.path)).start()
        self.path.chmod(0o666)

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    @property
    def ready(self) -> set[str]:
        """What may be redirected now, as ``name:port``."""
        services = self.heard[-1].services if self.heard else ()
        return {f"{s.name}:{s.port}" for s in services}

    async def ready_when(self, *names: str) -> None:
        """Wait until exactly these service ports are ready."""
        while not self.heard or self.ready != set(names):
            changed = self._changed
            await changed.wait()

    async def _certificates(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=wire.CertificateRequest)
        assert wanted.component == "l7proxy"
        uri = identity.component_uri("hoplite.local", "l7proxy", NODE)
        certificate = self._ca.sign_request(wanted.csr, uri, self.certificate_seconds)
        self.signed += 1
        reply = wire.CertificateReply(certificate=certificate, ca=self._ca.pem)
        return web.json_response(msgspec.to_builtins(reply))

    async def _ready(self, request: web.Request) -> web.Response:
        ready = msgspec.json.decode(await request.read(), type=wire.ProxyReady)
        await self.answering.wait()
        self.heard.append(ready)
        self.heard_at = time.monotonic()
        self._changed.set()
        self._changed = asyncio.Event()
        return web.json_response({})


# -- l7proxy and the things it proxies -----------------------------------------------------------


class World:
    """Everything together, below ``directory``."""

    def __init__(self, directory: Path, *, user: int = 0, **settings: Any) -> None:
        self.directory = directory
        self._user = user
        self.run_dir = directory / "run"
        self.ca = Ca()
        self.controller = Controller(self.ca, directory)
        self.agent = Agent(self.ca, directory / "proxy.sock")
        self.l7proxy: subprocess.Popen[bytes] | None = None
        self._settings = {
            "nodeName": NODE,
            "stateDir": str(directory / "state"),
            "runDir": str(self.run_dir),
            "agentSocket": str(self.agent.path),
            "idleGraceSeconds": 1,
            "drainSeconds": 3,
            "logLevel": "debug",
            **settings,
        }
        self._backends: list[web.AppRunner] = []

    def configure(self, **settings: Any) -> Path:
        """Write the configuration file, with some settings changed."""
        self._settings |= settings
        path = self.directory / "l7proxy.yaml"
        path.write_text(json.dumps({"controller": self.controller.url, **self._settings}))
        return path

    def start_l7proxy(self, **settings: Any) -> None:
        """Start it, and forget what one before it has said."""
        self.controller.reports.clear()
        self.agent.heard.clear()
        with (self.directory / "l7proxy.log").open("ab") as log:
            self.l7proxy = subprocess.Popen(
                [sys.executable, "-m", "l7proxy", "--config", str(self.configure(**settings))],
                cwd=ROOT,
                stderr=log,
                user=self._user,
                group=self._user,
                extra_groups=[],
            )

    async def stop_l7proxy(self, number: int = signal.SIGTERM) -> int:
        assert self.l7proxy
        self.l7proxy.send_signal(number)
        return await asyncio.to_thread(self.l7proxy.wait, 20)

    async def backend(self, answer: str, address: str, port: int = 8080) -> None:
        """An HTTP server that answers with ``answer`` and what it was asked."""

        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            return web.json_response(
                {
                    "backend": answer,
                    "path": request.raw_path,
                    "headers": {k.lower(): v for k, v in request.headers.items()},
                    "peer": request.transport.get_extra_info("peername")[0],
                    "received": len(body),
                }
            )

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._backends.append(runner)
        await web.TCPSite(runner, address, port).start()

    async def get(self, url: str, **options: Any) -> Answer:
        """One request on a connection of its own."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            session.get(url, **options) as response,
        ):
            return Answer(response.status, await response.read(), dict(response.headers))

    async def admin(self, path: str) -> tuple[int, bytes]:
        return await unixhttp.call(self.run_dir / "l7proxy.sock", "GET", path)

    @property
    def envoy(self) -> int | None:
        """The process id of the Envoy that runs, if one does."""
        return EnvoyAdmin(self.run_dir / "envoy-admin.sock").owner()

    async def access_log(self, lines: int) -> list[dict[str, Any]]:
        """The access log once it has so many lines (Envoy writes it every second)."""
        path = self.run_dir / "access.jsonl"
        while not path.exists() or path.read_bytes().count(b"\n") < lines:
            await asyncio.sleep(0.05)
        return [json.loads(line) for line in path.read_text().splitlines()]

    async def __aenter__(self) -> Self:
        self.directory.mkdir(exist_ok=True)
        await self.controller.start()
        await self.agent.start()
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if self.l7proxy and self.l7proxy.poll() is None:
            try:
                await self.stop_l7proxy()
            except subprocess.TimeoutExpired:
                await self.stop_l7proxy(signal.SIGKILL)
        if pid := self.envoy:
            memory = shared_memory(pid)
            os.kill(pid, signal.SIGKILL)
            for path in memory:
                path.unlink(missing_ok=True)
        for runner in self._backends:
            await runner.cleanup()
        await self.controller.stop()
        await self.agent.stop()
        if error:
            for log in (self.directory / "l7proxy.log", self.run_dir / "envoy.log"):
                if log.exists():
                    sys.stderr.write(f"--- {log.name}\n{log.read_text()[-8000:]}\n")


def shared_memory(pid: int) -> set[Path]:
    """The files of a process below /dev/shm."""
    fields = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return {Path(f[5]) for f in fields if len(f) > 5 and f[5].startswith("/dev/shm/")}


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def backend(self) -> str:
        return str(self.json["backend"])

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


# -- manifests -----------------------------------------------------------------------------------


def mesh_node(name: str = NODE, *addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "mesh.hoplite.io/v1alpha1",
        "kind": "MeshNode",
        "metadata": {"name": name},
        "spec": {"addresses": list(addresses or ("127.0.0.1", "::1"))},
    }


def service(name: str, *ips: str, port: int = 80, **selector: str) -> dict[str, Any]:
    """A service of workloads that listen on a port named http."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "clusterIPs": list(ips),
            "selector": selector or {"app": name},
            "ports": [{"port": port, "targetPort": "http"}],
        },
    }


def workload(
    name: str, *addresses: str, node: str = NODE, ready: bool = True, **labels: str
) -> dict[str, Any]:
    return {
        "apiVersion": "mesh.hoplite.io/v1alpha1",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": "shop", "labels": labels or {"app": name}},
        "spec": {
            "nodeName": node,
            "cgroup": f"pods/{name}",
            "addresses": list(addresses),
            "ports": [{"name": "http", "port": 8080}],
        },
        "status": {"ready": ready, "identity": 300},
    }


def quarantine(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "mesh.hoplite.io/v1alpha1",
        "kind": "Quarantine",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"workload": name},
    }


def route(name: str, parent: str, *rules: dict[str, Any], **parent_fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "parentRefs": [{"kind": "Service", "name": parent, **parent_fields}],
            "rules": list(rules),
        },
    }


def to(*backends: tuple[str, int], **match: Any) -> dict[str, Any]:
    """A rule that sends to services by weight."""
    refs = [{"name": name, "port": 80, "weight": weight} for name, weight in backends]
    return {"backendRefs": refs, **({"matches": [match]} if match else {})}


def prefix(value: str) -> dict[str, Any]:
    return {"path": {"type": "PathPrefix", "value": value}}
