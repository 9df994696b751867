"""JSON values to serialised Envoy messages, in a private descriptor pool.

The mapping is protobuf's own JSON mapping. ``json_format`` does it too, but builds its tables anew
for every message and takes four times as long; it is used here for the well-known types alone.
"""

from __future__ import annotations

import base64
import functools
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from meshapi.errors import HopliteError

TYPE_PREFIX = "type.googleapis.com/"

_FILE = Path(__file__).with_name("descriptors.binpb.z")
_ANY = "google.protobuf.Any"
_WELL_KNOWN = "google.protobuf."

Put = Callable[[Any, Any], None]
Fill = Callable[[Any, Any, str], None]


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    files = FileDescriptorSet.FromString(zlib.decompress(_FILE.read_bytes()))
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@functools.cache
def message_class(name: str) -> Any:
    """The message type of that full name; an unknown name is a refusal."""
    try:
        return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))
    except KeyError as error:
        raise HopliteError(f"this Envoy has no message type {name!r}") from error


def encode(name: str, value: Mapping[str, Any]) -> bytes:
    """``value`` as a serialised message of type ``name``; the same value gives the same bytes.

    Where a message is wanted, its serialised form (``bytes``) may stand as well.
    """
    message = message_class(name)()
    _fill(message, value, name)
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized


def _fill(message: Any, value: Any, at: str) -> None:
    if isinstance(value, bytes):
        message.MergeFromString(value)
    else:
        _filler(message.DESCRIPTOR)(message, value, at)


@functools.cache
def _filler(descriptor: Descriptor) -> Fill:
    if descriptor.full_name == _ANY:
        return _fill_any
    if descriptor.full_name.startswith(_WELL_KNOWN):
        return _fill_well_known
    puts = {field.name: _put(field) for field in descriptor.fields}
    return functools.partial(_fill_fields, puts)


def _fill_any(message: Any, value: Mapping[str, Any], _at: str) -> None:
    rest = dict(value)
    type_url = rest.pop("@type")
    name = type_url.removeprefix(TYPE_PREFIX)
    message.type_url = type_url
    message.value = encode(name, rest.get("value", rest) if name.startswith(_WELL_KNOWN) else rest)


def _fill_well_known(message: Any, value: Any, at: str) -> None:
    try:
        json_format.ParseDict(value, message)
    except json_format.ParseError as error:
        raise HopliteError(f"not a {message.DESCRIPTOR.name}: {error}", where=at) from error


def _fill_fields(puts: Mapping[str, Put], message: Any, value: Mapping[str, Any], at: str) -> None:
    message.SetInParent()
    for key, item in value.items():
        put = puts.get(key)
        if put is None:
            raise HopliteError(f"{message.DESCRIPTOR.full_name} has no field {key!r}", where=at)
        try:
            put(message, item)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise HopliteError(f"{key}: {error}", where=at) from error


def _put(field: FieldDescriptor) -> Put:
    name = field.name
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _put_map(field)
    if field.is_repeated and field.message_type is not None:

        def put_messages(message: Any, items: Any) -> None:
            target = getattr(message, name)
            for i, item in enumerate(items):
                _fill(target.add(), item, f"{name}[{i}]")

        return put_messages
    convert = _scalar(field)
    if field.is_repeated:

        def put_scalars(message: Any, items: Any) -> None:
            getattr(message, name).extend([convert(item) for item in items])

        return put_scalars
    if field.message_type is not None:

        def put_message(message: Any, item: Any) -> None:
            _fill(getattr(message, name), item, name)

        return put_message

    def put_scalar(message: Any, item: Any) -> None:
        setattr(message, name, convert(item))

    return put_scalar


def _put_map(field: FieldDescriptor) -> Put:
    name, entry = field.name, field.message_type
    if entry is None:
        raise TypeError(f"{name} is not a map")
    value_field = entry.fields_by_name["value"]
    convert = _scalar(value_field)

    def put_map(message: Any, items: Any) -> None:
        target = getattr(message, name)
        for key, item in items.items():
            if value_field.message_type is None:
                target[key] = convert(item)
            else:
                _fill(target[key], item, f"{name}[{key!r}]")

    return put_map


def _scalar(field: FieldDescriptor) -> Callable[[Any], Any]:
    if field.enum_type is not None:
        numbers = {v.name: v.number for v in field.enum_type.values}
        return lambda item: numbers[item]
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64decode
    return lambda item: item
