"""The upload stage, through `tidewaiter scan --upload` with a real Trivy: no answer of DefectDojo changes a verdict."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from defectdojo import DefectDojo
from dojo_host import USERS, DojoHost, give
from slot_host import needs_root

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "fixtures"))

import images  # noqa: E402

BLOCKED = 1


class Host(DojoHost):
    def __init__(self, *fixtures):
        super().__init__(*fixtures)
        self.archive = self.root / "app.tar"
        images.KINDS["classic"].write(self.archive)
        self.configure()

    def configure(self, **defectdojo):
        self.config = self.write_settings({
            **USERS, "trivy": {"path": str(self.tools / "trivy"), "db_dir": str(self.tools / "db")},
            "gate": {"mode": "enforce"}, "defectdojo": self.defectdojo(**{"wait": "20s", **defectdojo})})

    def scan(self, *more, wrap=(), env=None):
        return subprocess.run([*wrap, self.program, "--config", str(self.config), "scan", "--upload", "--as", "group/app",
                               "--branch", "main", *more, str(self.archive)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})})

    def flush(self, *more):
        return subprocess.run([self.program, "--config", str(self.config), "spool", "flush", *more],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)

    def let_breakers_pass(self):
        for path in (self.spool / "server").iterdir():
            if not path.name.endswith(".lock"):
                path.write_text(json.dumps({**json.loads(path.read_text()), "until_s": 1}))

    def waiting(self, place="new"):
        place = self.spool / place
        return [p for p in place.iterdir() if "." not in p.name] if place.exists() else []


@pytest.fixture
def host(root, program, settings, tools, dojo):
    return Host(root, program, settings, tools, dojo)


def test_findings_arrive_and_one_line_says_so(host, dojo):
    done = host.scan()
    assert done.returncode == BLOCKED, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "DefectDojo: " in line and "delivered" in line]
    assert len(lines) == 1 and " new " in lines[0]
    upload, = dojo.uploads
    assert upload.form["product_name"] == ["group/app"] and upload.form["engagement_name"] == ["main"]
    assert upload.form["branch_tag"] == ["main"] and upload.form["deduplication_execution_mode"] == ["sync"]
    assert host.waiting() == []


def test_a_server_without_tls_is_warned_of_once(host, dojo):
    done = host.scan()
    lines = [line for line in done.stdout.splitlines() if "is not encrypted" in line]
    assert len(lines) == 1 and dojo.url in lines[0] and "warning" in lines[0], done.stdout
    assert len(dojo.imports) == 1, "it works all the same"


def test_json_stays_one_object(host, dojo):
    dojo.fault = "502"
    done = host.scan("--json")
    assert done.returncode == BLOCKED
    json.loads(done.stdout)
    assert "HTTP 502" in done.stderr


@pytest.mark.parametrize("fault", ["403", "413", "400-message", "500-html", "500-json", "502", "301", "200-html",
                                   "201-truncated", "drop", "reset", "half", "hang", "201-endless"])
def test_no_fault_changes_the_verdict_or_loses_the_report(host, dojo, fault):
    host.configure(wait="2s")
    dojo.fault = fault
    done = host.scan()
    assert done.returncode == BLOCKED, done.stdout + done.stderr
    assert "DefectDojo: " in done.stdout
    assert len(host.waiting("new")) + len(host.waiting("dead")) == 1
    assert host.dojo.token not in done.stdout + done.stderr


def test_the_verdict_does_not_wait_longer_than_it_may(host, dojo):
    host.configure(wait="1s")
    dojo.pause("findings")
    done = host.scan()
    assert done.returncode == BLOCKED and "no answer yet" in done.stdout
    assert dojo.running  # it answered while the server was still at work
    dojo.resume()
    dojo.wait_for(lambda: len(dojo.imports) == 1)
    assert host.flush("--now").returncode == 0
    assert len(dojo.uploads) == 1 and host.waiting() == []


def test_a_server_that_refuses_connections_is_named(host, dojo):
    dojo.down()
    done = host.scan()
    assert done.returncode == BLOCKED and len(host.waiting()) == 1
    assert "waits in the spool" in done.stdout


def test_the_next_inspection_delivers_what_an_earlier_one_could_not(host, dojo):
    dojo.fault = "503*1"
    host.scan()
    older, = host.waiting()
    state = older.with_name(older.name + ".state")
    state.write_text(json.dumps({**json.loads(state.read_text()), "next_s": 0}))
    host.let_breakers_pass()
    done = host.scan()
    assert done.returncode == BLOCKED
    assert "1 earlier report delivered" in done.stdout
    assert host.waiting() == [] and len(dojo.imports) == 2
    builds = [upload.form["build_id"] for upload in dojo.uploads]
    assert builds[0] == builds[1] != builds[2]  # in order


def test_without_a_url_reports_wait_in_the_outbox(host, dojo):
    host.configure(url="")
    done = host.scan()
    assert done.returncode == BLOCKED
    assert f"1 report in the outbox {host.spool}/new" in done.stdout
    assert len(host.waiting()) == 1 and dojo.requests == []


def test_only_named_refs_are_uploaded(host, dojo):
    host.configure(refs=["release/*"])
    host.scan()
    assert host.waiting() == [] and dojo.uploads == []


def test_a_name_that_comes_out_empty_is_said(host, dojo):
    host.configure(engagement="{job_stage}")
    done = host.scan()
    assert done.returncode == BLOCKED
    assert "defectdojo.engagement is empty" in done.stdout and dojo.uploads == []


def test_a_full_spool_takes_no_more_and_says_so(host, dojo):
    dojo.fault = "502"
    host.configure(spool_count_max=1)
    first = host.scan()
    assert "more than half full" in first.stdout
    done = host.scan()
    assert done.returncode == BLOCKED and "at most 1" in done.stdout
    assert len(host.waiting()) == 1


@needs_root
def test_a_full_disk_is_said_and_fails_nothing(host, dojo):
    wrap = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=4k,nr_inodes=9,mode=700,uid=1 none {host.spool} && '
            'exec "$@"', "sh"]
    done = host.scan(wrap=wrap)
    assert done.returncode == BLOCKED, done.stdout + done.stderr
    assert "No space left on device" in done.stdout
    assert dojo.uploads == []


@needs_root
def test_a_spool_that_the_courier_cannot_use_is_said(host):
    subprocess.run(["chown", "root:", host.spool], check=True)
    done = host.scan()
    assert done.returncode == BLOCKED and "tidewaiter setup" in done.stdout


def test_a_token_file_that_is_missing_is_named(host, dojo):
    host.token.unlink()
    done = host.scan()
    assert done.returncode == BLOCKED and str(host.token) in done.stdout
    assert len(host.waiting()) == 1 and dojo.requests == []


def test_the_environment_leads_nowhere(host, dojo):
    host.scan(env={"http_proxy": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1",
                   "CURL_CA_BUNDLE": "/nonexistent", "SSL_CERT_FILE": "/nonexistent", "HOME": str(host.root)})
    assert len(dojo.imports) == 1


def test_a_certificate_is_verified_against_the_named_authority(root, program, settings, tools):
    key, cert = root / "key.pem", root / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    cert.chmod(0o644)
    with DefectDojo(tls_cert=str(cert), tls_key=str(key)) as dojo:
        host = Host(root, program, settings, tools, dojo)
        done = host.scan()
        assert done.returncode == BLOCKED and "certificate (put its authority into defectdojo.ca_file)" in done.stdout
        assert dojo.requests == [] and len(host.waiting()) == 1
        host.configure(ca_file=str(cert))
        assert host.flush("--now").returncode == 0
        assert len(dojo.imports) == 1
        assert "is not encrypted" not in host.scan().stdout


def test_a_client_certificate_is_shown_where_the_server_asks_for_one(root, program, settings, tools):
    def make(name, *more):
        key, cert = root / f"{name}.key", root / f"{name}.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert,
                        "-days", "2", "-subj", f"/CN={name}", *more], check=True, capture_output=True)
        cert.chmod(0o644)
        return key, cert

    key, cert = make("server", "-addext", "subjectAltName=IP:127.0.0.1")
    client_key, client_cert = make("client")
    with DefectDojo(tls_cert=str(cert), tls_key=str(key), tls_client_ca=str(client_cert)) as dojo:
        host = Host(root, program, settings, tools, dojo)
        host.configure(ca_file=str(cert))
        assert host.scan().returncode == BLOCKED and len(host.waiting()) == 1 and dojo.imports == []
        host.configure(ca_file=str(cert), client_cert_file=str(root / "gone.pem"))
        assert "gone.pem" in host.flush("--now").stderr
        host.configure(ca_file=str(cert), client_cert_file=str(client_cert), client_key_file=str(client_key))
        client_key.chmod(0o644)
        assert "client.key" in host.flush("--now").stderr  # a key that others can read is not used
        client_key.chmod(0o600)
        give(client_key)
        done = host.flush("--now")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(dojo.imports) == 1


def test_a_newer_report_replaces_one_that_was_never_sent_where_settings_say_so(host, dojo):
    dojo.down()
    host.configure(supersede=True)
    host.scan()  # tried, not sent: nobody was there
    first, = host.waiting()
    done = host.scan()
    second, = host.waiting()
    assert first != second and "replaces 1 older report" in done.stdout
    host.scan("--branch", "other")
    assert len(host.waiting()) == 2  # another test
    dojo.up()
    assert host.flush("--now").returncode == 0
    assert len(dojo.imports) == 2


def test_a_report_that_may_have_arrived_is_never_replaced(host, dojo):
    host.configure(supersede=True, wait="1s")
    dojo.fault = "hang"
    host.scan()
    dojo.fault = None
    done = host.scan()
    assert len(host.waiting()) == 2 and "replaces" not in done.stdout


def test_while_the_breaker_is_open_a_job_does_not_ask(host, dojo):
    dojo.fault = "503*1"
    host.scan()
    asked = len(dojo.uploads)
    done = host.scan()
    assert done.returncode == BLOCKED and len(dojo.uploads) == asked
    assert "waits in the spool, which changes nothing for this job: DefectDojo is not asked for" in done.stdout
    assert len(host.waiting()) == 2


def test_jobs_at_the_same_time_deliver_to_each_test_in_order_and_double_nothing(host, dojo):
    """All are taken in while the first ones are still on their way; tests/bench/delivery.py does the same with fifty."""
    host.configure(wait="60s")
    assert host.scan("--branch", "b0").returncode == BLOCKED  # Trivy's result is kept from here on
    dojo.pause("findings")
    jobs = [subprocess.Popen([host.program, "--config", str(host.config), "scan", "--upload", "--as", "group/app",
                              "--branch", f"b{n % 3}", str(host.archive)], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for n in range(12)]
    dojo.wait_for(lambda: len(host.waiting()) == len(jobs))
    taken = {}
    for path in sorted(host.waiting()):
        head = json.loads(path.read_bytes().split(b"\n", 1)[0])
        taken.setdefault(head["engagement"], []).append(head["build_id"])
    dojo.resume()
    for job in jobs:
        output = job.communicate()[0]
        assert job.returncode == BLOCKED and "delivered" in output, output
    assert host.waiting() == []
    for engagement in dojo.engagements:
        if engagement["name"] not in taken:
            continue
        test, = [row for row in dojo.tests if row["engagement"] == engagement["id"]]
        arrived = [row["build_id"] for row in dojo.imports if row["test"] == test["id"]]
        assert arrived[-len(taken[engagement["name"]]):] == taken[engagement["name"]]
        hashes = [finding["hash_code"] for finding in dojo.findings(test["id"])]
        assert len(hashes) == len(set(hashes))
