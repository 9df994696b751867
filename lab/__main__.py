"""``hoplite-lab``: a whole mesh on one machine. One function per verb."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab import api, machine, record
from lab.names import DEFAULT_NAME, LabNames
from meshapi.errors import ConflictError, HopliteError

_INTERRUPTED = 130  # what shells answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; a refusal is one line on standard error and status 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: list[str] = []
    if "exec" in words and "--" in words:
        command = words[words.index("--") + 1 :]
        words = words[: words.index("--")]
    options = _parser().parse_args(words)
    options.command = command
    try:
        code: int = options.run(options)
    except HopliteError as error:
        print(f"hoplite-lab: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"hoplite-lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hoplite-lab: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return code


def up(options: argparse.Namespace) -> int:
    began = time.monotonic()
    source, text = _read(options.file)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # removes what it has begun
    os.umask(0o022)  # the daemons that are not root read what is made here
    name = options.name or DEFAULT_NAME
    try:
        with _progress() as say:
            lab = api.start(text, name=name, source=source, say=say, keep=options.keep)
    except ConflictError:
        raise
    except HopliteError:
        if options.keep and name in record.labs():
            print(f"what there is of lab {name!r} is left for a look", file=sys.stderr)
        raise
    for warning in lab.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    plan = lab.record.plan
    this = "" if lab.name == DEFAULT_NAME else f" --name {lab.name}"
    print(
        f"lab {lab.name!r} is up after {time.monotonic() - began:.1f} s: {len(plan.nodes)} nodes,"
        f" {len(plan.workloads)} workloads, controller at {lab.record.server}"
    )
    print(f'  eval "$(hoplite-lab env{this})"; hopctl get nodes')
    if plan.workloads:
        print(f"  hoplite-lab exec{this} {plan.workloads[0].target} -- COMMAND")
    print(f"  hoplite-lab down{this}")
    return 0


def down(options: argparse.Namespace) -> int:
    machine.require_root("down")
    name = record.chosen(options.name)
    if api.stop(name):
        print(f"lab {name!r} is removed")
    else:
        print(f"there is no lab {name!r}; nothing to remove")
    return 0


def env(options: argparse.Namespace) -> int:
    for key, value in _lab(options).env.items():
        print(f"export {key}={shlex.quote(value)}")
    return 0


def execute(options: argparse.Namespace) -> int:
    from lab import attached

    machine.require_root("exec")
    if not options.command:
        raise HopliteError(
            "no command given", fix="write hoplite-lab exec NODE/NAMESPACE/WORKLOAD -- COMMAND"
        )
    return attached.run(_lab(options).target(options.target), options.command)


def status(options: argparse.Namespace) -> int:
    import msgspec

    from lab import status as lab_status

    found = lab_status.collect(_lab(options))
    if options.output == "json":
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        lab_status.show(found)
    return 0


def logs(options: argparse.Namespace) -> int:
    names = LabNames(record.chosen(options.name))
    known = {p.stem.replace(".", "/"): p for p in sorted(names.logs.glob("*.log"))}
    if not options.process:
        print("\n".join(known))
        return 0
    if options.process not in known:
        raise HopliteError(
            f"there is no log of {options.process!r}",
            fix=f"there are {', '.join(known) or 'none'}",
        )
    print(known[options.process].read_text(errors="replace"), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hoplite-lab",
        description="A whole mesh on one machine, in network namespaces and cgroups.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.add_argument("--name", help="the lab's name (default: the only one, or 'lab')")
        added.set_defaults(run=run)
        return added

    start = verb("up", up, "Start a lab; returns when every daemon is ready.")
    start.add_argument("file", metavar="FILE", help="a Lab and mesh resources; '-' is stdin")
    start.add_argument("--keep", action="store_true", help="leave a lab that failed for a look")
    verb("down", down, "Remove every trace of a lab.")
    verb("env", env, "Print the shell exports that hopctl needs.")
    run = verb("exec", execute, "Run a command where a workload, or a node, is.")
    run.usage = "hoplite-lab exec [--name NAME] NODE/NAMESPACE/WORKLOAD|NODE -- COMMAND…"
    run.add_argument("target", metavar="TARGET", help="NODE/NAMESPACE/WORKLOAD, or NODE")
    show = verb("status", status, "Show what runs where.")
    show.add_argument("-o", "--output", choices=("table", "json"), default="table")
    log = verb("logs", logs, "Print a process's log; without PROCESS, which there are.")
    log.add_argument("process", metavar="PROCESS", nargs="?", help="e.g. controller, node1/agent")
    return parser


def _lab(options: argparse.Namespace) -> api.Lab:
    return api.load(record.chosen(options.name))


def _read(file: str) -> tuple[str, str]:
    """``(name for refusals, text)`` of a file or of standard input."""
    try:
        if file == "-":
            return "<stdin>", sys.stdin.read()
        return file, Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise HopliteError(f"cannot be read: {error.strerror}", where=file) from error
    except UnicodeDecodeError as error:
        raise HopliteError("not UTF-8", where=file, fix="save it as UTF-8") from error


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as shown:
        yield shown.update


if __name__ == "__main__":
    sys.exit(main())
