"""Hoplite on every kernel of the matrix: features, programs and maps, a lab, and layer 7.

Each test boots a guest and runs tests of this tree in it; what fails there is named here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.patience import VARIABLE
from lab.vm import fetch, guest
from lab.vm.fetch import KernelTree
from nodeagent.datapath.features import FEATURES
from nodeagent.datapath.programs import PROGRAMS
from tests.kernels.report import REPORT

pytestmark = [pytest.mark.kernels, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
SLOWER = 10  # an emulated kernel's time, in times of this machine's own, when others use it too


def python(kernel: KernelTree, words: Sequence[str], *, timeout: float = 300) -> guest.Ended:
    """Run this environment's Python in a guest, in this tree."""
    script = f'cd {ROOT} && exec "$0" "$@"'
    return guest.run(
        kernel,
        ["env", f"{VARIABLE}={SLOWER}", "sh", "-c", script, sys.executable, *words],
        timeout=timeout,
        memory=2048,
    )


def run_tests(kernel: KernelTree, part: str, *paths: str) -> None:
    """Run tests in a guest; every one that fails there is named, with its reason."""
    words = ["-m", "pytest", "-p", "no:cacheprovider", "-q", "--color=no", "--timeout=900"]
    row = REPORT.row(kernel.name)
    row.parts[part] = "no end"
    ended = python(kernel, [*words, *paths], timeout=1500)
    bad = re.findall(r"^(?:FAILED|ERROR) \S+::(\S+)", ended.output, re.MULTILINE)
    passed = re.findall(r"(\d+) passed", ended.output)
    row.failed += bad
    row.parts[part] = f"{sum(map(int, passed))} in {ended.seconds:.0f}s"
    assert (ended.status, bad) == (0, []), ended.output[-10000:]
    assert passed
    assert " skipped" not in ended.output, "a skipped test says nothing about this kernel"


def test_features_are_there_since_the_version_that_the_table_says(kernel: KernelTree) -> None:
    row = REPORT.row(kernel.name)
    row.release = kernel.release
    script = (
        "import json, platform; from nodeagent.datapath import features; "
        "print(json.dumps([platform.release(), sorted(features.probe())]))"
    )
    ended = python(kernel, ["-c", script])
    assert ended.status == 0, ended.output
    release, present = json.loads(ended.output)
    row.missing = ", ".join(f.name for f in FEATURES if f.name not in present) or "nothing"
    assert release == kernel.release
    version = numbers(release)
    assert set(present) == {f.name for f in FEATURES if numbers(f.since) <= version}


def test_the_table_of_what_kernels_offer_is_true(kernel: KernelTree) -> None:
    """docs/kernels.md, for those who want to use more of it."""
    ended = python(kernel, ["-m", "tests.kernels.survey"])
    assert ended.status == 0, ended.output
    found = dict(line.rsplit(": ", 1) for line in ended.output.splitlines())
    assert len(found) > 100
    written = documented()
    differing = {question for question, answers in written.items() if kernel.name in answers}
    wrong = {q for q in differing if found[q] != written[q][kernel.name]}
    assert wrong == set()
    if kernel.name != "newest":  # which has answers of its own when it is a newer one
        elsewhere = {q for q, answer in found.items() if answer == "no"} - differing
        assert elsewhere == set(), "not in docs/kernels.md"


def test_every_program_loads_and_every_map_works(kernel: KernelTree) -> None:
    run_tests(kernel, "programs", "tests/bpf")


def test_a_mesh_of_two_nodes_enforces_and_records(kernel: KernelTree) -> None:
    run_tests(kernel, "mesh", "tests/mesh/test_every_kernel.py")


def test_redirected_connections_reach_envoy_with_their_identity(kernel: KernelTree) -> None:
    run_tests(kernel, "layer 7", "tests/mesh/test_every_kernel_redirect.py")


def test_the_oldest_verifier_has_room_to_spare() -> None:
    """A verifier gives up at a million instructions walked; the oldest walks the most."""
    (kernel,) = fetch.fetch(["5.10"])
    ended = python(kernel, ["-m", "tests.kernels.complexity"])
    assert ended.status == 0, ended.output
    walked = dict(line.split() for line in ended.output.splitlines())
    assert set(walked) == {program.name for program in PROGRAMS}
    assert max(map(int, walked.values())) < 300_000, walked


def numbers(version: str) -> tuple[int, int]:
    """Major and minor of a release or version."""
    match = re.match(r"(\d+)\.(\d+)", version)
    assert match, version
    return int(match[1]), int(match[2])


def documented() -> dict[str, dict[str, str]]:
    """Question -> kernel -> answer, from the table of docs/kernels.md."""
    text = (ROOT / "docs" / "kernels.md").read_text().partition("## What kernels offer")[2]
    rows = [
        [c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    header, _, *body = rows
    return {row[0].strip("`"): dict(zip(header[1:], row[1:], strict=True)) for row in body}
