"""How much of the verifier's budget each program takes, on the kernel that runs this.

``python -m tests.kernels.complexity`` prints one line per program: name and instructions walked. A
kernel gives up at 1,000,000 (since 5.2).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from lab import bpffs
from nodeagent.config import DEFAULT_SIZES
from nodeagent.datapath import features, libbpf
from nodeagent.datapath.programs import PROGRAMS, compile_text, source_folder
from nodeagent.layout import map_specs

_BYTECODE = 0x2  # bcc.DEBUG_BPF: the verifier's log, whose last line counts
_WALKED = re.compile(r"processed (\d+) insns")
# Sizes say nothing about programs, and a guest has little memory.
_SIZES = {name: 65536 if name == "events" else 256 for name in DEFAULT_SIZES}


def main() -> None:
    import bcc

    os.environ["BCC_KERNEL_SOURCE"] = str(source_folder())
    bpffs.ensure()
    pins = Path(f"/sys/fs/bpf/hoplite-test-{os.getpid()}")
    pins.mkdir()
    try:
        text = compile_text(source_folder(), map_specs(_SIZES), pins, features.probe())
        with tempfile.TemporaryFile() as log:
            saved = os.dup(2)
            os.dup2(log.fileno(), 2)  # BCC writes there, from C
            try:
                module = bcc.BPF(text=text, debug=_BYTECODE)
                for program in PROGRAMS:
                    log.seek(0)
                    log.truncate()
                    attach = libbpf.ATTACH[program.attach]
                    module.load_func(program.name, program.type, None, attach)
                    log.seek(0)
                    walked = _WALKED.findall(log.read().decode(errors="replace"))
                    print(program.name, walked[-1])
            finally:
                os.dup2(saved, 2)
    finally:
        shutil.rmtree(pins)
        bpffs.release()


if __name__ == "__main__":
    sys.exit(main())
