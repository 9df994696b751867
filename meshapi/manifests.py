"""Manifest files: YAML text to typed resources; every refusal names file, line and JSON path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meshapi import yamldocs
from meshapi.codec import decode
from meshapi.errors import HopliteError, InvalidError
from meshapi.resources.registry import Key, Resource, find, key_of


@dataclass(frozen=True)
class Manifest:
    """A resource, the document it was read from, and its path there (``$`` or an item's)."""

    resource: Resource
    document: yamldocs.Document
    path: str = "$"

    def where(self, path: str) -> str:
        """``file:line`` of a JSON path within the resource."""
        return self.document.where(self.path + path[1:])


def parse(text: str, source: str, *, default_namespace: str = "default") -> list[Manifest]:
    """Every resource of one file. Nothing is returned if any document is refused."""
    return decode_documents(yamldocs.load(text, source), default_namespace=default_namespace)


def decode_documents(
    documents: list[yamldocs.Document], *, default_namespace: str = "default"
) -> list[Manifest]:
    """Type every document; a ``List`` is taken apart, the same object twice is refused."""
    manifests: list[Manifest] = []
    seen: dict[Key, str] = {}
    for document in documents:
        for value, path in _items(document):
            resource = _decode_at(document, value, path, default_namespace)
            key = key_of(resource)
            where = document.where(path)
            if key in seen:
                raise HopliteError(
                    f"{key} stands there twice (first at {seen[key]})",
                    where=where,
                    fix="keep one of the two",
                )
            seen[key] = where
            manifests.append(Manifest(resource, document, path))
    return manifests


def _items(document: yamldocs.Document) -> list[tuple[Any, str]]:
    value = document.value
    if isinstance(value, dict) and value.get("kind") == "List" and "items" in value:
        items = value["items"]
        if isinstance(items, list):
            return [(item, f"$.items[{i}]") for i, item in enumerate(items)]
    return [(value, "$")]


def _decode_at(
    document: yamldocs.Document, value: Any, path: str, default_namespace: str
) -> Resource:
    try:
        return decode(_with_namespace(value, default_namespace))
    except InvalidError as error:
        problem = error.problems[0]
        at = path + problem.path[1:]
        raise HopliteError(
            f"{error.subject}: {'; also '.join(str(p) for p in error.problems)}",
            where=document.where(at),
        ) from error


def _with_namespace(value: Any, default_namespace: str) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        return value
    try:
        kind = find(value.get("apiVersion"), value.get("kind"))
    except HopliteError:
        return value  # decode refuses it with the right words
    if not kind.namespaced or value["metadata"].get("namespace"):
        return value
    return {**value, "metadata": {**value["metadata"], "namespace": default_namespace}}
