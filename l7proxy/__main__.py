"""Command line: ``hoplite-l7proxy --config FILE [--check]``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from l7proxy import app, config
from meshapi import __version__, logs
from meshapi.errors import ConfigError, HopliteError


def main() -> None:
    """Exit 0 after a clean stop, 1 on a refusal, 2 on wrong usage."""
    arguments = _parse()
    try:
        settings = config.load(_read(arguments.config), arguments.config, os.environ)
        if arguments.check:
            sys.stdout.write(f"{arguments.config}: in order\n")
            return
        logs.setup(settings.log_level)
        for chatty in ("hpack", "grpclib"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        app.run(settings)
    except HopliteError as error:
        sys.exit(f"hoplite-l7proxy: {error}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hoplite-l7proxy",
        description="Drives the node's Envoy for services that need layer 7.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML configuration file")
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    parser.add_argument("--version", action="version", version=__version__)
    return parser.parse_args()


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot be read: {reason}", where=path, fix="give the path of a YAML file"
        ) from error


if __name__ == "__main__":
    main()
