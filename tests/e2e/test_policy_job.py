"""Jobs that a policy in a Git repository judges, with all users, and with what the commit's ignore files say."""

import json
import re
import shutil

import pytest
from inspected import REPORT, archives, host, inspected, log  # noqa: F401
from slot_host import needs_root
from test_commit_files import Project
from test_policy_git import TOKEN, Repository, age, certificates, git_server  # noqa: F401

pytestmark = needs_root


def policy(mode="enforce", more=""):
    return f"version: 1\nrules:\n  - name: every-image\n    mode: {mode}\n    severity: CRITICAL\n{more}"


@pytest.fixture
def served(inspected, certificates):  # noqa: F811
    """A repository behind TLS and a password, and a host whose settings name it."""
    root = inspected.host.root
    repository = Repository(root / "git" / "policies")
    repository.commit(policy())
    shutil.copy(certificates / "right.pem", root / "ca.pem")
    (root / "ca.pem").chmod(0o644)
    (root / "credentials").write_text(f"deploy:{TOKEN}\n", encoding="utf-8")
    (root / "credentials").chmod(0o600)
    with git_server(root / "git", certificates / "right", f"deploy:{TOKEN}".encode()) as server:
        inspected.ready("audit", {"policy": {
            "url": f"{server.url}/policies/.git", "ca_file": str(root / "ca.pem"), "fetch_every": "0",
            "credentials_file": str(root / "credentials")}})
        inspected.repository, inspected.server = repository, server
        yield inspected


def kept(host):  # noqa: F811
    return [p for p in (host.state / "policy").rglob("*") if p.is_file()]


def test_the_commit_that_judges_is_told_and_a_new_one_judges_the_next_job(served):
    first = served.repository.git("rev-parse", "HEAD")
    result = served.play()
    assert result.exit_code == 90 and "rule every-image" in log(result) and first[:12] in log(result)
    second = served.repository.commit(policy("audit"))
    result = served.play()
    assert result.state == "success" and second[:12] in log(result) and first[:12] not in log(result)
    bad = served.repository.commit(policy("harmless"))
    result = served.play()
    assert result.state == "success" and second[:12] in log(result)
    assert "last good version judges" in log(result) and bad[:12] in log(result)
    assert TOKEN not in log(result)
    owners = {p.owner() for p in kept(served.host)}
    assert owners == {served.host.prefix + "courier"}


def test_a_policy_that_never_came_leaves_the_verdict_undecided_and_enforce_of_the_settings_counts(served):
    served.server.password = b"deploy:another"
    result = served.play()
    assert result.state == "success" and "no policy could be had" in log(result) and "does not accept" in log(result)
    served.server.password = f"deploy:{TOKEN}".encode()
    done = served.host.tidewaiter("policy", "fetch")
    assert done.returncode == 0 and served.repository.git("rev-parse", "HEAD")[:12] in done.stdout, done.stderr
    doctor = served.host.tidewaiter("doctor").stdout
    assert re.search(r"policy.*commit .* 1 rule", doctor), doctor
    served.repository.git("branch", "-m", "main", "renamed")
    done = served.host.tidewaiter("policy", "fetch")
    assert done.returncode == 1 and "there is no branch or tag main" in done.stderr
    assert re.search(r"policy.*last good version judges", served.host.tidewaiter("doctor").stdout)


def ids_of(result):
    return sorted(set(re.findall(r"CVE-\d+-\d+", log(result))))


def objects(project):
    """A project directory that holds a .git."""
    return {str(p.relative_to(project.path)): p.read_bytes() for p in (project.path / ".git").rglob("*") if p.is_file()}


def test_a_version_that_is_too_old_to_judge_still_says_how_strict_it_was(served):
    assert served.play().exit_code == 90
    served.server.password = b"x:y"
    age(served.host.state, 90000)
    result = served.play()
    assert (result.state, result.failure_reason) == ("failed", "runner_system_failure"), log(result)
    assert "is too old" in log(result)
    # one that was mild opens no more than the settings do
    served.server.password = f"deploy:{TOKEN}".encode()
    served.repository.commit(policy("audit"))
    assert served.play().state == "success"
    served.server.password = b"x:y"
    age(served.host.state, 90000)
    assert served.play().state == "success"


def test_an_ignore_file_of_the_commit_counts_where_the_rule_takes_it(served, tmp_path):
    blocked = served.play()
    assert blocked.exit_code == 90
    text = "".join(f"{i}\n" for i in ids_of(blocked))
    project = Project(tmp_path / "project")
    project.write(".trivyignore", text)
    sha = project.commit()
    with_git = objects(project)
    # the rule does not take it
    assert served.play(project=with_git, sha=sha).exit_code == 90
    served.repository.commit(policy(more="    ignore_files: [trivyignore]\n"))
    result = served.play(project=with_git, sha=sha)
    assert result.state == "success", log(result)
    # what the job writes does not count: neither beside the repository nor into it
    empty = Project(tmp_path / "empty")
    bare = empty.commit(readme="x")
    result = served.play(project={**objects(empty), ".trivyignore": text}, sha=bare)
    assert result.exit_code == 90
    result = served.play(project=with_git, sha=bare)
    assert result.exit_code == 90 and "do not count" in log(result)


def test_openvex_of_the_commit_counts_for_the_package_that_it_names(served, tmp_path):
    served.repository.commit(policy(more="    ignore_files: [openvex]\n"))
    blocked = served.play()
    assert blocked.exit_code == 90
    findings = [v for r in json.loads(archives(blocked)[0].read(REPORT))["Results"] for v in r.get("Vulnerabilities") or []]
    wanted = [v for v in findings if v["Severity"] == "CRITICAL"]

    def document(purl_of):
        return json.dumps({"@context": "https://openvex.dev/ns/v0.2.0", "statements": [
            {"vulnerability": {"name": v["VulnerabilityID"]}, "status": "not_affected", "impact_statement": "not reached",
             "products": [{"@id": purl_of(v)}]} for v in wanted]})
    project = Project(tmp_path / "project")
    project.write("app.openvex.json", document(lambda v: v["PkgIdentifier"]["PURL"]))
    sha = project.commit()
    assert served.play(project=objects(project), sha=sha).state == "success"
    project.write("app.openvex.json", document(lambda v: "pkg:deb/debian/another@1"))
    sha = project.commit()
    assert served.play(project=objects(project), sha=sha).exit_code == 90
