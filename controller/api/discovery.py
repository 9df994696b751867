"""What stock Kubernetes clients ask first, health for supervisors, metrics for admins."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

import meshapi
from controller import access
from controller.api.server import Route
from controller.metrics import CONTENT_TYPE, Metrics
from meshapi.resources import KINDS, Kind

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def routes(metrics: Metrics) -> Iterator[Route]:
    documents: dict[str, Any] = {"/api": _api(), "/apis": _apis(), "/version": _version()}
    for group in sorted({k.group for k in KINDS if k.group}):
        documents[f"/apis/{group}"] = _group(group)
    for kind in KINDS:
        documents[kind.base_path] = _resources(kind)
    for path, document in documents.items():
        serve = partial(_document, msgspec.json.encode(document))
        open_to = access.anyone if path == "/version" else access.admin
        yield Route("GET", path, serve, open_to, "get", "discovery")
    for path in ("/healthz", "/readyz", "/livez"):
        yield Route("GET", path, _healthy, access.anyone, "get", "health")
    yield Route("GET", "/metrics", partial(page, metrics), access.admin, "get", "metrics")


async def page(metrics: Metrics, _request: web.Request) -> web.Response:
    """The metrics page; also what the plain-HTTP metrics port serves."""
    return web.Response(body=metrics.page(), headers={"Content-Type": CONTENT_TYPE})


async def _document(body: bytes, _request: web.Request) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def _healthy(_request: web.Request) -> web.Response:
    """The port opens only after the store is loaded, so whoever can ask gets ok."""
    return web.Response(text="ok")


def _api() -> dict[str, Any]:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def _apis() -> dict[str, Any]:
    groups = [_group(group) for group in sorted({k.group for k in KINDS if k.group})]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _group(group: str) -> dict[str, Any]:
    versions = [
        {"groupVersion": api_version, "version": api_version.rpartition("/")[2]}
        for api_version in sorted({k.api_version for k in KINDS if k.group == group})
    ]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group,
        "versions": versions,
        "preferredVersion": versions[0],
    }


def _resources(of: Kind) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": of.api_version,
        "resources": [
            {
                "name": kind.plural,
                "singularName": kind.name.lower(),
                "namespaced": kind.namespaced,
                "kind": kind.name,
                "verbs": _VERBS,
                "shortNames": list(kind.short_names),
            }
            for kind in KINDS
            if kind.api_version == of.api_version
        ],
    }


def _version() -> dict[str, str]:
    """Kubernetes' version answer: the API level that clients may count on, then our own version."""
    return {
        "major": "1",
        "minor": "32",
        "gitVersion": f"v1.32.0+hoplite-{meshapi.__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
        "hopliteVersion": meshapi.__version__,
    }
