"""tidewaiter doctor: a line for everything, with what to do about it."""

import datetime
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import threading

import pytest

from dojo_host import USERS, DojoHost, give
from slot_host import needs_root


class Doctor(DojoHost):
    """A host that is well, until a test spoils it."""

    def __init__(self, *fixtures):
        super().__init__(*fixtures)
        for name in ("state/slots", "var-cache", "job-builds", "job-cache"):
            (self.root / name).mkdir()
        runner = self.root / "gitlab-runner"
        runner.write_text("#!/bin/sh\n")
        runner.chmod(0o755)
        self.base = {**USERS, "job": {"slots": 1, "runner_path": str(runner)},
                     "trivy": {"path": str(self.tools / "trivy"), "db_dir": str(self.tools / "db"), "db_max_age": "365d"},
                     "defectdojo": self.defectdojo()}

    def __call__(self, *args, as_json=True, over=None):
        config = {section: {**values} if isinstance(values, dict) else values for section, values in self.base.items()}
        for section, values in (over or {}).items():
            config[section] = {**config.get(section, {}), **values} if isinstance(values, dict) else values
        path = self.write_settings(config)
        self.done = subprocess.run([self.program, "--config", str(path), "doctor", *(["--json"] if as_json else []),
                                    *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert self.dojo.token not in self.done.stdout + self.done.stderr
        return json.loads(self.done.stdout)["checks"] if as_json else self.done.stdout

    def line(self, subject, *args, level=None, **more):
        found = [line for line in self(*args, **more) if line["subject"] == subject and level in (None, line["level"])]
        assert found, self.done.stdout
        for line in found:
            assert (line["fix"] is None) == (line["level"] == "ok")
        return found[0]


@pytest.fixture
def doctor(root, program, settings, tools, dojo):
    return Doctor(root, program, settings, tools, dojo)


def test_every_subject_has_its_line(doctor):
    subjects = {line["subject"] for line in doctor("--as", "group/app")}
    assert subjects >= {"settings", "users", "groups", "cgroup", "tools", "slots", "disk", "layers", "trivy", "database", "spool",
                        "defectdojo", "permission", "clock"}


@needs_root
def test_a_host_that_is_well_exits_with_0(doctor):
    prefix = f"twd{os.getpid()}-"
    subprocess.run(["useradd", "--system", "--no-create-home", prefix + "0"], check=True)
    try:
        doctor("--as", "group/app", over={"job": {"user_prefix": prefix}})
        answer = json.loads(doctor.done.stdout)
        assert [line for line in answer["checks"] if line["level"] == "fail"] == []
        assert answer["ok"] is True and doctor.done.returncode == 0
        text = doctor("--as", "group/app", as_json=False, over={"job": {"user_prefix": prefix}})
        assert "ok    trivy" in text and "\033" not in text
    finally:
        subprocess.run(["userdel", prefix + "0"], check=True)


def test_looking_leaves_nothing_behind(doctor, dojo):
    before = set(doctor.root.rglob("*"))
    doctor("--as", "group/app")
    made = {path for path in doctor.root.rglob("*") if path.suffix != ".yml"} - before
    assert {path.relative_to(doctor.spool).as_posix() for path in made} <= {"new", "dead", "lock", "server"}
    assert len(dojo.products) == 1 and dojo.imports == []


def test_settings_that_are_not_understood_fail_with_file_and_line(program, root):
    path = root / "bad.yml"
    path.write_text("gate:\n  severity: SEVERE\n")
    done = subprocess.run([program("tidewaiter"), "--config", str(path), "doctor"], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{path}:2" in done.stdout and "fail  settings" in done.stdout


def test_wrong_use_exits_with_2(program):
    for args in (["x"], ["--gobble"], ["--as"]):
        assert subprocess.run([program("tidewaiter"), "doctor", *args], capture_output=True).returncode == 2


@needs_root
def test_missing_users_are_named(doctor):
    line = doctor.line("users", over={"courier_user": "tw-no-such"})
    assert line["level"] == "fail" and "tw-no-such" in line["text"] and "setup" in line["fix"]
    assert doctor.done.returncode == 1


@needs_root
def test_docker_among_the_groups_is_named(doctor):
    made = subprocess.run(["getent", "group", "docker"], capture_output=True).returncode != 0
    if made:
        subprocess.run(["groupadd", "docker"], check=True)
    try:
        line = doctor.line("groups", over={"job": {"groups": ["docker"]}})
        assert line["level"] == "warn" and "docker" in line["text"] and "root" in line["text"]
    finally:
        if made:
            subprocess.run(["groupdel", "docker"], check=True)


def test_a_group_that_is_not_there_fails(doctor):
    line = doctor.line("groups", over={"job": {"groups": ["tw-no-such"]}})
    assert line["level"] == "fail" and "tw-no-such" in line["text"]


def test_a_runner_that_is_not_there_fails(doctor):
    line = doctor.line("tools", level="fail", over={"job": {"runner_path": "/nonexistent/gitlab-runner"}})
    assert "/nonexistent/gitlab-runner" in line["text"] and "job.runner_path" in line["fix"]


def test_a_slot_of_a_runner_that_is_gone_is_shown(doctor):
    (doctor.root / "state" / "slots" / "0.json").write_text(json.dumps(
        {"slot": 0, "runner_pid": 2 ** 22 - 1, "runner_start": "1", "tmpdir": "/nonexistent", "tmp_dev": "1", "tmp_ino": "1"}))
    line = doctor.line("slots")
    assert line["level"] == "warn" and "1 of them by a runner that is gone" in line["text"]


def test_a_slot_of_a_living_runner_is_counted(doctor):
    start = pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]
    (doctor.root / "state" / "slots" / "0.json").write_text(json.dumps(
        {"slot": 0, "runner_pid": os.getpid(), "runner_start": f"{int(start):x}", "tmpdir": "/", "tmp_dev": "1",
         "tmp_ino": "1"}))
    line = doctor.line("slots")
    assert line["level"] == "ok" and line["text"].startswith("1 of 1 held")


def test_trivy_that_is_missing_or_old_fails(doctor, root):
    line = doctor.line("trivy", over={"trivy": {"path": "/nonexistent/trivy"}})
    assert line["level"] == "fail" and "/nonexistent/trivy" in line["text"]
    old = root / "old-trivy"
    old.write_text("#!/bin/sh\necho '{\"Version\":\"0.20.0\"}'\n")
    old.chmod(0o755)
    line = doctor.line("trivy", over={"trivy": {"path": str(old)}})
    assert line["level"] == "fail" and "0.20.0" in line["text"]


def test_another_trivy_than_the_named_one_fails(doctor):
    line = doctor.line("trivy", level="fail", over={"trivy": {"sha256": "0" * 64}})
    assert "trivy.sha256" in line["text"]


@pytest.mark.parametrize("hours,level", [(1, "ok"), (40, "warn"), (50, "fail")])
def test_a_database_that_ages_is_told_before_it_is_too_old(doctor, tools, root, hours, level):
    copy = root / "db"
    shutil.copytree(tools / "db", copy)
    metadata = json.loads((copy / "metadata.json").read_text())
    updated = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=hours)
    metadata["UpdatedAt"] = updated.strftime("%Y-%m-%dT%H:%M:%SZ")
    (copy / "metadata.json").write_text(json.dumps(metadata))
    assert doctor.line("database", over={"trivy": {"db_dir": str(copy), "db_max_age": "48h"}})["level"] == level


def test_a_database_that_is_missing_fails(doctor):
    line = doctor.line("database", over={"trivy": {"db_dir": "/nonexistent"}})
    assert line["level"] == "fail" and "trivy.db_dir" in line["fix"]


def test_without_defectdojo_it_says_where_reports_wait(doctor):
    line = doctor.line("defectdojo", over={"defectdojo": {"url": ""}})
    assert line["level"] == "warn" and "spool" in line["text"]


def test_a_server_without_tls_is_warned_of_once(doctor, dojo):
    found = [line for line in doctor() if f"{dojo.url} is not encrypted" in line["text"]]
    assert [line["level"] for line in found] == ["warn"] and "defectdojo.url" in found[0]["text"]
    assert doctor.line("defectdojo", level="ok")


def test_the_token_may_upload_and_doctor_says_for_what(doctor, dojo):
    line = doctor.line("permission", "--as", "group/app")
    assert line["level"] == "ok" and "group/app" in line["text"] and "CI" in line["text"]
    probe, = dojo.uploads
    assert probe.files == {} and probe.status == 400
    assert "of ci" in doctor.line("defectdojo", level="ok")["text"]


def test_what_ends_triage_is_told_with_both_remedies(doctor, dojo):
    empty = {"SchemaVersion": 2, "Results": []}
    assert not [line for line in doctor() if line["subject"] == "identity"], "no test shows it yet"
    assert dojo.post_report(empty).status == 201
    line = doctor.line("identity", level="warn")
    assert "title, severity, vulnerability_ids, cwe, description" in line["text"]
    assert "DD_HASHCODE_FIELDS_PER_SCANNER" in line["fix"] and "defectdojo.keep_text: true" in line["fix"]
    assert "keep_text" in doctor.line("identity", level="ok", over={"defectdojo": {"keep_text": True}})["text"]
    dojo.store.hash_code_fields = ["title", "vulnerability_ids", "file_path"]
    assert "stays itself" in doctor.line("identity", level="ok")["text"]


def test_a_permission_that_is_missing_fails_for_a_named_project_only(doctor):
    over = {"defectdojo": {"product_type": "Other"}}
    line = doctor.line("permission", "--as", "group/app", over=over)
    assert line["level"] == "fail" and "No permission" in line["text"] and "member" in line["fix"]
    line = doctor.line("permission", over=over)
    assert line["level"] == "warn" and "--as" in line["fix"]


def test_a_wrong_token_fails(doctor):
    doctor.token.write_text("0123456789abcdef\n")
    line = doctor.line("defectdojo", level="fail")
    assert "token is not valid" in line["text"] and "token_file" in line["fix"]
    assert doctor.done.returncode == 1


@pytest.mark.parametrize("fault,says", [
    ("301", "base URL"), ("302-login", "base URL"), ("200-html", "base URL"), ("404-html", "base URL"),
    ("403", "token_file"), ("403-no-token", "Authorization header"), ("429", "raise the limit"), ("502", "start DefectDojo"),
    ("504", "wait longer"), ("500-html", "log"), ("drop", "overloaded"), ("garbage", "overloaded"),
])
def test_what_to_do_is_of_the_fault(doctor, dojo, fault, says):
    dojo.fault = f"{fault}@/api/v2/user_profile"
    line = doctor.line("defectdojo", level="fail")
    assert says in line["fix"], line


def test_what_to_do_where_nobody_can_be_asked(doctor, dojo):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        refusing = f"http://127.0.0.1:{s.getsockname()[1]}"
        fixes = {url: doctor.line("defectdojo", level="fail", over={"defectdojo": {"url": url, **more}})["fix"] for url, more in (
            (refusing, {}), ("http://dojo.invalid", {}), (dojo.url.replace("http:", "https:"), {}),
            ("http://192.0.2.1", {"proxy": "http://proxy.invalid:3128"}))}
    assert [next(word for word in ("port in", "name in defectdojo.url", "name in defectdojo.proxy", "without TLS", fix) if word in fix)
            for fix in fixes.values()] == ["port in", "name in defectdojo.url", "without TLS", "name in defectdojo.proxy"], fixes


def named(doctor, key, **section):
    """The line on a file that the settings name."""
    found = [line for line in doctor(over={key.split(".")[0]: section}) if line["text"].startswith(f"{key}:")]
    assert found, doctor.done.stdout
    return found[0]


def given(path, text, mode=0o644):
    path.write_text(text)
    path.chmod(mode)
    give(path)
    return str(path)


def pair(root, name, days=90):
    """A certificate and its key, in PEM."""
    cert, key = root / f"{name}.crt", root / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", str(days), "-subj", "/CN=" + name, "-out", cert, "-keyout", key], check=True,
                   capture_output=True)
    return given(cert, cert.read_text()), given(key, key.read_text(), 0o600)


def test_a_client_certificate_that_is_not_there_fails_and_says_which_setting(doctor, root):
    line = named(doctor, "defectdojo.client_cert_file", client_cert_file=str(root / "no.crt"))
    assert line["level"] == "fail" and str(root / "no.crt") in line["text"] and "take the setting out" in line["fix"]


def test_a_certificate_and_its_key_are_well_and_another_key_is_not(doctor, root):
    cert, key = pair(root, "one")
    assert named(doctor, "defectdojo.client_cert_file", client_cert_file=cert, client_key_file=key)["level"] == "ok"
    assert named(doctor, "defectdojo.client_key_file", client_cert_file=cert, client_key_file=key)["level"] == "ok"
    _, other = pair(root, "two")
    lines = doctor(over={"defectdojo": {"client_cert_file": cert, "client_key_file": other}})
    assert any(line["level"] == "fail" and "is not the key of the first certificate" in line["text"] for line in lines)


def test_certificates_may_be_links_as_those_of_the_system_are(doctor, root):
    cert, _ = pair(root, "one")
    link = root / "link.pem"
    link.symlink_to(cert)
    assert named(doctor, "defectdojo.ca_file", ca_file=str(link))["level"] == "ok"


def test_a_certificate_that_ends_soon_is_warned_of(doctor, root):
    cert, _ = pair(root, "short", days=3)
    line = named(doctor, "defectdojo.ca_file", ca_file=cert)
    assert line["level"] == "warn" and "ends at" in line["text"]


@pytest.mark.parametrize("key,text,mode,says", [
    ("defectdojo.ca_file", "nothing", 0o644, "holds no certificate"),
    ("defectdojo.client_key_file", "nothing", 0o600, "holds no private key"),
    ("policy.ssh_key_file", "ssh-ed25519 AAAA me\n", 0o600, "holds no private key"),
    ("policy.known_hosts_file", "# none\n\n", 0o644, "names no host"),
    ("policy.credentials_file", "a:b\nc\n", 0o600, "more than one line"),
    ("trivy.results_key_file", "short\n", 0o600, "needed are 32 or more"),
    ("trivy.server_token_file", "secret\n", 0o644, "mode"),
])
def test_a_file_that_is_not_what_it_should_be_fails(doctor, root, key, text, mode, says):
    path = given(root / "named", text, mode)
    line = named(doctor, key, **{key.split(".")[1]: path})
    assert line["level"] == "fail" and says in line["text"] and line["fix"], line


def test_what_config_check_warns_of_is_repeated(doctor, root):
    line = doctor.line("settings", level="warn", over={"trivy": {"java_db_dir": str(root / "no")}})
    assert "trivy.java_db_dir: " in line["text"] and "config check" in line["fix"]


def test_a_token_that_others_can_read_fails(doctor):
    doctor.token.chmod(0o644)
    assert str(doctor.token) in doctor.line("token", level="fail")["text"]


def test_a_token_of_a_staff_user_is_more_than_needed(doctor, dojo):
    doctor.token.write_text(dojo.admin_token)
    line = doctor.line("token")
    assert line["level"] == "warn" and "all of DefectDojo" in line["text"]


@pytest.mark.parametrize("fault,words", [("502@any", "HTTP 502"), ("302-login@any", "wrong base URL"),
                                         ("200-html@any", "wrong base URL"), ("drop@any", "http")])
def test_a_server_that_is_not_well_fails(doctor, dojo, fault, words):
    dojo.fault = fault
    line = doctor.line("defectdojo", level="fail")
    assert words in line["text"]


def test_a_server_that_is_down_fails(doctor, dojo):
    dojo.down()
    assert doctor.line("defectdojo", level="fail")["text"].startswith(dojo.url)


def test_what_waits_and_what_is_dead_is_counted(doctor):
    dead = doctor.spool / "dead"
    dead.mkdir(mode=0o700)
    (dead / ("20260102030405000001-" + "0" * 16)).write_text("{}\n")
    give(doctor.spool)
    line = doctor.line("spool")
    assert line["level"] == "warn" and "1 was given up" in line["text"]


class Yesterday(http.server.BaseHTTPRequestHandler):
    """Answers as DefectDojo does, with a clock that is a day behind."""

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("Date", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.answer(200, {"user": {"username": "ci", "is_staff": False, "is_superuser": False}, "info": {"version": "3.2.0"}})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(400, {"non_field_errors": ["Uploading a Report File is required for Trivy Scan"]})

    def log_message(self, *args):
        pass


def test_clocks_that_differ_are_told(doctor):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Yesterday)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        line = doctor.line("clock", over={"defectdojo": {"url": f"http://127.0.0.1:{server.server_port}"}})
        assert line["level"] == "warn" and "behind ours" in line["text"]
    finally:
        server.shutdown()
        server.server_close()


@needs_root
@pytest.mark.parametrize("what, how", [("state", 0o777), ("var-cache", 0o775), ("state/slots", 0o777), ("state", "nobody")])
def test_what_others_can_write_fails(doctor, what, how):
    path = doctor.root / what
    if how == "nobody":
        shutil.chown(path, "nobody")
    else:
        path.chmod(how)
    line = doctor.line("owners")
    assert line["level"] == "fail" and "belongs to uid" in line["text"], line


@needs_root
def test_owners_of_a_host_that_is_well_are_well(doctor):
    assert doctor.line("owners")["level"] == "ok"


def test_a_trivy_server_that_does_not_answer_fails(doctor):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    line = doctor.line("server", over={"trivy": {"server": f"http://127.0.0.1:{port}"}})
    assert line["level"] == "fail" and "no answer" in line["text"] and "undecided" in line["fix"]


@needs_root
def test_a_spool_that_is_missing_fails_since_reports_are_lost(doctor):
    shutil.rmtree(doctor.spool)
    line = doctor.line("spool")
    assert line["level"] == "fail" and "no report is kept" in line["text"] and line["fix"] == "sudo tidewaiter setup"
