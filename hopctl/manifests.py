"""Reading what ``-f`` names: files, directories, standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from hopctl.errors import UsageError
from meshapi import yamldocs
from meshapi.errors import HopliteError
from meshapi.manifests import Manifest, decode_documents

_SUFFIXES = {".yaml", ".yml", ".json"}


def read(sources: list[str], namespace: str) -> list[Manifest]:
    """Every resource of all sources, in order; nothing if any of them cannot be read."""
    documents = [d for source in sources for path in _files(source) for d in _load(path)]
    found = decode_documents(documents, default_namespace=namespace)
    if not found:
        raise HopliteError("no resources there", where=", ".join(sources), fix="write at least one")
    return found


def _files(source: str) -> list[str]:
    path = Path(source)
    if source == "-" or not path.is_dir():
        return [source]
    files = sorted(str(p) for p in path.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    if not files:
        raise UsageError("no .yaml, .yml or .json file there", where=source, fix="name a file")
    return files


def _load(path: str) -> list[yamldocs.Document]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path, fix="check -f") from error
    except UnicodeDecodeError as error:
        raise HopliteError("not text", where=path, fix="save it as UTF-8") from error
    return yamldocs.load(text, "<stdin>" if path == "-" else path)
