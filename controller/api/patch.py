"""Patches of JSON values: RFC 7396, and what kubectl's strategic merge patch adds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.errors import BadRequestError

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

_ORDER = "$setElementOrder/"


def merge(value: Any, patch: Any) -> Any:
    """RFC 7396: null removes, objects are merged, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        if change is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), change)
    return result


def strategic(value: Any, patch: Any, merge_keys: Mapping[str, str], path: str = "") -> Any:
    """Kubernetes' strategic merge: lists named in ``merge_keys`` are merged element by element.

    ``merge_keys`` maps a path such as ``spec.ports`` to the field that tells its elements apart.
    """
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {k: v for k, v in patch.items() if k != "$patch"}
    result = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        at = f"{path}.{key}".lstrip(".")
        if key.startswith(_ORDER):
            continue
        if key.startswith("$"):
            raise BadRequestError(f"directive {key} is not supported", where=path or "patch")
        if change is None:
            result.pop(key, None)
        elif at in merge_keys and isinstance(change, list):
            order = patch.get(_ORDER + key, [])
            result[key] = _merge_list(result.get(key) or [], change, order, merge_keys[at])
        else:
            result[key] = strategic(result.get(key), change, merge_keys, at)
    return result


def _merge_list(current: list[Any], changes: list[Any], order: list[Any], key: str) -> list[Any]:
    elements = _by_key(current, key)
    for name, change in _by_key(changes, key).items():
        if change.get("$patch") == "delete":
            elements.pop(name, None)
        else:
            elements[name] = merge(elements.get(name), change)
    wanted = list(_by_key(order, key))
    ranked = sorted(elements, key=lambda n: wanted.index(n) if n in wanted else len(wanted))
    return [elements[name] for name in ranked]


def _by_key(elements: list[Any], key: str) -> dict[Any, Any]:
    named: dict[Any, Any] = {}
    for element in elements:
        if not isinstance(element, dict) or key not in element:
            raise BadRequestError(f"an element of a merged list has no {key}", where="patch")
        if element[key] in named:
            raise BadRequestError(
                f"two elements with {key} {element[key]} cannot be told apart by this patch",
                where="patch",
                fix="replace the whole object, or use hopctl apply",
            )
        named[element[key]] = element
    return named
