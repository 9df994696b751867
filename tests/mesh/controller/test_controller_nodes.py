"""Nodes against a real controller: join, certificates, roles, feed, reports."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from meshapi.client import ApiClient, server_tls
from meshapi.errors import ForbiddenError, HopliteError, InvalidError, UnauthorizedError
from meshapi.resources import Key, MeshNode, MeshNodeSpec, Workload, by_word
from meshapi.watch import FeedReducer, Snapshot
from meshapi.wire import (
    JOIN_PATH,
    JOIN_TOKENS_PATH,
    CertificateReply,
    CertificateRequest,
    JoinRequest,
    JoinTokenReply,
    JoinTokenRequest,
    NodeReport,
    node_path,
)


async def until(lines, reducer: FeedReducer, revision: int) -> Snapshot:
    """The first snapshot at or after ``revision``."""
    async with asyncio.timeout(10):
        async for line in lines:
            snapshot = reducer.feed(line)
            if snapshot and snapshot.revision >= revision:
                return snapshot
    raise AssertionError("the feed ended")


def test_a_node_joins_and_its_token_is_spent(controller, key):
    async def scenario():
        async with controller.admin() as admin:
            made = await admin.call(JOIN_TOKENS_PATH, JoinTokenRequest(node="n1"), JoinTokenReply)
        join = JoinRequest(
            token=made.token, node="n1", spec=MeshNodeSpec(addresses=("192.0.2.1",)), csr=key().csr
        )
        async with ApiClient(controller.url, server_tls(controller.ca)) as stranger:
            reply = await stranger.call(JOIN_PATH, join, CertificateReply)
            assert reply.ca == controller.ca
            with pytest.raises(UnauthorizedError, match="used already"):
                await stranger.call(JOIN_PATH, join, CertificateReply)
        async with controller.admin() as admin:
            node = await admin.get(by_word("nodes"), "", "n1")
        assert isinstance(node, MeshNode)
        assert node.spec.addresses == ("192.0.2.1",)
        assert not node.status.ready

    asyncio.run(scenario())


def test_a_token_used_by_many_at_once_lets_one_in(controller, key):
    async def scenario():
        async with controller.admin() as admin:
            made = await admin.call(JOIN_TOKENS_PATH, JoinTokenRequest(node="n1"), JoinTokenReply)
        async with ApiClient(controller.url, server_tls(controller.ca)) as client:
            joins = [
                client.call(
                    JOIN_PATH,
                    JoinRequest(token=made.token, node="n1", spec=MeshNodeSpec(), csr=key().csr),
                    CertificateReply,
                )
                for _ in range(20)
            ]
            answers = await asyncio.gather(*joins, return_exceptions=True)
        assert sum(isinstance(a, CertificateReply) for a in answers) == 1
        assert sum(isinstance(a, UnauthorizedError) for a in answers) == 19

    asyncio.run(scenario())


def test_a_refused_join_leaves_nothing_and_keeps_the_token(controller, key):
    async def scenario():
        async with controller.admin() as admin:
            made = await admin.call(JOIN_TOKENS_PATH, JoinTokenRequest(node="n1"), JoinTokenReply)
        good = JoinRequest(token=made.token, node="n1", spec=MeshNodeSpec(), csr=key().csr)
        async with ApiClient(controller.url, server_tls(controller.ca)) as client:
            for bad, error, words in [
                ({"node": "n2"}, UnauthorizedError, "made for node n1"),
                ({"csr": "junk"}, InvalidError, "not a PEM certificate request"),
                ({"token": "hop1.junk"}, HopliteError, "not a join token"),
                ({"spec": MeshNodeSpec(addresses=("x",))}, InvalidError, "addresses"),
                ({"node": "N 1"}, InvalidError, "not a valid name"),
            ]:
                with pytest.raises(error, match=words):
                    await client.call(
                        JOIN_PATH, msgspec.structs.replace(good, **bad), CertificateReply
                    )
            async with controller.admin() as admin:
                assert await admin.list_all(by_word("nodes")) == []
            await client.call(JOIN_PATH, good, CertificateReply)

    asyncio.run(scenario())


def test_a_component_may_use_its_own_nodes_endpoints_only(controller):
    async def scenario():
        n1 = await controller.node("n1")
        await controller.node("n2")
        request = CertificateRequest(component="l7proxy", csr="x")
        async with n1.client() as agent, await n1.l7proxy() as proxy:
            with pytest.raises(ForbiddenError, match="n2"):
                await anext(aiter(agent.feed("n2", "agent")))
            with pytest.raises(ForbiddenError, match="component 'l7proxy'"):
                await anext(aiter(agent.feed("n1", "l7proxy")))
            with pytest.raises(ForbiddenError, match="own node's endpoints"):
                await agent.list_all(by_word("workloads"))
            with pytest.raises(ForbiddenError):
                await agent.call(node_path("n2", "certificates"), request, CertificateReply)
            with pytest.raises(ForbiddenError, match="l7proxy of node n1 may not"):
                await proxy.call(node_path("n1", "certificates"), request, CertificateReply)
            report = NodeReport(component="agent", revision=1, version="t", ready=True)
            with pytest.raises(ForbiddenError, match="component 'agent'"):
                await proxy.report("n1", report)
            assert b"RESET" in await anext(aiter(proxy.feed("n1", "l7proxy")))
        async with controller.admin() as admin:
            with pytest.raises(ForbiddenError, match="components of node n1"):
                await anext(aiter(admin.feed("n1", "agent")))

    asyncio.run(scenario())


def test_the_feed_is_the_scope_and_follows_it(controller, make):
    async def scenario():
        n1 = await controller.node("n1")
        reducer = FeedReducer()
        async with controller.admin() as admin, n1.feed() as lines:
            snapshot = await until(lines, reducer, 1)
            assert set(snapshot.objects) == {Key("MeshNode", "", "n1")}
            reply = await admin.apply(
                [
                    make.namespace(),
                    make.service("web"),
                    make.workload("web-1", "n1", "10.0.0.1"),
                    make.workload("web-2", "n2", "10.0.0.2"),
                ]
            )
            snapshot = await until(lines, reducer, reply.revision)
            mine = snapshot.objects[Key("Workload", "shop", "web-1")]
            other = snapshot.objects[Key("Workload", "shop", "web-2")]
            assert isinstance(mine, Workload) and isinstance(other, Workload)
            assert (mine.spec.cgroup, other.spec.cgroup) == ("pods/web-1", "-")
            assert mine.status.identity == other.status.identity >= 256
            await admin.delete(by_word("workload"), "shop", "web-1")
            snapshot = await until(lines, reducer, reply.revision + 1)
            assert set(snapshot.objects) == {Key("MeshNode", "", "n1")}

    asyncio.run(scenario())


def kinds(snapshot: Snapshot) -> set[str]:
    """The policies of a snapshot, by kind and name."""
    common = ("MeshNode", "Namespace", "Service", "Workload")
    return {f"{key.kind}/{key.name}" for key in snapshot.objects if key.kind not in common}


def test_policies_reach_the_nodes_when_they_concern_somebody(start, make):
    async def scenario():
        controller = start(rootNamespace="mesh-root")
        n1 = await controller.node("n1")
        reducer = FeedReducer()
        cnp = {"tier": "Admin", "priority": 1}
        everywhere = make.resource(
            "AuthorizationPolicy",
            "root",
            {"selector": {"matchLabels": {"app": "late"}}},
            namespace="mesh-root",
        )
        async with controller.admin() as admin, n1.feed() as lines:
            reply = await admin.apply(
                [
                    make.namespace(),
                    make.service("web"),
                    make.workload("web-1", "n1", "10.0.0.1"),
                    make.resource(
                        "ClusterNetworkPolicy", "all", {**cnp, "subject": {"namespaces": {}}}
                    ),
                    make.resource(
                        "ClusterNetworkPolicy",
                        "blue",
                        {**cnp, "subject": {"namespaces": {"matchLabels": {"team": "blue"}}}},
                    ),
                    make.resource("AuthorizationPolicy", "own", {}),
                    everywhere,
                    make.resource(
                        "TrafficPolicy",
                        "web",
                        {
                            "targetRefs": [{"kind": "Service", "name": "web"}],
                            "outlierDetection": {},
                        },
                    ),
                    make.resource("Quarantine", "not-yet", {"workload": "not-yet"}),
                    make.resource("BlockList", "bad", {"cidrs": ["203.0.113.0/24"]}),
                ]
            )
            snapshot = await until(lines, reducer, reply.revision)
            assert snapshot.mesh.root_namespace == "mesh-root"
            concerned = {
                "ClusterNetworkPolicy/all",
                "AuthorizationPolicy/own",
                "TrafficPolicy/web",
                "Quarantine/not-yet",
                "BlockList/bad",
            }
            assert kinds(snapshot) == concerned
            reply = await admin.apply(
                [
                    make.workload("late-1", "n2", "10.0.0.2"),
                    make.resource("Namespace", "shop", {}, labels={"team": "blue"}),
                ]
            )
            snapshot = await until(lines, reducer, reply.revision)
            concerned |= {"ClusterNetworkPolicy/blue", "AuthorizationPolicy/root"}
            assert kinds(snapshot) == concerned
            await admin.delete(by_word("svc"), "shop", "web")
            snapshot = await until(lines, reducer, reply.revision + 1)
            assert kinds(snapshot) == concerned - {"TrafficPolicy/web"}

    asyncio.run(scenario())


def test_a_removed_node_is_cut_off(controller):
    async def scenario():
        n1 = await controller.node("n1")
        async with (
            controller.admin() as admin,
            n1.feed() as lines,
            n1.client() as client,
            client.channel("n1") as channel,
        ):
            await until(lines, FeedReducer(), 1)
            await admin.delete(by_word("node"), "", "n1")
            async with asyncio.timeout(5):
                async for _ in lines:
                    pass
                assert (await channel.receive()).type.name in ("CLOSE", "CLOSED", "CLOSING")
            async with n1.client() as agent:
                with pytest.raises(ForbiddenError, match="removed from the mesh"):
                    await anext(aiter(agent.feed("n1", "agent")))

    asyncio.run(scenario())


def test_reports_become_status(controller, make):
    async def scenario():
        n1 = await controller.node("n1")
        async with controller.admin() as admin:
            applied = await admin.apply([make.namespace(), make.workload("web", "n1", "10.0.0.1")])
            await n1.report(applied.revision, workloads=("shop/web",))
            node = await admin.get(by_word("node"), "", "n1")
            assert (node.status.ready, node.status.applied_revision) == (True, applied.revision)
            web = await admin.get(by_word("workload"), "shop", "web")
            assert web.status.ready
            version = web.metadata.resource_version
            await n1.report(applied.revision + 1, workloads=("shop/web",))
            web = await admin.get(by_word("workload"), "shop", "web")
            assert web.metadata.resource_version == version

    asyncio.run(scenario())


def test_unhealthy_ports_become_status_but_not_at_every_flap(controller, make):
    async def scenario():
        n1 = await controller.node("n1")
        async with controller.admin() as admin:
            web = make.workload("web", "n1", "10.0.0.1")
            applied = await admin.apply([make.namespace(), make.service("web"), web])
            await n1.report(applied.revision, workloads=("shop/web",), unhealthy=(81, 80, 81))
            web = await admin.get(by_word("workload"), "shop", "web")
            assert web.status.unhealthy_ports == (80, 81)
            service = await admin.get(by_word("svc"), "shop", "web")
            ready = {c.type: c for c in service.status.conditions}["Ready"]
            assert ready.reason == "NoReadyBackends"
            before = int((await admin.listing(by_word("workload"))).version)
            for i in range(40):
                await n1.report(before, workloads=("shop/web",), unhealthy=(80,) * (i % 2))
            after = int((await admin.listing(by_word("workload"))).version)
            assert 1 <= after - before < 20

    asyncio.run(scenario())


def test_a_nodes_labels_come_with_it_and_leave_an_admins_alone(controller):
    async def scenario():
        zone = "topology.kubernetes.io/zone"
        await controller.node("n1", **{zone: "a"})
        async with controller.admin() as admin:
            node = await admin.get(by_word("node"), "", "n1")
            assert node.metadata.labels == {zone: "a"}
            labelled = msgspec.structs.replace(node.metadata, labels={zone: "a", "team": "blue"})
            await admin.replace(msgspec.structs.replace(node, metadata=labelled))
            await controller.node("n1", **{zone: "b", "team": "red"})
            node = await admin.get(by_word("node"), "", "n1")
            assert node.metadata.labels == {zone: "b", "team": "blue"}
        with pytest.raises(InvalidError, match=r"labels\['zone'\]"):
            await controller.node("n2", zone="a b")

    asyncio.run(scenario())


def test_a_newer_feed_of_the_same_component_ends_the_older(controller):
    async def scenario():
        n1 = await controller.node("n1")
        async with n1.feed() as first:
            await until(first, FeedReducer(), 1)
            async with n1.feed() as second:
                await until(second, FeedReducer(), 1)
                async with asyncio.timeout(5):
                    with pytest.raises(HopliteError):
                        async for _ in first:
                            pass

    asyncio.run(scenario())
