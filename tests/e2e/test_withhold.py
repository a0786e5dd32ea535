"""Images that may not leave the host in enforce mode, and images that are not what was inspected any more."""

import pytest
from inspected import archive, archives, inspected, log, text  # noqa: F401
from runner import At
from slot_host import host  # noqa: F401

ALWAYS = {"artifacts": ["tar_images/*.tar", "notes"], "artifacts_when": "always", "project": {"notes": "kept"}}
CACHE = [{"key": "k", "paths": ["tar_images/"], "policy": "pull-push", "when": "always"}]


def names(result):
    [artifact] = archives(result)
    return set(artifact.names())


def test_blocked_image_is_withheld_and_the_log_says_so(inspected):
    result = inspected.ready().play("classic", **ALWAYS)
    assert result.exit_code == 90, log(result)
    assert "notes" in names(result) and "tar_images/app.tar" not in names(result)
    assert "tar_images/app.tar is withheld" in text(result, "upload_artifacts_on_failure")


def test_image_of_a_job_that_failed_by_itself_was_never_inspected_and_is_withheld(inspected):
    result = inspected.ready().play("clean", more=["exit 7"], **ALWAYS)
    assert (result.state, result.exit_code) == ("failed", 7), log(result)
    assert "notes" in names(result) and "tar_images/app.tar" not in names(result)
    assert "not inspected" in text(result, "upload_artifacts_on_failure")


def test_image_of_a_canceled_job_is_withheld(inspected):
    result = inspected.ready().play("clean", more=["echo tick; sleep 300"], at=[At("build_script", "cancel", b"\ntick")],
                                    **ALWAYS)
    assert result.state == "canceled" or result.failure_reason == "job_canceled", log(result)
    assert "tar_images/app.tar" not in names(result)


def test_image_that_after_script_makes_of_a_failed_job_is_withheld(inspected):
    result = inspected.ready().play("clean", script=["false"], after_script=["mkdir -p tar_images; mv image tar_images/late.tar"],
                                    **ALWAYS)
    assert "tar_images/late.tar" not in names(result), log(result)


def test_blocked_image_does_not_reach_the_cache(inspected):
    inspected.ready()
    first = inspected.play("classic", cache=CACHE)
    second = inspected.play("clean", script=["ls tar_images || true"], cache=CACHE, id=1001)
    assert first.exit_code == 90 and "archive_cache_on_failure" in first.sequence, log(first)
    assert "app.tar" not in text(second).replace("$ ls", "")


@pytest.mark.parametrize("mode", ["audit", "warn"])
def test_nothing_is_withheld_in(mode, inspected):
    result = inspected.ready(mode).play("classic", more=["exit 7"], **ALWAYS)
    assert result.exit_code == 7 and "tar_images/app.tar" in names(result), log(result)


def test_withholding_can_be_switched_off(inspected):
    result = inspected.ready(over={"images": {"withhold": False}}).play("classic", **ALWAYS)
    assert result.exit_code == 90 and "tar_images/app.tar" in names(result), log(result)


def test_other_files_stay(inspected):
    result = inspected.ready().play("clean", more=["exit 7"], artifacts=["*.tar"], artifacts_when="always",
                                    project={"sources.tar": b"no image archive"})
    assert "sources.tar" in names(result), log(result)


SWAP = {
    "another image in its place": "cp other tar_images/app.tar.new && mv tar_images/app.tar.new tar_images/app.tar",
    "bytes in its middle": "printf x | dd of=tar_images/app.tar bs=1 seek=5000 conv=notrunc 2>/dev/null",
    "the times put back": "touch -r tar_images/app.tar t; printf x | dd of=tar_images/app.tar bs=1 seek=5000 conv=notrunc "
                          "2>/dev/null; touch -r t tar_images/app.tar",
    "one more": "cp other tar_images/second.tar",
    "a link to another": "rm tar_images/app.tar; ln -s ../other tar_images/app.tar",
}


@pytest.mark.parametrize("how", SWAP)
def test_image_changed_by_after_script_fails_the_job_before_it_is_stored(how, inspected):
    result = inspected.ready().play("clean", after_script=[SWAP[how]], artifacts=["tar_images/*.tar"],
                                    project={"other": archive("classic")})
    assert (result.state, result.exit_code) == ("failed", 90), log(result)
    assert not any("tar_images" in name for a in archives(result) for name in a.names())


def test_image_changed_is_a_line_in_the_log_in_audit(inspected):
    result = inspected.ready("audit").play("clean", after_script=[SWAP["one more"]], artifacts=["tar_images/*.tar"],
                                           project={"other": archive("classic")})
    assert result.state == "success" and "tar_images/second.tar" in names(result), log(result)
    assert "tar_images/second.tar was not there when" in log(result)


def test_process_that_after_script_leaves_behind_cannot_change_an_image_later(inspected):
    """It would wait for the comparison, which the reports follow, and swap then."""
    wait = "setsid sh -c 'until [ -e scan_result ]; do :; done; cp other tar_images/app.tar' >/dev/null 2>&1 &"
    result = inspected.ready().play("clean", after_script=[wait, "true"], artifacts=["tar_images/*.tar"],
                                    project={"other": archive("classic")})
    assert result.state == "success", log(result)
    assert archives(result)[0].read("tar_images/app.tar") == archive("clean")


def test_changed_image_is_not_stored_in_the_cache_either(inspected):
    result = inspected.ready().play("clean", after_script=[SWAP["one more"]], cache=CACHE,
                                    project={"other": archive("classic")})
    assert (result.state, result.exit_code) == ("failed", 90), log(result)
    assert "archive_cache is not run" in log(result)


def test_unchanged_image_is_stored_after_after_script(inspected):
    result = inspected.ready().play("clean", after_script=["cat tar_images/app.tar >/dev/null; chmod 644 notes"], **ALWAYS)
    assert result.state == "success", log(result)
    assert {"tar_images/app.tar", "notes"} <= names(result)


def test_image_of_a_second_step_is_inspected(inspected):
    """The inspection follows the last step of the user, not the first."""
    result = inspected.ready().play("classic", script=["true"],
                                    steps=[("release", ["mkdir tar_images; mv image tar_images/app.tar"])])
    assert (result.state, result.exit_code) == ("failed", 90), log(result)
    assert "tidewaiter_inspection" in text(result, "step_release")
    assert "tidewaiter_inspection" not in text(result, "build_script")


def test_job_that_failed_is_not_inspected(inspected):
    result = inspected.ready().play("classic", more=["exit 3"])
    assert result.exit_code == 3 and "tidewaiter_inspection" not in log(result)
