"""How reports become artifacts of a job without a change to the project, and that nobody else's hand is in it."""

import json

import pytest
from inspected import REPORT, archives, inspected, log, text  # noqa: F401
from slot_host import host, needs_root  # noqa: F401


def test_reports_travel_with_the_archive_of_a_job_that_passed(inspected):
    result = inspected.ready().play("clean", artifacts=["tar_images/*.tar"], expire_in="1 week")
    assert result.state == "success", log(result)
    [artifact] = archives(result)
    assert {"tar_images/app.tar", REPORT, "scan_result/app.html"} <= set(artifact.names())
    assert artifact.expire_in == "1 week"
    assert json.loads(artifact.read(REPORT))["SchemaVersion"] == 2


def test_blocked_job_uploads_its_reports_by_itself(inspected):
    result = inspected.ready(over={"report": {"expire_in": "3 days"}}).play("classic", artifacts=["tar_images/*.tar"])
    assert (result.state, result.exit_code) == ("failed", 90), log(result)
    [artifact] = archives(result)
    assert REPORT in artifact.names() and "tar_images/app.tar" not in artifact.names()
    assert artifact.expire_in == "3 days"
    assert "upload_artifacts_on_success" not in result.sequence


def test_job_without_artifacts_gets_an_archive_of_its_own(inspected):
    result = inspected.ready().play("clean")
    assert result.state == "success", log(result)
    [artifact] = archives(result)
    assert REPORT in artifact.names() and all(n.startswith("scan_result") for n in artifact.names())


def test_blocked_job_with_artifacts_always_takes_reports_along_and_no_image(inspected):
    result = inspected.ready().play("classic", artifacts=["tar_images/*.tar", "notes"], artifacts_when="always",
                                    project={"notes": "kept"})
    assert (result.state, result.exit_code) == ("failed", 90), log(result)
    [artifact] = archives(result)
    assert {"notes", REPORT} <= set(artifact.names()) and "tar_images/app.tar" not in artifact.names()


def test_reports_are_no_artifact_where_the_settings_say_so(inspected):
    inspected.ready(over={"report": {"artifact": False}})
    passed = inspected.play("clean", artifacts=["tar_images/*.tar"])
    blocked = inspected.play("classic", id=1001)
    assert passed.state == "success" and blocked.exit_code == 90, log(blocked)
    assert archives(passed)[0].names() == ["tar_images/app.tar"]
    assert archives(blocked) == []


def test_reports_are_written_anew_after_after_script(inspected):
    result = inspected.ready().play("clean", artifacts=["tar_images/*.tar"],
                                    after_script=["rm -rf scan_result", "mkdir scan_result", "echo forged >" + REPORT,
                                                  "ln -s /etc/passwd scan_result/app.html"])
    assert result.state == "success", log(result)
    assert json.loads(archives(result)[0].read(REPORT))["SchemaVersion"] == 2
    assert b"root:" not in archives(result)[0].read("scan_result/app.html")


def test_reports_the_job_declares_itself_still_go_their_own_way(inspected):
    result = inspected.ready().play(
        "clean", more=["echo '<testsuite/>' >junit.xml"],
        artifacts=["tar_images/*.tar", {"name": "", "paths": ["junit.xml"], "when": "always", "artifact_type": "junit",
                                        "artifact_format": "gzip"}])
    assert result.state == "success", log(result)
    assert sorted(a.type for a in result.artifacts) == ["archive", "junit"]


def quality(result):
    return [a for a in result.artifacts if a.type == "codequality"]


@pytest.mark.parametrize("kind, state", [("clean", "success"), ("classic", "failed")])
def test_findings_become_a_code_quality_report_where_it_is_wanted(kind, state, inspected):
    result = inspected.ready(over={"report": {"codequality": True}}).play(kind, artifacts=["tar_images/*.tar"])
    assert result.state == state, log(result)
    assert [a.type for a in archives(result)] == ["archive"]
    [artifact] = quality(result)
    found = json.loads(artifact.bytes())
    assert {f["severity"] for f in found} >= ({"blocker"} if kind == "classic" else set())
    assert all(len(f["fingerprint"]) == 32 and f["location"]["path"] == "tar_images/app.tar" for f in found)


def test_a_code_quality_report_of_the_jobs_own_stays_its_own(inspected):
    result = inspected.ready(over={"report": {"codequality": True}}).play(
        "clean", more=["echo '[]' >q.json"],
        artifacts=["tar_images/*.tar", {"name": "", "paths": ["q.json"], "when": "always", "artifact_type": "codequality",
                                        "artifact_format": "raw"}])
    assert result.state == "success", log(result)
    [artifact] = quality(result)
    assert artifact.bytes().strip() == b"[]"


EVIL = ["mkdir -p bin && printf '#!/bin/sh\\ntouch ../evil-ran\\nexit 0\\n' >bin/gitlab-runner && chmod 755 bin/gitlab-runner"]


def test_path_set_through_gitlab_env_does_not_reach_the_upload(inspected):
    result = inspected.ready().play("clean", artifacts=["tar_images/*.tar"],
                                    more=[*EVIL, 'echo "PATH=$PWD/bin:$PATH" >>"$GITLAB_ENV"', 'echo "KEPT=yes" >>"$GITLAB_ENV"'],
                                    after_script=["echo kept=$KEPT"])
    assert result.state == "success", log(result)
    assert {"tar_images/app.tar", REPORT} <= set(archives(result)[0].names())
    assert "kept=yes" in text(result, "after_script")


def test_path_set_as_a_variable_of_the_job_fails_it_where_images_are_enforced(inspected):
    """Stage scripts export the job's variables themselves: nothing stands before a PATH of theirs."""
    path = {"PATH": "/builds-of-nobody/bin:" + inspected.ready().runner.env["PATH"]}
    result = inspected.play("clean", artifacts=["tar_images/*.tar"], variables=path)
    assert (result.state, result.exit_code) == ("failed", 90), log(result)
    assert "does the job set PATH" in text(result, "upload_artifacts_on_success")


def test_path_set_as_a_variable_is_a_warning_in_audit(inspected):
    path = {"PATH": "/builds-of-nobody/bin:" + inspected.ready("audit").runner.env["PATH"]}
    result = inspected.play("clean", artifacts=["tar_images/*.tar"], variables=path)
    assert result.state == "success", log(result)
    assert "does the job set PATH" in text(result, "upload_artifacts_on_success")


def test_upload_that_gitlab_refuses_fails_the_stage_with_gitlab_runners_code(inspected):
    inspected.ready()
    result = inspected.play("clean", artifacts=["tar_images/*.tar"],
                            on_stage=lambda name, call: name == "upload_artifacts_on_success"
                            and inspected.runner.gitlab.refuse_job(1000))
    assert result.state == "failed" and archives(result) == [], log(result)


def test_gitlab_that_refuses_the_drivers_own_upload_fails_nothing(inspected):
    inspected.ready()
    result = inspected.play("clean", on_stage=lambda name, call: name == "cleanup_file_variables"
                            and inspected.runner.gitlab.refuse_job(1000))
    assert result.state == "success" and archives(result) == [], log(result)


@needs_root
def test_job_token_is_in_no_command_line_of_the_drivers_uploads(inspected):
    inspected.ready()
    result = inspected.play("clean", artifacts=["tar_images/*.tar"])
    assert result.state == "success"
    calls = [c for c in inspected.uploads() if REPORT.split("/")[0] in str(c)]
    assert calls and all("--token" not in str(c) and "--url" not in str(c) for c in calls)


@pytest.mark.parametrize("mode", ["audit", "warn"])
def test_findings_change_no_exit_code_in(mode, inspected):
    result = inspected.ready(mode).play("classic", artifacts=["tar_images/*.tar"])
    assert result.state == "success", log(result)
    assert {"tar_images/app.tar", REPORT} <= set(archives(result)[0].names())


def test_job_that_does_not_match_is_left_alone(inspected):
    result = inspected.ready().play("classic", name="unit_tests", artifacts=["tar_images/*.tar"])
    assert result.state == "success", log(result)
    assert archives(result)[0].names() == ["tar_images/app.tar"]
    assert "not inspected" in text(result, "prepare")
