"""Every kind of resource, Kubernetes-shaped: list, get, create, replace, patch, delete, watch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial

from aiohttp import web
from msgspec.structs import replace

from controller import access, admission
from controller.admission import Plan, Rules
from controller.api import patch
from controller.api.body import (
    answer_bytes,
    answer_status,
    flag,
    number,
    parameters,
    read,
    read_json,
)
from controller.api.objects import DeleteOptions, decoded, key_in, require
from controller.api.problems import success
from controller.api.select import Selection, selection
from controller.api.server import Route
from controller.api.streams import Streams
from controller.api.watch import Watches
from controller.errors import BadRequestError
from controller.ledger import Decide, Ledger, Outcome
from controller.reports import Reports
from controller.state import State
from controller.status import View, look
from meshapi import codec
from meshapi.resources import KINDS, Kind, MeshNode

_WRITE = ("dryRun", "fieldManager", "fieldValidation", "pretty")
_DELETE = ("dryRun", "gracePeriodSeconds", "propagationPolicy", "pretty")
_LIST = (
    "labelSelector",
    "fieldSelector",
    "limit",  # accepted; the whole list is answered at once
    "resourceVersion",
    "watch",
    "pretty",
)
_WATCH = ("allowWatchBookmarks", "timeoutSeconds")
_MERGE_KEYS = {"spec.ports": "port"}  # Service; the lists of the other kinds are atomic
_YIELD_EVERY = 200  # objects; a long list must not hold up the feeds


class Resources:
    """The handlers of all kinds; one set of routes for each."""

    def __init__(
        self, ledger: Ledger, reports: Reports, rules: Rules, watches: Watches, streams: Streams
    ) -> None:
        self._ledger = ledger
        self._reports = reports
        self._rules = rules
        self._watches = watches
        self._streams = streams

    def routes(self) -> Iterator[Route]:
        for kind in KINDS:
            inside = f"{kind.base_path}/namespaces/{{namespace}}/{kind.plural}"
            everywhere = f"{kind.base_path}/{kind.plural}"
            collection = inside if kind.namespaced else everywhere
            endpoints = [
                ("GET", collection, self._list, "list"),
                ("POST", collection, self._create, "create"),
                ("GET", f"{collection}/{{name}}", self._get, "get"),
                ("PUT", f"{collection}/{{name}}", self._replace, "replace"),
                ("PATCH", f"{collection}/{{name}}", self._patch, "patch"),
                ("DELETE", f"{collection}/{{name}}", self._delete, "delete"),
            ]
            if kind.namespaced:
                endpoints.append(("GET", everywhere, self._list, "list"))
            for method, path, handler, verb in endpoints:
                yield Route(method, path, partial(handler, kind), access.admin, verb, kind.plural)

    # -- reading -------------------------------------------------------------------------------

    async def _list(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        query = parameters(request, *_LIST, *(_WATCH if "watch" in request.query else ()))
        chosen = selection(
            request.match_info.get("namespace", ""),
            query.get("labelSelector", ""),
            query.get("fieldSelector", ""),
        )
        if flag(query, "watch"):
            return await self._watch(kind, chosen, query, request)
        view = self._view()
        items = []
        for i, resource in enumerate(view.state.objects(kind).values()):
            if chosen.takes(resource):
                items.append(codec.encode_json(view.show(resource)))
            if i % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        head = (
            f'{{"kind":"{kind.name}List","apiVersion":"{kind.api_version}",'
            f'"metadata":{{"resourceVersion":"{view.state.revision}"}},"items":['
        )
        return answer_bytes(head.encode() + b",".join(items) + b"]}")

    async def _watch(
        self, kind: Kind, chosen: Selection, query: dict[str, str], request: web.Request
    ) -> web.StreamResponse:
        since = number(query, "resourceVersion") or None  # 0 and none: begin with what there is
        seconds = number(query, "timeoutSeconds")
        if since is not None:
            await self._watches.check(since, kind)
        bookmarks = flag(query, "allowWatchBookmarks")
        async with self._streams.open(request, "watch") as stream:
            try:
                async with asyncio.timeout(seconds) as deadline:
                    async for chunk in self._watches.follow(kind, chosen, since, bookmarks):
                        await stream.write(chunk)
            except TimeoutError:
                if not deadline.expired():
                    raise  # not the watch's end: the reader has stalled
        return stream.response

    async def _get(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        parameters(request, "pretty", "resourceVersion")
        found = require(self._ledger.state, key_in(kind, request))
        return answer_bytes(codec.encode_json(self._view().show(found)))

    # -- writing -------------------------------------------------------------------------------

    async def _create(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        query = parameters(request, *_WRITE)
        wanted = decoded(kind, request, await read_json(request))
        if wanted.metadata.resource_version:
            raise BadRequestError(
                "metadata.resourceVersion is set on an object to be created", fix="leave it out"
            )
        outcome = await self._write(
            query, lambda state: admission.create(state, wanted, self._rules)
        )
        return self._written(outcome, 201)

    async def _replace(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        query = parameters(request, *_WRITE)
        wanted = decoded(kind, request, await read_json(request))
        key = key_in(kind, request)

        def decide(state: State) -> Plan:
            require(state, key)
            return admission.admit(state, [wanted], self._rules)

        return self._written(await self._write(query, decide))

    async def _patch(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        query = parameters(request, *_WRITE, "force")
        change = await read_json(request, (patch.MERGE, patch.STRATEGIC))
        if not isinstance(change, dict):
            raise BadRequestError("a patch is an object", where="body")
        is_strategic = request.content_type == patch.STRATEGIC
        key = key_in(kind, request)

        def decide(state: State) -> Plan:
            found = require(state, key)
            current = codec.encode(replace(found, status=type(found.status)()))
            current["metadata"].pop("resourceVersion")  # only a patch that names one is locked
            if is_strategic:
                patched = patch.strategic(current, change, _MERGE_KEYS)
            else:
                patched = patch.merge(current, change)
            return admission.admit(state, [decoded(kind, request, patched)], self._rules)

        return self._written(await self._write(query, decide))

    async def _delete(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        query = parameters(request, *_DELETE)
        options = await read(request, DeleteOptions) if request.can_read_body else DeleteOptions()
        key = key_in(kind, request)
        outcome = await self._write(
            {**query, "dryRun": "All"} if options.dry_run else query,
            lambda state: admission.remove(
                state,
                key,
                uid=options.preconditions.uid,
                resource_version=options.preconditions.resource_version,
            ),
        )
        if kind.type is MeshNode and not outcome.dry:
            self._reports.forget(key.name)
            self._streams.dismiss("channel", key.name)  # its feeds end by themselves
        uid = outcome.objects[0].metadata.uid
        return answer_status(
            success(200, {"name": key.name, "kind": kind.plural, "group": kind.group, "uid": uid})
        )

    async def _write(self, query: dict[str, str], decide: Decide) -> Outcome:
        dry = query.get("dryRun", "")
        if dry not in ("", "All"):
            raise BadRequestError(f"{dry!r} is not a kind of dry run", where="dryRun", fix="All")
        return self._ledger.preview(decide) if dry else await self._ledger.write(decide)

    # -- answers -------------------------------------------------------------------------------

    def _view(self) -> View:
        return look(self._ledger.state, self._reports, time.monotonic())

    def _written(self, outcome: Outcome, code: int = 200) -> web.Response:
        shown = codec.encode_json(self._view().show(outcome.objects[0]))
        return answer_bytes(shown, code, outcome.plan.warnings)
