"""The units for systemd, as they are installed."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("TIDEWAITER_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build" / "dev"))
UNITS = sorted((BUILD / "systemd").iterdir())
ANALYZE = shutil.which("systemd-analyze")


def value(unit, key):
    return re.search(rf"^{key}=(.*)$", unit.read_text(), re.M)[1]


@pytest.mark.skipif(not ANALYZE, reason="there is no systemd-analyze")
def test_systemd_understands_them(program, tmp_path):
    for unit in UNITS:
        text = re.sub(r"^ExecStart=\S+/tidewaiter ", f"ExecStart={program('tidewaiter')} ", unit.read_text(), flags=re.M)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run([ANALYZE, "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "tidewaiter" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_what_they_start_is_a_verb_and_is_where_it_is_installed(program):
    services = [unit for unit in UNITS if unit.suffix == ".service"]
    assert [unit.name for unit in services] == ["tidewaiter-db.service", "tidewaiter-spool.service"]
    for unit in services:
        path, *verb = value(unit, "ExecStart").split()
        assert path == "/usr/local/bin/tidewaiter"
        help_text = subprocess.run([program("tidewaiter"), verb[0], "--help"], capture_output=True, text=True, check=True).stdout
        assert re.search(rf"\b{' '.join(verb)}\b", help_text), help_text


def test_the_spool_is_where_the_unit_may_write(program, root):
    shown = subprocess.run([program("tidewaiter"), "config", "show", "--example"], capture_output=True, text=True, check=True).stdout
    assert f"state_dir: {value(BUILD / 'systemd' / 'tidewaiter-spool.service', 'ReadWritePaths')}\n" in shown
