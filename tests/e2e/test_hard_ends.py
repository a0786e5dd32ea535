"""Ends that nobody planned: programs that are killed at any point, filesystems that are full."""

import os
import pathlib
import pwd
import random
import subprocess

import pytest
from slot_host import IS_ROOT, host, needs_root, payload  # noqa: F401

# Daemons, files in every place that a job can write to, and an exit code of its own.
SCRIPT = """
setsid sleep 1000 & for i in 1 2 3; do setsid sh -c 'sleep 1000' & done
mkdir -p a/b; touch a/b/c /tmp/x ~/y "/run/lock/tidewaiter-test-$(id -u)-$$"; exit 3
"""
CALLS = (("config", 0.002), ("prepare", 0.004), ("run", 0.02))  # and about how long they take, in seconds
SMALL = "1m"


def left_of(host):
    """Files below the directories of slots, kept trees and locks left out; processes; records."""
    tops = [host.state / "slots", host.root / "job-builds", host.root / "job-cache"]
    files = [str(p.relative_to(host.root)) for top in tops for p in top.rglob("*")]
    uid = pwd.getpwnam(f"{host.prefix}0").pw_uid if IS_ROOT else os.geteuid()
    shared = [p.name for p in pathlib.Path("/run/lock").glob(f"tidewaiter-test-{uid}-*")]
    return [f for f in files if "/.kept" not in f and not f.endswith(".lock") and ".json." not in f] + shared


@needs_root
@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_left_wherever_programs_are_killed(seed, host):
    chance = random.Random(seed)
    host.ready(slots=1, over={"inject": {"jobs": ["no-such-job"]}, "job": {"keep_builds": True}})
    for turn in range(12):
        tmpdir = host.attempt(payload(project_id=42 + turn % 2))
        script = tmpdir / "script"
        script.write_text(SCRIPT)
        victim = chance.choice([name for name, _ in CALLS] + ["cleanup"])
        for name, seconds in CALLS:
            call = host.start(name, tmpdir, *((str(script), "build_script") if name == "run" else ()))
            if name == victim:
                kill_later(call, chance.random() * seconds)
                break
            call.communicate(timeout=60)
            assert call.returncode == (1 if name == "run" else 0)
        for _ in range(chance.randrange(1, 3)):
            kill_later(host.start("cleanup", tmpdir), chance.random() * 0.02)
        for _ in range(2):
            host.cleanup(tmpdir)
        assert (left_of(host), host.processes(), host.records()) == ([], [], []), (turn, victim)


def kill_later(call, seconds):
    """The time is chance, and whether it hits a call that still runs; what a test may say holds for both."""
    try:
        call.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        call.kill()
    call.wait()
    # Not to their end: a daemon of the job may hold them.
    call.stdout.close()
    call.stderr.close()


@pytest.fixture
def small(host):
    """small(directory below the host's root): a filesystem of 1 MB there; small.fill(), small.free()."""
    made = []

    class Small:
        def __call__(self, name):
            path = host.root / name
            path.mkdir(parents=True, exist_ok=True)
            if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL},mode=0755", "none", path],
                              check=False).returncode != 0:
                pytest.skip("no mounts here")
            made.append(path)
            return path

        def fill(self):
            with pytest.raises(OSError), open(made[0] / "filler", "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)

        def free(self):
            (made[0] / "filler").unlink()

    yield Small()
    for path in made:
        subprocess.run(["umount", "-l", path], check=True)


@needs_root
@pytest.mark.parametrize("phase,words", [("config", "state/slots: slot 0"), ("prepare", "state/slots/0: ")])
def test_full_state_directory_is_named_and_no_obstacle_to_cleanup(phase, words, host, small):
    small("state")
    host.ready(slots=1)
    tmpdir = host.attempt()
    if phase == "prepare":
        host.config(tmpdir)
    small.fill()
    done = host.call(phase, tmpdir)
    assert done.returncode == 2 and done.stdout.count("{") == 0
    assert words in done.stderr and "No space left" in done.stderr and done.stderr.count("\n") == 1
    host.cleanup(tmpdir)
    small.free()
    assert (left_of(host), host.records()) == ([], [])


@needs_root
def test_full_tmpdir_of_the_runner_is_named(host, small):
    place = small("full")
    host.ready(slots=1)
    tmpdir = host.attempt()
    moved = place / "custom-executor"
    moved.mkdir(mode=0o700)
    (moved / "response.json").write_text((tmpdir / "response.json").read_text())
    small.fill()
    done = host.call("config", moved)
    assert done.returncode == 2 and "TMPDIR" in done.stderr and "No space left" in done.stderr
    assert [p.name for p in moved.iterdir()] == ["response.json"]
    host.cleanup(moved)
    assert host.records() == []


@needs_root
def test_full_builds_directory_fails_the_script_alone(host, small):
    small("job-builds")
    host.ready(slots=1, over={"inject": {"jobs": ["no-such-job"]}})
    tmpdir = host.attempt()
    script = tmpdir / "script"
    script.write_text("head -c 5000000 /dev/zero >big || exit 7\n")
    host.config(tmpdir)
    assert host.call("prepare", tmpdir).returncode == 0
    done = host.call("run", tmpdir, str(script), "build_script")
    assert done.returncode == 1 and "No space left" in done.stderr
    assert (tmpdir / "build_exit_code").read_text() == "7\n"
    host.cleanup(tmpdir)
    assert (left_of(host), host.records()) == ([], [])
