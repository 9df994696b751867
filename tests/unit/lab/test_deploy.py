"""What deploy/ installs on other machines: systemd and the daemons themselves take it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[3] / "deploy"
UNITS = sorted(p for p in (DEPLOY / "systemd").iterdir() if p.suffix != ".sysusers")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    scripts = tmp_path / "bin"
    scripts.mkdir()
    for name in ("hoplite-controller", "hoplite-agent", "hoplite-l7proxy"):
        (scripts / name).symlink_to("/bin/true")
    for unit in UNITS:
        text = unit.read_text().replace("/opt/hoplite/.venv/bin", str(scripts))
        (tmp_path / unit.name).write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in result.stderr.splitlines() if "hoplite" in line]
    assert (result.returncode, ours) == (0, [])


def test_every_unit_that_others_name_is_there() -> None:
    names = {unit.name for unit in UNITS}
    text = "".join(unit.read_text() for unit in UNITS)
    assert {"hoplite-controller.socket", "hoplite-proxy.slice"} <= names
    for name in names - {"hoplite-l7proxy.service", "hoplite-controller.service"}:
        assert name in text


@pytest.mark.parametrize(
    ("module", "file"),
    [("controller", "controller"), ("nodeagent", "agent"), ("l7proxy", "l7proxy")],
)
def test_the_daemons_take_their_example_settings(module: str, file: str) -> None:
    config = DEPLOY / "config" / f"{file}.yaml"
    result = subprocess.run(
        [sys.executable, "-m", module, "--config", str(config), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
