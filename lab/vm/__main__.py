"""``python -m lab.vm``: fetch kernels, or run a command under one of them, for developers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab.vm import catalog, fetch, guest
from meshapi.errors import HopliteError


def main() -> int:
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    options = _parser().parse_args(words[:at])
    command = words[at + 1 :] or ["uname", "-r"]
    try:
        (tree,) = fetch.fetch([options.kernel], say=lambda text: print(text, file=sys.stderr))
        ended = guest.run(
            tree,
            command,
            timeout=options.timeout,
            shared=options.shared,
            systemd=options.systemd,
            memory=options.memory,
            cpus=options.cpus,
            hear=lambda line: print(line, flush=True),
        )
    except HopliteError as error:
        print(f"lab.vm: {error}", file=sys.stderr)
        return 99
    return ended.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab.vm",
        description="Run a command as root on this machine's files under another kernel.",
        usage="%(prog)s KERNEL [options] -- COMMAND …",
    )
    names = ", ".join(k.name for k in catalog.KERNELS)
    parser.add_argument("kernel", metavar="KERNEL", help=f"one of {names}")
    parser.add_argument("--timeout", type=float, default=600, help="seconds (600)")
    parser.add_argument("--memory", type=int, default=1024, help="MiB (1024)")
    parser.add_argument("--cpus", type=int, default=1, help="1 unless a rare crash may be")
    parser.add_argument("--systemd", action="store_true", help="with systemd as first process")
    parser.add_argument("--shared", type=Path, help=f"a directory, in the guest at {guest.SHARED}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
