"""The kernel's SipHash-2-4 against the paper's vectors, and against Python's on random messages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import bpf
from tests.siphash import siphash

FOLDER = Path(bpf.__file__).parent
KEY = bytes(range(16))

# Key 00…0f, message 00, 00 01, … of so many bytes: the output of the reference implementation
# (vectors_sip64 of github.com/veorq/SipHash).
VECTORS = {
    0: "310e0edd47db6f72",
    1: "fd67dc93c539f874",
    7: "37d1018bf50002ab",
    8: "6224939a79f5f593",
    15: "e545be4961ca29a1",
    16: "db9bc2577fcc2a3f",
    24: "94af49f6c650adb8",
    32: "ce7cf2722f512771",
    40: "d0a704536ba93e0e",
    48: "51a9cb9ecba312e6",
    63: "724506eb4c328a95",
}

# Runs the kernel's siphash.h: one program, a map for key and message, one for the tag.
_PROBE = """
import ctypes, json, os, sys
request = json.load(sys.stdin)
os.environ["BCC_KERNEL_SOURCE"] = request["headers"]
import bcc
module = bcc.BPF(text=request["text"])
function = module.load_func("run", 8)
libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)

class Options(ctypes.Structure):  # struct bpf_test_run_opts
    _fields_ = [
        ("sz", ctypes.c_size_t), ("data_in", ctypes.c_void_p), ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32), ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p), ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32), ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32), ("repeat", ctypes.c_int), ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32), ("cpu", ctypes.c_uint32), ("batch_size", ctypes.c_uint32),
    ]

packet = ctypes.create_string_buffer(64)
answers = []
for hexes in request["runs"]:
    words = bytes.fromhex(hexes)
    for i in range(0, len(words), 8):
        module["input"][i // 8] = ctypes.c_uint64(int.from_bytes(words[i:i + 8], sys.byteorder))
    module["count"][0] = ctypes.c_uint32(len(words) // 8 - 2)
    options = Options(sz=ctypes.sizeof(Options), data_in=ctypes.addressof(packet), data_size_in=64)
    if libbpf.bpf_prog_test_run_opts(function.fd, ctypes.byref(options)):
        sys.exit(os.strerror(ctypes.get_errno()))
    answers.append(module["output"][0].value.to_bytes(8, sys.byteorder).hex())
print(json.dumps(answers))
"""

_TEXT = """
#include <uapi/linux/bpf.h>
BPF_ARRAY(input, u64, 16);
BPF_ARRAY(count, u32, 1);
BPF_ARRAY(output, u64, 1);
%s
int run(struct __sk_buff *skb)
{
	u64 key[2] = {}, tag, *word;
	u32 zero = 0, one = 1, *words = count.lookup(&zero);
	struct sip sip;

	word = input.lookup(&zero);
	if (!words || !word)
		return 0;
	key[0] = *word;
	word = input.lookup(&one);
	if (!word)
		return 0;
	key[1] = *word;
	sip_begin(&sip, key);
	for (u32 i = 0; i < 8; i++) {
		u32 at = i + 2;

		if (i >= *words)
			break;
		word = input.lookup(&at);
		if (!word)
			return 0;
		sip_word(&sip, *word);
	}
	tag = sip_end(&sip, *words * 8);
	output.update(&zero, &tag);
	return 1;
}
"""


def in_kernel(runs: list[tuple[bytes, bytes]]) -> list[str]:
    """The tags of (key, message) in the kernel; messages of whole words, at most seven."""
    request = {
        "headers": str(FOLDER),
        "text": _TEXT % (FOLDER / "siphash.h").read_text(),
        "runs": [(key + message).hex() for key, message in runs],
    }
    run = subprocess.run(
        [sys.executable, "-c", _PROBE],
        input=msgspec.json.encode(request),
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    return msgspec.json.decode(run.stdout, type=list[str])


def test_pythons_gives_the_papers_vectors() -> None:
    assert {n: siphash(KEY, bytes(range(n))).hex() for n in VECTORS} == VECTORS


@pytest.mark.root
def test_the_kernels_gives_the_papers_vectors_and_what_pythons_gives() -> None:
    sizes = [n for n in VECTORS if n % 8 == 0]
    runs = [(KEY, bytes(range(n))) for n in sizes]
    runs += [(os.urandom(16), os.urandom(8 * (i % 8))) for i in range(100)]
    found = in_kernel(runs)
    assert dict(zip(sizes, found[: len(sizes)], strict=True)) == {n: VECTORS[n] for n in sizes}
    assert found == [siphash(*run).hex() for run in runs]
