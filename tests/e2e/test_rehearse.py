"""tidewaiter rehearse: the runner played for an admin who has no GitLab."""

import json
import os
import pathlib
import pty
import select
import signal
import subprocess
import time

import pytest
from runner import Job
from runner_job import RULES, Built, Dirs
from slot_host import host, needs_root  # noqa: F401

CI_FILE = """
stages: [build]
variables: {GLOBAL: from-the-file}
.base:
  before_script: [echo before]
  after_script:
    - echo "after $CI_JOB_STATUS"
lint:
  stage: build
  script: [echo linted]
docker_build:
  extends: .base
  stage: build
  image: docker:27
  script:
    - mkdir -p tar_images
    - cat src/file >tar_images/out.txt; echo "$GLOBAL"
  artifacts:
    paths: [tar_images/]
    expire_in: 1 week
"""


class Stage:
    """A host with settings in which no job is inspected, and a project."""

    def __init__(self, host):
        self.host = host
        self.project = host.root / "project"
        (self.project / "src").mkdir(parents=True)
        (self.project / "src" / "file").write_text("content of the project\n")
        (self.project / ".gitlab-ci.yml").write_text(CI_FILE)
        self.tmp = host.root / "tmp"
        self.tmp.mkdir(mode=0o755)

    def ready(self, over=None):
        self.host.ready(1, {"inject": {"jobs": ["no-such-job"]}, **(over or {})})
        return self

    def argv(self, *args):
        return [self.host.program("tidewaiter"), "rehearse", "--config", str(self.host.settings), *map(str, args)]

    def env(self):
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.host.root), "TMPDIR": str(self.tmp)}

    def run(self, *args, cwd=None):
        return subprocess.run(self.argv(*args), cwd=cwd or self.host.root, env=self.env(), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120, check=False)

    def left(self):
        return sorted(p.name for p in self.tmp.iterdir())


@pytest.fixture
def stage(host):  # noqa: F811
    return Stage(host)


def test_job_of_a_file_is_played_in_the_runners_order(stage):
    done = stage.ready().run("--job", "docker_build", cwd=stage.project)
    assert done.returncode == 0, done.stdout + done.stderr
    titles = [s["title"].replace("step_*", "step_script") for s in RULES["stages"]]
    shown = [line for line in done.stdout.splitlines() if line in titles]
    assert shown == ["Preparing environment", "Getting source from Git repository",
                     'Executing "step_script" stage of the job script', "Running after_script",
                     "Uploading artifacts for successful job",
                     "Cleaning up project directory and file based variables"]
    assert "\nbefore\n" in done.stdout and "\nfrom-the-file\n" in done.stdout and "\nafter success\n" in done.stdout
    assert done.stdout.endswith("Job succeeded\n")
    assert "artifact: archive/tar_images/out.txt" in done.stderr
    assert stage.left() == [] and stage.host.records() == []


def test_log_on_a_pipe_has_neither_colours_nor_section_markers(stage):
    done = stage.ready().run("--script", "printf '\\033[31mred\\033[0m\\n'")
    assert "\x1b" not in done.stdout and "section_" not in done.stdout and "\nred\n" in done.stdout


def test_artifacts_are_put_where_out_says(stage):
    out = stage.host.root / "artifacts"
    done = stage.ready().run("--file", stage.project / ".gitlab-ci.yml", "--job", "docker_build", "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "archive" / "tar_images" / "out.txt").read_text() == "content of the project\n"


def test_failing_script_ends_with_1_and_says_its_code(stage):
    done = stage.ready().run("--script", "exit 7", "--after-script", "echo after $CI_JOB_STATUS", "--artifact", "x")
    assert done.returncode == 1 and "ERROR: Job failed: exit status 7" in done.stdout
    assert "\nafter failed\n" in done.stdout and "Uploading artifacts" not in done.stdout


def test_broken_environment_is_a_system_failure_after_three_attempts(stage):
    done = stage.ready({"job": {"path": "/nonexistent"}}).run("--script", "true")
    assert done.returncode == 3 and "system failure" in done.stdout
    assert done.stdout.count('Preparing the "custom" executor') == RULES["attempts_max"]
    assert stage.left() == [] and stage.host.records() == []


def test_broken_environment_is_told_with_the_admins_own_settings_file(stage):
    done = stage.ready({"job": {"path": "/nonexistent"}}).run("--script", "true")
    assert str(stage.host.settings) in done.stdout and "tidewaiter.yml" not in done.stdout, done.stdout


@needs_root
def test_missing_users_are_told_once_with_the_admins_settings_file_and_the_way_out(stage):
    settings = stage.host.configure(1)
    done = stage.run("--script", "true")
    assert done.returncode == 2 and done.stdout == "", done.stdout + done.stderr
    assert done.stderr.count("\n") == 1 and str(settings) in done.stderr and "tidewaiter setup" in done.stderr
    assert stage.left() == []


def test_image_lies_in_tar_images_and_is_the_jobs(stage):
    image = stage.host.root / "some.tar"
    image.write_bytes(b"an image\n")
    image.chmod(0o600)
    done = stage.ready().run("--image", image, "--script", "cat tar_images/some.tar; rm tar_images/some.tar")
    assert done.returncode == 0 and "\nan image\n" in done.stdout, done.stdout + done.stderr


def test_kept_rehearsal_has_payload_and_scripts_in_the_runners_form(stage):
    done = stage.ready().run("--file", stage.project / ".gitlab-ci.yml", "--job", "docker_build", "--keep",
                             "--project-path", "group/app", "--variable", "MINE=a b")
    assert done.returncode == 0, done.stderr
    (kept,) = stage.tmp.iterdir()
    assert str(kept) in done.stderr
    attempt = kept / "custom-executor-1"
    assert stage_mode(attempt) == 0o700 and stage_mode(attempt / "response.json") == 0o600
    payload = json.loads((attempt / "response.json").read_text())
    model = Job(name="docker_build", image="docker:27", after_script=["x"], artifacts=["p"]).payload("http://h:1")
    assert payload["job_info"]["project_full_path"] == "group/app"
    for key in ("job_info", "git_info", "runner_info"):
        assert set(payload[key]) <= set(model[key])
    assert [v["key"] for v in payload["variables"]][:len(RULES["job_variables"])] == \
        [v["key"] for v in RULES["job_variables"]]
    assert {"key": "MINE", "value": "a b", "public": True, "file": False, "masked": False,
            "raw": True} in payload["variables"]
    built = Built(payload, "http://gitlab.invalid", "rehearsal")
    project = next(line.split("=")[1] for line in (attempt / "script-002" / "script").read_text().split("\\n")
                   if line.startswith("export CI_PROJECT_DIR="))
    dirs = Dirs(project.removesuffix("/group/app"), "", project)
    stages = [("get_sources", "running"), ("build_script", "running"), ("after_script", "success"),
              ("upload_artifacts_on_success", "success")]
    for number, (name, status) in enumerate(stages, 2):
        script = (attempt / f"script-{number:03}" / "script").read_bytes()
        assert script == built.script(name, "all", dirs, status), name


def stage_mode(path):
    return path.stat().st_mode & 0o777


def kept_payload(stage, *args):
    """The payload of a rehearsal with these arguments."""
    before = set(stage.tmp.iterdir())
    done = stage.run("--script", "true", "--keep", "--project-path", "group/app", *args)
    assert done.returncode == 0, done.stderr
    (kept,) = set(stage.tmp.iterdir()) - before
    return json.loads((kept / "custom-executor-1" / "response.json").read_text())


def first_variables(payload):
    return {v["key"]: v["value"] for v in reversed(payload["variables"])}


def test_job_may_be_that_of_a_branch_a_tag_or_a_merge_request(stage):
    stage.ready()
    branch = kept_payload(stage, "--ref", "fix", "--unprotected", "--default-branch", "trunk")
    variables = first_variables(branch)
    assert (branch["git_info"]["ref"], branch["git_info"]["ref_type"]) == ("fix", "branch")
    assert branch["git_info"]["protected"] is False and variables["CI_COMMIT_REF_PROTECTED"] == "false"
    assert variables["CI_COMMIT_BRANCH"] == "fix" and variables["CI_DEFAULT_BRANCH"] == "trunk"

    tag = kept_payload(stage, "--ref", "v1", "--tag")
    variables = first_variables(tag)
    assert (tag["git_info"]["ref"], tag["git_info"]["ref_type"], tag["git_info"]["protected"]) == ("v1", "tag", True)
    assert tag["git_info"]["refspecs"] == ["+refs/tags/v1:refs/tags/v1"]
    assert variables["CI_COMMIT_TAG"] == "v1" and "CI_COMMIT_BRANCH" not in variables

    request = kept_payload(stage, "--ref", "fix", "--target-branch", "main")
    variables = first_variables(request)
    assert request["git_info"]["ref"] == "refs/merge-requests/1/head" and not request["git_info"]["protected"]
    assert variables["CI_PIPELINE_SOURCE"] == "merge_request_event" and "CI_COMMIT_BRANCH" not in variables
    assert variables["CI_MERGE_REQUEST_TARGET_BRANCH_NAME"] == "main"
    assert variables["CI_COMMIT_REF_NAME"] == variables["CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"] == "fix"

    # DefectDojo is asked for an upload by the job's number
    assert len({branch["id"], tag["id"], request["id"]}) == 3
    for wrong in (["--tag"], ["--tag", "--ref", "v1", "--target-branch", "main"]):
        done = stage.run("--script", "true", *wrong)
        assert done.returncode == 2 and "--tag" in done.stderr, wrong


def test_ctrl_c_is_cancel_and_after_script_sees_it(stage):
    stage.ready()
    process = subprocess.Popen(stage.argv("--script", "echo tick; sleep 299", "--after-script", "echo now $CI_JOB_STATUS"),
                               cwd=stage.host.root, env=stage.env(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out = ""
    for line in process.stdout:
        out += line
        if line == "tick\n":
            process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 1 and "\nnow canceled\n" in out and "job_canceled" in out
    assert stage.left() == [] and stage.host.records() == []


def test_timeouts_of_script_and_job_end_it_as_the_runner_does(stage):
    after = ("--after-script", "echo now $CI_JOB_STATUS")
    stage.ready()
    done = stage.run("--script", "sleep 299", *after, "--variable", "RUNNER_SCRIPT_TIMEOUT=1s")
    assert done.returncode == 1 and "\nnow timedout\n" in done.stdout and "job_execution_timeout" in done.stdout
    done = stage.run("--script", "sleep 299", *after, "--timeout", "1s")
    assert done.returncode == 1 and "now " not in done.stdout.split("$ sleep")[1] and "job_execution_timeout" in done.stdout
    assert stage.left() == [] and stage.host.records() == []


def test_second_ctrl_c_leaves_only_cleanup(stage):
    stage.ready()
    process = subprocess.Popen(stage.argv("--script", "echo tick; sleep 299", "--after-script", "echo tock; sleep 298"),
                               cwd=stage.host.root, env=stage.env(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out = ""
    for line in process.stdout:
        out += line
        if line in ("tick\n", "tock\n"):
            process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 1 and "Cleaning up project" not in out
    assert stage.left() == [] and stage.host.records() == []


def test_terminal_gets_colours_but_not_with_no_color(stage):
    stage.ready()
    for more, wanted in (({}, True), ({"NO_COLOR": "1"}, False)):
        master, slave = pty.openpty()
        process = subprocess.Popen(stage.argv("--script", "true"), cwd=stage.host.root, env={**stage.env(), "TERM": "xterm", **more},
                                   stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.DEVNULL)
        os.close(slave)
        out = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 60)[0]:
                break
            try:
                data = os.read(master, 65536)
            except OSError:
                break
            out += data
        process.wait(timeout=60)
        os.close(master)
        assert b"Job succeeded" in out and (b"\x1b[32;1m" in out) is wanted


@pytest.mark.parametrize("args,words", [
    (["--job", "nobody", "--file", "{ci}"], 'there is no job "nobody"; there are: lint, docker_build'),
    (["--file", "{ci}"], "which job?"),
    (["--file", "/nonexistent/ci.yml"], "/nonexistent/ci.yml"),
    (["--image", "/nonexistent.tar"], "--image /nonexistent.tar"),
    (["--frobnicate", "x"], "--frobnicate"),
    (["--script", "true", "--programs", "/nonexistent"], "tidewaiter-run"),
])
def test_wrong_use_is_named_in_one_line(args, words, stage):
    stage.ready()
    done = stage.run(*[a.replace("{ci}", str(stage.project / ".gitlab-ci.yml")) for a in args])
    assert done.returncode in (2, 3) and words in done.stderr and done.stderr.count("\n") == 1
    assert stage.left() == []


def test_hostile_ci_file_is_refused_with_its_line(stage):
    stage.ready()
    bad = stage.host.root / "bad.yml"
    bad.write_text("j:\n  script: {a: [b\n")
    done = stage.run("--file", bad)
    assert done.returncode == 1 and f"{bad}:" in done.stderr


def test_token_of_the_rehearsal_is_masked(stage):
    done = stage.ready().run("--script", 'echo "<$CI_JOB_TOKEN>"')
    assert "<[MASKED]>" in done.stdout and "glcbt-" not in done.stdout + done.stderr


def test_stand_in_for_gitlab_runner_refuses_what_gitlab_refuses(stage):
    upload = "gitlab-runner artifacts-uploader --artifact-type"
    done = stage.ready().run(
        "--script", "mkdir d; echo 1 >d/f; echo 2 >d/g.tmp; ln -s f d/l",
        "--script", f"{upload} junit --artifact-format raw --path d/f || echo one-$?",
        "--script", f"{upload} junit --artifact-format gzip --path d/f && echo two",
        "--script", f"{upload} junit --artifact-format gzip --path d/f || echo three-$?",
        "--script", f"{upload} sast --artifact-format raw --path none && echo four",
        "--script", f"{upload} archive --artifact-format zip --path d/ --exclude 'd/*.tmp' && echo five",
        "--script", "gitlab-runner --version && gitlab-runner frob || echo six-$?")
    assert done.returncode == 0, done.stdout
    for word in ("one-1", "two", "three-1", "four", "five", "six-1"):
        assert f"\n{word}\n" in done.stdout
    listed = [line.split("artifact: ")[1] for line in done.stderr.splitlines() if "artifact: " in line]
    assert listed == ["archive/d/f", "archive/d/l", "junit/d/f"]


def test_help_names_every_option(stage):
    text = subprocess.run([stage.host.program("tidewaiter"), "rehearse", "--help"], capture_output=True, text=True,
                          check=True).stdout
    for option in ("--job", "--file", "--script", "--artifact", "--image", "--project", "--keep", "--out", "--ref",
                   "--variable", "--timeout", "--programs", "--project-path", "--after-script", "--stage"):
        assert f"{option} " in text


def test_exported_files_of_a_project_do_not_follow_links(stage):
    (stage.project / "link").symlink_to("/etc/shadow")
    done = stage.ready().run("--project", stage.project, "--script", "readlink link; [ -L link ]")
    assert done.returncode == 0 and "\n/etc/shadow\n" in done.stdout, done.stdout + done.stderr
    assert pathlib.Path("/etc/shadow").exists()
