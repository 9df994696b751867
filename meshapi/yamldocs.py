"""YAML (and so JSON) files of several documents, with the line of every field.

PyYAML composes the node tree, whose marks let a refusal say ``file:line``. Duplicate keys, which
YAML loaders usually swallow, are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from meshapi.errors import HopliteError

_STEP = re.compile(r"\.([A-Za-z0-9_./-]+?)(?=\.|\[|$)|\[(\d+)\]|\['([^']*)'\]")
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Document:
    """One document: its plain value, where it came from and how to find a path in it."""

    value: Any
    source: str
    node: yaml.Node

    def where(self, path: str = "$") -> str:
        """``file:line`` of the deepest part of ``path`` that exists."""
        node = self.node
        for match in _STEP.finditer(path):
            inner = _child(node, match[1] or match[3], match[2])
            if inner is None:
                break
            node = inner
        return f"{self.source}:{node.start_mark.line + 1}"


def load(text: str, source: str) -> list[Document]:
    """Every document of a file, empty ones left out; wrong YAML is refused with its line."""
    loader = _Loader(text)
    documents = []
    try:
        while loader.check_node():
            node = loader.get_node()
            _refuse_duplicates(node, source)
            value = loader.construct_document(node)
            if value is not None:
                documents.append(Document(value, source, node))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise HopliteError(
            f"not YAML: {error.problem or error.context}",
            where=f"{source}:{line}",
            fix="correct the indentation or quoting there",
        ) from error
    except RecursionError as error:
        raise HopliteError(
            "nested too deeply", where=source, fix="no resource needs more than a few levels"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        words = " ".join(str(error).split())
        raise HopliteError(f"not YAML: {words}", where=source, fix="correct it there") from error
    finally:
        loader.dispose()
    return documents


def _child(node: yaml.Node, key: str | None, index: str | None) -> yaml.Node | None:
    if key is not None and isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if key_node.value == key:
                found: yaml.Node = value_node
                return found
    if index is not None and isinstance(node, yaml.SequenceNode) and int(index) < len(node.value):
        item: yaml.Node = node.value[int(index)]
        return item
    return None


def _refuse_duplicates(root: yaml.Node, source: str) -> None:
    pending = [root]
    seen_nodes: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in seen_nodes:
            continue
        seen_nodes.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: dict[str, int] = {}
            for key_node, value_node in node.value:
                line = key_node.start_mark.line + 1
                name = str(key_node.value)
                if name in keys:
                    raise HopliteError(
                        f"key {name!r} stands there twice (first on line {keys[name]})",
                        where=f"{source}:{line}",
                        fix="keep one of the two",
                    )
                keys[name] = line
                pending.append(value_node)
        elif isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
