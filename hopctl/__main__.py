"""``hopctl VERB …``: exit code 0 done, 1 refused or not found, 2 wrong usage.

Verbs import what they need when they run, so that a small one starts in a few milliseconds.
"""

from __future__ import annotations

import argparse
import os
import sys

from hopctl import apply, delete, explain, flows, get, quarantine, token, version
from hopctl.errors import UsageError
from meshapi import __version__
from meshapi.errors import HopliteError

_VERBS = (apply, get, delete, flows, quarantine, token, explain, version)


def main() -> int:
    arguments = _parser().parse_args()
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except UsageError as error:
        sys.stderr.write(f"hopctl: {error}\n")
        return 2
    except HopliteError as error:
        sys.stderr.write(f"hopctl: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `hopctl … | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hopctl",
        description="Apply resources to a Hoplite mesh and look at what happens there.",
        epilog="The controller is named by HOPLITE_SERVER, HOPLITE_CA_FILE and HOPLITE_TOKEN_FILE.",
    )
    parser.add_argument("--version", action="version", version=f"hopctl {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in _VERBS:
        verb.add(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
