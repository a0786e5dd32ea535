"""Prepare and run: what a job finds, what is said when something is missing, jobs that are not separated."""

import json
import os
import re
import signal
import subprocess

import pytest
from inspected import SYSTEM_PATH
from runner import Job
from slot_host import IS_ROOT, host, needs_root  # noqa: F401

NOBODY = 65534


@pytest.fixture(autouse=True)
def cleaned(host):  # noqa: F811
    """What the runner would call at the end."""
    yield
    for tmpdir in host.root.glob("custom-executor*") if host.settings else ():
        host.cleanup(tmpdir)


def ready(host, over=None):  # noqa: F811
    host.ready(1, {"inject": {"jobs": ["no-such-job"]}, **(over or {})})
    tmpdir = host.attempt()
    host.config(tmpdir)
    return tmpdir


def run(host, tmpdir, text, stage="build_script"):  # noqa: F811
    script = tmpdir / "script"
    script.write_text(text)
    script.chmod(0o700)
    return host.call("run", tmpdir, str(script), stage)


def prepared(host, over=None):  # noqa: F811
    tmpdir = ready(host, over)
    done = host.call("prepare", tmpdir)
    assert done.returncode == 0, done.stderr
    return tmpdir


def test_prepare_says_in_one_line_what_this_job_gets(host):  # noqa: F811
    done = host.call("prepare", ready(host))
    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    assert re.search(r"Tidewaiter \d+\.\d+\.\d+.*slot 0", line) and "not inspected" in line
    assert (f"user {host.prefix}0" in line) == IS_ROOT


def test_prepare_names_the_mode_of_an_inspected_job(host):  # noqa: F811
    done = host.call("prepare", ready(host, {"inject": {"jobs": ["*"]}, "gate": {"mode": "warn", "severity": "HIGH"}}))
    assert "mode warn, from HIGH" in done.stdout


@pytest.mark.parametrize(("over", "words"), [
    ({"runner_path": "/nonexistent/gitlab-runner"}, ["/nonexistent/gitlab-runner", "job.runner_path"]),
    ({"path": "/nonexistent"}, ["no bash", "/nonexistent", "job.path"]),
])
def test_missing_tool_is_a_system_failure_that_names_the_setting(over, words, host):  # noqa: F811
    done = host.call("prepare", ready(host, {"job": over}))
    assert done.returncode == 2 and all(word in done.stderr for word in words), done.stderr


@needs_root
def test_tool_that_only_root_can_start_is_missing_for_the_job(host):  # noqa: F811
    own = host.root / "only-root"
    own.mkdir(mode=0o700)
    (own / "gitlab-runner").write_text("#!/bin/sh\n")
    (own / "gitlab-runner").chmod(0o755)
    done = host.call("prepare", ready(host, {"job": {"runner_path": str(own / "gitlab-runner")}}))
    assert done.returncode == 2 and "job.runner_path" in done.stderr


@needs_root
def test_directory_that_jobs_cannot_enter_is_named(host):  # noqa: F811
    tmpdir = ready(host)
    closed = host.root / "job-builds"
    closed.mkdir(exist_ok=True)
    closed.chmod(0o700)
    done = host.call("prepare", tmpdir)
    assert done.returncode == 2 and str(closed) in done.stderr, done.stderr


@needs_root
def test_group_docker_is_called_root_by_another_name(host):  # noqa: F811
    if subprocess.run(["getent", "group", "docker"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no group docker on this host")
    done = host.call("prepare", ready(host, {"job": {"groups": ["docker"]}}))
    assert "root on this host by another name" in done.stderr


@pytest.mark.parametrize(("text", "code"), [("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137), ("kill -11 $$", 139),
                                            ("no-such-command", 127), ("exit 0", None)])
def test_exit_code_is_told_to_the_runner(text, code, host):  # noqa: F811
    tmpdir = prepared(host)
    (tmpdir / "build_exit_code").write_text("77")
    done = run(host, tmpdir, text)
    told = (tmpdir / "build_exit_code").read_text().strip() if (tmpdir / "build_exit_code").exists() else None
    assert (done.returncode, told) == (0 if code is None else 1, None if code is None else str(code)), done.stderr


def test_output_comes_through_untouched(host):  # noqa: F811
    tmpdir = prepared(host)
    data = bytes(range(256)) * 4096
    (tmpdir / "script").write_text("head -c 1048576 /dev/zero | tr '\\0' '\\377'; printf 'a\\0b\\r\\n' >&2; printf no-newline >/dev/stdout")
    (tmpdir / "script").chmod(0o700)
    done = subprocess.run(host.argv("run", str(tmpdir / "script"), "build_script"), cwd=tmpdir, env=host.environment(tmpdir),
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.stdout == b"\xff" * len(data) + b"no-newline" and done.stderr == b"a\0b\r\n"


def test_script_that_cannot_be_opened_is_a_system_failure(host):  # noqa: F811
    tmpdir = prepared(host)
    done = host.call("run", tmpdir, str(tmpdir / "missing"), "build_script")
    assert done.returncode == 2 and "missing" in done.stderr


@needs_root
def test_tmp_is_the_jobs_own_and_lasts_from_stage_to_stage(host):  # noqa: F811
    tmpdir = prepared(host)
    mark = f"tidewaiter-test-{os.getpid()}"
    assert run(host, tmpdir, f"echo x >/tmp/{mark}; echo x >/var/tmp/{mark}; [ -w /dev/shm ]").returncode == 0
    assert not os.path.exists(f"/tmp/{mark}") and not os.path.exists(f"/var/tmp/{mark}")
    assert run(host, tmpdir, f"cat /tmp/{mark} /var/tmp/{mark}", "after_script").stdout == "x\nx\n"


@needs_root
def test_job_can_neither_see_nor_signal_the_driver_nor_read_its_plan(host):  # noqa: F811
    tmpdir = prepared(host)
    done = run(host, tmpdir, f"ls {tmpdir}; cat {tmpdir}/tidewaiter-plan.json; ls /proc/1; kill -0 $PPID; kill -0 1; true")
    assert done.returncode == 0 and "glcbt" not in done.stdout and "settings_path" not in done.stdout
    assert done.stderr.count("Permission denied") + done.stderr.count("No such") + done.stderr.count("not permitted") >= 4


@needs_root
def test_without_private_tmp_a_job_gets_a_tmpdir_of_its_own(host):  # noqa: F811
    tmpdir = prepared(host, {"job": {"private_tmp": False}})
    done = run(host, tmpdir, 'mktemp; [ "${TMPDIR#' + str(host.state) + '}" != "$TMPDIR" ]')
    assert done.returncode == 0 and done.stdout.startswith(str(host.state)), done.stderr


def test_sigterm_reaches_the_whole_group_of_the_script(host):  # noqa: F811
    tmpdir = prepared(host)
    (tmpdir / "script").write_text("trap 'echo trapped; exit 1' TERM; bash -c \"trap 'echo child; exit' TERM; echo up; "
                                   "while :; do sleep 0.1; done\" & wait; wait\n")
    (tmpdir / "script").chmod(0o700)
    process = host.start("run", tmpdir, str(tmpdir / "script"), "build_script")
    assert process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert "trapped" in out and process.returncode == 1


def test_descriptors_of_the_driver_do_not_reach_the_script(host):  # noqa: F811
    done = run(host, prepared(host), "ls /proc/self/fd | wc -l")
    assert done.stdout == "4\n"  # 0, 1, 2, and the directory that ls reads


@needs_root
def test_as_an_ordinary_user_it_says_so_and_works(root, program, settings):
    """Not separated: the programs run as somebody who is not root."""
    place = root / "laptop"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    bin_dir = root / "bin"
    bin_dir.mkdir()
    (bin_dir / "gitlab-runner").symlink_to("/bin/true")
    config = settings({"state_dir": str(place / "state"), "cache_dir": str(place / "cache"), "inject": {"jobs": ["none"]},
                       "job": {"builds_dir": str(place / "builds"), "cache_dir": str(place / "job-cache"),
                               "path": f"{bin_dir}:{SYSTEM_PATH}", "runner_path": "gitlab-runner", "slots": 1}})
    tmpdir = place / "custom-executor1"
    tmpdir.mkdir(mode=0o700)
    payload = json.dumps(Job().payload("http://127.0.0.1:1"))
    (tmpdir / "response.json").write_text(payload)
    (tmpdir / "script").write_text("id -u; setsid sleep 1000 & echo $! >pid; pwd; exit 4\n")
    for path in (tmpdir, tmpdir / "response.json", tmpdir / "script"):
        os.chown(path, NOBODY, NOBODY)
    environment = {"PATH": SYSTEM_PATH, "HOME": str(place), "TMPDIR": str(tmpdir), "BUILD_FAILURE_EXIT_CODE": "1",
                   "SYSTEM_FAILURE_EXIT_CODE": "2", "BUILD_EXIT_CODE_FILE": str(tmpdir / "build_exit_code"),
                   "JOB_RESPONSE_FILE": str(tmpdir / "response.json")}

    def call(phase, *args):
        return subprocess.run([program(f"tidewaiter-{phase}"), "--config", str(config), *args], cwd=tmpdir,
                              env=environment, user=NOBODY, group=NOBODY, extra_groups=[], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, process_group=0, check=False)

    assert call("config").returncode == 0
    done = call("prepare")
    assert done.returncode == 0 and done.stderr.count("not separated") == 1, done.stderr
    done = call("run", str(tmpdir / "script"), "build_script")
    assert done.returncode == 1 and done.stdout == f"{NOBODY}\n{place}/builds/0\n", (done.stdout, done.stderr)
    assert (tmpdir / "build_exit_code").read_text() == "4\n"
    pid = int((place / "builds" / "0" / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert call("cleanup").returncode == 0
    assert not (place / "builds" / "0").exists() and not (place / "state" / "slots" / "0").exists()


def test_stages_run_in_any_order_and_number(host):  # noqa: F811
    tmpdir = prepared(host)
    for stage in ("build_script", "step_script", "prepare_script", "build_script", "a_stage_of_tomorrow"):
        assert run(host, tmpdir, f"echo {stage}", stage).stdout == f"{stage}\n"


def test_run_without_a_plan_is_a_system_failure(host):  # noqa: F811
    host.ready(1)
    tmpdir = host.attempt()
    done = run(host, tmpdir, "true")
    assert done.returncode == 2 and "tidewaiter-plan.json" in done.stderr, done.stderr
