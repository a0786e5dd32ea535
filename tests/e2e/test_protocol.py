"""The four programs under the rules of the runner: every recorded case, and what no recording shows."""

import json
import os
import pathlib
import pwd
import subprocess
import sys
import threading
import time

import pytest
from runner import At, Driver, Job
from slot_host import IS_ROOT, host, needs_root  # noqa: F401

CASES = ["after_script", "cache", "canceled", "clone", "dependencies", "docker_build", "failing_script",
         "get_sources_retry", "multi_step", "prepare_system_failure", "reports", "services_and_image",
         "variables"]
PHASES = ("config", "prepare", "run", "cleanup")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Bench:
    """A host with users, and a runner whose driver is ours."""

    def __init__(self, host, make_runner):
        self.host = host
        self.make_runner = make_runner
        self.runner = None

    def ready(self, over=None, slots=2, **options):
        """Settings in which no job is inspected, unless `over` says otherwise."""
        self.runner = self.make_runner(Driver(run=[]), **options)
        job = {"path": f"{self.runner.bin}:{SYSTEM_PATH}", "runner_path": str(self.runner.bin / "gitlab-runner")}
        base = {"inject": {"jobs": ["no-such-job"]}, "job": job}
        for section, values in (over or {}).items():
            base[section] = {**base.get(section, {}), **values}
        self.host.ready(slots, base)
        self.runner.driver = Driver(**{phase: self.host.argv(phase) for phase in PHASES})
        return self

    def play(self, *args, **options):
        return self.runner.play(Job(*args), **options)

    def processes(self):
        """Command lines of all processes of job users, or of those below the builds directory."""
        uids = {pwd.getpwnam(name).pw_uid for name in self.host.users()} if IS_ROOT else set()
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if entry.stat().st_uid in uids or (not IS_ROOT and self.host.root.as_posix() in os.readlink(
                        entry / "cwd")):
                    cmdline = (entry / "cmdline").read_bytes()
                    found += [cmdline] if cmdline else []  # none: dead, and waits for its parent
            except OSError:
                continue
        return found

    def builds(self):
        """What is left below the builds directories of the slots: files, not the slots' own directories."""
        top = self.host.root / "job-builds"
        return sorted(str(p.relative_to(top)) for p in top.rglob("*") if not p.is_dir()) if top.exists() else []


@pytest.fixture
def bench(host, make_runner):  # noqa: F811
    return Bench(host, make_runner)


def text(result, stage="build_script"):
    return result.stage(stage).output.decode(errors="replace")


def recorded(case):
    calls = [json.loads(line) for line in (case / "calls.jsonl").read_text().splitlines()]
    return calls, [c["argv"][1] if c["exec"] == "run" else c["exec"] for c in calls]


@pytest.mark.parametrize("case", CASES)
def test_recorded_case_ends_as_with_the_driver_that_recorded_it(case, bench, cases_dir):
    bench.ready()
    driver = bench.runner.driver
    if case == "prepare_system_failure":
        driver = Driver(**{**vars(driver), "prepare": ["/bin/sh", "-c", "exit 2"]})
    image = bench.host.root / "some-image.tar"
    image.write_bytes(b"any bytes")
    result = bench.runner.replay(cases_dir / case, image_tar=image, driver=driver)
    calls, sequence = recorded(cases_dir / case)
    expected = json.loads((cases_dir / case / "result.json").read_text())
    got = {"state": result.state, "status": result.status, "failure_reason": result.failure_reason,
           "exit_code": result.exit_code,
           "artifacts": [{"type": a.type, "format": a.format, "filename": a.filename} for a in result.artifacts]}
    assert (got, result.sequence) == (expected, sequence), result.log.decode(errors="replace")
    assert [s.attempt for s in result.stages] == [c["attempt"] for c in calls]
    assert bench.processes() == [] and bench.builds() == [] and bench.host.records() == []


def test_script_sees_what_the_project_and_the_variables_hold(bench):
    bench.ready()
    job = Job(script=['cat a/b "$F"', 'printf %s "$BIG" | wc -c', 'pwd; echo "$CI_PROJECT_DIR"'],
              project={"a/b": "from the project\n"},
              variables={"F": {"value": "from a file\n", "file": True}, "BIG": "x" * 120 * 1024})
    result = bench.runner.play(job)
    out = text(result)
    assert result.state == "success", result.log.decode()
    assert "\nfrom the project\nfrom a file\n" in out and f"\n{120 * 1024}\n" in out
    assert out.count(f"\n{result.dirs.project}") == 2


def test_script_larger_than_a_pipe_runs_to_its_end(bench):
    bench.ready()
    result = bench.runner.play(Job(script=[f": {'x' * 200} {n}" for n in range(3000)] + ["echo the-end"]))
    assert result.state == "success" and text(result).endswith("the-end\n")


def test_environment_of_a_job_holds_nothing_of_the_runners_service(bench):
    bench.ready(env={"SECRET_OF_THE_SERVICE": "s3rv1ce"})
    # The environment of our own program is the runner's; only another user is kept from reading it.
    job = Job(script=["env", "cat /proc/$PPID/environ || true"] if IS_ROOT else ["env"])
    result = bench.runner.play(job)
    out = text(result)
    assert result.state == "success"
    for word in ("CUSTOM_ENV_", "SECRET_OF_THE_SERVICE", "BUILD_EXIT_CODE_FILE", "JOB_RESPONSE_FILE"):
        assert word not in out
    assert f"\nPATH={bench.runner.bin}:{SYSTEM_PATH}" in out and "\nLANG=C.UTF-8" in out


@needs_root
def test_job_runs_as_its_slots_user_and_cannot_read_the_runners_directory(bench):
    bench.ready()
    result = bench.runner.play(Job(script=["id -un; id -Gn; umask", f"ls {bench.runner.tmp}/* && echo open || true"]))
    out = text(result)
    assert f"\n{bench.host.prefix}0\n{bench.host.prefix}0\n" in out
    assert "response.json" not in out and "open" not in out.splitlines()


@pytest.mark.parametrize("line,code", [("exit 3", 3), ("false", 1), ("exit 255", 255), ("no-such-program", 127),
                                       ("kill -KILL $BASHPID", 137), ("kill -SEGV $BASHPID", 139)])
def test_exit_code_of_the_script_is_the_jobs(line, code, bench):
    bench.ready()
    result = bench.runner.play(Job(script=[line, "echo not-reached-$((1+1))"], after_script=["true"]))
    assert (result.state, result.failure_reason, result.exit_code) == ("failed", "script_failure", code)
    assert "not-reached-2" not in text(result) and "after_script" in result.sequence


def test_daemon_that_holds_stdout_does_not_delay_the_stage_and_is_gone(bench):
    bench.ready()
    job = Job(script=["setsid sleep 300 &", "nohup sh -c 'sleep 301' &", "(exec -a hidden sleep 302 >/dev/null 2>&1 &)",
                      "echo over"])
    seen = []

    def look(name, call):
        if name == "after_script":
            seen.extend(p for p in bench.processes() if b"30" in p and b"sleep" in p)

    job.after_script = ["sleep 0.3"]
    result = bench.runner.play(job, on_stage=look, max_seconds=60)
    assert result.state == "success" and seen == [] and bench.processes() == []
    assert [s.exit_code for s in result.stages] == [0] * len(result.stages)


def test_cancel_ends_the_script_and_what_it_started(bench):
    bench.ready()
    job = Job(script=["setsid sleep 300 & echo tick; sleep 299"], after_script=["echo $CI_JOB_STATUS"],
              artifacts=["f"], artifacts_when="always")
    result = bench.runner.play(job, at=[At("build_script", "cancel", b"\ntick")], max_seconds=60)
    assert result.status == "canceled" and "\ncanceled\n" in text(result, "after_script")
    assert result.sequence[-3:] == ["upload_artifacts_on_failure", "cleanup_file_variables", "cleanup"]
    assert result.stage("build_script").signals == ["SIGTERM"] and bench.processes() == []


def test_script_that_ignores_sigterm_is_gone_when_the_runner_has_killed_the_driver(bench):
    bench.ready(graceful_kill_s=0.5, force_kill_s=2)
    job = Job(script=["setsid sleep 300 & trap '' TERM; echo tick; sleep 299"])
    result = bench.runner.play(job, at=[At("build_script", "cancel", b"\ntick")], max_seconds=60)
    assert result.stage("build_script").signals == ["SIGTERM", "SIGKILL"]
    assert result.sequence[-1] == "cleanup" and bench.processes() == [] and bench.host.records() == []


def test_job_timeout_leaves_nothing_behind(bench):
    bench.ready()
    result = bench.runner.play(Job(script=["setsid sleep 300 & sleep 299"], timeout=2), max_seconds=60)
    assert result.failure_reason == "job_execution_timeout" and result.sequence[-1] == "cleanup"
    assert bench.processes() == [] and bench.builds() == [] and bench.host.records() == []


def test_script_timeout_is_seen_by_after_script(bench):
    bench.ready()
    result = bench.runner.play(Job(script=["sleep 299"], after_script=["echo $CI_JOB_STATUS"],
                                   variables={"RUNNER_SCRIPT_TIMEOUT": "1s"}), max_seconds=60)
    assert "\ntimedout\n" in text(result, "after_script")


def test_slot_of_a_job_whose_runner_died_serves_the_next(bench):
    bench.ready(slots=1)
    # The runner is a process of its own: a slot is free when that process is gone.
    runner = ("import sys\n"
              f"sys.path[:0] = {sys.path!r}\n"
              "from runner import At, Driver, Job, Runner\n"
              f"with Runner({str(bench.host.root / 'dying')!r}, Driver(**{vars(bench.runner.driver)!r})) as runner:\n"
              "    job = Job(script=['echo mine >f; echo tick; sleep 300'])\n"
              "    print(runner.play(job, at=[At('build_script', 'runner_killed', b'\\ntick')]).state)\n")
    dead = subprocess.run([sys.executable, "-c", runner], capture_output=True, text=True, timeout=60, check=False)
    assert dead.stdout == "lost\n", dead.stderr
    assert bench.host.records() == [0] and bench.processes() != []
    result = bench.runner.play(Job(script=["ls"]), max_seconds=60)
    assert result.state == "success", result.log.decode()
    assert "\nf\n" not in text(result) and bench.processes() == [] and bench.host.records() == []


def test_concurrent_jobs_of_one_project_do_not_meet(bench):
    bench.ready(slots=3)
    results = {}

    def play(n):
        results[n] = bench.runner.play(Job(script=[f"echo {n} >f; sleep 0.5; cat f; pwd"], id=2000 + n))

    threads = [threading.Thread(target=play, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.state for r in results.values()] == ["success"] * 3
    assert len({r.dirs.builds for r in results.values()}) == 3
    assert all(f"\n{n}\n" in text(r) for n, r in results.items())


def test_cache_comes_back_in_the_same_slot(bench):
    cache = [{"key": "k", "paths": ["c/"], "policy": "pull-push", "when": "on_success"}]
    bench.ready(slots=1)
    first = bench.runner.play(Job(script=["mkdir c; echo kept >c/f"], cache=cache))
    second = bench.runner.play(Job(script=["cat c/f"], cache=cache, id=1001))
    assert first.state == second.state == "success", second.log.decode()
    assert "\nkept\n" in text(second)


def test_image_of_a_job_is_ignored_with_one_line(bench, cases_dir):
    bench.ready()
    result = bench.runner.replay(cases_dir / "services_and_image")
    lines = [line for line in text(result, "prepare").splitlines() if "image" in line and "ignore" in line]
    assert len(lines) == 1, text(result, "prepare")


def test_image_of_a_job_fails_it_where_the_settings_say_so(bench, cases_dir):
    bench.ready({"job": {"on_image": "fail"}})
    bench.runner.driver = Driver(**{phase: bench.host.argv(phase) for phase in PHASES})
    result = bench.runner.replay(cases_dir / "services_and_image")
    assert (result.state, result.failure_reason, result.attempts) == ("failed", "script_failure", 1)
    assert result.sequence[-1] == "cleanup" and bench.host.records() == []


def test_unknown_settings_are_a_system_failure_that_names_the_line(bench):
    bench.ready()
    settings = pathlib.Path(bench.host.settings)
    settings.write_text(settings.read_text() + "frobnicate: 1\n")
    result = bench.runner.play(Job())
    assert result.failure_reason == "runner_system_failure"
    assert f"{settings}:{len(settings.read_text().splitlines())}" in text(result, "config")


def test_stage_that_nobody_has_heard_of_is_run(bench):
    bench.ready()
    run = pathlib.Path(bench.host.root) / "run-renamed"
    argv = " ".join(bench.host.argv("run"))
    run.write_text(f'#!/bin/sh\n[ "$2" = build_script ] && set -- "$1" step_script_of_runner_99\nexec {argv} "$@"\n')
    run.chmod(0o755)
    driver = Driver(**{**vars(bench.runner.driver), "run": [str(run)]})
    result = bench.runner.play(Job(script=["echo ran"]), driver=driver)
    assert result.state == "success" and "\nran\n" in text(result)


def test_cleanup_after_cleanup_and_without_prepare_is_fine(bench):
    bench.ready()
    twice = pathlib.Path(bench.host.root) / "cleanup-twice"
    argv = " ".join(bench.host.argv("cleanup"))
    twice.write_text(f"#!/bin/sh\n{argv} && exec {argv}\n")
    twice.chmod(0o755)
    for failing in ({}, {"prepare": ["/bin/sh", "-c", "exit 1"]}, {"config": ["/bin/sh", "-c", "exit 1"]}):
        driver = Driver(**{**vars(bench.runner.driver), **failing, "cleanup": [str(twice)]})
        result = bench.runner.play(Job(script=["echo x >f"]), driver=driver)
        assert result.stage("cleanup").exit_code == 0, text(result, "cleanup")
        assert bench.host.records() == [] and bench.builds() == []


def test_job_token_is_in_no_command_line_of_ours(bench):
    bench.ready()
    token = b"glcbt-64_00000000000000001000"
    seen = []

    def look(name, call):
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            for entry in pathlib.Path("/proc").glob("[0-9]*"):
                try:
                    cmdline = (entry / "cmdline").read_bytes()
                    if token in cmdline and b"tidewaiter" in cmdline.split(b"\0")[0]:
                        seen.append(cmdline)
                except OSError:
                    continue

    bench.runner.play(Job(script=["sleep 0.3"]), on_stage=look)
    assert seen == []
