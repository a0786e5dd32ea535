"""Triage in jobs: asked for while the job runs, subtracted when it is judged."""

import datetime
import json
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time

import pytest
from inspected import images, inspected, log  # noqa: F401
from slot_host import host, needs_root  # noqa: F401

pytestmark = needs_root


def in_a_week():
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%SZ")


def ready(inspected, dojo, over=None, **defectdojo):  # noqa: F811
    secret = inspected.host.root / "token"
    secret.touch(mode=0o600)
    secret.write_text(dojo.token + "\n")
    return inspected.ready("enforce", over={"defectdojo": {"url": dojo.url, "token_file": str(secret),
                                                           "product_type": "CI", "wait": "20s", **defectdojo},
                                             **(over or {})})


def asked(dojo):
    return [r for r in dojo.requests if r.method == "GET" and r.path == "/api/v2/findings/"]


def test_a_job_passes_when_its_findings_are_accepted_and_fails_when_that_has_ended(inspected, dojo):  # noqa: F811
    ready(inspected, dojo)
    assert inspected.play("classic", id=1).state == "failed"
    acceptance = dojo.accept([f["id"] for f in dojo.findings("group/app")], expiration_date=in_a_week())
    result = inspected.play("classic", id=2)
    assert result.state == "success", log(result)
    dojo.expire(acceptance["id"])
    assert inspected.play("classic", id=3).state == "failed"


def play_asked_ahead(inspected, dojo, then):  # noqa: F811
    """A job whose last step waits until triage was asked for beside it and kept; then that is done, before the step ends."""
    before = len(asked(dojo))
    flag = inspected.host.root / "asked"
    kept = inspected.host.state / "triage"

    def files():
        return [p for p in kept.iterdir() if p.suffix == ".json" and json.loads(p.read_text())["entries"]]

    def watch():
        try:
            dojo.wait_for(lambda: len(asked(dojo)) > before and len(files()) > 0)
            then(files())
        finally:
            flag.touch(mode=0o644)

    def pass_a_second(stage, call):
        """What was asked for in the second in which the job began may have been asked before."""
        if stage == "get_sources":
            time.sleep(1.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = inspected.play("classic", id=2, more=[f"until [ -e {flag} ]; do sleep 0.05; done"], on_stage=pass_a_second)
    watcher.join()
    return result


def test_a_job_that_asked_while_it_ran_does_not_ask_again(inspected, dojo):  # noqa: F811
    ready(inspected, dojo, wait="1s")
    inspected.play("classic", id=1)
    dojo.accept([f["id"] for f in dojo.findings("group/app")])
    seen = []
    result = play_asked_ahead(inspected, dojo, lambda files: seen.append(len(asked(dojo))))
    assert result.state == "success", log(result)
    assert "triage is" not in log(result), log(result)
    assert len(asked(dojo)) == seen[0]


def test_what_was_asked_for_longer_ago_is_asked_for_again_and_counts_where_nobody_answers(inspected, dojo):  # noqa: F811
    ready(inspected, dojo, wait="1s")
    inspected.play("classic", id=1)
    dojo.accept([f["id"] for f in dojo.findings("group/app")])

    def age(files):
        for path in files:
            kept = json.loads(path.read_text())
            path.write_text(json.dumps({**kept, "fetched_s": kept["fetched_s"] - 120}))
        dojo.fault = "hang@/api/v2/"

    result = play_asked_ahead(inspected, dojo, age)
    dojo.fault = None
    assert result.state == "success", log(result)
    assert "triage is 2 min" in log(result), log(result)


def test_no_process_of_ours_outlives_the_step(inspected, dojo):  # noqa: F811
    ready(inspected, dojo, wait="1s")
    dojo.fault = "hang@/api/v2/"
    result = inspected.play("classic", id=1)
    dojo.fault = None
    assert result.state == "failed" and "triage excuses nothing" in log(result), log(result)
    left = subprocess.run(["ps", "-eo", "user:64,args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in left.splitlines() if line.startswith(inspected.host.prefix)]


def policy(inspected, new_only):  # noqa: F811
    path = inspected.host.root / "policy.yml"
    path.write_text("version: 1\nrules:\n  - name: all\n    mode: enforce\n    severity: CRITICAL\n"
                    f"    new_only: {new_only}\n")
    path.chmod(0o644)
    return {"policy": {"file": str(path)}}


def test_a_host_that_never_saw_the_default_branch_asks_defectdojo_what_it_has(inspected, dojo):  # noqa: F811
    ready(inspected, dojo, over=policy(inspected, "default"))
    first = inspected.play("classic", id=1)
    assert first.state == "failed" and "no inspection of main is known" in log(first), log(first)
    baselines = inspected.host.state / "baselines"
    shutil.rmtree(baselines)
    result = inspected.play("classic", id=2, ref="feature")
    assert result.state == "success", log(result)
    dojo.fault = "502@/api/v2/engagements"
    shutil.rmtree(baselines)
    result = inspected.play("classic", id=4, ref="feature")
    assert result.state == "failed" and "what other branches have now is not known" in log(result), log(result)


NAMED_BY_IMAGE = [
    {"product": "{project_path}: {image}"},
    {"engagement": "{branch} {image}"},
    {"service": "svc/{image}"},
    {"product": "{project_path}: {image}", "engagement": "{image}", "test": "scan of {branch}", "service": "all"},
    {"product": "{project_path}: {archive}", "service": "{archive}"},
]


@pytest.mark.parametrize("names", NAMED_BY_IMAGE)
def test_what_defectdojo_has_of_another_branch_is_known_by_whichever_name_takes_the_image(inspected, dojo, names):  # noqa: F811
    ready(inspected, dojo, over=policy(inspected, "default"), **names)
    inspected.play("two-images", id=1)
    inspected.play("classic", id=2, ref="other")
    shutil.rmtree(inspected.host.state / "baselines")
    result = inspected.play("two-images", id=3, ref="feature")
    assert result.state == "success", log(result)
    # of another image there is nothing, though its flaws are the same
    renamed = {"image": archive_named("registry.example.org/group/renamed:1.0")}
    result = inspected.play(id=4, ref="feature", project=renamed, script=["mkdir tar_images", "mv image tar_images/renamed.tar"])
    assert result.exit_code == 90 and "no inspection of main is known" in log(result), log(result)


def test_where_no_name_takes_the_image_nothing_is_known_of_other_branches(inspected, dojo):  # noqa: F811
    ready(inspected, dojo, over=policy(inspected, "default"), service="all")
    inspected.play("classic", id=1)
    shutil.rmtree(inspected.host.state / "baselines")
    result = inspected.play("classic", id=2, ref="feature")
    assert result.exit_code == 90 and "no inspection of main is known" in log(result), log(result)


def test_what_another_host_inspected_since_counts_in_a_product_of_its_own_too(inspected, dojo, tmp_path):  # noqa: F811
    ready(inspected, dojo, over=policy(inspected, "default"), product="{project_path}: {image}", engagement="{branch}: {image}")
    inspected.play(id=1)
    kept, old = inspected.host.state / "baselines", inspected.host.root / "old"
    shutil.move(kept, old)
    inspected.play(id=2, project={"image": fewer_flaws(tmp_path)})
    shutil.rmtree(kept)
    shutil.move(old, kept)
    result = inspected.play(id=3, ref="feature")
    assert result.exit_code == 90 and ADDED in " ".join(log(result).split()), log(result)


def test_what_defectdojo_closed_on_the_default_branch_is_new(inspected, dojo):  # noqa: F811
    ready(inspected, dojo, over=policy(inspected, "default"))
    inspected.play("classic", id=1)
    shutil.rmtree(inspected.host.state / "baselines")
    gone = [f for f in dojo.findings("group/app") if f["severity"] == "Critical"][0]
    dojo.set_finding(gone["id"], is_mitigated=True, active=False)
    result = inspected.play("classic", id=2, ref="feature")
    assert result.state == "failed", log(result)
    assert f"it adds 1 finding that is CRITICAL to what main has: {gone['vulnerability_ids'][0]}" in \
        " ".join(log(result).split())


# ---- merge requests ----


def archive_named(tag):
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place, "image")
        images.classic(images.app(tags=[tag])).write(path)
        return path.read_bytes()


def fewer_flaws(tmp_path):
    path = tmp_path / "fewer"
    steps = list(images.app().steps)
    steps[0] = (steps[0][0], images.layer(images.debian([images.OPENSSL])))
    images.classic(images.Image(steps)).write(path)
    return path.read_bytes()


REQUEST = {"ref": "refs/merge-requests/5/head", "target": "main"}
ADDED = "it adds 2 findings that are CRITICAL to what main has: CVE-2023-23914, CVE-2023-38545"


def test_a_merge_request_blocks_what_it_adds_to_its_target_by_name_and_shows_the_rest_as_known(inspected, dojo, tmp_path):  # noqa: F811
    ready(inspected, dojo, over=policy(inspected, "target"))
    fewer = {"image": fewer_flaws(tmp_path)}
    first = inspected.play(id=1, project=fewer)
    assert first.state == "failed" and len(dojo.uploads) == 1, "a branch has no target: all of it counts"
    # nothing is added
    result = inspected.play(id=2, project=fewer, **REQUEST)
    assert result.state == "success" and "known" in log(result), log(result)
    # curl comes
    result = inspected.play(id=3, **REQUEST)
    assert result.exit_code == 90 and ADDED in " ".join(log(result).split()), log(result)
    # what a merge request brings does not become known by its own delivery
    assert len(dojo.uploads) == 3
    result = inspected.play(id=4, **REQUEST)
    assert result.exit_code == 90 and ADDED in " ".join(log(result).split())
    # merged: now it is known
    inspected.play(id=5)
    assert inspected.play(id=6, **REQUEST).state == "success"


def test_a_job_cannot_choose_what_it_is_compared_with(inspected, dojo, tmp_path):  # noqa: F811
    ready(inspected, dojo, over=policy(inspected, "target"))
    inspected.play(id=1, project={"image": fewer_flaws(tmp_path)})
    inspected.play(id=2, ref="bad")
    lie = {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "bad", "CI_PIPELINE_SOURCE": "merge_request_event",
           "CI_DEFAULT_BRANCH": "bad"}
    # in a merge request, by variables of the job, and by whatever its script leaves behind
    script = [f"echo {name}={value} >> $GITLAB_ENV" for name, value in lie.items()]
    result = inspected.play(id=3, variables=lie, more=script, **REQUEST)
    assert result.exit_code == 90 and ADDED in " ".join(log(result).split()), log(result)
    # a push that says it is a merge request has no target
    result = inspected.play(id=4, variables=lie, ref="feature")
    assert result.exit_code == 90 and "all findings count as new" in " ".join(log(result).split()), log(result)
    policy(inspected, "default")
    result = inspected.play(id=5, variables=lie, ref="feature")
    assert result.exit_code == 90 and ADDED in " ".join(log(result).split()), log(result)


def test_what_another_host_inspected_since_is_what_a_job_is_compared_with(inspected, dojo, tmp_path):  # noqa: F811
    ready(inspected, dojo, over=policy(inspected, "default"))
    inspected.play(id=1)
    kept, old = inspected.host.state / "baselines", inspected.host.root / "old"
    shutil.move(kept, old)
    # elsewhere the default branch gets rid of a package
    inspected.play(id=2, project={"image": fewer_flaws(tmp_path)})
    shutil.rmtree(kept)
    shutil.move(old, kept)
    result = inspected.play(id=3, ref="feature")
    assert result.exit_code == 90 and ADDED in " ".join(log(result).split()), log(result)
    # whether it is the last cannot be told: better than none
    dojo.fault = "502@/api/v2/engagements"
    result = inspected.play(id=4, ref="feature")
    assert result.state == "success" and "what other branches have now is not known" in log(result), log(result)


def test_a_package_in_two_places_is_known_from_defectdojo_which_tells_of_one(inspected, dojo, tmp_path):  # noqa: F811
    path = tmp_path / "twice"
    images.classic(images.Image([*images.app().steps, ("RUN npm ci", images.layer(images.npm(
        [images.LODASH, images.MINIMIST], where="srv")))])).write(path)
    twice = {"image": path.read_bytes()}
    ready(inspected, dojo, over=policy(inspected, "default"))
    inspected.play(id=1, project=twice)
    # DefectDojo closes what is a duplicate within the report
    inspected.play(id=2, project=twice)
    shutil.rmtree(inspected.host.state / "baselines")
    result = inspected.play(id=3, project=twice, ref="feature")
    assert result.state == "success", log(result)


@pytest.mark.parametrize("is_apart", [True, False])
def test_a_tag_with_the_name_of_a_branch_neither_has_its_acceptances_nor_adds_to_what_is_known_of_it(is_apart, inspected, dojo,  # noqa: F811
                                                                                                     tmp_path):
    tag = {"ref": "main", "ref_type": "tag"}
    fewer = {"image": fewer_flaws(tmp_path)}
    ready(inspected, dojo, over=policy(inspected, "default"), engagement="{branch}" if is_apart else "{ref}")
    inspected.play(id=1, project=fewer)
    dojo.accept([f["id"] for f in dojo.findings("group/app")])
    assert inspected.play(id=2, project=fewer).state == "success"
    policy(inspected, "off")
    assert inspected.play(id=3, **tag).exit_code == 90
    assert {t["branch_tag"] for t in dojo.tests if t["title"] == "group/app"} == ({"main", "refs/tags/main"} if is_apart else {"refs/tags/main"})
    policy(inspected, "default")
    shutil.rmtree(inspected.host.state / "baselines")
    result = inspected.play(id=4, ref="feature")
    assert result.exit_code == 90, log(result)
    # in a test of its own it has left the branch what it had
    assert ("no inspection of main is known" in log(result)) != is_apart, log(result)


def test_a_branch_that_a_rule_names_is_asked_for_where_this_host_never_saw_it(inspected, dojo):  # noqa: F811
    ready(inspected, dojo, over=policy(inspected, "release/1.x"))
    inspected.play(id=1, ref="release/1.x")
    shutil.rmtree(inspected.host.state / "baselines")
    result = inspected.play(id=2, ref="feature")
    assert result.state == "success" and "release/1.x" in log(result), log(result)


def test_nobody_is_asked_for_branches_that_no_rule_of_the_job_compares_with(inspected, dojo):  # noqa: F811
    ready(inspected, dojo)
    inspected.play(id=1, ref="feature")
    assert not [r for r in dojo.requests if r.method == "GET" and r.path == "/api/v2/engagements/"
                and "name=main" in r.query]


# ---- DefectDojo is down when it is judged ----


def test_what_was_kept_counts_until_it_is_too_old(inspected, dojo):  # noqa: F811
    ready(inspected, dojo, wait="1s", triage_max_age="1h")
    inspected.play(id=1)
    dojo.accept([f["id"] for f in dojo.findings("group/app")])
    assert inspected.play(id=2).state == "success"
    kept, = (inspected.host.state / "triage").glob("*.json")

    def age(seconds):
        text = json.loads(kept.read_text())
        text["fetched_s"] -= seconds
        kept.write_text(json.dumps(text))

    dojo.fault = "502@any"
    age(1800)
    result = inspected.play(id=3)
    assert result.state == "success" and "triage is 30 min" in log(result), log(result)
    age(1801)
    result = inspected.play(id=4)
    assert result.exit_code == 90 and "triage excuses nothing" in log(result), log(result)
