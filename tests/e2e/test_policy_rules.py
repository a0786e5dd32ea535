"""Jobs under a policy of a file: it rules, whatever the section gate says."""

import datetime
import os

import pytest
from inspected import inspected, log  # noqa: F401
from slot_host import host, needs_root  # noqa: F401

pytestmark = needs_root

ENFORCE = "version: 1\ncontact: appsec@example.org\nrules:\n  - {name: strict, mode: enforce, severity: HIGH}\n"


@pytest.fixture
def under(inspected):  # noqa: F811
    """A host whose section gate says `mode`, under this policy."""

    def make(policy, mode="audit"):
        path = inspected.host.root / "policy.yml"
        path.write_text(policy)
        path.chmod(0o644)
        return inspected.ready(mode, over={"policy": {"file": str(path)}})

    return make


def flat(result):
    return " ".join(log(result).split())


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def test_a_rule_that_enforces_blocks_and_withholds_where_the_settings_audit(under):
    result = under(ENFORCE).play(artifacts=[{"paths": ["tar_images"], "when": "always"}])
    text = flat(result)
    assert result.status == "failed" and "Tidewaiter: blocked" in text
    assert "Judged by rule strict of file" in text
    assert "can be excepted: ask appsec@example.org" in text
    assert "tar_images/app.tar is withheld: it did not pass the inspection" in text


def test_a_rule_that_audits_stops_nothing_and_withholds_nothing_where_the_settings_enforce(under):
    result = under("version: 1\nrules:\n  - {name: soft, mode: audit}\n", "enforce").play(artifacts=[{"paths": ["tar_images"]}])
    assert result.status == "success", log(result)
    assert "withheld" not in log(result) and "Tidewaiter audits and stops nothing" in flat(result)


@pytest.mark.parametrize("prod, is_withheld", [("enforce", True), ("warn", False)])
def test_what_was_never_inspected_is_withheld_where_a_rule_that_may_be_meant_enforces(under, prod, is_withheld):
    rules = f"  - {{name: prod, mode: {prod}, match: {{images: [\"prod/*\"]}}}}\n  - {{name: rest, mode: audit}}\n"
    settings_mode = "audit" if is_withheld else "enforce"
    result = under("version: 1\nrules:\n" + rules, settings_mode).play(more=["false"],
                                                                   artifacts=[{"paths": ["tar_images"], "when": "always"}])
    assert result.status == "failed"
    assert ("tar_images/app.tar is withheld: it was not inspected" in flat(result)) == is_withheld


def test_a_policy_that_is_not_understood_is_undecided_with_its_line_and_the_gate_does_not_step_in(under):
    result = under("version: 1\nrules:\n  - {name: a, mode: sometimes}\n", "enforce").play(kind="clean")
    assert result.status == "failed" and "Tidewaiter: undecided" in flat(result)
    assert 'policy.yml:3: rules[1].mode: "sometimes" is not possible, allowed is one of audit, warn, enforce' in flat(result)


def test_a_policy_that_others_can_write_is_not_followed(under):
    place = under(ENFORCE, "enforce")
    os.chmod(place.host.root / "policy.yml", 0o666)
    text = flat(place.play(kind="clean"))
    assert "undecided" in text and "others can write it (mode 666), allowed is 644" in text


def test_a_rule_that_is_announced_is_told_until_its_day_and_judges_from_then_on(under):
    rules = ("version: 1\nrules:\n  - {name: strict, mode: enforce, severity: HIGH, enforce_from: %s}\n"
             "  - {name: soft, mode: warn}\n")
    tomorrow = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)).date().isoformat()
    place = under(rules % tomorrow)
    result = place.play()
    assert result.status == "success" and "Judged by rule soft" in flat(result), log(result)
    assert f"from {tomorrow} on the rule strict applies here (mode enforce) and would block this image" in flat(result)
    (place.host.root / "policy.yml").write_text(rules % today())
    result = place.play()
    assert result.status == "failed" and "Judged by rule strict" in flat(result)


def test_a_job_tightens_by_its_variables(under):
    place = under("version: 1\nrules:\n  - {name: soft, mode: warn, severity: CRITICAL}\n")
    result = place.play(variables={"TIDEWAITER_MODE": "enforce", "TIDEWAITER_SEVERITY": "LOW"})
    assert result.status == "failed" and "LOW or worse" in log(result)


def test_a_job_that_would_loosen_is_told_that_it_cannot(under):
    result = under(ENFORCE).play(variables={"TIDEWAITER_MODE": "audit"})
    assert result.status == "failed"
    assert "TIDEWAITER_MODE=audit is not followed: a job can tighten the policy" in flat(result)


@pytest.mark.parametrize("project, goes_on", [("group/app", True), ("group/other", False)])
def test_break_glass_lets_its_job_go_on_and_no_other(under, project, goes_on):
    entry = (f"break_glass:\n  - {{name: night, project: {project}, ref: main, from: \"{today()}T00:00:00Z\", hours: 72, who: Ops, "
             "reason: outage}\n")
    result = under(ENFORCE + entry).play(variables={"TIDEWAITER_WAIVER": "night"},
                                         artifacts=[{"paths": ["tar_images"], "when": "always"}])
    text = flat(result)
    assert (result.status == "success") == goes_on, text
    assert ("break-glass night of Ops lets it go on until" in text) == goes_on
    assert ("no break-glass: the waiver night is not for this project and branch" in text) != goes_on
    assert ("withheld" in text) != goes_on
