"""The REST API of a real controller over TLS: every verb, every wrong way to use one."""

from __future__ import annotations

import asyncio

import pytest

from meshapi.client import ApiClient, server_tls
from meshapi.errors import ConflictError, InvalidError, NotFoundError, UnauthorizedError
from meshapi.resources import KINDS, HTTPRoute, Service, by_word

SERVICES = "/api/v1/namespaces/shop/services"
BODY = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}


def test_an_object_lives_its_whole_life(controller, make):
    async def scenario():
        async with controller.admin() as admin:
            await admin.create(make.namespace())
            created = await admin.create(make.service("web"))
            assert isinstance(created, Service)
            assert created.spec.cluster_ip.startswith("10.96.")
            with pytest.raises(ConflictError, match="already exists"):
                await admin.create(make.service("web"))
            changed = await admin.replace(make.service("web", ports=[{"port": 81}]))
            assert changed.metadata.generation == 2
            assert changed.spec.cluster_ips == created.spec.cluster_ips
            with pytest.raises(ConflictError, match="has been changed"):
                await admin.replace(created)
            assert await admin.get(by_word("svc"), "shop", "web") == changed
            await admin.delete(by_word("svc"), "shop", "web")
            for attempt in (
                admin.get(by_word("svc"), "shop", "web"),
                admin.delete(by_word("svc"), "shop", "web"),
                admin.replace(make.service("web")),
            ):
                with pytest.raises(NotFoundError, match="Service shop/web does not exist"):
                    await attempt

    asyncio.run(scenario())


def test_every_kind_can_be_listed_and_is_discovered(controller):
    async def scenario():
        for kind in KINDS:
            status, listed = await controller.request("GET", kind.path())
            assert status == 200
            assert (listed["kind"], listed["apiVersion"]) == (f"{kind.name}List", kind.api_version)
            status, found = await controller.request("GET", kind.base_path)
            assert kind.plural in [r["name"] for r in found["resources"]]
        _, groups = await controller.request("GET", "/apis")
        assert {g["name"] for g in groups["groups"]} == {k.group for k in KINDS if k.group}
        assert (await controller.request("GET", "/api"))[1]["versions"] == ["v1"]

    asyncio.run(scenario())


def test_lists_can_be_narrowed(controller, make):
    async def scenario():
        async with controller.admin() as admin:
            await admin.apply(
                [
                    make.namespace(),
                    make.namespace("dev"),
                    make.workload("web-1", "n1", "10.0.0.1"),
                    make.workload("web-2", "n1", "10.0.0.2"),
                    make.workload("api-1", "n1", "10.0.0.3"),
                    make.resource("Service", "web", BODY["spec"], namespace="dev"),
                ]
            )
        for path, names in [
            ("/apis/mesh.hoplite.io/v1alpha1/workloads", ["web-1", "web-2", "api-1"]),
            (
                "/apis/mesh.hoplite.io/v1alpha1/workloads?labelSelector=app%3Dweb",
                ["web-1", "web-2"],
            ),
            (
                "/apis/mesh.hoplite.io/v1alpha1/workloads?fieldSelector=metadata.name%3Dapi-1",
                ["api-1"],
            ),
            ("/api/v1/namespaces/dev/services?limit=500", ["web"]),
            ("/api/v1/namespaces/nix/services", []),
        ]:
            _, listed = await controller.request("GET", path)
            assert [item["metadata"]["name"] for item in listed["items"]] == names

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "words"),
    [
        ("GET", "/nix", None, 404, "there is nothing at /nix"),
        ("GET", "/api/v1/pods", None, 404, "nothing"),
        ("PUT", SERVICES, {}, 405, "use GET, POST"),
        ("POST", "/api/v1/services", BODY, 405, "use GET"),
        ("GET", SERVICES + "?color=red", None, 400, "'color' is not a parameter here"),
        ("GET", SERVICES + "?limit=1&limit=2", None, 400, "twice"),
        ("GET", SERVICES + "?timeoutSeconds=5", None, 400, "not a parameter"),
        ("GET", SERVICES + "?labelSelector=%28", None, 400, "labelSelector: cannot read"),
        ("GET", SERVICES + "?fieldSelector=spec.type%3Dx", None, 400, "use metadata.name"),
        ("GET", SERVICES + "?watch=maybe", None, 400, "not true or false"),
        ("GET", SERVICES + "?watch=1&resourceVersion=-1", None, 400, "not a whole number"),
        ("POST", SERVICES, b"{", 400, "not JSON"),
        ("POST", SERVICES, b"[" * 100_000, 400, "nested too deeply"),
        ("POST", SERVICES, b"\xff", 400, "not JSON"),
        ("POST", SERVICES, [], 400, "an object is expected"),
        ("POST", SERVICES + "?dryRun=Maybe", BODY, 400, "not a kind of dry run"),
        ("POST", SERVICES, {"kind": "Service"}, 422, "$.metadata.name"),
        ("POST", SERVICES, {**BODY, "metadata": {"name": "Web"}}, 422, "not a valid name"),
        ("POST", SERVICES, {**BODY, "kind": "Pod"}, 422, "the URL says 'Service'"),
        ("POST", SERVICES, {**BODY, "spec": {"x": 1}}, 422, "$.spec.x: unknown field"),
        (
            "POST",
            SERVICES,
            {**BODY, "metadata": {"name": "web", "namespace": "dev"}},
            422,
            "$.metadata.namespace: 'dev', but the URL says 'shop'",
        ),
        (
            "POST",
            SERVICES,
            {**BODY, "metadata": {"name": "web", "resourceVersion": "1"}},
            400,
            "resourceVersion is set",
        ),
        ("POST", "/api/v1/namespaces/nix/services", BODY, 422, "namespace 'nix' does not exist"),
        ("PUT", SERVICES + "/other", BODY, 422, "$.metadata.name: 'web', but the URL says 'other'"),
        ("PATCH", SERVICES + "/web", {}, 415, "merge-patch+json"),
        ("DELETE", SERVICES + "/web", {"color": "red"}, 422, "$.color: unknown field"),
        ("DELETE", "/api/v1/namespaces/default", None, 403, "cannot be deleted"),
    ],
)
def test_wrong_requests_are_refused_with_a_status(
    controller, make, method, path, body, code, words
):
    async def scenario():
        async with controller.admin() as admin:
            await admin.create(make.namespace())
        status, answer = await controller.request(method, path, body)
        assert status == code
        assert (answer["kind"], answer["status"], answer["code"]) == ("Status", "Failure", code)
        assert words in answer["message"]
        if code == 422:
            assert answer["details"]["causes"][0]["field"].startswith("$")

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def shared(start_shared):
    controller = start_shared()
    body = {"metadata": {"name": "shop"}}
    assert asyncio.run(controller.request("POST", "/api/v1/namespaces", body))[0] == 201
    return controller


def test_a_body_of_the_wrong_type_or_size_is_refused(controller):
    async def scenario():
        status, answer = await controller.request(
            "POST",
            SERVICES,
            b"a: b",
            headers={
                "Authorization": f"Bearer {controller.token}",
                "Content-Type": "application/yaml",
            },
        )
        assert (status, answer["reason"]) == (415, "UnsupportedMediaType")
        status, answer = await controller.request("POST", SERVICES, b" " * (17 * 1024 * 1024))
        assert (status, answer["reason"]) == (413, "RequestEntityTooLarge")
        assert "split it" in answer["message"]

    asyncio.run(scenario())


def test_strangers_are_kept_out(controller):
    async def scenario():
        for headers, code in [({}, 401), ({"Authorization": "Bearer nope"}, 401)]:
            status, answer = await controller.request("GET", SERVICES, headers=headers)
            assert (status, answer["reason"]) == (code, "Unauthorized")
        for path in ("/metrics", "/apis", "/apis/mesh.hoplite.io/v1alpha1/flows"):
            assert (await controller.request("GET", path, headers={}))[0] == 401
        for path in ("/healthz", "/readyz", "/livez", "/version"):
            assert (await controller.request("GET", path, headers={}))[0] == 200
        async with ApiClient(controller.url, server_tls(controller.ca), token="x" * 64) as client:
            with pytest.raises(UnauthorizedError, match=r"admin\.token"):
                await client.list_all(by_word("ns"))

    asyncio.run(scenario())


def test_patches(controller, make):
    merge = {"Content-Type": "application/merge-patch+json"}

    async def patch(change, path=SERVICES + "/web"):
        headers = {"Authorization": f"Bearer {controller.token}", **merge}
        return await controller.request("PATCH", path, change, headers=headers)

    async def scenario():
        async with controller.admin() as admin:
            await admin.apply([make.namespace(), make.service("web")])
        status, patched = await patch({"metadata": {"labels": {"a": "b"}}})
        assert (status, patched["metadata"]["labels"]) == (200, {"a": "b"})
        assert patched["metadata"]["generation"] == 1
        status, patched = await patch({"spec": {"selector": None}, "status": {"conditions": []}})
        assert "selector" not in patched["spec"]
        assert patched["metadata"]["generation"] == 2
        version = patched["metadata"]["resourceVersion"]
        assert (await patch({"metadata": {"resourceVersion": "1"}}))[0] == 409
        assert (await patch({"metadata": {"resourceVersion": version, "labels": None}}))[0] == 200
        assert (await patch({"metadata": {"name": "x"}}))[0] == 422
        assert (await patch({"spec": {"clusterIP": "10.96.0.77"}}))[0] == 422
        assert (await patch({"metadata": None, "kind": None}))[0] == 200
        assert (await patch({"metadata": 7}))[0] == 200
        assert (await patch([]))[0] == 400
        assert (await patch({}, SERVICES + "/nix"))[0] == 404

    asyncio.run(scenario())


def test_a_dry_run_writes_nothing(controller, make):
    async def scenario():
        async with controller.admin() as admin:
            await admin.create(make.namespace())
            reply = await admin.apply([make.service("web")], dry_run=True)
            assert reply.results[0].action == "created"
            status, shown = await controller.request("POST", SERVICES + "?dryRun=All", BODY)
            assert (status, shown["spec"]["clusterIP"][:6]) == (201, "10.96.")
            assert await admin.list_all(by_word("svc")) == []
            status, _ = await controller.request("DELETE", "/api/v1/namespaces/shop?dryRun=All")
            assert status == 200
            assert len(await admin.list_all(by_word("ns"))) == 3

    asyncio.run(scenario())


def test_apply_is_all_or_nothing(controller, make):
    async def scenario():
        async with controller.admin() as admin:
            good = [make.namespace(), make.service("web"), make.workload("web-1", "n1", "10.0.0.1")]
            bad = make.service("bad", clusterIP="1.2.3.4")
            with pytest.raises(InvalidError) as caught:
                await admin.apply([*good, bad])
            assert [p.path for p in caught.value.problems] == ["$.objects[3].spec.clusterIP"]
            assert "Service shop/bad: 1.2.3.4 is outside" in caught.value.problems[0].what
            assert len(await admin.list_all(by_word("ns"))) == 2
            first = await admin.apply(good)
            assert [r.action for r in first.results] == ["created"] * 3
            again = await admin.apply([*good[:2], make.workload("web-1", "n2", "10.0.0.1")])
            assert [r.action for r in again.results] == ["unchanged", "unchanged", "configured"]
            assert again.revision == first.revision + 1

    asyncio.run(scenario())


def test_apply_refuses_what_it_cannot_decode_by_index(controller):
    async def scenario():
        objects = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ok"}},
            {"apiVersion": "v1", "kind": "Namespce", "metadata": {"name": "x"}},
            "text",
        ]
        path = "/apis/mesh.hoplite.io/v1alpha1/apply"
        status, answer = await controller.request("POST", path, {"objects": objects})
        assert status == 422
        fields = [c["field"] for c in answer["details"]["causes"]]
        assert fields == ["$.objects[1].kind", "$.objects[2]"]
        status, answer = await controller.request("POST", path, {"object": []})
        assert (status, answer["details"]["causes"][0]["field"]) == (422, "$.object")

    asyncio.run(scenario())


def test_routes_show_their_conditions(controller, make):
    async def scenario():
        n1 = await controller.node("n1")
        spec = {
            "parentRefs": [{"kind": "Service", "name": "web"}],
            "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
        }
        async with controller.admin() as admin:
            applied = await admin.apply(
                [
                    make.namespace(),
                    make.service("web"),
                    make.workload("web-1", "n1", "10.0.0.1"),
                    make.resource("HTTPRoute", "web", spec),
                ]
            )

            async def programmed():
                route = await admin.get(by_word("route"), "shop", "web")
                assert isinstance(route, HTTPRoute)
                conditions = {c.type: c for c in route.status.parents[0].conditions}
                return conditions["Programmed"].status

            assert await programmed() == "Unknown"
            await n1.report(applied.revision)
            assert await programmed() == "Unknown"
            async with await n1.l7proxy() as proxy:
                from meshapi.wire import NodeReport

                await proxy.report(
                    "n1",
                    NodeReport(
                        component="l7proxy", revision=applied.revision, version="t", ready=True
                    ),
                )
            assert await programmed() == "True"

    asyncio.run(scenario())
