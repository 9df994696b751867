"""A real controller process on loopback, and what nodes and admins need to talk to it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshapi import codec, jointoken
from meshapi.client import ApiClient, server_tls
from meshapi.resources import KINDS, MeshNodeSpec, Resource, Workload
from meshapi.wire import (
    CA_PATH,
    JOIN_PATH,
    JOIN_TOKENS_PATH,
    CertificateReply,
    CertificateRequest,
    JoinRequest,
    JoinTokenReply,
    JoinTokenRequest,
    NodeReport,
    WorkloadReport,
    node_path,
)

ROOT = Path(__file__).parents[3]


class Key:
    """A node component's key pair and, once signed, its certificate on disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def csr(self) -> str:
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        signed = request.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    def tls(self, reply: CertificateReply) -> ssl.SSLContext:
        """Mutual TLS with the certificate of ``reply``."""
        path = self._directory / f"{time.monotonic_ns()}.pem"
        private = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_text(private.decode() + reply.certificate)
        context = server_tls(reply.ca)
        context.load_cert_chain(path)
        return context


class Controller:
    """One ``hoplite-controller`` process and its state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str]
        self.settings: dict[str, Any] = {
            "listen": [f"127.0.0.1:{self.port}"],
            "stateDir": str(self.state),
            "logLevel": "debug",
        }

    def start(self) -> None:
        config = self.directory / "controller.yaml"
        config.write_bytes(msgspec.json.encode(self.settings))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "controller", "--config", str(config)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.log = wait_for_line(self.process, '"message":"ready"')

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=20)
        self.log += rest
        return self.process.returncode

    @property
    def ca(self) -> str:
        return (self.state / "ca" / "ca.pem").read_text()

    @property
    def token(self) -> str:
        return (self.state / "admin.token").read_text().strip()

    def admin(self) -> ApiClient:
        return ApiClient(self.url, server_tls(self.ca), token=self.token)

    async def request(
        self, method: str, path: str, body: Any = None, **more: Any
    ) -> tuple[int, Any]:
        """One raw request as the admin (or with ``headers``); status and decoded answer."""
        headers = more.pop("headers", None)
        if headers is None:
            headers = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers = {"Content-Type": "application/json", **headers}
        data = msgspec.json.encode(body) if isinstance(body, (dict, list)) else body
        tls = more.pop("tls", None) or server_tls(self.ca)
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
            session.request(method, self.url + path, data=data, headers=headers) as response,
        ):
            content = await response.read()
            if response.content_type != "application/json":
                return response.status, content.decode()
            if response.headers.get("Transfer-Encoding") == "chunked":
                return response.status, msgspec.json.Decoder().decode_lines(content)
            return response.status, msgspec.json.decode(content)

    def hopctl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "HOPLITE_SERVER": self.url,
            "HOPLITE_CA_FILE": str(self.state / "ca" / "ca.pem"),
            "HOPLITE_TOKEN_FILE": str(self.state / "admin.token"),
        }
        return subprocess.run(
            [sys.executable, "-m", "hopctl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
            timeout=60,
            check=False,
        )

    async def node(self, name: str, *addresses: str, **labels: str) -> Node:
        """Let a node join, as an agent would."""
        async with self.admin() as admin:
            request = JoinTokenRequest(node=name)
            made = await admin.call(JOIN_TOKENS_PATH, request, JoinTokenReply)
        unverified = ssl._create_unverified_context()  # noqa: S323  (the token pins the CA)
        _, ca = await self.request("GET", CA_PATH, headers={}, tls=unverified)
        jointoken.check_ca(jointoken.parse(made.token), ca)
        key = Key(self.directory)
        spec = MeshNodeSpec(addresses=addresses)
        join = JoinRequest(token=made.token, node=name, spec=spec, csr=key.csr, labels=labels)
        async with ApiClient(self.url, server_tls(ca)) as pinned:
            reply = await pinned.call(JOIN_PATH, join, CertificateReply)
        return Node(self, name, key.tls(reply))


class Node:
    """A node of the mesh as the controller sees it."""

    def __init__(self, controller: Controller, name: str, tls: ssl.SSLContext) -> None:
        self.controller = controller
        self.name = name
        self.tls = tls

    def client(self) -> ApiClient:
        return ApiClient(self.controller.url, self.tls)

    async def l7proxy(self) -> ApiClient:
        """A client with a certificate of this node's l7proxy."""
        key = Key(self.controller.directory)
        async with self.client() as agent:
            request = CertificateRequest(component="l7proxy", csr=key.csr)
            path = node_path(self.name, "certificates")
            reply = await agent.call(path, request, CertificateReply)
        return ApiClient(self.controller.url, key.tls(reply))

    async def report(
        self,
        revision: int,
        *,
        ready: bool = True,
        workloads: tuple[str, ...] = (),
        unhealthy: tuple[int, ...] = (),
        **more: Any,
    ) -> None:
        """Report as the agent; ``workloads`` are NAMESPACE/NAME of those that are ready, and
        ``unhealthy`` are ports of each.
        """
        found = tuple(
            WorkloadReport(namespace=n, name=name, ready=True, unhealthy_ports=unhealthy)
            for n, _, name in (w.partition("/") for w in workloads)
        )
        report = NodeReport(
            component="agent",
            revision=revision,
            version="test",
            ready=ready,
            workloads=found,
            **more,
        )
        async with self.client() as client:
            await client.report(self.name, report)

    @contextlib.asynccontextmanager
    async def feed(self, component: str = "agent") -> AsyncIterator[AsyncIterator[bytes]]:
        async with self.client() as client:
            lines = client.feed(self.name, component)
            try:
                yield lines
            finally:
                await lines.aclose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_line(process: subprocess.Popen[str], wanted: str, seconds: float = 20.0) -> str:
    """Read standard error until a line holds ``wanted``; what was read is returned."""
    assert process.stderr is not None
    read, deadline = "", time.monotonic() + seconds
    while wanted not in read:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([process.stderr], [], [], max(left, 0))
        line = process.stderr.readline() if ready else ""
        if not line:
            process.kill()
            raise AssertionError(f"no {wanted} in:\n{read}")
        read += line
    return read


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Controller]]:
    """Make controllers; ``start(metricsListen=…)`` adds settings."""
    with starter(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Controller]]:
    """``start`` for tests of one file that leave the controller as it is."""
    with starter(tmp_path_factory.mktemp("shared")) as make:
        yield make


@pytest.fixture
def controller(start: Callable[..., Controller]) -> Controller:
    return start()


@contextlib.contextmanager
def starter(directory: Path) -> Iterator[Callable[..., Controller]]:
    made: list[Controller] = []

    def make(**settings: Any) -> Controller:
        place = directory / f"controller-{len(made)}"
        place.mkdir()
        controller = Controller(place)
        controller.settings |= settings
        controller.start()
        made.append(controller)
        return controller

    yield make
    for controller in made:
        if controller.process.poll() is None:
            controller.stop(signal.SIGKILL)


def resource(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> Resource:
    """A resource from its short form; the namespace is ``shop`` unless told otherwise."""
    known = next(k for k in KINDS if k.name == kind)
    spaced = {"namespace": "shop"} if known.namespaced else {}
    return codec.decode(
        {
            "apiVersion": known.api_version,
            "kind": kind,
            "metadata": {"name": name, **spaced, **metadata},
            "spec": spec,
        }
    )


def namespace(name: str = "shop") -> Resource:
    return resource("Namespace", name, {})


def service(name: str, app: str = "", **spec: Any) -> Resource:
    given = {"selector": {"app": app or name}, "ports": [{"port": 80}], **spec}
    return resource("Service", name, given)


def workload(name: str, node: str, address: str, **spec: Any) -> Workload:
    given = {"nodeName": node, "cgroup": f"pods/{name}", "addresses": [address], **spec}
    made = resource("Workload", name, given, labels={"app": name.partition("-")[0]})
    assert isinstance(made, Workload)
    return made


class Make:
    """Short forms of resources."""

    resource = staticmethod(resource)
    namespace = staticmethod(namespace)
    service = staticmethod(service)
    workload = staticmethod(workload)


@pytest.fixture
def make() -> type[Make]:
    return Make


@pytest.fixture
def key(tmp_path: Path) -> Callable[[], Key]:
    return lambda: Key(tmp_path)
