"""SipHash-2-4 in plain Python, written from the paper: what the kernel's is compared with."""

from __future__ import annotations

_MASK = (1 << 64) - 1


def siphash(key: bytes, message: bytes) -> bytes:
    """The tag of a message under a key of 16 bytes: 8 bytes."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [
        k0 ^ int.from_bytes(b"somepseu"),
        k1 ^ int.from_bytes(b"dorandom"),
        k0 ^ int.from_bytes(b"lygenera"),
        k1 ^ int.from_bytes(b"tedbytes"),
    ]
    whole = len(message) // 8 * 8
    last = message[whole:].ljust(7, b"\0") + bytes([len(message) % 256])
    for start in range(0, whole, 8):
        _word(v, message[start : start + 8])
    _word(v, last)
    v[2] ^= 0xFF
    for _ in range(4):
        _round(v)
    return (v[0] ^ v[1] ^ v[2] ^ v[3]).to_bytes(8, "little")


def _word(v: list[int], word: bytes) -> None:
    number = int.from_bytes(word, "little")
    v[3] ^= number
    _round(v)
    _round(v)
    v[0] ^= number


def _round(v: list[int]) -> None:
    v[0] = (v[0] + v[1]) & _MASK
    v[1] = _rotated(v[1], 13) ^ v[0]
    v[0] = _rotated(v[0], 32)
    v[2] = (v[2] + v[3]) & _MASK
    v[3] = _rotated(v[3], 16) ^ v[2]
    v[0] = (v[0] + v[3]) & _MASK
    v[3] = _rotated(v[3], 21) ^ v[0]
    v[2] = (v[2] + v[1]) & _MASK
    v[1] = _rotated(v[1], 17) ^ v[2]
    v[2] = _rotated(v[2], 32)


def _rotated(number: int, bits: int) -> int:
    return ((number << bits) | (number >> (64 - bits))) & _MASK
