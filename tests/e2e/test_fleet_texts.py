"""What the hosts of a fleet share of their deliveries, in a real Redis: first texts, and turns at a test. Two state directories are two hosts."""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time

import defectdojo_api
import pytest
from dojo_host import USERS
from listening import Listener
from slot_host import needs_root
from test_doctor import doctor  # noqa: F401
from test_fleet import KEY, certificate, free_port, make_redis, secret  # noqa: F401
from test_spool import Spool
from test_triage import FIXED, RAISED, Host, blocking, tools  # noqa: F401

IS_ROOT = os.geteuid() == 0
DAY = 86400


def finding(cve="CVE-2024-1", title="flaw", severity="HIGH", fix=""):
    return {"VulnerabilityID": cve, "PkgName": "libx", "InstalledVersion": "1.0", "Severity": severity, "Title": title,
            "Description": f"all of {title}", "Status": "fixed" if fix else "affected", **({"FixedVersion": fix} if fix else {})}


def report(*findings):
    return {"SchemaVersion": 2, "ArtifactName": "app", "Results": [
        {"Target": "app (debian 12)", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": list(findings)}]}


FIRST = report(finding())
REWORDED = report(finding(title="flaw, said otherwise", severity="CRITICAL", fix="1.1"))


class Fleet:
    def __init__(self, root, program, settings, dojo, redis, key):
        self.root, self.program, self.settings, self.dojo, self.redis, self.key = root, program, settings, dojo, redis, key
        self.token = root / "token"
        self.token.write_text(dojo.token + "\n")
        self.token.chmod(0o600)
        self.spools = {}
        if IS_ROOT:
            shutil.chown(self.token, "daemon", "daemon")

    def host(self, name, **defectdojo):
        """Its spool, which remembers what was there before."""
        place = self.root / name
        place.mkdir(exist_ok=True)
        config = self.settings({
            "state_dir": str(place / "state"), **USERS,
            "defectdojo": {"url": self.dojo.url, "token_file": str(self.token), "keep_text": "true",
                           "redis": f"redis://127.0.0.1:{self.redis.port}", "redis_key_file": self.key, **defectdojo}})

        def call(*args, timeout=60):
            if IS_ROOT:
                subprocess.run(["chown", "-R", "daemon:daemon", place / "state"], check=True)
            return subprocess.run(argv(*args), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)

        def argv(*args):
            return [self.program("tidewaiter"), *map(str, args)]

        known = self.spools.get(name)
        spool = Spool(place, call, config, self.dojo)
        spool.n = known.n if known else len(self.spools) * 1000
        spool.argv = lambda *args: argv("--config", config, "spool", *args)
        (place / "state").chmod(0o711)
        self.spools[name] = spool
        return spool

    def deliver(self, name, body, ok=True, add=None, **defectdojo):
        spool = self.host(name, **defectdojo)
        spool.add(body, findings=1, **(add or {}))
        done = spool("flush", "--now")
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done

    def texts(self):
        return self.redis.ask("keys", "tidewaiter:texts:*").decode().split()

    def turns(self):
        return self.redis.ask("keys", "tidewaiter:turn:*").decode().split()


@pytest.fixture
def fleet(root, program, settings, dojo, make_redis, secret):  # noqa: F811
    return Fleet(root, program, settings, dojo, make_redis(), secret("fleet.key", KEY))


def only_finding(dojo, title="app"):
    found, = dojo.findings(dojo.test(title)["id"])
    return found


def test_an_acceptance_survives_a_rewording_that_another_host_delivers(fleet, dojo):
    fleet.deliver("a", FIRST)
    before = only_finding(dojo)
    dojo.accept([before["id"]])
    done = fleet.deliver("b", REWORDED)
    after = only_finding(dojo)
    assert after["id"] == before["id"] and after["risk_accepted"] and not after["is_mitigated"]
    assert after["hash_code"] == before["hash_code"]
    assert (after["severity"], after["mitigation"]) == ("Critical", "1.1") and "said otherwise" in after["description"]
    assert "1 brought up to date" in done.stdout
    # what was told the one need not be told again by the other
    n = len(dojo.requests)
    fleet.deliver("a", REWORDED)
    assert not [r for r in dojo.requests[n:] if r.method == "PATCH"]
    name, = fleet.texts()
    assert 364 * DAY < int(fleet.redis.ask("ttl", name)) <= 365 * DAY
    assert fleet.turns() == []


def test_hosts_without_a_redis_do_not_know_of_each_other(fleet, dojo):
    """The counterpart, so that the test above can fail."""
    fleet.deliver("a", FIRST, redis="")
    dojo.accept([only_finding(dojo)["id"]])
    fleet.deliver("b", REWORDED, redis="")
    assert [f["is_mitigated"] for f in dojo.findings(dojo.test("app")["id"])].count(True) == 1 and not fleet.texts()


@pytest.mark.parametrize("kind", ["tls", "password", "that of results"])
def test_texts_are_shared_over_tls_with_a_password_and_in_the_redis_of_results(kind, fleet, dojo, make_redis, certificate, secret):  # noqa: F811
    fleet.redis = make_redis(certificate=certificate if kind == "tls" else None, password="not to be seen" if kind == "password" else None)
    over = {"redis": f"redis{'s' if kind == 'tls' else ''}://127.0.0.1:{fleet.redis.port}"}
    if kind == "tls":
        over["redis_ca_file"] = str(certificate[0])
    if kind == "password":
        over["redis_auth_file"] = secret("auth", "fleet:not to be seen")
    if kind == "that of results":
        fleet.settings = with_trivy(fleet.settings, results_redis=over["redis"], results_key_file=fleet.key)
        over = {"redis": "", "redis_key_file": ""}
    fleet.deliver("a", FIRST, **over)
    dojo.accept([only_finding(dojo)["id"]])
    done = fleet.deliver("b", REWORDED, **over)
    assert only_finding(dojo)["risk_accepted"] and len(fleet.texts()) == 1
    assert "not to be seen" not in done.stdout + done.stderr


def with_trivy(settings, **trivy):
    return lambda over: settings({**over, "trivy": trivy})


def test_what_hosts_have_kept_by_themselves_goes_into_the_redis_and_the_first_one_counts(fleet, dojo):
    fleet.deliver("a", FIRST, redis="")
    dojo.accept([only_finding(dojo)["id"]])
    fleet.deliver("b", report(finding(cve="CVE-2024-2")), redis="", add={"test": "b's"})
    fleet.deliver("a", FIRST)
    fleet.deliver("b", REWORDED)
    assert only_finding(dojo)["risk_accepted"], "what a had is first for b, too"
    before = only_finding(dojo, "b's")
    fleet.deliver("b", report(finding(cve="CVE-2024-2", title="otherwise")), add={"test": "b's"})
    assert only_finding(dojo, "b's")["hash_code"] == before["hash_code"], "and what b had is not lost"


def test_texts_that_the_redis_has_lost_come_back_from_the_hosts(fleet, dojo):
    fleet.deliver("a", FIRST)
    dojo.accept([only_finding(dojo)["id"]])
    fleet.deliver("b", FIRST)
    fleet.redis.ask("flushall")
    # a never comes again
    fleet.deliver("b", REWORDED)
    assert only_finding(dojo)["risk_accepted"]
    fleet.deliver("c", REWORDED)
    assert only_finding(dojo)["risk_accepted"]


def test_a_redis_that_is_down_keeps_reports_in_the_spool_until_it_is_back(fleet, dojo):
    fleet.deliver("a", FIRST)
    dojo.accept([only_finding(dojo)["id"]])
    n = len(dojo.uploads)
    down = {"redis": f"redis://127.0.0.1:{free_port()}"}
    spool = fleet.host("b", **down)
    spool.add(REWORDED, findings=1)
    spool.add(REWORDED, findings=1, test="other")
    began = time.monotonic()
    done = spool("flush", "--now")
    assert done.returncode == 3 and len(dojo.uploads) == n and "defectdojo.redis" in done.stdout + done.stderr
    # asked once, not for each
    assert time.monotonic() - began < 20 and len(spool.new()) == 2 and sum(row["attempts"] for row in spool.list()) == 0
    spool = fleet.host("b")
    done = spool("flush", "--now")
    assert done.returncode == 0 and only_finding(dojo)["risk_accepted"], done.stdout + done.stderr


@pytest.mark.parametrize("answer", [b"", b"-NOAUTH who are you\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"$999999999999\r\n", b"*2147483647\r\n", b":0\r\n"])
def test_a_redis_that_is_slow_or_lies_costs_a_bounded_delay_and_no_text(answer, fleet, dojo):
    with Liar(answer) as liar:
        spool = fleet.host("a", redis=f"redis://127.0.0.1:{liar.port}")
        for n in range(5):
            spool.add(FIRST, findings=1, test=f"test {n}")
        done = spool("flush", "--now", timeout=45)
        assert done.returncode == 3 and not dojo.uploads and len(spool.new()) == 5, done.stdout + done.stderr


class Liar:
    """Says one thing to whatever it is asked; b"": nothing."""

    def __init__(self, answer):
        self.answer = answer
        self.server = Listener(self.begin)
        self.port = self.server.port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()

    def begin(self, c):
        threading.Thread(target=self.talk, args=(c,), daemon=True).start()

    def talk(self, c):
        try:
            while c.recv(65536):
                if self.answer:
                    c.sendall(self.answer)
        except OSError:
            pass


def test_without_kept_texts_a_redis_that_is_down_is_done_without(fleet, dojo):
    done = fleet.deliver("a", FIRST, keep_text="false", redis=f"redis://127.0.0.1:{free_port()}")
    assert done.stderr.count("defectdojo.redis") == 1 and len(dojo.uploads) == 1


@pytest.mark.parametrize("how", ["invented", "of another test", "of another server", "of another key", "cut", "of another kind"])
def test_an_entry_that_is_not_ours_is_not_believed_and_the_report_waits(how, fleet, dojo, secret):  # noqa: F811
    fleet.deliver("a", FIRST)
    name, = fleet.texts()
    good = fleet.redis.get(name)
    if how == "of another test":
        fleet.deliver("a", FIRST, add={"test": "other"})
    elif how == "of another server":
        fleet.deliver("a", FIRST, redis_key_file=fleet.key, url=fleet.dojo.url.replace("127.0.0.1", "localhost"))
    elif how == "of another key":
        fleet.redis.ask("del", name)
        fleet.deliver("c", FIRST, redis_key_file=secret("other.key", KEY + " no"))
    others = set(fleet.texts()) - {name}
    assert len(others) == (1 if how in ("of another test", "of another server") else 0)
    bad = {"invented": b"{}", "cut": good[:-1], "of another key": fleet.redis.get(name),
           "of another kind": b"TWMAC1 " + good[7:23] + b" " + b"0" * 64 + good[88:]}.get(how)
    if others:
        bad = fleet.redis.get(others.pop())
    fleet.redis.ask("set", name, stdin=bad)
    n = len(dojo.uploads)
    done = fleet.deliver("b", REWORDED, ok=False)
    assert len(dojo.uploads) == n and "is not of our key (defectdojo.redis_key_file)" in done.stdout, done.stdout
    # another test is not in its way
    spool = fleet.host("b")
    spool.add(FIRST, findings=1, test="apart")
    spool("flush", "--now")
    assert len(dojo.uploads) == n + 1
    fleet.redis.ask("set", name, stdin=good)
    assert fleet.host("b")("flush", "--now").returncode == 0 and len(dojo.findings(dojo.test("app")["id"])) == 1


def test_older_texts_that_are_put_back_excuse_and_change_nothing(fleet, dojo):
    fleet.deliver("a", FIRST)
    name, = fleet.texts()
    old = fleet.redis.get(name)
    fleet.deliver("a", report(finding(), finding(cve="CVE-2024-2")), add={"n_findings": 2})
    fleet.deliver("a", REWORDED)
    fleet.redis.ask("set", name, stdin=old)
    n = len(dojo.requests)
    # a still knows what is not there any more, and what was told before is as it should be
    fleet.deliver("a", report(finding(title="flaw, said otherwise", severity="CRITICAL", fix="1.1"), finding(cve="CVE-2024-2", title="new")),
                  add={"n_findings": 2})
    assert len(dojo.findings(dojo.test("app")["id"])) == 2
    told = [json.loads(r.body) for r in dojo.requests[n:] if r.method == "PATCH"]
    assert len(told) == 1 and "new" in told[0]["description"]


def flushing(spool):
    return subprocess.Popen(spool.argv("flush", "--now"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, start_new_session=True)


def own(fleet, *names):
    for name in names:
        if IS_ROOT:
            subprocess.run(["chown", "-R", "daemon:daemon", fleet.root / name / "state"], check=True)


def test_a_host_that_dies_between_putting_down_and_upload_leaves_texts_that_the_next_one_sends(fleet, dojo):
    spool = fleet.host("a")
    delivery = spool.add(FIRST, findings=1)
    own(fleet, "a")
    dojo.pause("context")  # nothing has been made there
    process = flushing(spool)
    dojo.wait_paused()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    dojo.fault = "drop"
    dojo.resume()
    assert len(fleet.texts()) == 1 and len(fleet.turns()) == 1
    # the other host waits: the server may still be at work on it
    other = fleet.host("b")
    other.add(REWORDED, findings=1)
    done = other("flush", "--now")
    assert done.returncode == 3 and "delivers into the same test" in done.stdout, done.stdout
    dojo.fault = None
    # the one that died comes back, and its turn with it
    spool.let_time_pass()
    done = spool("flush", "--now")
    assert done.returncode == 0 and spool.new() == [], done.stdout + done.stderr
    assert fleet.turns() == [] and delivery
    before = only_finding(dojo)
    done = other("flush", "--now")
    assert done.returncode == 0 and only_finding(dojo)["id"] == before["id"], done.stdout + done.stderr
    assert only_finding(dojo)["hash_code"] == before["hash_code"]


def test_two_hosts_do_not_deliver_into_one_test_at_once(fleet, dojo):
    body = report(*[finding(cve=f"CVE-2024-{n}") for n in range(1, 21)])
    a, b = fleet.host("a"), fleet.host("b")
    a.add(body, findings=20)
    b.add(body, findings=20)
    b.add(body, findings=20, test="another")
    own(fleet, "a", "b")
    dojo.pause("findings")
    first = flushing(a)
    dojo.wait_paused()
    second = flushing(b)
    # its other test goes on
    dojo.wait_paused(2)
    dojo.resume()
    assert first.wait(60) == 0
    assert "delivers into the same test" in second.communicate(timeout=60)[0]
    assert b("flush", "--now").returncode == 0
    for title in ("app", "another"):
        found = dojo.findings(dojo.test(title)["id"])
        assert len(found) == 20 and len({f["hash_code"] for f in found}) == 20
    assert [i["test"] for i in dojo.imports].count(dojo.test("app")["id"]) == 2 and fleet.turns() == []


def test_texts_that_another_host_has_written_meanwhile_are_not_written_over(fleet, dojo):
    a, b = fleet.host("a"), fleet.host("b")
    a.add(FIRST, findings=1)
    b.add(report(finding(), finding(cve="CVE-2024-2")), findings=2)
    own(fleet, "a", "b")
    a("flush")
    a.add(REWORDED, findings=1)
    own(fleet, "a")
    dojo.pause("answer")
    process = flushing(a)
    dojo.wait_paused()
    # as if the Redis had been started anew without it
    fleet.redis.ask("del", *fleet.turns())
    other = flushing(b)
    dojo.wait_paused(2)
    dojo.resume()
    assert process.wait(60) == 0 and other.wait(60) == 0
    # b's second finding is still known with the text it went with
    before = {f["id"]: f["hash_code"] for f in dojo.findings(dojo.test("app")["id"])}
    fleet.deliver("c", report(finding(title="x"), finding(cve="CVE-2024-2", title="y")), add={"n_findings": 2})
    assert {f["id"]: f["hash_code"] for f in dojo.findings(dojo.test("app")["id"])} == before and len(before) == 2


def test_a_turn_that_has_no_end_does_not_count(fleet, dojo):
    fleet.deliver("a", FIRST)
    name = fleet.texts()[0].replace(":texts:", ":turn:")
    fleet.redis.ask("set", name, "nobody 1")
    done = fleet.deliver("a", FIRST)
    assert "has no end" in done.stderr and len(dojo.uploads) == 2
    fleet.redis.ask("set", name, "some-host 1", "px", "60000")
    done = fleet.deliver("a", FIRST, ok=False)
    assert "some-host delivers into the same test" in done.stdout


def test_jobs_on_two_hosts_keep_acceptances_through_a_rewording_and_the_gate_asks_again(root, program, settings, tools, dojo,  # noqa: F811
                                                                                         make_redis, secret):  # noqa: F811
    redis, key = make_redis(), secret("fleet.key", KEY)
    over = {"keep_text": "true", "redis": f"redis://127.0.0.1:{redis.port}", "redis_key_file": key}
    hosts = []
    for name in ("a", "b"):
        place = root / name
        place.mkdir()
        place.chmod(0o755)
        hosts.append(Host(place, program, lambda s, place=place: settings({**s, "state_dir": str(place / "state")}), tools, dojo))
    a, b = hosts
    a.configure(**over)
    a.scan()
    before = a.findings()
    dojo.accept([f["id"] for f in before.values()])
    b.configure(db="reworded/db", **over)
    done = b.scan()
    after = b.findings()
    assert {n: f["id"] for n, f in after.items()} == {n: f["id"] for n, f in before.items()}, done.stderr
    assert all(f["risk_accepted"] and not f["is_mitigated"] for f in after.values())
    assert after[RAISED]["severity"] == "Critical" and after[FIXED]["mitigation"]
    a.configure(db="reworded/db", **over)
    for host in hosts:
        assert blocking(host.scan()) == {RAISED}


@pytest.mark.parametrize("limit, policy, journal, level, words", [
    ("0", "noeviction", "yes", "ok", "serves"),
    ("64mb", "noeviction", "yes", "ok", "serves"),
    ("64mb", "volatile-ttl", "yes", "ok", "serves"),
    ("64mb", "allkeys-lru", "yes", "warn", "evicts by allkeys-lru"),
    ("64mb", "volatile-lru", "yes", "warn", "evicts by volatile-lru"),
    ("0", "noeviction", "no", "warn", "writes no journal"),
])
def test_doctor_says_how_the_redis_keeps_texts(limit, policy, journal, level, words, doctor, make_redis, secret):  # noqa: F811
    redis = make_redis()
    for name, value in (("maxmemory", limit), ("maxmemory-policy", policy), ("appendonly", journal)):
        redis.ask("config", "set", name, value)
    over = {"defectdojo": {"keep_text": "true", "redis": f"redis://127.0.0.1:{redis.port}", "redis_key_file": secret("fleet.key", KEY)}}
    assert words in doctor.line("fleet", level=level, over=over)["text"]


def test_doctor_says_what_is_wrong_with_the_redis(doctor, make_redis, secret):  # noqa: F811
    over = {"keep_text": "true", "redis": f"redis://127.0.0.1:{free_port()}", "redis_key_file": secret("fleet.key", KEY)}
    assert not [line for line in doctor() if line["subject"] == "fleet"]
    assert "deliveries wait" in doctor.line("fleet", level="fail", over={"defectdojo": over})["text"]
    assert "at once" in doctor.line("fleet", level="fail", over={"defectdojo": {**over, "keep_text": "false"}})["text"]
    redis = make_redis()
    over["redis"] = f"redis://127.0.0.1:{redis.port}"
    redis.ask("acl", "setuser", "default", "-info")
    assert "does not tell" in doctor.line("fleet", level="ok", over={"defectdojo": over})["text"]
    redis.ask("acl", "setuser", "default", "-eval")
    assert "NOPERM" in doctor.line("fleet", level="fail", over={"defectdojo": over})["text"]
    over["redis_key_file"] = secret("short.key", "short")
    assert "32 characters" in doctor.line("fleet", level="fail", over={"defectdojo": over})["text"]


def test_a_report_that_is_older_than_what_another_host_has_delivered_is_kept_back(fleet, dojo):
    now = int(time.time())
    a = fleet.host("a")
    old = a.add(FIRST, findings=1, created_s=now - 7200)
    fleet.deliver("b", REWORDED, add={"created_s": now - 60})
    # forced by nobody
    done = a("flush")
    assert done.returncode == 3 and a.dead() == [old] and "a newer report" in done.stdout, done.stdout + done.stderr
    assert len(dojo.uploads) == 1
    # what is only a little older by the clock of its host is not
    a.add(FIRST, findings=1, created_s=now - 400)
    assert a("flush").returncode == 0 and len(dojo.uploads) == 2
    # and who wants it gets it
    assert a("retry", old).returncode == 0 and a("flush").returncode == 0 and len(dojo.uploads) == 3
    # a time that nobody of ours has written is none
    name, = fleet.redis.ask("keys", "tidewaiter:newest:*").decode().split()
    fleet.redis.ask("set", name, str(now + 10**6))
    a.add(FIRST, findings=1, created_s=now - 7200)
    assert a("flush").returncode == 0 and len(dojo.uploads) == 4


def test_a_host_whose_clock_was_ahead_keeps_no_report_of_the_others_back(fleet, dojo):
    now = int(time.time())
    a = fleet.host("a")
    fleet.deliver("b", FIRST, add={"created_s": now + 10 * 365 * 86400})
    a.add(REWORDED, findings=1, created_s=now - 1800)
    done = a("flush")
    assert done.returncode == 0 and a.dead() == [] and len(dojo.uploads) == 2, done.stdout + done.stderr
    # and the order of what came after it holds again
    old = a.add(FIRST, findings=1, created_s=now - 7200)
    assert a("flush").returncode == 3 and a.dead() == [old] and len(dojo.uploads) == 2


def test_the_rights_that_the_documents_name_are_enough(fleet, dojo, doctor):  # noqa: F811
    fleet.redis.ask("acl", "setuser", "admin", "on", "nopass", "~*", "+@all")
    fleet.redis.options = ["--user", "admin", "--pass", "any", "--no-auth-warning"]
    fleet.redis.ask("acl", "setuser", "default", "reset", "on", "nopass", "~tidewaiter:*",
                    *[f"+{name}" for name in "get set getrange exists del pttl eval auth select info".split()])
    fleet.deliver("a", FIRST)
    dojo.accept([only_finding(dojo)["id"]])
    fleet.deliver("b", REWORDED)
    assert only_finding(dojo)["risk_accepted"] and len(fleet.texts()) == 1 and fleet.turns() == []
    line = doctor.line("fleet", over={"defectdojo": {"keep_text": "true", "redis": f"redis://127.0.0.1:{fleet.redis.port}",
                                                     "redis_key_file": fleet.key}})
    assert "journal" in line["text"], "it could be asked"


def test_a_report_that_is_too_large_for_kept_texts_says_so(fleet, dojo):
    long = finding()
    long["Description"] = "x" * (33 << 20)
    done = fleet.deliver("a", report(long))
    assert "larger than 32 MiB" in done.stdout and len(dojo.uploads) == 1 and fleet.texts() == []


def test_texts_for_which_there_is_no_room_keep_no_report_back(fleet, dojo):
    fleet.deliver("a", FIRST)
    dojo.accept([only_finding(dojo)["id"]])
    long = finding(cve="CVE-2024-2")
    long["Description"] = base64.b64encode(os.urandom(16 << 20)).decode()
    body = report(finding(title="flaw, said otherwise", severity="CRITICAL", fix="1.1"), long)
    spool = fleet.host("b")
    spool.add(body, findings=2)
    done = spool("flush", "--now")
    assert done.returncode == 0 and len(dojo.uploads) == 2, done.stdout + done.stderr
    accepted, = [f for f in dojo.findings(dojo.test("app")["id"]) if f["risk_accepted"]]
    assert accepted["title"].startswith("CVE-2024-1 ") and not accepted["is_mitigated"], accepted


def test_two_files_that_are_too_many_together_keep_no_report_back_and_lose_nothing(fleet, dojo):
    """Two hosts that each knew 30 000 findings of a test before they had a Redis."""
    def fill(name):
        place = fleet.host(name).path.parent / "texts"
        place.mkdir(mode=0o700, exist_ok=True)
        key = hashlib.sha256(b"".join(x.encode() + b"\0" for x in ("group/app", "main", "app"))).hexdigest()[:16]
        entries = [{"key": hashlib.sha256(f"{name}{k}".encode()).hexdigest()[:32], "title": "t", "description": "", "fixed": "",
                    "severity": "HIGH", "cwe": "", "told_severity": "HIGH", "told_fixed": "", "told_words": "0" * 32,
                    "seen_s": int(time.time()) - 1000} for k in range(30000)]
        (place / f"{key}.json").write_text(json.dumps({"version": 1, "findings": entries}))
        (place / f"{key}.json").chmod(0o600)
        return place / f"{key}.json"

    fill("a")
    kept = fill("b")
    fleet.deliver("a", FIRST)
    b = fleet.host("b")
    b.add(report(finding(), finding(cve="CVE-2024-2")), findings=2)
    done = b("flush", "--now")
    assert done.returncode == 0 and len(dojo.uploads) == 2 and "the texts of 1 findings are not kept" in done.stdout, done.stdout
    # 30 000 of each, and the one that was sent first
    assert len(json.loads(kept.read_text())["findings"]) == 60001


@needs_root
@pytest.mark.parametrize("has_redis", [True, False])
def test_a_full_disk_for_texts_keeps_no_report_back(has_redis, fleet, dojo):
    over = {} if has_redis else {"redis": ""}
    spool = fleet.host("a", **over)
    place = spool.path.parent / "texts"
    place.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k,mode=0700,uid=1,gid=1", "tmpfs", place], check=True)
    try:
        with contextlib.suppress(OSError):
            (place / "fill").write_bytes(b"x" * 8192)
        spool.add(FIRST, findings=1)
        done = spool("flush", "--now")
        assert done.returncode == 0 and len(dojo.uploads) == 1, done.stdout + done.stderr
        assert ("are not kept" in done.stdout) != has_redis and len(fleet.texts()) == has_redis, done.stdout
        # nor the next one, which the Redis knows
        dojo.accept([only_finding(dojo)["id"]])
        spool.add(REWORDED, findings=1)
        assert spool("flush", "--now").returncode == 0
        assert [f["is_mitigated"] for f in dojo.findings(dojo.test("app")["id"])].count(True) == (0 if has_redis else 1)
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_finding_that_cannot_be_changed_keeps_no_other_from_it(fleet, dojo, monkeypatch):
    def three(title, severity):
        return report(*[finding(cve=f"CVE-2024-{n}", title=title, severity=severity) for n in (1, 2, 3)])

    spool = fleet.host("a", redis="")
    spool.add(three("flaw", "HIGH"), findings=3)
    assert spool("flush", "--now").returncode == 0
    poison = min(f["id"] for f in dojo.findings(dojo.test("app")["id"]))
    real, tried = defectdojo_api.Api._one, []

    def one(self, user, request, argument, run):
        if request.method == "PATCH":
            tried.append(argument[1])
            if argument == ("findings", poison):
                raise defectdojo_api.Stop(400, {"detail": "Jira says no"})
        return real(self, user, request, argument, run)

    monkeypatch.setattr(defectdojo_api.Api, "_one", one)
    for n in (1, 2):
        spool.add(three("flaw, reworded", "CRITICAL"), findings=3)
        done = spool("flush", "--now")
        assert done.returncode == 0 and f"finding {poison}" in done.stdout and "Jira says no" in done.stdout, done.stdout
        severities = {f["id"]: f["severity"] for f in dojo.findings(dojo.test("app")["id"])}
        assert severities.pop(poison) == "High" and set(severities.values()) == {"Critical"}
        # the others once, that one again and again
        assert tried.count(poison) == n and len(tried) == n + 2
    # a server that answers nobody is not asked for each
    tried.clear()
    dojo.fault = "502@/api/v2/findings"
    spool.add(three("flaw, reworded again", "CRITICAL"), findings=3)
    n = len(dojo.requests)
    done = spool("flush", "--now")
    assert "still have the texts of before" in done.stdout
    assert len([r for r in dojo.requests[n:] if r.path.startswith("/api/v2/findings")]) == 1


@pytest.mark.parametrize("ahead_s", [3000, 660])
def test_a_clock_that_was_ahead_for_a_while_sends_no_newer_report_to_the_dead(fleet, dojo, ahead_s):
    now = int(time.time())
    a, b = fleet.host("a"), fleet.host("b")
    fleet.deliver("b", FIRST, add={"created_s": now + ahead_s})
    # mended: the same host goes on, and the other one, which was made to wait a little
    b.add(REWORDED, findings=1, created_s=now)
    a.add(REWORDED, findings=1, created_s=now - 300)
    for spool in (b, a):
        done = spool("flush")
        assert done.returncode == 0 and spool.dead() == [], done.stdout + done.stderr
    assert len(dojo.uploads) == 3
    # what is older beyond doubt is as before
    old = a.add(FIRST, findings=1, created_s=now - 7200)
    assert a("flush").returncode == 3 and a.dead() == [old]


def test_a_host_whose_clock_is_behind_has_none_of_its_reports_given_up(fleet, dojo):
    """By half an hour: what it made a quarter of an hour ago is newer than what another host made half an hour ago."""
    now = int(time.time())
    dojo.store.ahead_s = 1800
    fleet.deliver("b", FIRST, add={"created_s": now})
    a = fleet.host("a")
    a.add(REWORDED, findings=1, created_s=now - 900)
    done = a("flush")
    assert done.returncode == 0 and a.dead() == [] and len(dojo.uploads) == 2, done.stdout + done.stderr
    old = a.add(FIRST, findings=1, created_s=now - 7200)
    assert a("flush").returncode == 3 and a.dead() == [old]


@pytest.mark.parametrize("ahead_s", [180, -180])
def test_a_clock_that_differs_a_little_from_defectdojos_leaves_the_order_as_it_is(ahead_s, fleet, dojo):
    now = int(time.time())
    dojo.store.ahead_s = ahead_s
    a = fleet.host("a")
    old = a.add(FIRST, findings=1, created_s=now - 7200)
    fleet.deliver("b", REWORDED, add={"created_s": now - 5})
    newest, = fleet.redis.ask("keys", "tidewaiter:newest:*").decode().split()
    before = fleet.redis.ask("get", newest)
    done = a("flush")
    assert done.returncode == 3 and a.dead() == [old] and len(dojo.uploads) == 1, done.stdout
    assert fleet.redis.ask("get", newest) == before


def test_neither_of_two_images_in_one_test_is_news_of_the_other(fleet, dojo):
    now = int(time.time())
    a = fleet.host("a")
    a.add(FIRST, findings=1, created_s=now - 7200, service="group/api", test="trivy")
    fleet.deliver("b", FIRST, add={"created_s": now - 5, "service": "group/web", "test": "trivy"})
    assert a("flush").returncode == 0 and a.dead() == [] and len(dojo.uploads) == 2


def test_a_report_that_closes_nothing_is_no_reason_to_give_up_a_whole_one(fleet, dojo):
    now = int(time.time())
    two = report(finding(), finding(cve="CVE-2024-2"))
    a = fleet.host("a")
    a.add(two, findings=2, created_s=now - 9000)
    assert a("flush").returncode == 0
    a.add(FIRST, findings=1, created_s=now - 7200)
    fleet.deliver("b", FIRST, add={"created_s": now - 5, "keeps_old": True})
    assert a("flush").returncode == 0 and a.dead() == [] and len(dojo.uploads) == 3
    assert {f["vulnerability_ids"][0]: f["is_mitigated"] for f in dojo.findings(dojo.test("app")["id"])} == {
        "CVE-2024-1": False, "CVE-2024-2": True}
