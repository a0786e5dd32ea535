"""tidewaiter-config: what it answers, what it refuses, what it leaves."""

import json
import os
import stat

import pytest

from slot_host import IS_ROOT, host, needs_root, payload  # noqa: F401

SECRET = "glcbt-secret-token-of-a-job"


def plan_of(tmpdir):
    return json.loads((tmpdir / "tidewaiter-plan.json").read_text())


def test_answer_is_one_object_with_the_slots_directories(host):
    host.ready()
    tmpdir = host.attempt()
    done = host.call("config", tmpdir)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["driver"]["name"] == "tidewaiter"
    assert answer["builds_dir"] == str(host.root / "job-builds" / "0")
    assert answer["cache_dir"] == str(host.root / "job-cache" / "0")
    assert answer["builds_dir_is_shared"] is False
    assert all(isinstance(value, str) for value in answer["job_env"].values())
    assert done.stderr == ""


def test_plan_is_roots_alone_and_holds_no_token(host):
    host.ready()
    tmpdir = host.attempt()
    done = host.call("config", tmpdir)
    path = tmpdir / "tidewaiter-plan.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SECRET not in path.read_text()
    assert SECRET not in done.stdout + done.stderr


def test_what_a_job_says_of_itself_is_not_believed(host):
    host.ready()
    variables = [{"key": "CI_SERVER_URL", "value": "https://gitlab.example.com"},
                 {"key": "CI_PROJECT_PATH", "value": "group/app"},
                 {"key": "CI_SERVER_URL", "value": "https://elsewhere.example.com"},
                 {"key": "CI_PROJECT_PATH", "value": "other/project"}]
    tmpdir = host.attempt(payload(variables=variables))
    host.config(tmpdir, CUSTOM_ENV_CI_PROJECT_DIR="/etc", CUSTOM_ENV_CI_PROJECT_PATH="other/project",
                CUSTOM_ENV_CI_JOB_ID="1", CUSTOM_ENV_CI_BUILDS_DIR="/")
    plan = plan_of(tmpdir)
    assert plan["project_dir"] == str(host.root / "job-builds" / "0" / "group" / "app")
    assert plan["facts"]["project_path"] == "group/app"
    assert plan["facts"]["job_id"] == 7
    assert plan["facts"]["server_url"] == "https://gitlab.example.com"


def test_gitlab_below_a_path_has_its_projects_below_it(host):
    host.ready()
    job = payload()
    job["git_info"]["repo_url"] = "https://x:y@example.com/gitlab/group/app.git"
    tmpdir = host.attempt(job)
    host.config(tmpdir)
    assert plan_of(tmpdir)["project_dir"].endswith("/0/gitlab/group/app")


@pytest.mark.parametrize("text, words", [
    ("job: { slots: many }", ["slots", "many"]),
    ("job: { colour: red }", ["colour"]),
    ("gate: { mode: maybe }", ["mode", "maybe", "enforce"]),
    ("trivy: { timeout: 15 }", ["timeout", "15"]),
    ("job: { slots: 2, slots: 3 }", ["slots"]),
    ("nonsense", ["tidewaiter.yml"]),
    ("job: [", ["tidewaiter.yml"]),
    ("gate: &a { mode: audit }\nreport: *a", ["alias"]),
    ("trivy: {scanners: [secret]}", [":1:", "trivy.scanners", "vuln is missing"]),
    ("policy: {proxy: \"socks5://localhost:1\"}", [":1:", "policy.proxy", "an HTTP proxy"]),
    ("trivy: {scanners: []}", [":1:", "trivy.scanners", "an empty list"]),
])
def test_settings_that_are_not_understood_are_a_system_failure(host, text, words):
    host.ready()
    broken = host.root / "tidewaiter.yml"
    broken.write_text(text + "\n")
    host.settings = broken
    tmpdir = host.attempt()
    done = host.call("config", tmpdir)
    assert done.returncode == 2
    assert done.stdout == ""
    assert str(broken) in done.stderr
    for word in words:
        assert word in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmpdir / "tidewaiter-plan.json").exists()
    assert host.records() == []


def test_a_wrong_line_is_named_by_its_number(host):
    host.ready()
    broken = host.root / "tidewaiter.yml"
    broken.write_text("job:\n  slots: 2\n\n  # a remark\n  slot_weight: 3\n")
    host.settings = broken
    done = host.call("config", host.attempt())
    assert done.returncode == 2
    assert f"{broken}:5" in done.stderr
    assert "slot_weight" in done.stderr


def test_missing_settings_say_how_to_make_some(host):
    host.ready()
    host.settings = host.root / "nowhere.yml"
    done = host.call("config", host.attempt())
    assert done.returncode == 2
    assert "nowhere.yml" in done.stderr and "config show --example" in done.stderr


@needs_root
def test_settings_that_others_can_write_are_refused(host):
    host.ready()
    host.settings.chmod(0o666)
    done = host.call("config", host.attempt())
    assert done.returncode == 2 and "writable by others" in done.stderr
    host.settings.chmod(0o644)
    os.chown(host.settings, 65534, 65534)
    done = host.call("config", host.attempt())
    assert done.returncode == 2 and "65534" in done.stderr


@needs_root
def test_without_its_users_it_names_setup(host):
    host.configure()
    done = host.call("config", host.attempt())
    assert done.returncode == 2
    assert f"{host.prefix}0" in done.stderr and "tidewaiter setup" in done.stderr
    assert not (host.state / "slots").exists() or host.records() == []


@needs_root
def test_a_group_that_is_not_there_is_named(host):
    host.ready()
    host.configure(over={"job": {"groups": ["no-such-group"]}})
    done = host.call("config", host.attempt())
    assert done.returncode == 2
    assert "job.groups" in done.stderr and "no-such-group" in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"id":1}', "[" * 100000, '{"id":7,"token":"t","job_info":3}'],
                         ids=["empty", "cut", "list", "null", "less", "deep", "number"])
def test_a_payload_that_is_none_is_refused_and_takes_no_slot(host, text):
    host.ready()
    done = host.call("config", host.attempt(text))
    assert done.returncode == 2
    assert "job payload" in done.stderr
    assert host.records() == []


@pytest.mark.parametrize("path", ["../../etc", "/etc", "a/../b", "a b", "a\nb"])
def test_a_project_path_that_climbs_is_refused(host, path):
    host.ready()
    done = host.call("config", host.attempt(payload(project=path)))
    assert done.returncode == 2
    assert "project_full_path" in done.stderr
    assert host.records() == []


def test_a_payload_that_is_too_large_is_refused(host):
    host.ready()
    job = payload(variables=[{"key": "X", "value": "x" * (17 * 1024 * 1024)}])
    done = host.call("config", host.attempt(job))
    assert done.returncode == 2
    assert "job payload" in done.stderr


def test_projects_of_the_settings_rule_the_plan(host):
    host.ready(over={"projects": [{"match": "group/**", "gate": {"mode": "enforce"}},
                                  {"match": "**", "gate": {"mode": "off"}}]})
    ours, other = host.attempt(), host.attempt(payload(project="elsewhere/app"))
    host.config(ours)
    host.config(other)
    assert plan_of(ours)["override_match"] == "group/**" and plan_of(ours)["is_matching"] is True
    assert plan_of(other)["override_match"] == "**" and plan_of(other)["is_matching"] is False


@pytest.mark.parametrize("name, is_matching", [
    ("docker_build", True), ("docker_build: [linux/amd64]", True), ("images/docker_build", True), ("test", False)])
def test_job_names_with_slashes_are_matched_whole(host, name, is_matching):
    host.ready()
    tmpdir = host.attempt(payload(name=name))
    host.config(tmpdir)
    assert plan_of(tmpdir)["is_matching"] is is_matching


def test_recorded_payloads_are_understood(host, cases_dir):
    host.ready()
    for case in sorted(path for path in cases_dir.iterdir() if path.is_dir()):
        text = (case / "response.json").read_text()
        for name, value in (("SERVER_HOST", "127.0.0.1"), ("SERVER_PORT", "8080"), ("IMAGE_TAR", "/tmp/x.tar")):
            text = text.replace(f"@{name}@", value)
        tmpdir = host.attempt(text)
        host.config(tmpdir)
        plan = plan_of(tmpdir)
        assert plan["facts"]["project_path"] == "group/app", case.name
        assert plan["facts"]["server_url"] == "http://127.0.0.1:8080", case.name
        assert plan["project_dir"].endswith("/0/group/app"), case.name
        host.cleanup(tmpdir)


def test_separation_follows_the_user(host):
    host.ready()
    tmpdir = host.attempt()
    host.config(tmpdir)
    plan = plan_of(tmpdir)
    assert plan["is_separated"] is IS_ROOT
    assert plan["user"] == (f"{host.prefix}0" if IS_ROOT else "")


@pytest.mark.parametrize("phase", ["config", "prepare", "run", "cleanup"])
def test_each_program_explains_itself(program, phase):
    import subprocess
    for option, word in (("--help", "--config FILE"), ("--version", f"tidewaiter-{phase} ")):
        done = subprocess.run([program(f"tidewaiter-{phase}"), option], capture_output=True, text=True, env={},
                              timeout=30)
        assert done.returncode == 0 and word in done.stdout and done.stderr == ""


@pytest.mark.parametrize("phase", ["config", "prepare", "run", "cleanup"])
def test_without_a_runner_each_program_says_so(program, phase):
    import subprocess
    args = ["/script", "build_script"] if phase == "run" else []
    done = subprocess.run([program(f"tidewaiter-{phase}"), *args], capture_output=True, text=True, env={}, timeout=30)
    assert done.returncode == 2
    assert "TMPDIR" in done.stderr and "rehearse" in done.stderr
