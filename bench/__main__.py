"""``make bench``: run the benchmarks and print their tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench import agent, direct_path, facts, first_request, scale, survival
from bench.table import Row, markdown, show
from meshapi.errors import HopliteError

BENCHMARKS: dict[str, Callable[[], tuple[str, list[Row]]]] = {
    "agent": agent.run,
    "direct-path": direct_path.run,
    "first-request": first_request.run,
    "scale": scale.run,
    "survival": survival.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the tables there too")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"{unknown[0]!r} is not a benchmark; there are {', '.join(BENCHMARKS)}")
    about = facts.lines()
    print("\n".join(about))
    written = [f"{' · '.join(about)}\n"]
    missed = 0
    for name in arguments.names or BENCHMARKS:
        try:
            title, rows = BENCHMARKS[name]()
        except HopliteError as error:
            sys.exit(f"bench {name}: {error}")
        show(title, rows)
        written.append(markdown(title, rows))
        missed += sum(row.met is False for row in rows)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(written), encoding="utf-8")
    print(f"{missed} goals missed" if missed else "every goal met")


if __name__ == "__main__":
    main()
