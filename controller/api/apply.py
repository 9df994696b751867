"""Several objects at once: judged together, written in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from aiohttp import web

from controller import access, admission
from controller.admission import AdmissionError, Plan, Refusal, Rules, Write
from controller.api.body import answer, parameters, read
from controller.api.server import Route
from controller.ledger import Ledger, Outcome
from controller.state import State
from meshapi import codec
from meshapi.errors import InvalidError
from meshapi.resources import Resource, key_of
from meshapi.wire import APPLY_PATH, ApplyReply, ApplyRequest, ApplyResult


class Apply:
    """``POST …/apply``: what ``hopctl apply`` speaks."""

    def __init__(self, ledger: Ledger, rules: Rules) -> None:
        self._ledger = ledger
        self._rules = rules

    def routes(self) -> Iterator[Route]:
        yield Route("POST", APPLY_PATH, self._apply, access.admin, "apply", "all")

    async def _apply(self, request: web.Request) -> web.Response:
        parameters(request)
        message = await read(request, ApplyRequest)
        try:
            wanted = _decoded(message.objects)

            def decide(state: State) -> Plan:
                return admission.admit(state, wanted, self._rules)

            if message.dry_run:
                outcome = self._ledger.preview(decide)
            else:
                outcome = await self._ledger.write(decide)
        except AdmissionError as error:
            raise error.about_several() from error
        return answer(_reply(outcome))


def _decoded(values: tuple[Any, ...]) -> list[Resource]:
    wanted: list[Resource] = []
    refusals: list[Refusal] = []
    for i, value in enumerate(values):
        try:
            wanted.append(codec.decode(value))
        except InvalidError as error:
            refusals += [Refusal(i, error.subject, problem) for problem in error.problems]
    if refusals:
        raise AdmissionError(refusals)
    return wanted


def _reply(outcome: Outcome) -> ApplyReply:
    writes = {write.key: write for write in outcome.plan.writes}
    results = tuple(
        ApplyResult(key.kind, key.namespace, key.name, _action(writes.get(key)))
        for key in map(key_of, outcome.plan.admitted)
    )
    return ApplyReply(revision=outcome.revision, results=results, warnings=outcome.plan.warnings)


def _action(write: Write | None) -> Literal["created", "configured", "unchanged"]:
    if write is None:
        return "unchanged"
    return "configured" if write.old else "created"
