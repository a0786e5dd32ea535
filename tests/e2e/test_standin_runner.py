"""The stand-in for the runner against what was recorded of the real one."""

import json
import threading
import time

import pytest
from runner import At, Job, Stuck, parse_config, parse_exit_code
from runner_job import RULES, Built, Dirs, go_json, quote

CASES = ["after_script", "cache", "canceled", "clone", "dependencies", "docker_build", "failing_script",
         "get_sources_retry", "multi_step", "prepare_system_failure", "reports", "services_and_image",
         "variables"]
EXPORTS = {s["name"]: s["exports"] for s in RULES["stages"] + RULES["retry_stages"]}
# Not generated: cloning, and the fallback keys of a cache.
ONLY_RECORDED = {("clone", "get_sources"), ("clone", "cleanup_file_variables"), ("cache", "restore_cache")}
FAIL_2 = "#!/bin/sh\nexit 2\n"


def read_calls(case):
    return [json.loads(line) for line in (case / "calls.jsonl").read_text().splitlines()]


def recorded_name(call):
    return call["argv"][1] if call["exec"] == "run" else call["exec"]


def test_every_recorded_case_is_listed(cases_dir):
    assert sorted(p.name for p in cases_dir.iterdir()) == CASES


@pytest.mark.parametrize("case", CASES)
def test_replay_ends_as_recorded(case, cases_dir, make_runner, minimal, root):
    driver = minimal(**({"prepare": FAIL_2} if case == "prepare_system_failure" else {}))
    image = root / "some-image.tar"
    image.write_bytes(b"any bytes")
    runner = make_runner(driver)
    result = runner.replay(cases_dir / case, image_tar=image)
    calls = read_calls(cases_dir / case)
    expected = json.loads((cases_dir / case / "result.json").read_text())
    assert result.sequence == [recorded_name(c) for c in calls], result.log.decode(errors="replace")
    got = {"state": result.state, "status": result.status, "failure_reason": result.failure_reason,
           "exit_code": result.exit_code,
           "artifacts": [{"type": a.type, "format": a.format, "filename": a.filename} for a in result.artifacts]}
    assert got == expected
    assert [s.attempt for s in result.stages] == [c["attempt"] for c in calls]
    assert [s.signals for s in result.stages] == [c.get("signals", []) for c in calls]


@pytest.mark.parametrize("case", CASES)
def test_generated_scripts_equal_the_recorded_ones_to_the_byte(case, cases_dir):
    payload = json.loads((cases_dir / case / "response.json").read_text())
    built = Built(payload, "http://@SERVER_HOST@:@SERVER_PORT@")
    dirs = Dirs("/b", "/cache", "/b/group/app")
    for call in read_calls(cases_dir / case):
        stage = recorded_name(call)
        if call["exec"] != "run" or (case, stage) in ONLY_RECORDED:
            continue
        status = call["env"].get("CUSTOM_ENV_CI_JOB_STATUS", "running")
        expected = (cases_dir / case / call["script"]).read_text().replace("@BUILDS_DIR@", "/b")
        expected = expected.replace("@CACHE_DIR@", "/cache")
        if case == "variables" and stage == "cleanup_file_variables":
            status = "success"
        got = built.script(stage, EXPORTS.get(stage, "all"), dirs, status).decode()
        assert got == expected, stage


@pytest.mark.parametrize("case", CASES)
def test_generated_environment_equals_the_recorded_one(case, cases_dir):
    payload = json.loads((cases_dir / case / "response.json").read_text())
    built = Built(payload, "http://@SERVER_HOST@:@SERVER_PORT@")
    shared = json.loads((cases_dir / case / "env.json").read_text())
    for call in read_calls(cases_dir / case):
        expected = {k: v for k, v in {**shared, **call["env"]}.items() if k.startswith("CUSTOM_ENV_")}
        known = call["env"]["CUSTOM_ENV_CI_BUILDS_DIR"]
        dirs = Dirs(known, "@CACHE_DIR@", known + "/group/app") if known else Dirs()
        status = expected["CUSTOM_ENV_CI_JOB_STATUS"]
        assert built.environment(dirs, status) == expected


@pytest.mark.parametrize("case", CASES)
def test_payload_is_encoded_as_the_runner_encodes_it(case, cases_dir):
    text = (cases_dir / case / "response.json").read_text()
    assert go_json(json.loads(text)) == text.rstrip("\n")


def test_a_described_job_has_the_payload_that_was_recorded_for_it(cases_dir):
    recorded = json.loads((cases_dir / "docker_build" / "response.json").read_text()
                          .replace("@SERVER_HOST@", "h").replace("@SERVER_PORT@", "1"))
    job = Job(script=["mkdir -p tar_images", 'cp "$IMAGE_TAR" tar_images/app.tar'],
              artifacts=["tar_images/*.tar"], expire_in="1 week", tags=["docker_build"],
              image="registry.example.com/tools/docker:27",
              services=[{"name": "registry.example.com/tools/docker:27-dind"}],
              variables={"IMAGE_NAME": "$CI_REGISTRY_IMAGE/app", "IMAGE_TAR": "@IMAGE_TAR@"})
    assert job.payload("http://h:1") == recorded


# The rules that no recording shows.


def test_environment_is_shuffled_and_no_name_occurs_twice(make_runner, minimal, root):
    show = "#!/bin/sh\ntr '\\0' '\\n' </proc/$$/environ >>{}/env$$.txt\nexit 0\n".format(root)
    driver = minimal(prepare=show, cleanup=show, run=show)
    make_runner(driver, seed=1).play(Job())
    orders = set()
    for file in root.glob("env*.txt"):
        names = [line.partition("=")[0] for line in file.read_text().splitlines()
                 if "=" in line and not line.startswith(" ")]
        assert len(names) == len(set(names))
        orders.add(tuple(n for n in names if n in ("TMPDIR", "BUILD_FAILURE_EXIT_CODE", "JOB_RESPONSE_FILE",
                                                   "SYSTEM_FAILURE_EXIT_CODE", "BUILD_EXIT_CODE_FILE")))
    assert all(len(o) == 5 for o in orders) and len(orders) > 1


def test_driver_gets_the_runners_directory_stdin_and_descriptors_only(make_runner, minimal, root):
    show = f"#!/bin/sh\npwd >{root}/cwd\nls -l /proc/self/fd | sed -n 's/.* \\([0-9]* -> \\)/\\1/p' >{root}/fds\n"
    result = make_runner(minimal(prepare=show)).play(Job())
    assert result.state == "success"
    fds = (root / "fds").read_text()
    assert "0 -> /dev/null" in fds and "1 -> " in fds and "2 -> pipe:" in fds
    assert "custom-executor" in (root / "cwd").read_text()


def test_cancel_before_the_script_leads_straight_to_cleanup(make_runner, minimal):
    slow = "#!/bin/sh\necho begun\nsleep 60\n"
    result = make_runner(minimal(prepare=slow)).play(Job(), at=[At("prepare", "cancel", b"begun")])
    assert result.sequence == ["config", "prepare", "cleanup"]
    assert (result.status, result.failure_reason) == ("canceled", "job_canceled")


def test_cancel_after_the_script_changes_nothing(make_runner, minimal_driver):
    job = Job(after_script=["echo after; sleep 0.2"], artifacts=["x"])
    result = make_runner(minimal_driver).play(job, at=[At("after_script", "cancel", b"after")])
    assert result.state == "success"
    assert "upload_artifacts_on_success" in result.sequence


def test_cancel_pressed_twice_leaves_only_cleanup(make_runner, minimal_driver):
    job = Job(script=["echo tick; sleep 60"], after_script=["echo tock; sleep 60"])
    result = make_runner(minimal_driver).play(
        job, at=[At("build_script", "cancel", b"\ntick"), At("after_script", "abort", b"\ntock")])
    assert result.sequence[-3:] == ["build_script", "after_script", "cleanup"]
    assert result.stage("after_script").signals == ["SIGTERM"]


def test_job_token_is_refused_after_an_abort(make_runner, minimal, root):
    cleanup = ("#!/bin/sh\ncd {0} && touch a && CI_JOB_ID=$CUSTOM_ENV_CI_JOB_ID CI_SERVER_URL=$CUSTOM_ENV_CI_SERVER_URL "
               "CI_JOB_TOKEN=$CUSTOM_ENV_CI_JOB_TOKEN gitlab-runner artifacts-uploader --path a "
               ">{0}/upload.log 2>&1\n").format(root)
    runner = make_runner(minimal(cleanup=cleanup))
    job = Job(script=["echo tick; sleep 60"])
    result = runner.play(job, at=[At("build_script", "abort", b"\ntick")])
    assert result.sequence[-2:] == ["build_script", "cleanup"]
    assert "403" in (root / "upload.log").read_text() and result.artifacts == []


def test_job_timeout_leaves_only_cleanup(make_runner, minimal_driver):
    job = Job(script=["echo tick; sleep 60"], after_script=["true"], timeout=1)
    result = make_runner(minimal_driver).play(job)
    assert result.sequence[-2:] == ["build_script", "cleanup"]
    assert result.failure_reason == "job_execution_timeout"


def test_script_timeout_is_like_a_cancel_and_after_script_sees_it(make_runner, minimal_driver):
    job = Job(script=["sleep 60"], after_script=["echo status $CI_JOB_STATUS"],
              variables={"RUNNER_SCRIPT_TIMEOUT": "300ms"})
    result = make_runner(minimal_driver).play(job)
    assert b"status timedout" in result.stage("after_script").stdout
    assert result.sequence[-2:] == ["cleanup_file_variables", "cleanup"]
    assert result.failure_reason == "job_execution_timeout"


def test_failed_archive_cache_fails_a_green_job_and_the_sequence_goes_on(make_runner, minimal):
    run = '#!/bin/bash\n[ "$2" != archive_cache ] || exit 1\nbash "$1"\n'
    job = Job(cache=[{"key": "k", "paths": ["c/"], "policy": "pull-push", "when": "on_success"}],
              artifacts=["x"])
    result = make_runner(minimal(run=run)).play(job)
    assert (result.state, result.failure_reason, result.exit_code) == ("failed", "script_failure", 1)
    assert result.sequence[-4:] == ["archive_cache", "upload_artifacts_on_success", "cleanup_file_variables",
                                    "cleanup"]


def test_cache_comes_back_in_the_next_job(make_runner, minimal_driver):
    cache = [{"key": "k", "paths": ["c/"], "policy": "pull-push", "when": "on_success"}]
    runner = make_runner(minimal_driver)
    runner.play(Job(script=["mkdir c; echo kept >c/f"], cache=cache))
    result = runner.play(Job(script=["cat c/f"], cache=cache, id=1001))
    assert b"\nkept\n" in result.stage("build_script").stdout


def test_failed_get_sources_skips_script_and_after_script(make_runner, minimal):
    run = '#!/bin/bash\n[ "$2" != get_sources ] || exit 1\nbash "$1"\n'
    job = Job(after_script=["true"], artifacts=["x"], artifacts_when="always")
    result = make_runner(minimal(run=run)).play(job)
    assert result.sequence == ["config", "prepare", "prepare_script", "get_sources", "upload_artifacts_on_failure",
                               "cleanup_file_variables", "cleanup"]
    assert result.state == "failed"


def test_failed_prepare_script_leads_straight_to_cleanup(make_runner, minimal):
    result = make_runner(minimal(run="#!/bin/sh\nexit 1\n")).play(Job(after_script=["true"]))
    assert result.sequence == ["config", "prepare", "prepare_script", "cleanup"]


def test_a_failed_step_skips_the_steps_after_it(make_runner, minimal_driver):
    job = Job(steps=[("release", ["exit 4"]), ("Extra", ["true"])], after_script=["true"])
    result = make_runner(minimal_driver).play(job)
    assert result.sequence[-4:] == ["step_release", "after_script", "cleanup_file_variables", "cleanup"]
    assert result.exit_code == 4


@pytest.mark.parametrize("phase", ["config", "prepare"])
def test_exit_1_of_config_or_prepare_fails_the_job_at_once(phase, make_runner, minimal):
    text = '#!/bin/sh\necho 5 >"$BUILD_EXIT_CODE_FILE"\nexit 1\n'
    result = make_runner(minimal(**{phase: text})).play(Job())
    assert (result.attempts, result.failure_reason, result.exit_code) == (1, "script_failure", 5)
    assert result.sequence[-1] == "cleanup"


@pytest.mark.parametrize("text", ["not json", "{} {}", '{"job_env": {"A": 1}}', "[]", '{"builds_dir": 3}'])
def test_bad_output_of_config_costs_three_attempts(text, make_runner, minimal):
    result = make_runner(minimal(config=f"#!/bin/sh\necho '{text}'\n")).play(Job())
    assert result.attempts == 3 and result.sequence == ["config", "cleanup"] * 3
    assert result.failure_reason == "runner_system_failure"


def test_an_empty_builds_dir_is_a_configuration_error(make_runner, minimal):
    result = make_runner(minimal(config="#!/bin/sh\necho '{\"builds_dir\": \"\"}'\n")).play(Job())
    assert result.failure_reason == "runner_configuration_error" and result.attempts == 1


def test_an_executable_that_is_missing_is_a_system_failure(make_runner, minimal_driver):
    minimal_driver.prepare = ["/nonexistent/prepare"]
    result = make_runner(minimal_driver).play(Job())
    assert result.failure_reason == "runner_system_failure" and result.attempts == 3


def test_config_moves_the_builds_directory(make_runner, minimal, root):
    for shared, where in (("false", "group/app"), ("true", "loopback-/0/group/app")):
        text = f"#!/bin/sh\necho '{{\"builds_dir\": \"{root}/elsewhere\", \"builds_dir_is_shared\": {shared}}}'\n"
        result = make_runner(minimal(config=text)).play(Job(script=["pwd; echo $CI_BUILDS_DIR"]))
        out = result.stage("build_script").stdout.decode()
        assert f"\n{root}/elsewhere/{where}\n" in out and f"\n{root}/elsewhere\n" in out


def test_job_env_reaches_the_driver_from_prepare_on_and_not_config(make_runner, minimal, root):
    config = f"#!/bin/sh\necho \"config ${{SLOT-unset}}\" >{root}/seen\necho '{{\"job_env\": {{\"SLOT\": \"7\"}}}}'\n"
    rest = f"#!/bin/sh\necho \"$0 $SLOT\" | sed 's,.*/,,' >>{root}/seen\n"
    make_runner(minimal(config=config, prepare=rest, run=rest, cleanup=rest)).play(Job())
    seen = (root / "seen").read_text().splitlines()
    assert seen[0] == "config unset" and seen[1] == "prepare 7" and seen[-1] == "cleanup 7" and len(seen) == 7


def test_a_daemon_that_holds_stdout_delays_the_stage(make_runner, minimal_driver, root):
    job = Job(script=[f"setsid sh -c 'sleep 1; echo >{root}/daemon-ended' &"])
    seen = {}

    def look(name, call):
        if name == "cleanup_file_variables":
            seen["ended"] = (root / "daemon-ended").exists()

    make_runner(minimal_driver).play(job, on_stage=look)
    assert seen == {"ended": True}


def test_signals_go_to_the_group_and_not_to_other_sessions(make_runner, minimal, root):
    run = '#!/bin/bash\nsetsid bash "$1"\n'
    job = Job(script=[f"trap 'echo >{root}/termed' TERM; echo tick; sleep 1; echo over"])
    result = make_runner(minimal(run=run)).play(job, at=[At("build_script", "cancel", b"\ntick")])
    assert b"\nover" in result.stage("build_script").stdout and not (root / "termed").exists()


def test_a_driver_that_ignores_sigterm_is_killed_in_the_end(make_runner, minimal):
    run = "#!/bin/bash\n[ $2 = build_script ] || exec bash $1\ntrap '' TERM\necho tick\nsleep 60\n"
    runner = make_runner(minimal(run=run), graceful_kill_s=0.2)
    result = runner.play(Job(), at=[At("build_script", "cancel", b"tick")])
    assert result.stage("build_script").signals == ["SIGTERM", "SIGKILL"]
    assert result.stage("build_script").exit_code == -9


def test_a_cleanup_that_is_late_is_forgotten(make_runner, minimal):
    runner = make_runner(minimal(cleanup="#!/bin/sh\nexec sleep 60\n"), exec_timeout_s=0.2)
    result = runner.play(Job())
    assert result.state == "success" and result.stage("cleanup").signals == ["SIGTERM"]


def test_death_of_the_driver_by_a_signal_is_a_system_failure(make_runner, minimal):
    run = '#!/bin/bash\n[ "$2" != build_script ] || kill -SEGV $$\nbash "$1"\n'
    result = make_runner(minimal(run=run)).play(Job(after_script=["true"]))
    assert (result.failure_reason, result.exit_code) == ("runner_system_failure", None)
    assert result.sequence[-3:] == ["after_script", "cleanup_file_variables", "cleanup"]


@pytest.mark.parametrize("content,reason,code", [
    ("7\n", "script_failure", 7), ("7", "script_failure", 7), ("7\r\n", "script_failure", 7),
    ("-1\n", "script_failure", -1), ("0\n", "script_failure", None), ("", "runner_system_failure", None),
    ("7 \n", "runner_system_failure", None), ("x\n", "runner_system_failure", None)])
def test_build_exit_code_file_is_read_strictly(content, reason, code, make_runner, minimal):
    run = (f"#!/bin/bash\n[ $2 = build_script ] || exec bash $1\nprintf %b {content!r} >\"$BUILD_EXIT_CODE_FILE\"\n"
           "exit 1\n")
    result = make_runner(minimal(run=run)).play(Job())
    assert (result.failure_reason, result.exit_code) == (reason, code)


def test_build_exit_code_file_of_an_earlier_stage_counts_for_a_later_failure(make_runner, minimal):
    run = ('#!/bin/bash\n[ "$2" != get_sources ] || echo 9 >"$BUILD_EXIT_CODE_FILE"\n'
           '[ "$2" != build_script ] || exit 1\nbash "$1"\n')
    assert make_runner(minimal(run=run)).play(Job()).exit_code == 9


def test_a_dead_runner_tells_nobody_and_leaves_its_directory(make_runner, minimal, root):
    run = f"#!/bin/bash\n[ $2 = build_script ] || exec bash $1\necho tick\nsleep 0.3\necho done >{root}/went-on\n"
    result = make_runner(minimal(run=run)).play(Job(), at=[At("build_script", "runner_killed", b"tick")])
    assert result.state == "lost" and result.sequence[-1] == "build_script"
    assert (result.tmpdir / "response.json").exists()
    deadline = time.monotonic() + 20
    while not (root / "went-on").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (root / "went-on").exists()


def test_interrupted_runner_sends_sigterm_and_cleans_up(make_runner, minimal_driver):
    job = Job(script=["echo tick; sleep 60"], after_script=["true"])
    result = make_runner(minimal_driver).play(job, at=[At("build_script", "interrupt", b"\ntick")])
    assert result.sequence[-2:] == ["build_script", "cleanup"]
    assert result.failure_reason == "runner_interrupted"


def test_what_the_driver_left_in_its_directory_is_removed(make_runner, minimal):
    result = make_runner(minimal(prepare='#!/bin/sh\nmkdir -p "$TMPDIR/a/b"; touch "$TMPDIR/a/b/c"\n')).play(Job())
    assert "a" in result.leftovers and result.state == "success"


def test_secrets_are_masked_in_the_log_but_not_in_the_raw_output(make_runner, minimal_driver):
    job = Job(script=["echo s3cret-0123; echo glpat-abcdef"],
              variables={"S": {"value": "s3cret-0123", "masked": True}})
    result = make_runner(minimal_driver).play(job)
    assert b"s3cret-0123" not in result.log and b"[MASKED]" in result.log and b"glpat-abcdef" not in result.log
    assert b"\ns3cret-0123\n" in result.stage("build_script").stdout


def test_hang_is_cut_off_by_max_seconds(make_runner, minimal_driver):
    with pytest.raises(Stuck):
        make_runner(minimal_driver).play(Job(script=["sleep 60"]), max_seconds=1)


def test_an_error_in_a_hook_fails_the_test(make_runner, minimal_driver):
    def hook(name, call):
        raise KeyError(name)

    with pytest.raises(KeyError):
        make_runner(minimal_driver).play(Job(), on_stage=hook)


def test_several_jobs_run_at_once(make_runner, minimal, root):
    text = f"#!/bin/sh\necho '{{\"builds_dir\": \"{root}/b\", \"builds_dir_is_shared\": true}}'\n"
    runner = make_runner(minimal(config=text))
    results = {}

    def play(n):
        results[n] = runner.play(Job(script=[f"echo {n} >f; sleep 0.2; cat f"], id=2000 + n, artifacts=["f"]))

    threads = [threading.Thread(target=play, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [results[n].artifacts[0].read("f") for n in range(4)] == [b"%d\n" % n for n in range(4)]


# The stand-ins for gitlab-runner and GitLab.


def test_project_files_are_there_for_the_script(make_runner, minimal_driver):
    job = Job(script=["cat a/b; ls -d empty"], project={"a/b": "content\n", "empty": None})
    result = make_runner(minimal_driver).play(job)
    assert b"\ncontent\nempty\n" in result.stage("build_script").stdout


def test_archive_holds_what_paths_name_and_not_what_exclude_names(make_runner, minimal_driver):
    job = Job(script=["mkdir -p d/e; echo 1 >d/e/f; echo 2 >d/g.tmp; ln -s f d/e/l; echo 3 >.hid; echo 4 >x.txt"],
              artifacts=[{"name": "n", "untracked": False, "paths": ["d/", "*.txt", "../app/.hid", "../../x"],
                          "exclude": ["d/**/*.tmp", "d/*.tmp"], "when": "on_success", "artifact_type": "archive",
                          "artifact_format": "zip", "expire_in": "1 week"}])
    result = make_runner(minimal_driver).play(job)
    (archive,) = result.artifacts
    assert archive.names() == ["d/", "d/e/", "d/e/f", "d/e/l", "x.txt"]
    assert (archive.filename, archive.expire_in, archive.read("d/e/f")) == ("n.zip", "1 week", b"1\n")
    assert result.calls[-1]["argv"][:5] == ["artifacts-uploader", "--url", runner_url(result), "--token", "[SECRET]"]


def runner_url(result):
    words = result.calls[-1]["argv"]
    return words[words.index("--url") + 1]


def test_nothing_to_upload_is_no_failure(make_runner, minimal_driver):
    result = make_runner(minimal_driver).play(Job(artifacts=["none"]))
    assert result.state == "success" and result.artifacts == []
    assert b"No files to upload" in result.stage("upload_artifacts_on_success").stderr


def report(kind, format_, path="r.json"):
    return {"name": path, "untracked": False, "paths": [path], "exclude": None, "when": "always",
            "artifact_type": kind, "artifact_format": format_, "expire_in": ""}


@pytest.mark.parametrize("kind,format_,good", [
    ("codequality", "raw", True), ("codequality", "gzip", False), ("junit", "gzip", True),
    ("junit", "raw", False), ("cyclonedx", "zip", False)])
def test_type_and_format_must_match(kind, format_, good, make_runner, minimal_driver):
    runner = make_runner(minimal_driver)
    result = runner.play(Job(script=["echo {} >r.json"], artifacts=[report(kind, format_)]))
    assert (result.state == "success") is good
    assert len(runner.gitlab.refused) == (0 if good else 3)


def test_second_upload_of_a_type_is_accepted_only_with_the_same_bytes(make_runner, minimal_driver):
    upload = ("gitlab-runner artifacts-uploader --path r.json --name r.json --artifact-type codequality "
              "--artifact-format raw")
    for second, state in (("true", "success"), ("echo [] >r.json", "failed")):
        job = Job(script=["echo {} >r.json", upload, second], artifacts=[report("codequality", "raw")])
        assert make_runner(minimal_driver).play(job).state == state


def test_a_job_may_bring_its_own_gitlab_runner_by_its_environment_file(make_runner, minimal_driver):
    job = Job(script=["mkdir bin; printf '#!/bin/sh\\necho mine\\n' >bin/gitlab-runner; chmod +x bin/gitlab-runner",
                      'echo "PATH=$PWD/bin:$PATH" >>"$GITLAB_ENV"', "echo 1 >f"], artifacts=["f"])
    result = make_runner(minimal_driver).play(job)
    assert result.state == "success" and result.artifacts == []
    assert b"mine" in result.stage("upload_artifacts_on_success").stdout


@pytest.mark.parametrize("text,expected", [
    ("", "''"), ("a/b-c.d,e@f_9", "a/b-c.d,e@f_9"), ("a b", "$'a b'"), ("é", "$'\\xc3\\xa9'"),
    ("a'b\\\n", "$'a\\'b\\\\\\n'"), ("\x1b\x7f", "$'\\x1b\\x7f'"), ("a:b", "$'a:b'")])
def test_words_are_quoted_as_the_runner_does(text, expected):
    assert quote(text) == expected


def test_config_output_may_be_empty_and_null_means_unset():
    assert parse_config(b"") == {}
    assert parse_config(b'{"builds_dir": null, "unknown": 1}') == {"unknown": 1}


def test_no_exit_code_file_means_1():
    assert parse_exit_code(None) == 1
