"""tidewaiter spool, against the stand-in for DefectDojo: nothing is lost, nothing is sent twice."""

import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

import defectdojo_api
from defectdojo import DefectDojo
from slot_host import needs_root

def report(*cves, severity="HIGH"):
    return {"SchemaVersion": 2, "ArtifactName": "app", "Results": [
        {"Target": "app (debian 12)", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [
            {"VulnerabilityID": cve, "PkgName": "libx", "InstalledVersion": "1.0", "FixedVersion": "1.1",
             "Severity": severity, "Title": f"flaw {cve}", "Description": "text", "Status": "fixed"}
            for cve in cves]}]}


class Spool:
    """A spool below root, filled by hand in the form that stages/delivery.h documents."""

    def __init__(self, root, tidewaiter, config, dojo):
        self.path = root / "state" / "spool"
        self.call = tidewaiter
        self.config = config
        self.dojo = dojo
        self.n = 0
        for name in ("", "new", "dead", "lock", "server"):
            (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, body=None, findings=None, **over):
        self.n += 1
        over.setdefault("created_s", int(time.time()) - 60)
        body = report("CVE-2024-1", "CVE-2024-2") if body is None else body
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        head = {"format": 1, "server": self.dojo.url, "token_file": "", "project": "group/app",
                "product_type": "CI", "product": "group/app", "engagement": "main", "test": "app", "service": "app",
                "environment": "", "version": "1.0", "branch": "main", "commit": "c0ffee", "build_id": f"{self.n}-0",
                "minimum_severity": "", "tags": ["tidewaiter"], "active": 0, "verified": 0,
                "n_findings": 2 if findings is None else findings,
                "report_len": len(data), **over}
        names = [head[key] for key in ("product", "engagement", "test")]
        key = hashlib.sha256(b"".join(name.encode() + b"\0" for name in names)).hexdigest()[:16]
        delivery = f"20260102030405{self.n:06}-{key}"
        path = self.path / "new" / delivery
        beside = path.with_name(f".{delivery}")
        beside.write_bytes(json.dumps(head).encode() + b"\n" + data)
        beside.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(beside, 65534, 65534)
        beside.rename(path)
        return delivery

    def __call__(self, *args, **options):
        return self.call("--config", self.config, "spool", *args, **options)

    def list(self):
        done = self("list", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def new(self):
        return sorted(p.name for p in (self.path / "new").iterdir() if "." not in p.name)

    def dead(self):
        return sorted(p.name for p in (self.path / "dead").iterdir() if "." not in p.name)

    def breakers(self):
        """What writers that were killed have left begins with a dot."""
        return sorted(p for p in (self.path / "server").iterdir() if not p.name.endswith(".lock") and not p.name.startswith("."))

    def state(self, delivery, place="new"):
        return json.loads((self.path / place / f"{delivery}.state").read_text())

    def make_due(self, delivery, **over):
        """As if the backoff of the delivery and the breaker of its server had passed."""
        for breaker in self.breakers():
            breaker.write_text(json.dumps({**json.loads(breaker.read_text()), "until_s": 1}))
        path = self.path / "new" / f"{delivery}.state"
        path.write_text(json.dumps({**json.loads(path.read_text()), "next_s": 0, **over}))


    def let_time_pass(self):
        """As if hours had: backoffs and breakers are over, and nobody works any more on what was sent."""
        for path in (self.path / "new").glob("*.state"):
            state = json.loads(path.read_text())
            path.write_text(json.dumps({**state, "next_s": 0, "sent_s": state["sent_s"] and state["sent_s"] - 36000,
                                        "last_s": state["last_s"] and state["last_s"] - 36000}))
        for breaker in self.breakers():
            breaker.write_text(json.dumps({**json.loads(breaker.read_text()), "until_s": 1}))


def assert_complete(dojo, builds):
    """Every report is there once, those of one test in order, and no finding twice. builds: test title -> build ids."""
    for title, wanted in builds.items():
        test = dojo.test(title)
        assert [row["build_id"] for row in dojo.imports if row["test"] == test["id"]] == wanted
        hashes = [finding["hash_code"] for finding in dojo.findings(test["id"])]
        assert len(hashes) == len(set(hashes))


@pytest.fixture
def tidewaiter(program):
    def call(*args, env=None, timeout=120):
        return subprocess.run([program("tidewaiter"), *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout, env={**os.environ, **(env or {})})

    return call


@pytest.fixture
def as_user(root):
    """Runs a callable's subprocess as nobody where we are root: one user, nothing separated."""
    if os.geteuid() != 0:
        return lambda argv: argv
    os.chown(root, 65534, 65534)
    return lambda argv: ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv]


@pytest.fixture
def make_spool(root, program, settings, dojo, as_user):
    def make(token=None, projects=(), **defectdojo):
        token_file = root / "token"
        token_file.write_text((token or dojo.token) + "\n")
        token_file.chmod(0o600)
        config = settings({"defectdojo": {"url": dojo.url, "token_file": str(token_file), **defectdojo},
                           **({"projects": list(projects)} if projects else {})})

        def call(*args, env=None, timeout=120):
            subprocess.run(["chown", "-R", "65534:65534", root], check=True) if os.geteuid() == 0 else None
            return subprocess.run(as_user([program("tidewaiter"), *map(str, args)]), stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})})

        spool = Spool(root, call, config, dojo)
        spool.argv = lambda *args: as_user([program("tidewaiter"), "--config", str(config), "spool", *args])
        return spool

    return make


@pytest.fixture
def spool(make_spool):
    return make_spool()


# --- list, drop, retry --------------------------------------------------------------------------------------------------

def test_an_empty_spool_is_listed_and_flushed(spool):
    assert spool.list() == []
    done = spool("flush")
    assert done.returncode == 0 and "0 delivered, 0 given up, 0 waiting" in done.stdout


def test_the_list_says_what_waits_and_why(spool, dojo):
    delivery = spool.add()
    dojo.fault = "503"
    assert spool("flush").returncode == 3
    row, = spool.list()
    assert row["id"] == delivery and row["state"] == "waits" and row["attempts"] == 1 and row["status"] == 503
    assert row["test"] == "app" and row["findings"] == 2 and row["due"] > row["last"]
    text = spool("list").stdout
    assert delivery in text and "HTTP 503" in text and "1 waiting, 0 dead" in text


def test_the_list_warns_long_before_a_bound_bites(make_spool):
    spool = make_spool(spool_count_max=3, url="")
    spool.add()
    assert "more than half full" not in spool("list").stdout
    spool.add()
    assert "more than half full: 2 wait" in spool("list").stdout
    assert "more than half full: 2 wait" in spool("flush").stderr


def test_the_list_warns_of_what_grows_old(make_spool):
    spool = make_spool(spool_age_max="10h", url="")
    os.utime(spool.path / "new" / spool.add(), (time.time() - 6 * 3600,) * 2)
    assert "more than half of defectdojo.spool_age_max" in spool("list").stdout


def test_a_delivery_can_be_dropped(spool):
    first, second = spool.add(), spool.add()
    done = spool("drop", first)
    assert done.returncode == 0, done.stderr
    assert spool.new() == [second]
    assert spool("drop", first).returncode == 2


@pytest.mark.parametrize("args", [(), ("gobble",), ("list", "x"), ("drop",), ("retry",), ("retry", "--dead", "x"),
                                  ("flush", "--deadline", "10"), ("list", "--now"), ("drop", "../../token")])
def test_wrong_use_exits_with_2(spool, args):
    done = spool(*args)
    assert done.returncode == 2 and done.stdout == ""


# --- flush --------------------------------------------------------------------------------------------------------------

def test_flush_delivers_everything_with_every_field(spool, dojo):
    spool.add()
    spool.add(test="other", service="other")
    done = spool("flush")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 delivered, 0 given up, 0 waiting" in done.stdout
    assert spool.list() == [] and spool.new() == [] and list((spool.path / "lock").iterdir()) == []
    upload = dojo.uploads[0]
    assert upload.form["deduplication_execution_mode"] == ["sync"]
    assert upload.form["build_id"] == ["1-0"] and upload.form["commit_hash"] == ["c0ffee"]
    assert {test["title"] for test in dojo.tests} >= {"app", "other"}


def test_a_report_of_a_part_closes_nothing(spool, dojo):
    spool.add()
    spool.add(report("CVE-2024-2"), findings=1, keeps_old=True)
    assert spool("flush").returncode == 0
    assert [f["active"] for f in dojo.findings("app")] == [True, True]
    spool.add(report("CVE-2024-2"), findings=1)
    assert spool("flush").returncode == 0
    assert sorted(f["active"] for f in dojo.findings("app")) == [False, True]


def test_reports_of_one_test_go_in_order(spool, dojo):
    for _ in range(3):
        spool.add()
    assert spool("flush").returncode == 0
    assert [upload.form["build_id"] for upload in dojo.uploads] == [["1-0"], ["2-0"], ["3-0"]]


def test_what_is_not_due_waits_unless_it_is_wanted_now(spool, dojo):
    spool.add()
    dojo.fault = "503*1"
    assert spool("flush").returncode == 3
    assert spool("flush").returncode == 3
    assert len(dojo.uploads) == 1
    assert spool("flush", "--now").returncode == 0
    assert len(dojo.uploads) == 2


def test_only_deliveries_to_a_named_server_are_sent(spool, dojo):
    spool.add()
    assert spool("flush", "--server", "https://elsewhere.example").returncode == 3
    assert dojo.requests == []
    assert spool("flush", "--server", dojo.url + "/").returncode == 0


def test_without_a_url_reports_wait_and_flush_says_so(make_spool, dojo):
    spool = make_spool(url="")
    spool.add(server="")
    done = spool("flush")
    assert done.returncode == 3 and "no defectdojo.url is set" in done.stderr
    assert len(spool.new()) == 1


def test_what_waited_in_the_outbox_goes_out_when_there_is_a_server(spool, dojo):
    spool.add(server="")
    assert spool("flush").returncode == 0
    assert len(dojo.imports) == 1


def test_the_environments_proxy_is_not_used(spool, dojo):
    spool.add()
    assert spool.call("--config", spool.config, "spool", "flush",
                      env={"http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}).returncode == 0


def test_a_count_that_does_not_add_up_is_said_in_one_line(spool):
    spool.add(findings=7)
    done = spool("flush")
    assert done.returncode == 0
    assert len([line for line in done.stdout.splitlines() if "our report has 7 findings" in line]) == 1


# --- answers that are no confirmation -----------------------------------------------------------------------------------

WAITING = ["400-race", "403", "403-no-token", "403-permission", "404-html", "429", "429:7", "500-json", "500-html",
           "502", "503", "503:30", "301", "302-login", "200-html", "201-empty", "201-html", "201-truncated", "201-array",
           "201-deep"]


@pytest.mark.parametrize("fault", WAITING)
def test_a_report_outlives_every_fault(spool, dojo, fault):
    delivery = spool.add()
    dojo.fault = fault
    done = spool("flush", "--deadline", "5s")
    assert done.returncode == 3, done.stdout + done.stderr
    assert spool.new() == [delivery] and spool.dead() == []
    dojo.fault = None
    spool.make_due(delivery)
    done = spool("flush")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(dojo.findings("app")) == 2
    assert dojo.token not in done.stdout + done.stderr


@pytest.mark.parametrize("fault", ["400-array", "400-object", "400-message", "400-large", "413", "413:read", "404"])
def test_what_will_never_be_accepted_lies_in_dead_and_can_be_revived(spool, dojo, fault):
    delivery = spool.add()
    dojo.fault = fault
    done = spool("flush")
    assert done.returncode == 3
    assert spool.new() == [] and spool.dead() == [delivery]
    row, = spool.list()
    assert row["state"] == "dead" and row["answer"].startswith(f"HTTP {fault[:3]}")
    dojo.fault = None
    assert "1 of 1 wait again" in spool("retry", "--dead").stdout
    assert spool("flush").returncode == 0
    assert len(dojo.findings("app")) == 2


def test_one_that_cannot_be_revived_now_keeps_no_other_dead(spool, dojo):
    first, second = spool.add(test="a"), spool.add(test="b")
    dojo.fault = "400-message"
    spool("flush")
    assert spool.dead() == [first, second]
    with open(spool.path / "lock" / first.split("-")[1], "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = spool("retry", "--dead")
    assert done.returncode == 3 and "1 of 2 wait again" in done.stdout and first in done.stderr
    assert spool.dead() == [first] and spool.new() == [second]


def test_a_dead_one_has_the_answer_beside_it(spool, dojo):
    delivery = spool.add()
    dojo.fault = "400-object"
    spool("flush")
    answer = (spool.path / "dead" / f"{delivery}.answer").read_text()
    assert answer.startswith("HTTP 400\n\n{") and json.loads(answer.split("\n\n", 1)[1])
    assert f"{delivery}.answer" in spool("list").stdout
    spool("drop", delivery)
    assert list((spool.path / "dead").iterdir()) == []


def test_a_server_that_is_down_is_tried_once_for_all(spool, dojo):
    for n in range(5):
        spool.add(test=f"img{n}")
    dojo.fault = "502"
    done = spool("flush")
    assert done.returncode == 3 and len(dojo.uploads) == 1 and len(spool.new()) == 5
    assert done.stderr.count("HTTP 502") == 1
    dojo.down()
    assert spool("flush", "--now").returncode == 3
    assert len(spool.new()) == 5
    dojo.up()
    dojo.fault = None
    assert spool("flush", "--now").returncode == 0
    assert len(dojo.imports) == 5


def test_a_breaker_holds_for_every_process_until_its_time_has_come_and_one_answer_ends_it(spool, dojo):
    spool.add(test="a")
    dojo.fault = "502"
    assert spool("flush").returncode == 3
    breaker, = spool.breakers()
    kept = json.loads(breaker.read_text())
    assert kept["faults"] == 1 and "502" in kept["reason"] and 5 <= kept["until_s"] - time.time() <= 10
    spool.add(test="b")
    for _ in range(3):
        done = spool("flush")
        assert done.returncode == 3 and "is not asked for" in done.stderr and "HTTP 502" in done.stderr
    assert len(dojo.requests) == 1
    spool.make_due(spool.new()[0])
    assert spool("flush").returncode == 3 and len(dojo.uploads) == 2
    assert json.loads(breaker.read_text())["faults"] == 2
    assert 12 <= json.loads(breaker.read_text())["until_s"] - time.time() <= 20
    dojo.fault = None
    spool.make_due(spool.new()[0])
    assert spool("flush").returncode == 0
    assert spool.breakers() == [] and len(dojo.imports) == 2


def test_a_breaker_waits_as_long_as_the_server_asks_for(spool, dojo):
    spool.add()
    dojo.fault = "429:900"
    spool("flush")
    breaker, = spool.breakers()
    assert 890 <= json.loads(breaker.read_text())["until_s"] - time.time() <= 901


def test_while_one_process_tries_a_server_again_no_other_does(spool, dojo):
    first, second = spool.add(test="a"), spool.add(test="b")
    dojo.fault = "502"
    spool("flush")
    dojo.fault = None
    spool.make_due(first)
    dojo.pause("findings")
    one = threading.Thread(target=spool, args=("flush",))
    one.start()
    dojo.wait_paused()
    done = spool("flush")
    assert "is not asked for" in done.stderr and len(dojo.uploads) == 2
    dojo.resume()
    one.join()
    assert spool.new() == [] and second


def test_a_new_token_is_tried_at_once(spool, dojo, root):
    spool.add()
    token = (root / "token").read_text()
    (root / "token").write_text("wrong\n")
    assert "token is not valid" in spool("flush").stdout
    assert "is not asked for" in spool("flush").stderr
    (root / "token").write_text(token)
    delivery, = spool.new()
    state = spool.path / "new" / f"{delivery}.state"
    state.write_text(json.dumps({**json.loads(state.read_text()), "next_s": 0}))
    assert spool("flush").returncode == 0  # its breaker is still there, and of another key
    assert len(spool.breakers()) == 1


def test_a_fault_of_one_report_holds_up_no_other(spool, dojo):
    spool.add(test="a")
    spool.add(test="b")
    dojo.fault = "500-json*1"
    spool("flush")
    assert spool.breakers() == [] and [row["test_title"] if "test_title" in row else row["build_id"]
                                       for row in dojo.imports] == ["2-0"]


def test_what_waited_for_too_long_is_given_up_and_can_be_revived(make_spool, dojo):
    spool = make_spool(spool_age_max="2d")
    old = spool.add(test="old", created_s=int(time.time()) - 3 * 86400)
    spool.add(test="young", created_s=int(time.time()) - 86400)
    done = spool("flush")
    assert done.returncode == 3 and "older than 2 days (defectdojo.spool_age_max)" in done.stdout
    assert spool.dead() == [old] and len(dojo.imports) == 1
    assert "wanted again" not in spool("list").stdout and spool.list()[0]["revived"] is None
    assert spool("retry", old).returncode == 0
    row, = spool.list()
    assert row["id"] == old and row["revived"] and "wanted again" in spool("list").stdout
    assert spool("flush").returncode == 0 and len(dojo.imports) == 2


def test_a_permission_that_lacks_for_one_product_stops_no_other(spool, dojo):
    spool.add(product_type="Other", product="secret")
    spool.add()
    assert spool("flush").returncode == 3
    row, = spool.list()
    assert row["product"] == "secret" and "No permission" in row["answer"]
    assert len(dojo.imports) == 1


def test_a_token_that_others_can_read_is_not_sent(spool, dojo, root):
    spool.add()
    (root / "token").chmod(0o644)
    done = spool("flush")
    assert done.returncode == 3 and "chmod 0600" in done.stderr
    assert dojo.requests == [] and len(spool.new()) == 1


def test_a_broken_file_is_given_up_and_holds_nothing_up(spool, dojo):
    broken = spool.add()
    (spool.path / "new" / broken).write_text("{}\n")
    spool.add()
    assert f"delivery {broken}: head" in spool("list").stdout
    assert len(spool.list()) == 2
    assert spool("flush").returncode == 3
    assert spool.dead() == [broken] and spool.new() == []
    assert len(dojo.imports) == 1


def test_a_broken_file_needs_no_server_to_be_given_up_and_one_of_another_version_says_so(make_spool):
    spool = make_spool(url="")
    broken, later = spool.add(), spool.add(format=2)
    (spool.path / "new" / broken).write_text("{}\n")
    assert spool("flush").returncode == 3
    assert spool.dead() == [broken, later] and spool.new() == []
    assert "another version of Tidewaiter" in spool("list").stdout


# --- sent, and no answer ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("fault", ["drop-late", "reset-late", "half", "half-head", "truncated"])
def test_what_landed_without_an_answer_is_found_and_not_sent_again(spool, dojo, fault):
    delivery = spool.add()
    dojo.fault = f"{fault}*1"
    spool("flush", "--deadline", "10s")
    if spool.new():
        spool.make_due(delivery)
        assert spool("flush").returncode == 0
    assert len(dojo.uploads) == 1 and len(dojo.imports) == 1
    assert len(dojo.findings("app")) == 2


def test_what_landed_on_a_connection_that_was_there_before_is_not_sent_again_either(spool, dojo):
    delivery = spool.add()
    dojo.fault = "502"
    spool("flush")
    spool.make_due(delivery)
    dojo.fault = "drop-late*1"  # after a question, see check_pulse()
    spool("flush", "--deadline", "1s")
    spool.make_due(delivery)
    assert "delivered by an earlier attempt" in spool("flush").stdout
    assert len(dojo.uploads) == 2 and len(dojo.imports) == 1


def test_while_the_first_upload_still_runs_nothing_is_sent(spool, dojo):
    spool.add()
    spool.add()
    dojo.pause("row")
    done = spool("flush", "--deadline", "2s")
    assert done.returncode == 3 and "sent" in done.stdout
    dojo.wait_paused(1)
    assert spool("flush", "--now", "--deadline", "3s").returncode == 3
    assert len(dojo.uploads) == 1
    row = spool.list()[0]
    assert row["state"] == "open" and row["attempts"] == 1
    dojo.resume()
    dojo.wait_for(lambda: len(dojo.imports) == 1)
    assert spool("flush", "--now").returncode == 0
    assert len(dojo.uploads) == 2 and len(dojo.findings("app")) == 2


@pytest.mark.parametrize("fault", ["drop", "drop-early", "reset", "hang", "garbage"])
def test_what_never_landed_is_sent_again_when_it_cannot_run_any_more(spool, dojo, fault):
    delivery = spool.add()
    dojo.fault = f"{fault}*1"
    spool("flush", "--deadline", "2s")
    assert spool("flush", "--now", "--deadline", "1s").returncode == 3
    assert len(dojo.uploads) == 1
    spool.make_due(delivery, sent_s=int(time.time()) - 31 * 60)
    assert spool("flush").returncode == 0
    assert len(dojo.uploads) == 2 and len(dojo.findings("app")) == 2


def test_flush_waits_for_an_open_fate_until_its_deadline(spool, dojo):
    spool.add()
    dojo.fault = "hang-late*1"
    spool("flush", "--deadline", "2s")
    done = spool("flush", "--deadline", "60s")
    assert done.returncode == 0, done.stdout
    assert "delivered by an earlier attempt" in done.stdout
    assert len(dojo.uploads) == 1


def test_an_upload_that_died_on_the_server_is_repaired(spool, dojo):
    delivery = spool.add()
    dojo.fault = "died:1*1"
    assert spool("flush").returncode == 3
    spool.make_due(delivery)
    assert spool("flush").returncode == 0
    assert len(dojo.uploads) == 2 and len(dojo.findings("app")) == 2


def test_two_flushes_at_once_send_each_report_once(spool, dojo):
    for n in range(6):
        spool.add(test=f"img{n % 2}")
    spool("list")  # gives the files to the user once, before both start
    outcomes = []
    threads = [threading.Thread(target=lambda: outcomes.append(spool("flush"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spool("flush").returncode == 0
    assert sorted(upload.form["build_id"][0] for upload in dojo.uploads) == [f"{n}-0" for n in range(1, 7)]
    for n in range(2):
        assert len(dojo.findings(f"img{n}")) == 2


def test_killed_while_sending_it_asks_first(spool, dojo, program, as_user):
    spool.add()
    spool("list")
    dojo.pause("answer")
    flush = subprocess.Popen(as_user([program("tidewaiter"), "--config", str(spool.config), "spool", "flush"]),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    dojo.wait_paused(1)
    flush.kill()
    flush.wait()
    dojo.resume()
    dojo.wait_for(lambda: len(dojo.imports) == 1)
    assert spool.list()[0]["state"] == "open"
    assert spool("flush").returncode == 0
    assert len(dojo.uploads) == 1


@pytest.mark.parametrize("call", ["renameat", "unlinkat", "fsync", "sendto", "recvfrom"])
def test_killed_at_any_step_nothing_is_lost_and_nothing_doubled(spool, dojo, call):
    """SIGKILL as the n-th call of a kind is made, for every n."""
    for n in range(1, 30):
        spool.add(test=f"t{n}")
        spool("list")
        argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                f"inject={call}:signal=KILL:when={n}", *spool.argv("flush", "--deadline", "20s")]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if done.returncode >= 0:
            break
        dojo.wait_for(lambda: not dojo.running)
        spool.let_time_pass()
        spool("flush", "--now")
        assert spool.new() == [] and spool.dead() == []
        assert len(dojo.findings(f"t{n}")) == 2
        assert len([row for row in dojo.imports if row["test"] == dojo.test(f"t{n}")["id"]]) == 1
    assert n > 1 and spool.new() == []


def test_a_report_that_brings_the_server_down_does_not_hold_up_the_others(spool, dojo, monkeypatch):
    upload = defectdojo_api.Api._upload

    def falls_over(self, user, request, kind, run):
        if request.form.get("test_title", [""])[-1] == "poison":
            return defectdojo_api.Answer(502, b"<html>Bad Gateway</html>", "text/html")
        return upload(self, user, request, kind, run)
    monkeypatch.setattr(defectdojo_api.Api, "_upload", falls_over)
    spool.add(test="poison")
    for n in range(3):
        spool.add(test=f"good{n}")
    for _ in range(4):
        spool("flush")
        now = int(time.time())
        until = max([json.loads(b.read_text())["until_s"] for b in spool.breakers()] or [now])
        for path in [*spool.breakers(), *(spool.path / "new").glob("*.state")]:  # as much time as the breaker needs, and no more
            kept = json.loads(path.read_text())
            path.write_text(json.dumps({**kept, **{k: kept[k] and kept[k] - max(0, until - now) - 1
                                                   for k in ("until_s", "next_s", "sent_s", "last_s") if k in kept}}))
    assert len(dojo.imports) == 3 and len(spool.new()) == 1


def test_names_over_the_servers_lengths_are_shortened_and_stay_apart(spool, dojo):
    long = "x" * 300
    for suffix in "ab":
        spool.add(test=long + suffix, version=long, branch=long, commit=long, build_id=long + suffix, service=long,
                  engagement=long + "y" * 10)
    assert spool("flush").returncode == 0
    assert len({test["title"] for test in dojo.tests if test["title"].startswith("xxx")}) == 2


# --- users --------------------------------------------------------------------------------------------------------------

@needs_root
def test_root_becomes_the_courier_before_it_touches_anything(root, program, settings, dojo, tidewaiter):
    token_file = root / "token"
    token_file.write_text(dojo.token)
    token_file.chmod(0o600)
    config = settings({"scan_user": "nobody", "courier_user": "daemon",
                       "defectdojo": {"url": dojo.url, "token_file": str(token_file)}})
    config.chmod(0o600)  # what only root may read is no obstacle
    spool = Spool(root, tidewaiter, config, dojo)
    spool.add()
    subprocess.run(["chown", "-R", "daemon:", spool.path, token_file], check=True)
    (root / "state").chmod(0o711)
    done = spool("flush")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(dojo.imports) == 1


@needs_root
def test_a_token_that_only_root_can_read_is_sent_to_setup(root, settings, dojo, tidewaiter):
    token_file = root / "token"
    token_file.write_text(dojo.token)
    token_file.chmod(0o600)
    config = settings({"scan_user": "nobody", "courier_user": "daemon",
                       "defectdojo": {"url": dojo.url, "token_file": str(token_file)}})
    spool = Spool(root, tidewaiter, config, dojo)
    spool.add()
    subprocess.run(["chown", "-R", "daemon:", spool.path], check=True)
    (root / "state").chmod(0o711)
    done = spool("flush")
    said = done.stdout + done.stderr
    assert done.returncode != 0 and f"{token_file}: user 1 may not read it: sudo tidewaiter setup" in said, said


@needs_root
def test_root_without_a_courier_user_is_sent_to_setup(settings, tidewaiter):
    done = tidewaiter("--config", settings({"courier_user": "tw-no-such-user"}), "spool", "list")
    assert done.returncode == 2 and "tidewaiter setup" in done.stderr


# --- several servers -----------------------------------------------------------------------------------------------------

@pytest.fixture
def second():
    with DefectDojo() as server:
        yield server


@pytest.fixture
def two_servers(make_spool, root, second):
    token = root / "token2"
    token.write_text(second.token + "\n")
    token.chmod(0o600)
    return make_spool(projects=[{"match": "other/**", "defectdojo": {"url": second.url, "token_file": str(token)}}])


def test_each_project_goes_to_the_server_that_its_entry_names(two_servers, dojo, second):
    two_servers.add(project="group/app")
    two_servers.add(project="other/app", product="other/app")
    assert two_servers("flush").returncode == 0
    assert len(dojo.imports) == len(second.imports) == 1
    assert dojo.uploads[0].form["product_name"] == ["group/app"]
    assert second.uploads[0].form["product_name"] == ["other/app"]


def test_one_server_that_is_down_holds_nothing_up_for_the_other(two_servers, dojo, second):
    dojo.down()
    for n in range(3):
        two_servers.add(project="group/app", test=f"a{n}")
        two_servers.add(project="other/app", product="other/app", test=f"b{n}")
    done = two_servers("flush")
    assert done.returncode == 3 and len(second.imports) == 3 and len(two_servers.new()) == 3
    assert len(two_servers.breakers()) == 1
    dojo.up()
    two_servers.make_due(two_servers.new()[0])
    assert two_servers("flush").returncode == 0 and len(dojo.imports) == 3


def test_one_server_that_takes_reports_and_is_silent_holds_nothing_up_for_the_other(make_spool, root, dojo, second):
    token = root / "token2"
    token.write_text(second.token + "\n")
    token.chmod(0o600)
    spool = make_spool(timeout="1s", projects=[{"match": "other/**", "defectdojo": {"url": second.url,
                                                                                   "token_file": str(token)}}])
    dojo.fault = "hang"
    for n in range(6):
        spool.add(project="group/app", test=f"a{n}")
    for n in range(6):
        spool.add(project="other/app", product="other/app", test=f"b{n}")
    done = spool("flush", "--deadline", "20s")
    assert done.returncode == 3 and len(second.imports) == 6
    assert len(dojo.uploads) == 1 and "no answer yet" in done.stderr


def test_a_server_that_had_faults_and_is_silent_now_gets_no_upload(spool, dojo):
    delivery = spool.add()
    dojo.fault = "502"
    spool("flush")
    spool.make_due(delivery)
    dojo.fault = "hang@any"
    assert spool("flush", "--deadline", "4s").returncode == 3
    assert len(dojo.uploads) == 1 and spool.state(delivery)["attempts"] == 1
    assert json.loads(spool.breakers()[0].read_text())["faults"] == 2
    spool.make_due(delivery)
    dojo.fault = "404-html@/api/v2/user_profile/"  # an answer, if an odd one
    assert spool("flush").returncode == 0


# --- serve ---------------------------------------------------------------------------------------------------------------

# A user namespace of its own, with the same users and no inotify; then the program.
WITHOUT_WATCHES = """
import ctypes, os, sys
told, tell = os.pipe()
helper = os.fork()
if helper == 0:
    os.read(told, 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{os.getppid()}/{name}", "w") as f:
            f.write("0 0 65536")
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(tell, b"x")
assert os.waitpid(helper, 0)[1] == 0
with open("/proc/sys/user/max_inotify_instances", "w") as f:
    f.write("0")
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Serving:
    """`tidewaiter spool serve`, and what it tells systemd."""

    def __init__(self, spool, root, *args, wrap=()):
        self.address = str(root / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        os.chmod(self.address, 0o777)
        self.socket.settimeout(30)
        self.told = []
        spool("list")
        self.process = subprocess.Popen([*wrap, *spool.argv("serve", *args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True,
                                        env={**os.environ, "NOTIFY_SOCKET": self.address})
        self.expect("READY=1")

    def expect(self, word):
        while True:
            self.told.append(self.socket.recv(4096).decode())
            if self.told[-1].startswith(word):
                return self.told[-1]

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.output = self.process.communicate(timeout=30)[0]
        self.socket.setblocking(False)
        try:
            while True:
                self.told.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            self.socket.close()
        return self.process.returncode


@pytest.fixture
def serve(spool, root):
    started = []

    def start(*args, **more):
        started.append(Serving(spool, root, *args, **more))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end()


def test_serve_delivers_what_waits_and_what_comes(spool, dojo, serve):
    spool.add(test="waits")
    server = serve()
    dojo.wait_for(lambda: len(dojo.imports) == 1)
    spool.add(test="comes")
    dojo.wait_for(lambda: len(dojo.imports) == 2)
    assert server.end() == 0
    assert "STOPPING=1" in server.told


@needs_root
def test_serve_goes_on_where_the_host_has_no_watch_left(spool, dojo, serve):
    server = serve(wrap=["/usr/bin/python3", "-c", WITHOUT_WATCHES])
    spool.add()
    dojo.wait_for(lambda: len(dojo.imports) == 1)
    assert server.end() == 0
    assert "cannot be watched" in server.output and "max_user_instances" in server.output, server.output


def test_serve_ends_at_once_while_an_upload_is_on_its_way_and_the_next_one_asks_for_it(spool, dojo, serve):
    dojo.pause("row")
    spool.add()
    server = serve()
    dojo.wait_paused()
    begun = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - begun < 2  # what is promised to systemd
    assert len(spool.new()) == 1 and spool.state(spool.new()[0])["is_sending"]
    dojo.resume()
    dojo.wait_for(lambda: len(dojo.imports) == 1)
    assert "delivered by an earlier attempt" in spool("flush").stdout
    assert len(dojo.uploads) == 1


def test_serve_reads_the_settings_again_and_keeps_them_when_they_are_broken(spool, dojo, serve, second, root):
    server = serve()
    text = spool.config.read_text()
    spool.config.write_text(text + "nonsense: 1\n")
    server.process.send_signal(signal.SIGHUP)
    server.expect("RELOADING=1")
    server.expect("READY=1")
    spool.add(test="a")
    dojo.wait_for(lambda: len(dojo.imports) == 1)
    spool.config.write_text(text.replace(dojo.url, second.url))
    (root / "token").write_text(second.token + "\n")
    server.process.send_signal(signal.SIGHUP)
    server.expect("READY=1")
    spool.add(test="b")
    second.wait_for(lambda: len(second.imports) == 1)
    assert server.end() == 0
    assert "the settings stay as they were" in server.output and "nonsense" in server.output


def test_serve_sends_different_tests_at_the_same_time_and_reports_of_one_in_order(spool, dojo, serve):
    dojo.pause("findings")
    for n in range(3):
        for test in "abcdefgh":
            spool.add(test=test)
    server = serve("--parallel", "8")
    dojo.wait_paused(2)
    dojo.resume()
    dojo.wait_for(lambda: len(dojo.imports) == 24 and spool.new() == [])
    assert server.end() == 0
    for row in dojo.tests:
        builds = [int(i["build_id"].split("-")[0]) for i in dojo.imports if i["test"] == row["id"]]
        assert builds == sorted(builds)
        hashes = [f["hash_code"] for f in dojo.findings(row["id"])]
        assert len(hashes) == len(set(hashes))


def test_serve_leaves_to_a_job_what_it_is_still_delivering(make_spool, dojo, root):
    spool = make_spool(wait="10m")
    young = spool.add(test="young", created_s=int(time.time()))
    spool.add(test="old", created_s=int(time.time()) - 700)
    server = Serving(spool, root)
    dojo.wait_for(lambda: spool.new() == [young])
    assert server.end() == 0
    assert [upload.form["test_title"] for upload in dojo.uploads] == [["old"]]


def test_serve_goes_on_with_a_spool_that_was_put_in_place_of_the_old_one(spool, dojo, serve):
    server = serve("--parallel", "1")
    spool.path.rename(spool.path.with_name("spool.old"))
    for name in ("", "new", "dead", "lock", "server"):
        (spool.path / name).mkdir(mode=0o700)
    subprocess.run(["chown", "-R", "65534:65534", spool.path], check=True) if os.geteuid() == 0 else None
    spool.add()
    dojo.wait_for(lambda: len(dojo.imports) == 1)
    assert server.end() == 0


def test_serve_warns_of_a_spool_that_fills_up(make_spool, root, dojo):
    spool = make_spool(spool_count_max=2, url="")
    spool.add(test="a")
    spool.add(test="b")
    server = Serving(spool, root)
    assert any("more than half full" in line for line in server.process.stdout)
    assert server.end() == 0


def test_serve_without_a_spool_that_it_can_use_fails_and_is_not_ready(spool, root):
    (root / "state" / "spool").chmod(0o777)
    done = spool("serve")
    assert done.returncode == 3 and "expected owner" in done.stderr
    (root / "state" / "spool").chmod(0o700)


@pytest.mark.parametrize("n", ["0", "65", "x"])
def test_serve_takes_a_number_of_tests_at_a_time(spool, n):
    done = spool("serve", "--parallel", n)
    assert done.returncode == 2 and "--parallel" in done.stderr


# --- many ----------------------------------------------------------------------------------------------------------------

def test_a_server_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing(spool, dojo):
    builds = {}
    for n in range(60):
        title = f"t{n % 6}"
        spool.add(report(f"CVE-{n}", f"CVE-{n + 6}"), test=title)
        builds.setdefault(title, []).append(f"{spool.n}-0")
    spool("list")
    for kill in range(8):
        if kill % 2:
            dojo.fault = "died:1*1"  # in the middle of an upload
        before = len(dojo.uploads)
        process = subprocess.Popen(spool.argv("flush", "--deadline", "60s"), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        dojo.wait_for(lambda: len(dojo.uploads) > before + 4 or process.poll() is not None)
        dojo.down(kill=True)
        process.kill() if kill % 3 == 2 else None
        process.wait()
        dojo.up()
        spool.let_time_pass()
    done = spool("flush")
    assert done.returncode == 0, done.stdout + done.stderr
    assert spool.new() == [] and spool.dead() == []
    assert_complete(dojo, builds)


def test_many_processes_at_once_deliver_each_report_once_and_in_order(spool, dojo):
    builds = {}
    for n in range(50):
        title = f"t{n % 5}"
        spool.add(report(f"CVE-{n}", f"CVE-{n + 5}"), test=title)
        builds.setdefault(title, []).append(f"{spool.n}-0")
    spool("list")
    processes = [subprocess.Popen(spool.argv("flush"), stdout=subprocess.DEVNULL) for _ in range(10)]
    for process in processes:
        process.wait()
    assert spool.new() == [] and len(dojo.uploads) == 50
    assert_complete(dojo, builds)
