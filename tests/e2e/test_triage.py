"""Triage: what people have said in DefectDojo is subtracted from the local report, and nothing else is; with a real Trivy."""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from defectdojo import DefectDojo
from dojo_host import USERS, DojoHost, give
from test_spool import Spool

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "fixtures"))

import images  # noqa: E402

PASSED, BLOCKED, UNDECIDED = 0, 1, 3
IS_ROOT = os.geteuid() == 0
CRITICAL = {"CVE-2023-38545", "CVE-2022-1292", "CVE-2019-10744", "CVE-2021-44906", "CVE-2023-23914"}


def utc(days):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def tools(tools):
    """And a database that says other things of the same flaws."""
    other = tools / "reworded"
    other.mkdir()
    subprocess.run([SOURCE / "scripts" / "trivy-db", "--variant", "reworded", other], capture_output=True, check=True)
    other.chmod(0o755)
    return tools


class Host(DojoHost):
    def __init__(self, *fixtures):
        super().__init__(*fixtures)
        self.archive = self.root / "app.tar"
        self.image()
        self.configure()

    def image(self, tag="registry.example.org/group/app:1.0", release="12.5"):
        steps = list(images.app().steps)
        steps[0] = (steps[0][0], images.layer(images.debian([images.OPENSSL, images.CURL], release=release)))
        images.classic(images.Image(steps, tags=[tag])).write(self.archive)

    def configure(self, db="db", policy=None, **defectdojo):
        over = {}
        if policy is not None:
            (self.root / "policy.yml").write_text(policy)
            (self.root / "policy.yml").chmod(0o644)
            over["policy"] = {"file": str(self.root / "policy.yml")}
        self.config = self.write_settings({
            **USERS,
            "trivy": {"path": str(self.tools / "trivy"), "db_dir": str(self.tools / db),
                      "results_max": "0"},  # both databases are of the same second
            "gate": {"mode": "enforce"}, **over,
            "defectdojo": self.defectdojo(**{"wait": "20s", **defectdojo})})

    def scan(self, *more, branch="main", upload=True, project="group/app"):
        self.done = subprocess.run([self.program, "--config", str(self.config), "scan", "--json",
                                    *(["--upload"] if upload else []), "--as", project, "--branch", branch, *more,
                                    str(self.archive)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        return self.done

    def findings(self, branch="main"):
        """Of the test of that branch, by vulnerability."""
        assert self.dojo.products, self.done.stderr
        product, = [p for p in self.dojo.products if p["name"] == "group/app"]
        engagement, = [e for e in self.dojo.engagements if e["name"] == branch and e["product"] == product["id"]]
        test, = [t for t in self.dojo.tests if t["engagement"] == engagement["id"]]
        return {f["vulnerability_ids"][0]: f for f in self.dojo.findings(test["id"])}

    def critical(self, branch="main"):
        return [f["id"] for f in self.findings(branch).values() if f["severity"] == "Critical"]


@pytest.fixture
def host(root, program, settings, tools, dojo):
    return Host(root, program, settings, tools, dojo)


def blocking(done):
    return {f["id"] for i in json.loads(done.stdout)["images"] for f in i["findings"] if f["is_blocking"]}


def test_an_accepted_finding_does_not_block_until_its_acceptance_ends(host, dojo):
    done = host.scan()
    assert done.returncode == BLOCKED and blocking(done) == CRITICAL, done.stdout + done.stderr
    for_ever = host.critical()[:2]
    until = host.critical()[2:]
    dojo.accept(for_ever)
    acceptance = dojo.accept(until, expiration_date=utc(7))
    done = host.scan()
    assert done.returncode == PASSED and blocking(done) == set(), done.stdout + done.stderr
    # ended, whether DefectDojo's nightly work has seen it yet or not
    dojo.store.tables["acceptances"][acceptance["id"]]["expiration_date"] = utc(-1)
    done = host.scan()
    assert done.returncode == BLOCKED and len(blocking(done)) == len(until), done.stdout + done.stderr
    dojo.expire(acceptance["id"])
    assert len(blocking(host.scan())) == len(until)


def test_false_positives_and_what_is_out_of_scope_do_not_block(host, dojo):
    host.scan()
    first, second, *rest = host.critical()
    dojo.set_finding(first, false_p=True, active=False, verified=False)
    dojo.set_finding(second, out_of_scope=True, active=False, verified=False)
    done = host.scan()
    assert done.returncode == BLOCKED and len(blocking(done)) == len(rest)


def test_an_inactive_or_closed_finding_excuses_nothing(host, dojo):
    host.scan()
    first, second, *rest = host.critical()
    dojo.set_finding(first, active=False, verified=False)
    dojo.set_finding(second, is_mitigated=True, active=False)
    assert blocking(host.scan()) == CRITICAL


def test_twenty_tags_and_a_point_release_leave_every_finding_and_acceptance(host, dojo):
    host.scan()
    count = len(host.findings())
    dojo.accept(host.critical())
    names = ["registry.example.org/group/app", "registry.example.org:5000/group/app", "group/app", "localhost/group/app"]
    for n in range(20):
        host.image(f"{names[n % 4]}:1.{n}", release="12.6" if n >= 10 else "12.5")
        done = host.scan()
        assert done.returncode == PASSED, (n, done.stdout + done.stderr)
        actions = [action["action"] for action in dojo.imports[-1]["actions"]]
        assert actions == ["U"] * count, f"tag {n}: untouched, all of them"
    assert len(host.findings()) == count and len(dojo.tests) == 2
    assert all(f["risk_accepted"] and not f["is_mitigated"] for f in host.findings().values()
               if f["severity"] == "Critical")


def test_an_acceptance_on_one_branch_does_not_count_on_another_unless_the_rule_says_so(host, dojo):
    host.scan()
    dojo.accept(host.critical())
    assert host.scan(branch="feature").returncode == BLOCKED
    # now the findings of the branch are there, as duplicates of accepted ones
    assert all(f["duplicate"] for f in host.findings("feature").values())
    assert host.scan(branch="feature").returncode == BLOCKED
    host.configure(policy="version: 1\nrules:\n  - name: all\n    mode: enforce\n    severity: CRITICAL\n"
                          "    accept: { scope: product }\n")
    done = host.scan(branch="feature")
    assert done.returncode == PASSED, done.stdout + done.stderr


def test_an_acceptance_of_another_image_or_product_does_not_count(host, dojo):
    host.scan()
    dojo.accept(host.critical())
    assert host.scan(project="group/other").returncode == BLOCKED
    host.image("registry.example.org/group/other:1.0")
    assert host.scan().returncode == BLOCKED


def test_what_is_ambiguous_excuses_nothing(host, dojo):
    host.scan()
    accepted = host.critical()
    dojo.accept(accepted)
    twin = dojo.store.get("findings", accepted[0])
    dojo.store.add_finding(twin["test"], {k: v for k, v in twin.items() if k not in ("id", "risk_accepted", "active")}
                           | {"active": True})
    done = host.scan(upload=False)
    assert done.returncode == BLOCKED and len(blocking(done)) == 1


@pytest.mark.parametrize("fault", ["403@/api/v2/findings", "500-html@/api/v2/findings", "hang@/api/v2/findings",
                                   "200-html@/api/v2/findings", "502@any", "half@/api/v2/findings", "garbage@/api/v2/findings",
                                   "trickle:0.2@/api/v2/findings", "truncated@/api/v2/findings", "301@/api/v2/findings",
                                   "302-login@/api/v2/findings", "201-endless@/api/v2/findings"])
def test_a_server_that_cannot_be_asked_excuses_nothing_but_what_it_said_lately(host, dojo, fault):
    host.scan()
    dojo.accept(host.critical())
    host.configure(wait="1s")
    dojo.fault = fault
    done = host.scan(upload=False)
    # what was kept is of before the acceptances
    assert blocking(done) == CRITICAL
    dojo.fault = None
    assert host.scan(upload=False).returncode == PASSED
    dojo.fault = fault
    done = host.scan(upload=False)
    assert done.returncode == PASSED and "triage is" in done.stderr, done.stderr
    host.configure(wait="1s", triage_max_age="0")
    for name in (host.state / "triage").glob("*.json"):
        kept = json.loads(name.read_text())
        kept["fetched_s"] -= 3600
        name.write_text(json.dumps(kept))
    done = host.scan(upload=False)
    assert done.returncode == BLOCKED and "triage excuses nothing" in done.stderr, done.stderr
    assert dojo.token not in done.stdout + done.stderr


def test_a_server_that_took_no_delivery_a_moment_ago_is_not_asked(host, dojo):
    dojo.fault = "502@any"
    host.scan()
    dojo.fault = None
    n = len(dojo.requests)
    done = host.scan(upload=False)
    assert len(dojo.requests) == n and "is not asked" in done.stderr, done.stderr


@pytest.mark.skipif(not IS_ROOT, reason="there is one user")
def test_what_is_kept_is_the_couriers_alone(host, dojo):
    host.scan()
    dojo.accept(host.critical())
    host.scan()
    for name in ("triage", "baselines"):
        place = host.state / name
        assert place.stat().st_mode & 0o777 == 0o700 and place.owner() == "daemon"
        files = [p for p in place.rglob("*") if p.is_file()]
        assert files and all(p.stat().st_mode & 0o777 == 0o600 and p.owner() == "daemon" for p in files)
        assert all(dojo.token not in p.read_text() for p in files)


NEW_ONLY = "version: 1\nrules:\n  - name: all\n    mode: enforce\n    severity: CRITICAL\n    new_only: main\n"


def reasons(done):
    return [r for i in json.loads(done.stdout)["images"] for r in i["reasons"]]


def test_new_only_blocks_what_the_named_branch_does_not_have_and_names_it(host, dojo):
    host.configure(policy=NEW_ONLY)
    assert host.scan(branch="feature").returncode == BLOCKED
    # it has no baseline either, and leaves one
    assert host.scan(branch="main").returncode == BLOCKED
    done = host.scan(branch="feature")
    assert done.returncode == PASSED, done.stdout + done.stderr
    host.configure(policy=NEW_ONLY, db="reworded/db")
    done = host.scan(branch="feature")
    # a flaw that is there already is known, whatever its severity has become
    assert done.returncode == PASSED, done.stdout
    steps = list(images.app().steps)
    steps[0] = (steps[0][0], images.layer(images.debian([images.OPENSSL])))
    images.classic(images.Image(steps, tags=["group/app:2"])).write(host.archive)
    host.configure(policy=NEW_ONLY)
    assert host.scan(branch="main").returncode == PASSED, "what went is no reason to block"
    host.image()
    done = host.scan(branch="feature")
    assert done.returncode == BLOCKED and blocking(done) == {"CVE-2023-38545", "CVE-2023-23914"}
    assert reasons(done) == ["it adds 2 findings that are CRITICAL to what main has: CVE-2023-23914, CVE-2023-38545"]
    # another image has no such baseline
    host.image("registry.example.org/group/other:1.0")
    assert host.scan(branch="feature").returncode == BLOCKED


def test_a_duplicate_counts_as_its_original_does(host, dojo):
    host.scan()
    dojo.accept(host.critical())
    # the same branch and image in another test: all of it duplicates
    host.configure(test="{image} again")
    assert host.scan().returncode == PASSED
    again, = [t for t in dojo.tests if t["title"] == "group/app again"]
    assert all(f["duplicate"] for f in dojo.findings(again["id"]))
    assert host.scan().returncode == PASSED
    # an original that was closed leaves its duplicates inactive for ever, and no finding active (FACTS.md, 1.1)
    original = dojo.store.get("findings", next(f for f in dojo.findings(again["id"]) if f["severity"] == "Critical")["duplicate_finding"])
    dojo.set_finding(original["id"], is_mitigated=True, active=False)
    assert blocking(host.scan(upload=False)) == {original["vulnerability_ids"][0]}
    dojo.set_finding(original["id"], is_mitigated=False, active=False)
    assert host.scan(upload=False).returncode == PASSED
    for acceptance in dojo.acceptances:
        dojo.expire(acceptance["id"])
    assert host.scan().returncode == BLOCKED


def test_one_package_in_two_places_is_one_finding_and_its_duplicate(host, dojo):
    """DefectDojo's hash has no place of a package of a language; nobody could accept the second one."""
    steps = [*images.app().steps, ("RUN npm ci", images.layer(images.npm([images.LODASH, images.MINIMIST], where="srv")))]
    images.classic(images.Image(steps)).write(host.archive)
    host.scan()
    places = {f["file_path"]: f for f in dojo.findings() if f["vulnerability_ids"] == ["CVE-2019-10744"]}
    assert {f["duplicate"] for f in places.values()} == {True, False} and len(places) == 2
    dojo.accept([f["id"] for f in dojo.findings() if f["severity"] == "Critical" and not f["duplicate"]])
    for _ in range(2):
        done = host.scan()
        assert done.returncode == PASSED, done.stdout + done.stderr
    # a twin that is open there is none that anybody has accepted
    twin, = [f for f in places.values() if f["duplicate"]]
    dojo.set_finding(twin["id"], duplicate=False, is_mitigated=False, active=True)
    done = host.scan(upload=False)
    assert done.returncode == BLOCKED and blocking(done) == {"CVE-2019-10744"}, done.stdout + done.stderr


def test_products_of_their_own_for_each_image_are_asked_for_by_the_project(host, dojo):
    own = {"product": "{project_path}/{image}", "test": "trivy"}
    host.configure(**own)
    host.scan()
    name = "group/app/group/app"
    assert [p["name"] for p in dojo.products] == ["foreign", name]
    dojo.accept([f["id"] for f in dojo.findings() if f["severity"] == "Critical"])
    done = host.scan()
    assert done.returncode == PASSED, done.stdout[-3000:] + done.stderr
    # what another image's people have accepted, and what another project's have
    host.image("registry.example.org/group/other:1.0")
    assert host.scan().returncode == BLOCKED
    host.image()
    assert host.scan(project="group/ap").returncode == BLOCKED
    assert host.scan(project="group").returncode == BLOCKED
    # kept under the project's own name
    host.configure(wait="1s", **own)
    dojo.fault = "502@any"
    done = host.scan(upload=False)
    assert done.returncode == PASSED and "triage is" in done.stderr, done.stderr


def test_a_product_that_an_image_alone_names_is_nobodys_to_ask_for(host, dojo):
    host.configure(product="{image}")
    host.scan()
    dojo.accept([f["id"] for f in dojo.findings("group/app") if f["severity"] == "Critical"])
    done = host.scan(upload=False)
    assert done.returncode == BLOCKED, done.stdout
    assert "triage excuses nothing: defectdojo.product depends on the image" in done.stderr, done.stderr


RAISED, FIXED = "CVE-2022-0778", "CVE-2023-23914"  # was HIGH and is CRITICAL; had no fix and has one
REWORDED = {"CVE-2023-38545", RAISED, FIXED}


def test_a_reworded_advisory_ends_acceptances_where_texts_are_not_kept(host, dojo):
    host.scan()
    dojo.accept(host.critical())
    host.configure(db="reworded/db")
    host.scan()
    assert {f["vulnerability_ids"][0] for f in dojo.findings() if f["is_mitigated"]} == REWORDED
    assert host.scan(upload=False).returncode == BLOCKED


def test_kept_texts_keep_acceptances_and_what_is_shown_is_up_to_date(host, dojo):
    host.configure(keep_text="true")
    host.scan()
    before = host.findings()
    dojo.accept([f["id"] for f in before.values()])
    assert host.scan().returncode == PASSED
    host.configure(db="reworded/db", keep_text="true")
    done = host.scan()
    after = host.findings()
    assert "3 brought up to date" in done.stderr, done.stderr
    assert {n: f["id"] for n, f in after.items()} == {n: f["id"] for n, f in before.items()}, "nothing new, nothing closed"
    assert all(f["risk_accepted"] and not f["is_mitigated"] for f in after.values())
    assert {n: f["hash_code"] for n, f in after.items()} == {n: f["hash_code"] for n, f in before.items()}
    assert after[RAISED]["severity"] == "Critical" and before[RAISED]["severity"] == "High"
    assert after[FIXED]["mitigation"] == "7.88.1-10+deb12u9" and not before[FIXED]["mitigation"]
    assert "SOCKS5 handshake copies" in after["CVE-2023-38545"]["description"]
    assert "**Severity raised:** High to Critical" in after[RAISED]["description"]
    for request in [r for r in dojo.requests if r.method == "PATCH"]:
        assert set(json.loads(request.body)) <= {"severity", "mitigation", "description"}
    # the next one has nothing to mend
    n = len([r for r in dojo.requests if r.method == "PATCH"])
    assert n == 3
    done = host.scan()
    assert len([r for r in dojo.requests if r.method == "PATCH"]) == n and "brought up" not in done.stderr


def test_bringing_up_to_date_leaves_every_kind_of_triage_as_it_was(host, dojo):
    host.configure(keep_text="true")
    host.scan()
    before = host.findings()
    dojo.set_finding(before[RAISED]["id"], false_p=True, active=False, verified=False)
    dojo.set_finding(before[FIXED]["id"], out_of_scope=True, active=False, verified=False)
    dojo.set_finding(before["CVE-2023-38545"]["id"], active=False, verified=False)
    kept = ("active", "verified", "false_p", "out_of_scope", "risk_accepted", "duplicate", "is_mitigated", "hash_code")
    triaged = {n: [host.findings()[n][k] for k in kept] for n in REWORDED}
    host.configure(db="reworded/db", keep_text="true")
    host.scan()
    after = host.findings()
    assert {n: [after[n][k] for k in kept] for n in REWORDED} == triaged
    assert {n: f["id"] for n, f in after.items()} == {n: f["id"] for n, f in before.items()}
    patches = [set(json.loads(r.body)) for r in dojo.requests if r.method == "PATCH"]
    assert patches and all(fields <= {"severity", "mitigation", "description"} for fields in patches)
    assert not [r for r in dojo.requests if r.method in ("PUT", "DELETE")]


def test_an_acceptance_of_a_high_is_none_of_a_critical_unless_the_rule_says_so(host, dojo):
    host.configure(keep_text="true")
    host.scan()
    dojo.accept([f["id"] for f in host.findings().values()])
    host.configure(db="reworded/db", keep_text="true")
    # judged before anything was sent, and after it was brought up to date
    for done in (host.scan(), host.scan()):
        assert done.returncode == BLOCKED and blocking(done) == {RAISED}, done.stdout + done.stderr
    # accepted anew it is one of a CRITICAL
    finding = host.findings()[RAISED]
    old, = [a for a in dojo.acceptances if finding["id"] in a["accepted_findings"]]
    policy = "version: 1\nrules:\n  - name: all\n    mode: enforce\n    severity: CRITICAL\n    accept: { raised_severity: keep }\n"
    host.configure(db="reworded/db", keep_text="true", policy=policy)
    assert host.scan().returncode == PASSED
    host.configure(db="reworded/db", keep_text="true")
    dojo.store.unaccept(dojo.store.get("findings", finding["id"]), active=True)
    dojo.accept([finding["id"]], name="again")
    new = dojo.store.tables["acceptances"][max(dojo.store.tables["acceptances"])]
    new["created"] = utc(1).replace("Z", ".000000Z")
    assert old["id"] != new["id"]
    done = host.scan()
    assert done.returncode == PASSED, done.stdout + done.stderr


def test_the_servers_own_remedy_keeps_acceptances_too_and_the_gate_asks_again(host, dojo):
    """What doctor names: DD_HASHCODE_FIELDS_PER_SCANNER. The finding there stays a HIGH for ever."""
    dojo.store.hash_code_fields = ["title", "vulnerability_ids", "file_path"]
    host.scan()
    before = host.findings()
    dojo.accept([f["id"] for f in before.values()])
    host.configure(db="reworded/db")
    for done in (host.scan(), host.scan()):
        assert blocking(done) == {RAISED}, done.stdout + done.stderr
    after = host.findings()
    assert {n: f["id"] for n, f in after.items()} == {n: f["id"] for n, f in before.items()}
    assert all(f["risk_accepted"] and not f["is_mitigated"] for f in after.values()) and after[RAISED]["severity"] == "High"
    policy = "version: 1\nrules:\n  - name: all\n    mode: enforce\n    severity: CRITICAL\n    accept: { raised_severity: keep }\n"
    host.configure(db="reworded/db", policy=policy)
    assert host.scan().returncode == PASSED


@pytest.mark.parametrize("fault", ["502@/api/v2/findings", "403@/api/v2/findings"])
def test_what_could_not_be_brought_up_to_date_is_by_the_next_delivery(host, dojo, fault):
    host.configure(keep_text="true")
    host.scan()
    host.configure(db="reworded/db", keep_text="true")
    dojo.fault = fault
    done = host.scan()
    assert "still have the texts of before" in done.stderr, done.stderr
    assert host.findings()[RAISED]["severity"] == "High"
    dojo.fault = None
    done = host.scan()
    assert host.findings()[RAISED]["severity"] == "Critical" and len(host.findings()) == 19


def test_texts_that_cannot_be_read_keep_a_report_in_the_spool(host, dojo):
    host.configure(keep_text="true")
    host.scan()
    kept, = (host.state / "texts").glob("*.json")
    good = kept.read_bytes()
    kept.write_text("{")
    n = len(dojo.uploads)
    done = host.scan()
    assert "keep_text" in done.stderr and len(dojo.uploads) == n
    kept.write_bytes(good)
    flushed = subprocess.run([host.program, "--config", str(host.config), "spool", "flush", "--now"],
                             capture_output=True, text=True, timeout=60)
    assert flushed.returncode == 0 and len(dojo.uploads) == n + 1, flushed.stdout + flushed.stderr


def test_a_severity_that_was_too_low_to_be_imported_does_not_hide_what_it_has_become(host, dojo):
    host.configure(keep_text="true", minimum_severity="Critical")
    host.scan()
    assert RAISED not in host.findings()
    host.configure(db="reworded/db", keep_text="true", minimum_severity="Critical")
    host.scan()
    assert host.findings()[RAISED]["severity"] == "Critical"
    # and one that sinks below it is closed, as without kept texts
    host.configure(keep_text="true", minimum_severity="Critical")
    host.scan()
    assert host.findings()[RAISED]["is_mitigated"]


def test_a_server_that_is_new_is_told_everything(host, dojo):
    host.configure(keep_text="true")
    host.scan()
    host.configure(db="reworded/db", keep_text="true")
    host.scan()
    with DefectDojo(token=dojo.token) as other:
        host.dojo = other
        host.configure(db="reworded/db", keep_text="true")
        done = host.scan()
        after = host.findings()
        assert after[RAISED]["severity"] == "Critical" and after[FIXED]["mitigation"], done.stderr
        assert len(after) == 19 and not any(f["is_mitigated"] for f in after.values())


# ---- names and histories that could excuse more ----

def openssl_alone(host):
    steps = list(images.app().steps)
    steps[0] = (steps[0][0], images.layer(images.debian([images.OPENSSL])))
    images.classic(images.Image(steps, tags=["registry.example.org/group/app:1.0"])).write(host.archive)


def test_a_branch_whose_name_ends_in_a_wide_blank_is_not_the_one_without(host, dojo):
    host.configure(policy=NEW_ONLY)
    openssl_alone(host)
    host.scan(branch="main")
    host.image()
    for _ in range(2):
        assert host.scan(branch="main\u00a0").returncode == BLOCKED
    assert host.scan(branch="feature").returncode == BLOCKED
    assert {e["name"] for e in dojo.engagements} >= {"main", "main?00a0", "feature"}


@pytest.mark.parametrize("name", ["app", "**Severity raised:** x"])
def test_a_name_does_not_hide_that_a_severity_was_raised(host, dojo, name):
    host.archive = host.root / f"{name}.tar"
    steps = list(images.app().steps)
    steps[0] = (steps[0][0], images.layer(images.debian([images.OPENSSL, images.CURL])))
    images.classic(images.Image(steps, tags=[])).write(host.archive)
    host.configure(keep_text="true")
    host.scan()
    dojo.accept([f["id"] for f in host.findings().values()])
    assert host.scan().returncode == PASSED
    host.configure(db="reworded/db", keep_text="true")
    assert [host.scan().returncode for _ in range(3)] == [BLOCKED] * 3


def test_a_severity_that_went_up_and_down_many_times_is_still_known_to_have_been_raised(host, dojo):
    host.configure(keep_text="true")
    host.scan()
    f = host.findings()[RAISED]
    dojo.store.get("findings", f["id"])["description"] += "".join(
        f"\n**Severity raised:** High to Critical at 2020-01-{day:02}T00:00:00Z" for day in range(1, 26))
    dojo.accept([x["id"] for x in host.findings().values()])
    time.sleep(2)
    host.configure(db="reworded/db", keep_text="true")
    assert [host.scan().returncode for _ in range(2)] == [BLOCKED] * 2
    kept, = (host.state / "texts").glob("*.json")
    texts = json.loads(kept.read_text())
    for x in texts["findings"]:
        x["told_words"] = "0" * 32  # as where the advisory was worded anew
    kept.write_text(json.dumps(texts))
    assert [host.scan().returncode for _ in range(2)] == [BLOCKED] * 2
    assert host.findings()[RAISED]["description"].count("**Severity raised:** High to Critical") == 1


@pytest.mark.parametrize("ahead_s", [840, -840])
def test_a_clock_that_differs_does_not_make_an_acceptance_of_a_high_one_of_a_critical(host, dojo, ahead_s):
    dojo.store.ahead_s = ahead_s
    host.configure(keep_text="true")
    host.scan()
    dojo.accept([f["id"] for f in host.findings().values()])
    assert host.scan().returncode == PASSED
    time.sleep(2)
    host.configure(db="reworded/db", keep_text="true")
    for _ in range(2):
        done = host.scan()
        assert done.returncode == BLOCKED and blocking(done) == {RAISED}, done.stdout + done.stderr
    # and one of the CRITICAL is one, once it was asked for after it rose
    time.sleep(3)
    for acceptance in dojo.acceptances:
        dojo.store.tables["acceptances"][acceptance["id"]]["created"] = dojo.store.now()
    assert host.scan().returncode == PASSED


def test_a_tag_that_is_named_like_a_branch_closes_nothing_of_it(host, dojo):
    host.scan()
    dojo.accept(host.critical())
    openssl_alone(host)
    done = host.scan("--tag")
    assert done.returncode == BLOCKED and "delivered" in done.stderr, done.stderr
    assert {e["name"] for e in dojo.engagements} == {"main", "refs/tags/main"}
    host.image()
    assert host.scan().returncode == PASSED


@pytest.mark.parametrize("by", ["job", "flush"])
def test_a_report_that_waits_goes_as_its_own_project_wants_it(host, dojo, by):
    def configure(db):
        host.config = host.write_settings({
            **USERS, "trivy": {"path": str(host.tools / "trivy"), "db_dir": str(host.tools / db), "results_max": "0"},
            "gate": {"mode": "enforce"}, "defectdojo": host.defectdojo(wait="20s"),
            "projects": [{"match": "group/app", "defectdojo": {"keep_text": "true"}}]})

    configure("db")
    host.scan()
    dojo.accept([f["id"] for f in host.findings().values()])
    configure("reworded/db")
    dojo.fault = "502@/api/v2/reimport-scan"
    assert "waits in the spool" in host.scan().stderr
    spool = Spool(host.root, None, None, dojo)
    waiting, = spool.new()
    dojo.fault = None
    spool.let_time_pass()
    if by == "job":
        assert "earlier report" not in host.scan(project="group/other").stderr and spool.new() == [waiting]
        host.scan()
    else:
        done = subprocess.run([host.program, "--config", str(host.config), "spool", "flush"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    assert spool.new() == []
    assert all(f["risk_accepted"] and not f["is_mitigated"] for f in host.findings().values())
    # by a project that wants the same it goes
    dojo.fault = "502@/api/v2/reimport-scan"
    host.scan(project="group/third")
    dojo.fault = None
    spool.let_time_pass()
    assert "1 earlier report" in host.scan(project="group/other").stderr


def own(branch="main"):
    return f"version: 1\nrules:\n  - name: all\n    mode: enforce\n    severity: CRITICAL\n    new_only: {branch}\n"


ADDED = {"CVE-2023-38545", "CVE-2023-23914"}


def test_a_blocked_job_does_not_excuse_its_own_retry(host, dojo):
    host.configure(policy=own())
    openssl_alone(host)
    # nothing is known: what is there already is named once, and taken for known from then on
    assert [host.scan().returncode for _ in range(2)] == [BLOCKED, PASSED]
    host.image()
    for _ in range(3):
        done = host.scan()
        assert done.returncode == BLOCKED and blocking(done) == ADDED, done.stdout
        assert reasons(done) == ["2 findings are CRITICAL and new on main: CVE-2023-23914, CVE-2023-38545"]
    # others have it from there
    assert host.scan(branch="feature").returncode == PASSED
    # what was excused for a while is no more known than it was
    dojo.accept([f["id"] for f in host.findings().values()])
    assert host.scan().returncode == PASSED
    for acceptance in dojo.acceptances:
        dojo.expire(acceptance["id"])
    assert blocking(host.scan()) == ADDED
    # without them it passes, and with them once more it does not
    openssl_alone(host)
    assert host.scan().returncode == PASSED
    host.image()
    assert blocking(host.scan()) == ADDED
    # who lets it pass takes them as known
    host.configure(policy=own().replace("enforce", "warn"))
    host.scan()
    host.configure(policy=own())
    assert host.scan().returncode == PASSED


def move(host, name, policy):
    """To another host; one that has been there before is as it was."""
    place = host.root / name
    if not place.exists():
        (place / "spool").mkdir(mode=0o700, parents=True)
        place.chmod(0o711)
        give(place / "spool")
    host.state = place
    real = host.write_settings
    host.write_settings = lambda over: real({**over, "state_dir": str(place)})
    host.configure(policy=policy)
    host.write_settings = real


def test_a_blocked_job_does_not_excuse_its_retry_on_another_host(host, dojo):
    """Which sees in DefectDojo what the blocked one found."""
    def elsewhere(name):
        move(host, name, own())

    elsewhere("a")
    openssl_alone(host)
    assert [host.scan().returncode for _ in range(2)] == [BLOCKED, PASSED]
    elsewhere("b")
    # it knows what a has delivered, and leaves that as its own
    assert host.scan().returncode == PASSED
    elsewhere("a")
    host.image()
    time.sleep(1.1)  # what is let pass is told from what came later by the second
    assert blocking(host.scan()) == ADDED
    for _ in range(2):
        # b knows what it was before that; c, which knows nothing itself, what is older in DefectDojo
        for name in "bc":
            elsewhere(name)
            done = host.scan()
            assert blocking(done) == ADDED, done.stdout
    assert "-blocked-" in dojo.test("group/app")["build_id"]
    # a clean one on any of them ends it for all
    openssl_alone(host)
    elsewhere("b")
    assert host.scan().returncode == PASSED
    elsewhere("a")
    assert host.scan().returncode == PASSED
    host.image()
    assert blocking(host.scan()) == ADDED


def test_what_nobody_could_judge_is_not_known_afterwards(host, dojo):
    host.configure(policy=own())
    openssl_alone(host)
    assert [host.scan().returncode for _ in range(2)] == [BLOCKED, PASSED]
    host.image()
    host.configure(policy=own() + "nonsense: 1\n")
    assert host.scan().returncode == UNDECIDED
    host.configure(policy=own())
    assert blocking(host.scan()) == ADDED


def test_a_branch_that_was_clean_is_known_to_hosts_that_were_never_there(host, dojo):
    """Of which DefectDojo has not one finding."""
    clean = [("RUN x", images.layer(images.debian(images.FIXED)))]
    images.classic(images.Image(clean, tags=["registry.example.org/group/app:1.0"])).write(host.archive)
    move(host, "a", own())
    assert [host.scan().returncode for _ in range(2)] == [PASSED, PASSED]
    host.image()
    for name in "bba":
        move(host, name, own())
        done = host.scan()
        assert blocking(done) == CRITICAL, done.stdout
        assert "new on main" in " ".join(reasons(done)), (name, reasons(done))


def test_what_is_excepted_hides_nothing_that_was_there_before(host, dojo):
    excepted = own() + "exceptions:\n" + "".join(f"  - {{id: {x}, reason: r, owner: team, expires: {utc(20)[:10]}}}\n" for x in sorted(ADDED))
    move(host, "a", own())
    openssl_alone(host)
    assert [host.scan().returncode for _ in range(2)] == [BLOCKED, PASSED]
    host.image()
    time.sleep(1.1)
    move(host, "a", excepted)
    assert host.scan().returncode == PASSED
    for name in "bcb":
        move(host, name, excepted)
        assert host.scan().returncode == PASSED, host.done.stdout
    # and is known for no longer than the exception lasts
    for name in "abd":
        move(host, name, own())
        assert blocking(host.scan(upload=False)) == ADDED, host.done.stdout
    openssl_alone(host)
    move(host, "d", own())
    assert host.scan().returncode == PASSED



def lodash_in(host, *places):
    steps = [s for s in images.app().steps if "npm" not in s[0]]
    steps += [(f"RUN npm ci {place}", images.layer(images.npm([images.LODASH, images.MINIMIST], where=place))) for place in places]
    images.classic(images.Image(steps, tags=["registry.example.org/group/app:1.0"])).write(host.archive)


@pytest.mark.parametrize("places", [("usr/src/app",), ("app", "srv"), ("srv", "app", "opt")])
def test_a_package_of_a_language_that_has_moved_or_come_again_is_what_was_accepted(host, dojo, places):
    lodash_in(host, "app")
    host.scan()
    dojo.accept(host.critical())
    assert host.scan().returncode == PASSED
    lodash_in(host, *places)
    for _ in range(3):
        done = host.scan()
        assert done.returncode == PASSED, done.stdout
    # another version of it, or another image, is another finding
    host.image("registry.example.org/group/other:1.0")
    assert host.scan().returncode == BLOCKED


def test_where_the_server_tells_places_apart_each_is_for_itself(host, dojo):
    dojo.store.hash_code_fields[:] = ["title", "vulnerability_ids", "file_path"]
    lodash_in(host, "app")
    host.scan()
    dojo.accept(host.critical())
    assert host.scan().returncode == PASSED
    lodash_in(host, "app", "srv")
    host.scan()
    done = host.scan()
    assert done.returncode == BLOCKED and blocking(done) == {"CVE-2019-10744", "CVE-2021-44906"}
    # in whatever state the other one is
    for f in dojo.findings(dojo.test("group/app")["id"]):
        if f["file_path"].startswith("srv"):
            dojo.set_finding(f["id"], active=False, verified=False)
    assert host.scan(upload=False).returncode == BLOCKED


def test_a_wide_blank_within_a_name_stays(host, dojo):
    host.configure(product="{project_path}\u3000{image}", engagement="\u958b\u767a\u3000{branch}")
    done = host.scan()
    assert "delivered" in done.stderr, done.stderr
    assert "group/app\u3000group/app" in [p["name"] for p in dojo.products]
    assert "\u958b\u767a\u3000main" in [e["name"] for e in dojo.engagements]
    dojo.accept([f["id"] for f in dojo.findings() if f["severity"] == "Critical"])
    assert host.scan().returncode == PASSED


def test_a_proxy_whose_clock_is_behind_does_not_date_what_was_raised_before_it_was_accepted(host, dojo):
    dojo.front_ahead_s = -600
    host.configure(keep_text="true")
    host.scan()
    dojo.accept([f["id"] for f in host.findings().values()])
    host.configure(db="reworded/db", keep_text="true")
    for _ in range(2):
        assert blocking(host.scan()) == {RAISED}


def test_who_accepts_while_a_severity_is_being_raised_has_accepted_what_was_there(host, dojo):
    host.configure(keep_text="true")
    host.scan()
    raised = host.findings()[RAISED]["id"]
    host.configure(db="reworded/db", keep_text="true")
    others = [f["id"] for f in host.findings().values() if f["id"] != raised]
    dojo.accept(others)
    n = len(dojo.requests)
    dojo.fault = f"slow:4@/api/v2/findings/{raised}/"
    scanning = threading.Thread(target=host.scan)
    scanning.start()
    dojo.wait_for(lambda: [r for r in dojo.requests[n:] if r.method == "PATCH" and r.path.endswith(f"/{raised}/")])
    time.sleep(2.5)
    assert dojo.store.get("findings", raised)["severity"] == "High"
    dojo.accept([raised])
    scanning.join()
    dojo.fault = None
    for _ in range(2):
        assert blocking(host.scan()) == {RAISED}


def test_an_acceptance_of_a_critical_outlives_a_while_in_which_it_was_a_high(host, dojo):
    """As where two hosts have databases of different days."""
    reworded = {"db": "reworded/db", "keep_text": "true"}
    host.configure(**reworded)
    host.scan()
    dojo.accept([f["id"] for f in host.findings().values()])
    for _ in range(2):
        time.sleep(1.2)
        host.configure(keep_text="true")
        assert host.scan().returncode == PASSED and host.findings()[RAISED]["severity"] == "High"
        # asked while DefectDojo still has it as a HIGH, and not any more once it was told
        host.configure(**reworded)
        assert blocking(host.scan()) == {RAISED}
        for _ in range(2):
            done = host.scan()
            assert done.returncode == PASSED, done.stdout
        assert host.findings()[RAISED]["severity"] == "Critical"
    # accepted in such a while, it is one of a HIGH
    host.configure(keep_text="true")
    host.scan()
    acceptance = dojo.acceptances[0]
    time.sleep(1.2)
    dojo.store.tables["acceptances"][acceptance["id"]]["created"] = dojo.store.now()
    host.configure(**reworded)
    for _ in range(2):
        assert blocking(host.scan()) == {RAISED}


def test_what_a_person_has_set_lower_and_accepted_so_was_accepted_so(host, dojo):
    host.configure(db="reworded/db", keep_text="true")
    host.scan()
    raised = host.findings()[RAISED]["id"]
    dojo.set_finding(raised, severity="Medium")
    dojo.accept([f["id"] for f in host.findings().values()])
    time.sleep(1.2)
    host.configure(keep_text="true")
    host.scan()
    host.configure(db="reworded/db", keep_text="true")
    for _ in range(2):
        assert blocking(host.scan()) == {RAISED}


def test_what_is_raised_is_told_of_a_package_that_has_moved(host, dojo):
    host.configure(keep_text="true")
    lodash_in(host, "app")
    host.scan()
    lodash_in(host, "srv")
    host.configure(db="reworded/db", keep_text="true")
    host.scan()
    reworded = {f["vulnerability_ids"][0]: f for f in dojo.findings(dojo.test("group/app")["id"])}
    assert len(reworded) == len(dojo.findings(dojo.test("group/app")["id"])) and not any(f["is_mitigated"] for f in reworded.values())


def test_a_token_that_may_not_edit_findings_is_not_tried_on_each(host, dojo):
    host.configure(keep_text="true")
    host.scan()
    host.configure(db="reworded/db", keep_text="true")
    dojo.fault = [f"403@/api/v2/findings/{f['id']}/" for f in host.findings().values()]
    n = len(dojo.requests)
    done = host.scan()
    assert "still have the texts of before" in done.stderr and "HTTP 403" in done.stderr
    assert len([r for r in dojo.requests[n:] if r.method == "PATCH"]) == 1


@pytest.mark.parametrize("what", ["secrets: fail", "misconfigurations: HIGH"])
def test_a_rule_that_reacts_to_what_nobody_looks_for_says_so(host, dojo, what):
    host.configure(policy=f"version: 1\nrules:\n  - name: all\n    mode: enforce\n    {what}\n")
    assert "nobody looks for any: trivy.scanners" in host.scan().stdout


def test_a_system_without_any_of_its_packages_is_told_beside_those_of_a_language(host, dojo):
    steps = [s for s in images.app().steps if "npm" in s[0]]
    files = {k: v for k, v in images.debian([images.OPENSSL]).items() if "dpkg" not in k}
    images.classic(images.Image([("FROM debian", images.layer(files)), *steps], tags=["app:1"])).write(host.archive)
    host.configure(policy="version: 1\nrules:\n  - name: all\n    mode: enforce\n    severity: CRITICAL\n    on_no_packages: fail\n    fixable_only: true\n")
    done = host.scan(upload=False)
    assert "no packages of its operating system" in " ".join(reasons(done)), done.stdout


def test_what_came_through_a_feature_branch_can_be_accepted_on_main(host, dojo):
    """Whose findings DefectDojo has as duplicates of the branch's, for ever."""
    host.scan(branch="feature")
    host.scan(branch="main")
    assert all(f["duplicate"] for f in host.findings("main").values())
    dojo.accept(host.critical("feature"))
    assert host.scan(branch="main").returncode == BLOCKED
    dojo.accept(host.critical("main"))
    assert host.scan(branch="main").returncode == PASSED
    for acceptance in dojo.acceptances:
        dojo.expire(acceptance["id"])
    assert host.scan(branch="main").returncode == BLOCKED


@pytest.mark.parametrize("again", ["false_p", "accept"])
def test_what_was_said_before_an_advisory_changed_its_severity_contradicts_nothing_said_since(host, dojo, again):
    host.scan()
    others = [f["id"] for f in host.findings().values() if f["vulnerability_ids"] != [RAISED]]
    dojo.accept(others)
    dojo.set_finding(host.findings()[RAISED]["id"], false_p=True, active=False, verified=False)
    host.configure(db="reworded/db")
    host.scan()
    assert RAISED in blocking(host.scan())
    test = dojo.test("group/app")["id"]
    new, = [f["id"] for f in dojo.findings(test) if f["vulnerability_ids"] == [RAISED] and f["active"]]
    if again == "accept":
        dojo.accept([new])
    else:
        dojo.set_finding(new, false_p=True, active=False, verified=False)
    assert RAISED not in blocking(host.scan())
    dojo.set_finding(new, false_p=False, risk_accepted=False, active=True)
    assert RAISED in blocking(host.scan(upload=False))


def test_values_and_branches_that_were_shortened_are_what_was_accepted(host, dojo):
    steps = list(images.app().steps)
    name, version, *rest = images.CURL
    steps[0] = (steps[0][0], images.layer(images.debian([images.OPENSSL, (name, "7.88.1-10~" + "a" * 110, *rest)])))
    images.classic(images.Image(steps, tags=["registry.example.org/group/app:1.0"])).write(host.archive)
    branch = "feature/" + "x" * 200
    host.scan(branch=branch)
    test = dojo.test("group/app")
    assert len(test["branch_tag"]) == 150
    findings = dojo.findings(test["id"])
    assert any(len(f["component_version"]) == 100 for f in findings)
    dojo.accept([f["id"] for f in findings if f["severity"] == "Critical"])
    done = host.scan(branch=branch)
    assert done.returncode == PASSED, done.stdout
    assert host.scan(branch=branch[:-1] + "y").returncode == BLOCKED


def test_secrets_and_misconfigurations_that_block_are_listed_in_log_and_page(host, root):
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL\n" * 12 + "-----END RSA PRIVATE KEY-----\n"
    token = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
    files = {"srv/keys/id_rsa": key.encode(), "app/.env": f"A=b\nGITHUB={token}\n".encode(), "app/Dockerfile": b"FROM debian:latest\nRUN apt-get update\n"}
    images.classic(images.Image([("FROM debian", images.layer(images.debian(images.FIXED))), ("COPY . /", images.layer(files))],
                                tags=["app:1"])).write(host.archive)
    (root / "policy.yml").write_text("version: 1\nrules:\n  - {name: all, mode: enforce, secrets: fail, misconfigurations: LOW}\n")
    (root / "policy.yml").chmod(0o644)
    (root / "out").mkdir(mode=0o755)
    config = host.write_settings({**USERS, "trivy": {"path": str(host.tools / "trivy"), "db_dir": str(host.tools / "db"), "results_max": "0",
                                                     "scanners": ["vuln", "secret", "misconfig"]},
                                  "policy": {"file": str(root / "policy.yml")}})
    done = subprocess.run([host.program, "--config", str(config), "scan", "--report-dir", root / "out", str(host.archive)],
                          capture_output=True, text=True, timeout=120)
    page, = (root / "out").glob("*.html")
    for text in (" ".join(done.stdout.split()), " ".join(page.read_text().split())):
        assert "secret private-key" in text and "/srv/keys/id_rsa" in text and "/app/.env, line 2" in text, text
        assert "misconfiguration" in text and "app/Dockerfile" in text and "stays in its layer" in text
        assert token not in text and "MIIEpAIB" not in text


def test_an_upload_that_has_no_place_is_wrong_use(host, dojo):
    """A script that reads no warnings would take it for done."""
    n = len(dojo.requests)
    for args in (["--branch", "main"], ["--as", "group/app"]):
        done = subprocess.run([host.program, "--config", str(host.config), "scan", "--upload", *args, str(host.archive)],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "--upload needs --" in done.stderr, done.stderr
    assert len(dojo.requests) == n


def test_a_report_that_is_given_up_is_promised_nowhere(host, dojo):
    dojo.fault = "400-object@/api/v2/reimport-scan"
    done = host.scan()
    assert "given up" in done.stderr and "once delivered" not in done.stderr, done.stderr


@pytest.mark.parametrize("release", ["99.1", "13.1", "bookworm/sid", "x"])
def test_a_release_that_the_database_does_not_know_is_no_clean_one(host, dojo, release):
    policy = "version: 1\nrules:\n  - {name: all, mode: enforce, on_unknown_os: fail}\n"
    host.configure(policy=policy)
    host.scan()
    assert not any("knows nothing of" in r for r in reasons(host.done))
    steps = [s for s in images.app().steps if "npm" not in s[0]]
    steps[0] = (steps[0][0], images.layer(images.debian([images.OPENSSL, images.CURL], release=release)))
    images.classic(images.Image(steps, tags=["registry.example.org/group/app:1.0"])).write(host.archive)
    done = host.scan()
    assert done.returncode == BLOCKED and f"Trivy's database knows nothing of debian {release}" in " ".join(reasons(done)), done.stdout
    # nor does it close what is open
    assert not any(f["is_mitigated"] for f in host.findings().values())


def test_what_is_in_many_places_is_one_row_of_the_log(host):
    for n, words in ((40, "in 40 places"), (1, None)):
        files = {}
        for k in range(n):
            files.update(images.npm([images.LODASH, images.MINIMIST], where=f"d{k}"))
        images.classic(images.Image([("FROM debian", images.layer(images.debian(images.FIXED))), ("RUN npm ci", images.layer(files))],
                                    tags=["app:1"])).write(host.archive)
        done = subprocess.run([host.program, "--config", str(host.config), "scan", str(host.archive)], capture_output=True, text=True, timeout=120)
        assert done.stdout.count("CVE-2019-10744") == 1, done.stdout
        assert words in done.stdout if words else "places" not in done.stdout, done.stdout
