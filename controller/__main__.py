"""``hoplite-controller --config FILE [--check]``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import meshapi
from controller import config
from meshapi import logs
from meshapi.errors import ConfigError, HopliteError


def main() -> int:
    arguments = _parser().parse_args()
    try:
        settings = _load(arguments.config)
        if arguments.check:
            sys.stdout.write("the configuration is valid\n")
            return 0
        logs.setup(settings.log_level)
        _serve(settings)
    except HopliteError as error:
        sys.stderr.write(f"hoplite-controller: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hoplite-controller", description="The control plane of a Hoplite mesh."
    )
    parser.add_argument("--config", metavar="FILE", help="settings (YAML); without it, defaults")
    parser.add_argument("--check", action="store_true", help="check the settings and exit")
    parser.add_argument("--version", action="version", version=meshapi.__version__)
    return parser


def _load(path: str | None) -> config.Config:
    if path is None:
        return config.load("", "defaults", os.environ)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(
            f"cannot be read: {reason}", where=path, fix="name a readable YAML file"
        ) from error
    return config.load(text, path, os.environ)


def _serve(settings: config.Config) -> None:
    import uvloop  # late: `--check` needs no event loop

    from controller.app import run

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings))


if __name__ == "__main__":
    sys.exit(main())
