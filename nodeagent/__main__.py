"""``hoplite-agent``: arguments, settings, and one line when something is wrong."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from pathlib import Path

from meshapi import __version__, logs, settings
from meshapi.errors import ConfigError, HopliteError
from nodeagent.config import PREFIX, AgentConfig


def main() -> None:
    arguments = _parse()
    try:
        config = _config(arguments.config)
        if arguments.check:
            return
        _run(config, remove=arguments.remove)
    except HopliteError as error:
        sys.exit(f"hoplite-agent: {error}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hoplite-agent",
        description="Keeps this node's kernel equal to what the mesh wants.",
        epilog=f"Every setting of the file is also an environment variable {PREFIX}_….",
    )
    parser.add_argument("--config", metavar="FILE", help="settings, in YAML")
    parser.add_argument("--check", action="store_true", help="check the settings and exit")
    parser.add_argument(
        "--remove",
        action="store_true",
        help="take this node's programs, maps, links and addresses away and exit",
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser.parse_args()


def _config(path: str | None) -> AgentConfig:
    try:
        text = Path(path).read_text(encoding="utf-8") if path else ""
    except OSError as error:
        raise ConfigError(f"cannot read: {error.strerror}", where=str(path)) from error
    config = settings.load(AgentConfig, text, path or "settings", os.environ, PREFIX)
    config.check()
    return config


def _run(config: AgentConfig, *, remove: bool) -> None:
    logs.setup(config.log_level)
    # The agent trusts the mesh's CA alone; without this, importing aiohttp loads the system's CAs,
    # twice: 2.2 MB and 40 ms.
    os.environ.update(SSL_CERT_FILE=os.devnull, SSL_CERT_DIR=os.devnull)
    gc.disable()  # what is made while starting stays
    from nodeagent import app

    if remove:
        app.remove(config)
        return
    import uvloop

    agent = app.Agent(config)
    gc.freeze()
    gc.enable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(agent.run())


if __name__ == "__main__":
    main()
