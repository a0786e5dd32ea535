"""Slots: many at once, runners that die, cleanups that are cut short."""

import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from slot_host import IS_ROOT, host, needs_root, payload  # noqa: F401

# A runner of its own: starts one program in a group of its own, says its pid and exit code, then waits to be killed.
RUNNER = """
import json, subprocess, sys, time
call = json.loads(sys.argv[1])
child = subprocess.Popen(call["argv"], cwd=call["cwd"], env=call["env"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, process_group=0)
out = child.stdout.read().decode() if call["wait"] else ""
print(json.dumps({"pid": child.pid, "code": child.wait() if call["wait"] else None, "out": out}), flush=True)
time.sleep(3600)
"""


def fake_runner(host, phase, tmpdir, *args, wait=True):
    """(process, what it said) of a runner that has called one phase and lives on."""
    call = {"argv": host.argv(phase, *args), "cwd": str(tmpdir), "env": host.environment(tmpdir), "wait": wait}
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, json.dumps(call)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True)
    return runner, json.loads(runner.stdout.readline())


def kill(process):
    process.kill()
    process.wait()
    process.stdout.close()


def open_files(pid):
    """Where the descriptors of a process lead."""
    found = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(fd))
        except FileNotFoundError:
            pass
    return found


def test_jobs_at_once_have_slots_of_their_own(host):
    host.ready(slots=6)
    attempts = [host.attempt() for _ in range(6)]
    calls = [host.start("config", tmpdir) for tmpdir in attempts]
    answers = [json.loads(call.communicate(timeout=120)[0]) for call in calls]
    assert sorted(host.slot_of(answer) for answer in answers) == list(range(6))
    assert host.records() == list(range(6))
    for tmpdir in attempts:
        host.cleanup(tmpdir)
    assert host.records() == []


def test_more_jobs_than_slots_fail_and_say_why(host):
    host.ready(slots=1)
    first, second = host.attempt(), host.attempt()
    host.config(first)
    done = host.call("config", second)
    assert done.returncode == 2 and done.stdout == ""
    assert "no free slot of 1" in done.stderr and f"runner {os.getpid()}" in done.stderr
    assert "job.slots" in done.stderr
    host.cleanup(second)
    assert host.records() == [0]
    host.cleanup(first)
    assert host.records() == []


def test_a_job_waits_for_the_slot_that_is_given_back(host):
    host.ready(slots=1, over={"job": {"slot_wait": "60s"}})
    first, second = host.attempt(), host.attempt()
    host.config(first)
    waiting = host.start("config", second)
    host.cleanup(first)
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert host.slot_of(json.loads(out)) == 0


def test_a_waiting_job_that_is_canceled_holds_nothing(host):
    host.ready(slots=1, over={"job": {"slot_wait": "600s"}})
    first, second = host.attempt(), host.attempt()
    host.config(first)
    waiting = host.start("config", second)
    waiting.send_signal(signal.SIGTERM)
    waiting.communicate(timeout=60)
    assert waiting.returncode != 0
    host.cleanup(second)
    assert host.records() == [0]


def test_the_slot_of_a_killed_runner_is_reclaimed(host):
    host.ready(slots=1)
    left, tmpdir = host.attempt(), host.attempt()
    runner, said = fake_runner(host, "config", left)
    assert said["code"] == 0
    done = host.call("config", tmpdir)
    assert done.returncode == 2, "the first runner lives"
    kill(runner)
    assert host.slot_of(host.config(tmpdir)) == 0
    record = json.loads((host.state / "slots" / "0.json").read_text())
    assert record["runner_pid"] == os.getpid()
    # The dead runner's directory is still there; a cleanup for it must not touch the slot, which is another's now.
    assert host.call("cleanup", left).returncode == 0
    assert host.records() == [0]


def test_what_the_killed_runners_job_left_is_gone_before_the_next(host):
    host.ready(slots=1)
    left, tmpdir = host.attempt(), host.attempt(payload(project_id=43, project="other/app"))
    runner, said = fake_runner(host, "config", left)
    builds = pathlib.Path(json.loads(said["out"])["builds_dir"])
    assert host.call("prepare", left).returncode == 0
    script = left / "script"
    script.write_text(f"echo secret >{builds}/left; echo secret >\"$HOME/left\"; echo ready; sleep 3600 & wait\n")
    script.chmod(0o700)
    # The runner's death tells run nothing: it goes on.
    run = host.start("run", left, str(script), "build_script")
    assert run.stdout.readline() == "ready\n"
    kill(runner)
    assert host.slot_of(host.config(tmpdir)) == 0
    run.communicate(timeout=60)
    # Ended, so that it cannot do to the slot at its end what was meant for its own job.
    assert run.returncode == -signal.SIGKILL
    assert not (builds / "left").exists()
    assert list(host.root.glob("state/slots/0/home/*")) == []


def test_a_tmpdir_that_is_gone_gives_its_slot_back(host):
    host.ready(slots=1)
    gone, tmpdir = host.attempt(), host.attempt()
    host.config(gone)
    for path in gone.iterdir():
        path.unlink()
    gone.rmdir()
    assert host.slot_of(host.config(tmpdir)) == 0


def test_a_second_attempt_has_a_slot_of_its_own_after_cleanup(host):
    host.ready(slots=1)
    for _ in range(3):
        tmpdir = host.attempt()
        assert host.slot_of(host.config(tmpdir)) == 0
        host.cleanup(tmpdir)
        for path in tmpdir.iterdir():
            path.unlink()
        tmpdir.rmdir()


def test_cleanup_runs_when_config_failed(host):
    host.ready()
    tmpdir = host.attempt("{")
    assert host.call("config", tmpdir).returncode == 2
    host.cleanup(tmpdir)
    assert host.records() == []


def test_cleanup_that_is_killed_is_finished_by_the_next(host):
    host.ready(slots=1)
    for wait_s in (0.0, 0.001, 0.003, 0.01):
        tmpdir = host.attempt()
        host.config(tmpdir)
        host.call("prepare", tmpdir)
        cleanup = host.start("cleanup", tmpdir)
        time.sleep(wait_s)
        cleanup.kill()
        cleanup.communicate(timeout=60)
        host.cleanup(tmpdir)
        assert host.records() == []
        assert not (tmpdir / "tidewaiter-plan.json").exists()
        assert not (host.root / "job-builds" / "0").exists()


def test_cleanups_at_once_do_not_disturb_each_other(host):
    host.ready(slots=1)
    tmpdir = host.attempt()
    host.config(tmpdir)
    assert host.call("prepare", tmpdir).returncode == 0
    calls = [host.start("cleanup", tmpdir) for _ in range(4)]
    for call in calls:
        err = call.communicate(timeout=120)[1]
        assert call.returncode == 0, err
    assert host.records() == []


def test_a_late_cleanup_leaves_the_next_jobs_slot_alone(host):
    host.ready(slots=1)
    late = host.attempt()
    host.config(late)
    plan = (late / "tidewaiter-plan.json").read_text()
    host.cleanup(late)
    tmpdir = host.attempt()
    builds = pathlib.Path(host.config(tmpdir)["builds_dir"])
    assert host.call("prepare", tmpdir).returncode == 0
    (builds / "work").mkdir()
    # As if the first cleanup had been delayed until now.
    (late / "tidewaiter-plan.json").write_text(plan)
    host.cleanup(late)
    assert (builds / "work").is_dir()
    assert host.records() == [0]


def test_a_cleanup_that_waited_looks_again_whose_the_slot_is(host):
    host.ready(slots=1)
    late, tmpdir = host.attempt(), host.attempt()
    builds = pathlib.Path(host.config(late)["builds_dir"])
    slots = host.state / "slots"
    with open(slots / "0.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cleanup = host.start("cleanup", late)
        deadline = time.monotonic() + 60
        while str(slots / "0.lock") not in open_files(cleanup.pid):
            assert time.monotonic() < deadline and cleanup.poll() is None
        # Meanwhile another cleanup has done its work, and another job has the slot.
        builds.mkdir(parents=True)
        record = {"slot": 0, "runner_pid": os.getpid(), "runner_start": "0", "tmpdir": str(tmpdir), "tmp_dev": "0",
                  "tmp_ino": "0"}
        (slots / "0.json").write_text(json.dumps(record))
    assert cleanup.wait(timeout=60) == 0, cleanup.communicate()[1]
    cleanup.communicate()
    assert builds.is_dir()
    assert host.records() == [0]


def test_a_wrapper_script_does_not_count_as_the_runner(host):
    host.ready(slots=1)
    tmpdir, other = host.attempt(), host.attempt()
    wrapper = host.root / "wrapper"
    wrapper.write_text('#!/bin/sh\n"$@"\nexit $?\n')
    wrapper.chmod(0o755)
    done = subprocess.run([str(wrapper), *host.argv("config")], cwd=tmpdir, env=host.environment(tmpdir),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, process_group=0, timeout=60)
    assert done.returncode == 0, done.stderr
    # The wrapper is gone, the runner is not: the slot is held.
    assert host.call("config", other).returncode == 2


def test_fewer_slots_in_the_settings_do_not_lose_one_that_is_held(host):
    host.ready(slots=3)
    attempts = [host.attempt() for _ in range(3)]
    for tmpdir in attempts:
        host.config(tmpdir)
    host.configure(slots=1)
    (attempts[2] / "tidewaiter-plan.json").unlink()
    host.cleanup(attempts[2])
    assert host.records() == [0, 1]


def test_forty_jobs_on_four_slots_all_get_their_turn(host):
    host.ready(slots=4, over={"job": {"slot_wait": "100s"}})
    held, faults = [], []
    lock = threading.Lock()

    def play():
        tmpdir = host.attempt()
        slot = host.slot_of(host.config(tmpdir))
        with lock:
            if slot in held:
                faults.append(slot)
            held.append(slot)
        with lock:
            held.remove(slot)
        host.cleanup(tmpdir)

    for _ in range(4):
        threads = [threading.Thread(target=play) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []
    assert host.records() == []


def test_kept_trees_are_for_their_project_alone(host):
    host.ready(slots=1, over={"job": {"keep_builds": True}})
    first = host.attempt()
    builds = pathlib.Path(host.config(first)["builds_dir"])
    assert host.call("prepare", first).returncode == 0
    (builds / "group").mkdir()
    (builds / "group" / "mine").write_text("x")
    host.cleanup(first)
    assert not builds.exists()
    kept = host.root / "job-builds" / ".kept"
    assert kept.stat().st_mode & 0o077 == 0
    other = host.attempt(payload(project="other/app", project_id=43))
    host.config(other)
    assert host.call("prepare", other).returncode == 0
    assert not (builds / "group").exists()
    host.cleanup(other)
    again = host.attempt()
    host.config(again)
    assert host.call("prepare", again).returncode == 0
    assert (builds / "group" / "mine").read_text() == "x"
    host.cleanup(again)


@needs_root
def test_two_slots_have_two_users(host):
    host.ready(slots=2)
    plans = []
    for _ in range(2):
        tmpdir = host.attempt()
        host.config(tmpdir)
        plans.append(json.loads((tmpdir / "tidewaiter-plan.json").read_text()))
    assert [plan["user"] for plan in plans] == [f"{host.prefix}0", f"{host.prefix}1"]
    assert plans[0]["uid"] != plans[1]["uid"]
    assert 0 not in (plans[0]["uid"], plans[1]["uid"])
    assert IS_ROOT
