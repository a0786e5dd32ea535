"""tidewaiter policy explain says what a job would meet: the same verdict and fates as tidewaiter scan, from what a job would know."""

import json
import pathlib
import re
import subprocess

import jsonschema
import pytest
from test_commit_files import Project
from test_policy_git import Repository
from dojo_host import USERS
from test_triage import BLOCKED, CRITICAL, IS_ROOT, PASSED, Host, images, tools, utc  # noqa: F401

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = json.loads((SOURCE / "docs/report.schema.json").read_text())
USAGE, UNDECIDED = 2, 3


def strict(node):
    """The published schema admits new members; here there are none that it does not name."""
    if isinstance(node, dict):
        closed = {"additionalProperties": False} if "properties" in node else {}
        return {**{key: strict(value) for key, value in node.items()}, **closed}
    return [strict(value) for value in node] if isinstance(node, list) else node


def validate(kind, value):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": strict(SCHEMA["$defs"])}).validate(value)
    jsonschema.Draft202012Validator(SCHEMA).validate(value)


class Explained(Host):
    def configure(self, *args, **more):
        super().configure(*args, **more)
        self.reports = self.root / "reports"

    def scan(self, *more, **options):
        return super().scan("--report-dir", str(self.reports), *more, **options)

    def explain(self, *more, image="group/app", project="group/app", branch="main", report=None, as_json=True,
                **process):
        report = report or next(self.reports.glob("*.json"))
        return subprocess.run([self.program, "--config", str(self.config), "policy", "explain", *(["--json"] if as_json else []),
                               "--project", project, "--image", image, "--branch", branch, *map(str, more), str(report)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **process)

    def state_now(self):
        return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in self.state.rglob("*") if p.is_file()}


@pytest.fixture
def host(root, program, settings, tools, dojo):  # noqa: F811
    return Explained(root, program, settings, tools, dojo)


def of(done):
    assert done.returncode in (PASSED, BLOCKED), done.stdout + done.stderr
    return json.loads(done.stdout)


def fates(findings):
    return {(f["id"], f["package"], f["path"]): (f["fate"], f["by"], f["until"], f["line"]) for f in findings}


def foretells(host, *more, job=(), **options):
    """What scan says and what explain says of the same job is the same; returns both."""
    scanned = host.scan(*job, **options, upload=False)
    explained = host.explain(*job, *more, **options)
    assert explained.returncode == scanned.returncode, explained.stdout + explained.stderr
    image, = of(scanned)["images"]
    j = of(explained)
    validate("scan", of(scanned))
    validate("explain", j)
    assert fates(j["findings"]) == fates(image["findings"])
    for member in ("rule", "mode", "severity", "fixable_only", "verdict", "reasons", "waiver", "waiver_until"):
        assert j[member] == image[member], member
    return of(scanned), j


def blocking(j):
    return {f["id"] for f in j["findings"] if f["is_blocking"]}


# ---- triage ----

def test_kept_triage_counts_with_its_age_and_fresh_asks(host, dojo):
    host.scan()
    first, *others = host.critical()
    dojo.accept([first], expiration_date=utc(7))
    host.scan()
    dojo.accept(others)
    before, asked = host.state_now(), len(dojo.requests)
    kept = of(host.explain())
    assert len(dojo.requests) == asked and host.state_now() == before, "nothing is asked, nothing is put down"
    assert len(blocking(kept)) == len(CRITICAL) - 1
    accepted, = [f for f in kept["findings"] if f["fate"] == "accepted"]
    assert accepted["until"] and "DefectDojo finding" in accepted["by"]
    assert any(n.startswith("triage is ") and n.endswith("old: DefectDojo was not asked") for n in kept["notes"]), kept["notes"]
    fresh = of(host.explain("--fresh"))
    assert blocking(fresh) == set() and not any("triage" in n for n in fresh["notes"])
    foretells(host, "--fresh")


def test_a_file_of_triage_counts_instead(host, dojo):
    host.scan()
    dojo.accept(host.critical())
    host.scan()
    kept, = (host.state / "triage").glob("*.json")
    other = host.root / "triage.json"
    text = json.loads(kept.read_text())
    text["entries" if "entries" in text else next(k for k, v in text.items() if isinstance(v, list))] = []
    other.write_text(json.dumps(text))
    assert blocking(of(host.explain("--triage", kept))) == set()
    assert blocking(of(host.explain("--triage", other))) == CRITICAL
    other.write_text("{}")
    done = host.explain("--triage", other)
    assert done.returncode == USAGE and "--triage" in done.stderr and done.stdout == ""
    assert host.explain("--triage", host.root / "none").returncode == USAGE
    assert host.explain("--triage", kept, "--fresh").returncode == USAGE


def test_a_server_that_is_down_is_a_note_and_what_was_kept_counts(host, dojo):
    host.scan()
    dojo.accept(host.critical())
    host.scan()
    dojo.fault = "502@any"
    j = of(host.explain("--fresh"))
    assert blocking(j) == set() and any(n.startswith("triage is ") for n in j["notes"]), j["notes"]


def test_triage_of_another_project_is_not_taken(host, dojo):
    host.scan()
    dojo.accept(host.critical())
    host.scan()
    j = of(host.explain(project="group/other"))
    assert blocking(j) == CRITICAL and j["notes"] == ["triage excuses nothing: DefectDojo was not asked"]
    # a product is called as the project is, and this one is not there
    j = of(host.explain("--fresh", project="group/other"))
    assert blocking(j) == CRITICAL


@pytest.mark.skipif(not IS_ROOT, reason="changes users")
def test_whoever_may_not_read_what_is_kept_is_told(host, dojo):
    host.scan()
    dojo.accept(host.critical())
    host.scan()
    for args in ([], ["--fresh"]):
        done = host.explain(*args, user=65534, group=65534, extra_groups=[])
        j = of(done)
        assert blocking(j) == CRITICAL and done.stderr == ""
        assert any(n.startswith("of triage, other branches and first dates") for n in j["notes"]), j["notes"]
        assert any(n.startswith("triage excuses nothing: ") for n in j["notes"]), j["notes"]


# ---- other branches ----

NEW_ONLY = ("version: 1\nrules:\n  - {name: features, match: {branches: [feature]}, mode: enforce, severity: CRITICAL, new_only: target}\n"
            "  - {name: rest, mode: warn, severity: CRITICAL}\n")


def test_what_the_target_branch_has_is_known(host):
    host.configure(policy=NEW_ONLY)
    host.scan()
    scanned, j = foretells(host, branch="feature", job=["--target-branch", "main"])
    assert j["verdict"] == "pass" and {f["fate"] for f in j["findings"] if f["severity"] == "CRITICAL"} == {"known"}
    scanned, j = foretells(host, branch="feature", job=["--target-branch", "release"])
    assert blocking(j) == CRITICAL and any("no inspection of release is known" in n for n in j["notes"])


# ---- the policy ----

def test_an_older_version_of_the_policy_judges_and_is_a_note(host):
    repository = Repository(host.root / "policies")
    good = repository.commit("version: 1\nrules:\n  - {name: all, mode: warn, severity: CRITICAL}\n")
    host.scan(upload=False)
    host.config = host.write_settings({**USERS, "policy": {"url": f"file://{repository.path}"}, "trivy": {"db_dir": str(host.tools / "db")}})
    j = of(host.explain())
    assert (j["rule"], j["notes"], good[:12] in j["policy"]) == ("all", [], True)
    bad = repository.commit("version: 1\nrules:\n  - {name: all}\n")
    fetched = subprocess.run([host.program, "--config", str(host.config), "policy", "fetch"], capture_output=True, text=True, timeout=60)
    assert fetched.returncode == 1
    done = host.explain()
    j = of(done)
    assert good[:12] in j["policy"] and any(bad[:12] in n for n in j["notes"]) and done.stderr == ""


@pytest.mark.parametrize("policy, code", [("version: 1\nrules:\n  - {name: a}\n", USAGE), (None, UNDECIDED)])
def test_a_policy_that_cannot_judge_judges_nothing(host, policy, code):
    host.scan(upload=False)
    host.config = host.write_settings({**USERS, "policy": {"file": str(host.root / "policy.yml")}})
    if policy:
        (host.root / "policy.yml").write_text(policy)
    done = host.explain()
    assert (done.returncode, done.stdout) == (code, "") and "policy.yml" in done.stderr, done.stderr


# ---- ignore files ----

IGNORES = "version: 1\nrules:\n  - {name: all, mode: enforce, severity: CRITICAL, ignore_files: [trivyignore]}\n"


def test_ignore_files_of_the_commit_count_and_those_of_the_work_tree_do_not(host):
    host.configure(policy=IGNORES)
    host.scan(upload=False)
    clone = host.root / "clone"
    clone.mkdir(mode=0o755)
    project = Project(clone)
    sha = project.commit(**{".trivyignore": "CVE-2022-1292\n"})
    project.write(".trivyignore", "\n".join(CRITICAL))
    job = ["--commit", sha, "--repository", str(clone)]
    scanned, j = foretells(host, job=job)
    assert blocking(j) == CRITICAL - {"CVE-2022-1292"}
    scanned, j = foretells(host)
    assert blocking(j) == CRITICAL and any("ignore files of the commit, which is not known" in n for n in j["notes"])
    scanned, j = foretells(host, job=["--commit", "1" * 40, "--repository", str(clone)])
    assert blocking(j) == CRITICAL and set(scanned["notes"]) < set(j["notes"])
    assert len(scanned["notes"]) == 1 and "cannot be read" in scanned["notes"][0]


@pytest.mark.parametrize("args, words", [
    (["--commit", "HEAD"], "the 40 hexadecimal digits"), (["--commit", "1" * 40, "--repository", "/nonexistent"], "is no clone"),
    (["--repository", "."], "needs --commit")])
def test_a_commit_that_is_none_is_wrong_use(host, args, words):
    host.scan(upload=False)
    for done in (host.explain(*args), host.scan(*args, upload=False)):
        assert done.returncode == USAGE and done.stdout == "" and words in done.stderr, done.stderr


# ---- every fate, every member ----

EVERY = """version: 1
contact: appsec@example.org
max_days: 3650
rules:
  - {name: all, mode: enforce, severity: LOW, fixable_only: false, new_only: base, ignore_files: [trivyignore],
     grace: {fixed: 3000, published: 0}, match: {branches: [main]}}
  - {name: strict, mode: enforce, severity: CRITICAL}
exceptions:
  - {id: CVE-2022-1292, expires: %s, reason: none, owner: nobody, package: openssl}
  - {id: CVE-2019-10744, expires: 2020-01-01, reason: ended, owner: nobody}
break_glass:
  - {name: outage, project: group/app, ref: broken, from: %s, hours: 12, who: me, reason: it burns}
"""


def test_every_fate_and_every_member_is_in_the_schema(host, dojo):
    policy = EVERY % (utc(100)[:10], utc(0))
    host.configure(policy=policy)
    host.scan()
    ids = {f["vulnerability_ids"][0]: f["id"] for f in host.findings().values()}
    dojo.accept([ids["CVE-2021-44906"]], expiration_date=utc(9))
    project = Project(host.root / "clone")
    job = ["--commit", project.commit(**{".trivyignore": "CVE-2023-38545\n"}), "--repository", str(project.path)]
    scanned, j = foretells(host, "--fresh", job=job)
    seen = {f["fate"] for f in j["findings"]}
    assert {"accepted", "ignored", "excepted", "grace"} <= seen, seen
    scanned, j = foretells(host, "--fresh", branch="other")
    lapsed = {f["id"]: f["lapsed"] for f in j["findings"] if f["lapsed"]}
    assert "CVE-2019-10744" in lapsed and j["contact"] == "appsec@example.org"
    seen |= {f["fate"] for f in j["findings"]}
    scanned, j = foretells(host, "--fresh", branch="broken", job=["--waiver", "outage"])
    assert (j["waiver"], j["verdict"]) == ("outage", "warn") and j["waiver_until"]
    assert scanned["images"][0]["product_url"].startswith(dojo.url)
    seen |= {f["fate"] for f in j["findings"]}
    # the rule of main compares with what base has
    host.scan(branch="base")
    scanned, j = foretells(host, "--fresh")
    seen |= {f["fate"] for f in j["findings"]}
    assert seen == set(SCHEMA["$defs"]["finding"]["properties"]["fate"]["anyOf"][0]["enum"])


def required(node):
    if isinstance(node, dict):
        if "properties" in node:
            assert set(node["required"]) == set(node["properties"])
        for value in node.values():
            required(value)
    elif isinstance(node, list):
        for value in node:
            required(value)


def rows(page):
    """Of a page's block: what stands in front of each explanation, and the explanation."""
    found = {}
    for line in (SOURCE / "docs/reference" / page).read_text().split("## --json")[-1].split("```")[1].splitlines():
        if line.startswith(" " * 19):
            found[names] += " " + line.strip()
        elif line.startswith("  ") and "  " in line.strip():
            names, text = re.split(r"\s{2,}", line.strip(), maxsplit=1)
            found[names] = text
    return found


def listed(text):
    """The names in "id, fixed (null without a fix), layers[]: size"."""
    while "(" in text:
        text = re.sub(r"\([^()]*\)", "", text)
    return {re.match(r"\w*", part.strip())[0] for part in text.replace("[]:", ",").split(",")}


def properties(kind, *path):
    node = SCHEMA["$defs"][kind]
    for name in path:
        node = node["properties"][name]
        node = node.get("items", node)
        node = next((n for n in node.get("anyOf", []) if n.get("type") != "null"), node)
        node = SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
    return set(node["properties"])


def names_of(page):
    return {name.strip().rstrip("[]") for names in rows(page) for name in names.split(",")}


def test_schema_and_documents_name_the_same_members():
    required(SCHEMA)
    scan = rows("scan-json.md")
    of_report = {"distribution", "counts", "advice", "findings"}
    assert names_of("scan-json.md") == properties("scan") | of_report | {"fault"}
    assert listed(scan["findings[]"]) == properties("finding")
    assert listed(scan["images[]"]) | of_report == properties("image") | properties("image", "layers") | {"null"}
    assert listed(scan["archives[]"]) == properties("scan", "archives")
    for names, path in (("gate", ["scan", "gate"]), ("policy", ["scan", "policy"]), ("trivy", ["scan", "trivy"]),
                        ("distribution", ["image", "distribution"]), ("advice", ["image", "advice"]),
                        ("fault", ["image", "fault"])):
        inside = scan[names][scan[names].index("{") + 1:scan[names].rindex("}")]
        assert listed(re.sub(r": (\"[^,]*, )*", ", ", inside)) - {"", "failed"} == properties(*path), names
    counts = re.findall(r"\w+", scan["counts"])
    assert set(counts) == properties("image", "counts") | properties("image", "counts", "severity")
    assert names_of("policy-explain.md") == properties("explain")
    assert names_of("policy.md") == properties("check")
    assert listed(rows("policy.md")["findings[]"]) == properties("check", "findings")


# ---- for people ----

def test_text_is_grouped_by_fate_the_worst_first_in_short_lines(host, dojo):
    host.scan()
    first, *_ = host.critical()
    dojo.accept([first])
    host.scan()
    done = host.explain(as_json=False)
    lines = done.stdout.splitlines()
    heads = [line for line in lines if line and not line.startswith(" ") and line.endswith(")") and ": " not in line]
    assert [h.split(" ")[0] for h in heads] == ["blocks", "accepted", "below"], done.stdout
    assert "verdict: block" in lines and any(line.startswith("policy: none, the section gate of ") for line in lines)
    assert max(map(len, lines)) <= 80
    assert done.stderr == ""


@pytest.mark.parametrize("text", ["", "{}", '{"version": "2.1.0", "runs": []}', "[]", "\0", '{"SchemaVersion": 3}'])
def test_what_is_no_report_is_wrong_use_and_says_what_is_wanted(host, text):
    report = host.root / "other.json"
    report.write_text(text)
    done = host.explain(report=report)
    assert done.returncode == USAGE and done.stdout == "" and "trivy image --format json" in done.stderr


@pytest.mark.parametrize("name", ["/nonexistent", "/etc"])
def test_a_report_that_cannot_be_read_is_wrong_use(host, name):
    done = host.explain(report=name)
    assert done.returncode == USAGE and done.stdout == "" and name in done.stderr


def test_a_file_is_judged_without_settings_and_says_what_it_does_not_know(host):
    host.scan(upload=False)
    policy = host.root / "policy.yml"
    policy.write_text(IGNORES)
    done = subprocess.run([host.program, "policy", "explain", "--json", "--policy", policy, "--project", "p", "--image", "i",
                           next(host.reports.glob("*.json"))], capture_output=True, text=True, timeout=60)
    j = of(done)
    validate("explain", j)
    assert blocking(j) == CRITICAL and any(n.startswith("without settings (--config)") for n in j["notes"])


@pytest.mark.parametrize("release", ["99.1", "12.5"])
def test_a_release_that_the_database_does_not_know_is_foretold(host, release):
    host.configure(policy="version: 1\nrules:\n  - {name: all, mode: enforce, severity: CRITICAL, fixable_only: true, on_unknown_os: fail}\n")
    steps = [s for s in images.app().steps if "npm" not in s[0]]
    steps[0] = (steps[0][0], images.layer(images.debian(images.FIXED, release=release)))
    images.classic(images.Image(steps, tags=["group/app:1"])).write(host.archive)
    _, j = foretells(host)
    assert j["verdict"] == ("block" if release == "99.1" else "pass"), j
    assert any("knows nothing of debian" in r for r in j["reasons"]) == (release == "99.1")


def test_a_database_that_is_not_there_is_a_note(host):
    host.scan(upload=False)
    host.configure(db="none")
    assert any("knows debian 12 is not known" in n for n in of(host.explain())["notes"])


# ---- tidewaiter scan ----

def test_scan_says_in_a_line_what_it_was_not_told(host):
    done = subprocess.run([host.program, "--config", str(host.config), "scan", "--json", str(host.archive)],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    line = "not known by hand: --project, --branch; a job may meet other rules and triage"
    assert of(done)["notes"] == [line] and line in " ".join(done.stderr.split())
    assert not any("by hand" in n for n in of(host.scan(upload=False))["notes"])
