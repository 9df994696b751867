"""The command line itself: what needs no controller."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import meshapi

ROOT = Path(__file__).parents[3]


def hopctl(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "hopctl", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("HOPLITE_")} | environment,
        timeout=30,
        check=False,
    )


def test_small_verbs_load_no_heavy_module():
    """What keeps the start fast: no HTTP, TLS, YAML or table library for ``version``."""
    script = (
        "import sys; sys.argv=['hopctl','version']\n"
        "from hopctl.__main__ import main\n"
        "main()\n"
        "heavy={'aiohttp','rich','yaml','msgspec','asyncio','cryptography'}&sys.modules.keys()\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"hopctl {meshapi.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["explain", "17"], "INGRESS_DENIED (17): policies select the destination"),
        (["explain", "ingress-denied"], "the connection is refused\n"),
        (["explain", "POLICY_ALLOW"], "a policy rule allows it; the connection goes on"),
        (["explain", "WOULD_DENY"], "(6): a policy in audit mode would refuse it; the connection"),
        (["explain", "23"], "QUARANTINED (23): one end is quarantined; the connection is refused"),
        (["explain", "admin-denied"], "of the admin tier refuses it; the connection is refused"),
        (["explain", "BASELINE_DENIED"], "of the baseline tier refuses it"),
        (["explain", "AUTHORIZATION_DENIED"], "an AuthorizationPolicy refuses it"),
        (["explain", "BLOCKED"], "on a block list"),
        (["flows", "--help"], "REDIRECT or AUDIT"),
        (["quarantine", "--help"], "--allow-from NAMESPACE/WORKLOAD|CIDR"),
        (["--help"], "VERB"),
        (["--version"], "hopctl "),
        (["apply", "--help"], "--strict"),
    ],
)
def test_answers_that_need_no_controller(arguments, text):
    finished = hopctl(*arguments)
    assert finished.returncode == 0
    assert text in finished.stdout


def test_deleting_without_a_name_is_a_usage_error_in_one_line():
    finished = hopctl("delete", "node")
    assert finished.returncode == 2
    assert finished.stderr == "hopctl: delete: no NAME after node; give at least one\n"


def test_a_missing_controller_is_a_usage_error_in_one_line():
    finished = hopctl("get", "ns")
    assert finished.returncode == 2
    assert finished.stderr == (
        "hopctl: HOPLITE_SERVER: no controller is named; "
        "set it to https://host:port, or use --server\n"
    )


def test_manifests_are_read_before_the_controller_is_looked_for(tmp_path):
    (tmp_path / "bad.yaml").write_text("a: [")
    finished = hopctl("apply", "-f", str(tmp_path))
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"hopctl: {tmp_path}/bad.yaml:")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not text; save it as UTF-8" in hopctl("apply", "-f", str(tmp_path)).stderr
    (tmp_path / "bad.yaml").write_text("# nothing\n")
    assert "no resources there" in hopctl("apply", "-f", str(tmp_path)).stderr
    (tmp_path / "bad.yaml").unlink()
    assert "no .yaml, .yml or .json file there" in hopctl("apply", "-f", str(tmp_path)).stderr


def test_a_reader_that_has_seen_enough_is_no_error():
    script = f"{sys.executable} -m hopctl explain 17 | true; exit ${{PIPESTATUS[0]}}"
    finished = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "")
