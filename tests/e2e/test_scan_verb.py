"""tidewaiter scan as a person calls it: exit codes, options, files that are none, faults of the host, being stopped."""

import json
import os
import pathlib
import pty
import signal
import subprocess
import time

import jsonschema
import pytest
from inspected import images

IS_ROOT = os.geteuid() == 0
PASS, BLOCKED, USAGE, UNDECIDED = 0, 1, 2, 3

needs_root = pytest.mark.skipif(not IS_ROOT, reason="makes mounts: needs root")


class Verb:
    def __init__(self, root, program, settings, tools):
        self.root = root
        self.program = program("tidewaiter")
        self.write_settings = settings
        self.tools = tools
        self.cache = root / "var-cache"
        self.config = None
        self.configure()

    def configure(self, over=None):
        base = {"scan_user": "nobody", "courier_user": "daemon",
                "trivy": {"path": str(self.tools / "trivy"), "db_dir": str(self.tools / "db")}}
        for section, values in (over or {}).items():
            base[section] = {**base.get(section, {}), **values} if isinstance(values, dict) else values
        self.config = self.write_settings(base)
        return self

    def argv(self, *args):
        return [self.program, "--config", str(self.config), "scan", *map(str, args)]

    def __call__(self, *args, wrap=(), **options):
        return subprocess.run([*wrap, *self.argv(*args)], text=True, timeout=120, check=False,
                              **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})

    def image(self, kind="clean", name=None):
        path = self.root / (name or f"{kind}.tar")
        images.KINDS[kind].write(path)
        return path

    def nothing_is_left(self):
        work = self.cache / "work"
        return not work.exists() or not list(work.iterdir())

    def stand_in(self, text):
        """A scanner that is a shell script."""
        path = self.root / "not-trivy"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return str(path)


@pytest.fixture
def scan(root, program, settings, tools):
    verb = Verb(root, program, settings, tools)
    yield verb
    assert verb.nothing_is_left()


# ---- exit codes ----

@pytest.mark.parametrize("kind, code, word", [("clean", PASS, "pass"), ("no-packages", PASS, "warn"), ("classic", BLOCKED, "block"),
                                              ("forged-layer", BLOCKED, "block"), ("missing-layer", BLOCKED, "block")])
def test_exit_code_is_the_verdict(kind, code, word, scan):
    image = scan.image(kind)
    done = scan("--json", image)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (code, word), done.stderr


def test_without_a_scanner_it_is_undecided(scan):
    done = scan.configure({"trivy": {"path": str(scan.root / "none")}})(scan.image())
    assert done.returncode == UNDECIDED and "trivy.path" in done.stdout


def test_block_outweighs_undecided_and_undecided_outweighs_pass(scan):
    scan.configure({"trivy": {"path": str(scan.root / "none")}})
    assert scan(scan.image(), scan.image("forged-layer")).returncode == BLOCKED
    done = scan.configure({"images": {"max_images": 1}})(scan.image("clean"), scan.image("clean"))
    assert done.returncode == UNDECIDED and "not inspected" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["audit", "warn", "enforce", "ENFORCE"])
def test_exit_code_and_table_are_the_same_in_every_mode(mode, scan):
    done = scan("--mode", mode, scan.image("classic"))
    assert done.returncode == BLOCKED and "CVE-2023-38545" in done.stdout


@pytest.mark.parametrize("severity, code", [("CRITICAL", PASS), ("low", BLOCKED), ("Unknown", BLOCKED)])
def test_severity_says_what_blocks(severity, code, scan):
    assert scan("--severity", severity, scan.image("low-only")).returncode == code


def test_as_takes_the_settings_of_that_project(scan):
    scan.configure({"gate": {"severity": "LOW"},
                    "projects": [{"match": "lenient/**", "gate": {"severity": "CRITICAL"}}]})
    image = scan.image("low-only")
    assert [scan("--as", name, image).returncode for name in ("lenient/app", "other/app", "lenient")] == \
        [PASS, BLOCKED, BLOCKED]
    assert scan("--as", "lenient/app", "--severity", "LOW", image).returncode == BLOCKED


# ---- usage and settings ----

@pytest.mark.parametrize("args, words", [
    ((), "at least one"), (("--no-such", "x"), "--no-such"), (("--severity",), "--severity"),
    (("--severity", "worst", "x"), "CRITICAL"), (("--mode", "strict", "x"), "enforce"), (("--json=yes", "x"), "--json"),
])
def test_wrong_use_is_told_in_one_line(args, words, scan):
    done = scan(*args)
    assert done.returncode == USAGE and done.stdout == ""
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_mode_off_is_no_mode_for_a_scan_by_hand(scan):
    done = scan("--mode", "off", scan.image("classic"))
    assert done.returncode == USAGE and done.stderr.endswith("allowed is one of audit, warn, enforce\n")


def test_settings_that_switch_inspection_off_do_not_make_a_scan_by_hand_pass(scan):
    done = scan.configure({"gate": {"mode": "off"}})(scan.image("classic"))
    assert done.returncode == BLOCKED and "CVE-2023-38545" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("text, words", [
    ("gate: {severity: worst}", (":1:", "gate.severity", '"worst"', "CRITICAL")), ("gate:\n  sverity: LOW", (":2:", "sverity", "severity")),
    ("trivy:\n\n  timeout: 15", (":3:", "trivy.timeout", '"15"', "15m")), ("gate: [", ("did not find",)), ("gate: warn", (":1:", "gate", "a single value")),
    ("a: *b", (":1:", "alias")), ("images: {max_layers: 99999}", (":1:", "images.max_layers", "4096")),
])
def test_broken_settings_stop_it_before_anything_is_read(text, words, scan):
    scan.config = scan.root / "broken.yml"
    scan.config.write_text(text + "\n")
    done = scan(scan.image())
    assert done.returncode == USAGE and done.stdout == ""
    for word in ("broken.yml", *words):
        assert word in done.stderr
    assert not scan.cache.exists()


def test_settings_that_are_not_there_or_no_file_stop_it(scan):
    image = scan.image()
    for config in (scan.root / "none.yml", scan.root, "/dev/null"):
        scan.config = config
        done = scan(image)
        assert done.returncode == USAGE and str(config) in done.stderr, config


def test_config_stands_before_or_behind_the_verb(scan):
    image = str(scan.image("classic"))
    for argv in (["scan", image, "--config", str(scan.config)], ["scan", f"--config={scan.config}", image]):
        done = subprocess.run([scan.program, *argv], capture_output=True, text=True, check=False)
        assert done.returncode == BLOCKED, done.stderr
    assert subprocess.run([scan.program, "scan", image, "--config"], capture_output=True, check=False).returncode == USAGE


# ---- files ----

def test_what_is_no_regular_file_is_refused_by_name_at_once(scan):
    os.mkfifo(scan.root / "fifo.tar")
    os.mkdir(scan.root / "dir.tar")
    for name in ("fifo.tar", "dir.tar", "/dev/zero"):
        done = scan(scan.root / name)
        assert done.returncode == BLOCKED and name in done.stdout, (name, done.stdout, done.stderr)


def test_a_file_that_is_not_there_is_wrong_use_and_nothing_else_is_scanned(scan):
    os.symlink("nowhere", scan.root / "dangling.tar")
    for name in ("none.tar", "dangling.tar"):
        done = scan(scan.image("classic"), scan.root / name)
        assert done.returncode == USAGE and name in done.stderr and "CVE" not in done.stdout


def test_a_link_that_a_person_names_is_followed(scan):
    os.symlink(scan.image("classic"), scan.root / "link.tar")
    done = scan("--json", scan.root / "link.tar")
    assert done.returncode == BLOCKED and json.loads(done.stdout)["images"][0]["findings"]


@pytest.mark.parametrize("data", [b"", b"\0" * 10240, b"words", b"\x1f\x8b\x08"])
def test_a_file_that_is_no_image_is_refused(data, scan):
    path = scan.root / "odd.tar"
    path.write_bytes(data)
    done = scan(path)
    assert done.returncode == BLOCKED and "odd.tar" in done.stdout, done.stdout + done.stderr


def test_names_are_what_they_are(scan):
    for name in ("--json", "-", "a b.tar", "x\x1b[31m\ny.tar", "\xff.tar", "\u202etar.exe", "%s%n.tar"):
        scan.image("classic", name)
        done = scan("--", name, cwd=scan.root)
        assert done.returncode == BLOCKED, (name, done.stdout, done.stderr)
        assert "\x1b[31m" not in done.stdout and "\u202e" not in done.stdout


def test_one_file_twice_has_two_reports(scan):
    image = scan.image("classic")
    done = scan("--json", "--report-dir", scan.root / "reports", image, image)
    found = json.loads(done.stdout)["images"]
    assert done.returncode == BLOCKED and len({i["report"] for i in found}) == 2
    assert len(list((scan.root / "reports").glob("*.json"))) == 2


# ---- output ----

def report_schema():
    path = pathlib.Path(__file__).resolve().parents[2] / "docs/report.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text()))


def test_a_policy_judges_by_hand_too_and_options_only_tighten_it(scan):
    policy = scan.root / "policy.yml"
    policy.write_text("version: 1\nrules:\n  - {name: soft, mode: warn, severity: CRITICAL, match: {projects: [\"group/**\"]}}\n"
                      "  - {name: none, mode: audit, severity: CRITICAL, fixable_only: true}\n")
    policy.chmod(0o644)
    scan.configure({"policy": {"file": str(policy)}})
    done = scan("--json", "--as", "group/app", "--severity", "LOW", scan.image("low-only"))
    found = json.loads(done.stdout)
    report_schema().validate(found)
    assert (done.returncode, found["images"][0]["rule"], found["images"][0]["severity"]) == (BLOCKED, "soft", "LOW")
    assert found["policy"]["origin"] == f"file {policy}" and found["images"][0]["mode"] == "warn"
    assert scan("--as", "group/app", scan.image("low-only")).returncode == PASS
    done = scan("--as", "group/app", "--mode", "audit", scan.image("low-only"))
    assert "TIDEWAITER_MODE=audit is not followed" in " ".join(done.stdout.split())
    policy.write_text("version: 1\nrules:\n  - {name: a}\n")
    done = scan(scan.image("clean"))
    assert done.returncode == UNDECIDED and "policy.yml:3: rules[1].mode is missing" in " ".join(done.stdout.split())


def test_json_is_one_object_and_nothing_else(scan):
    done = scan("--json", "--mode", "enforce", scan.image("classic"), scan.image("forged-layer"))
    assert done.returncode == BLOCKED
    assert json.loads(done.stdout)["format"] == 1 and "\033" not in done.stdout + done.stderr
    report_schema().validate(json.loads(done.stdout))


def on_terminal(scan, image, **env):
    """What a terminal shows."""
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(scan.argv(image), stdin=subprocess.DEVNULL, stdout=follower, stderr=follower,
                               env={**environment, "TERM": "xterm", **env})
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:  # EIO: nobody has it open any more
        pass
    os.close(leader)
    assert process.wait(timeout=60) == BLOCKED
    return shown


def test_colours_stand_on_terminals_only_and_never_with_no_color(scan):
    image = scan.image("classic")
    assert b"\033[31;1m" in on_terminal(scan, image) and b"\033[31;1m" in on_terminal(scan, image, NO_COLOR="")
    assert b"\033[31" not in on_terminal(scan, image, NO_COLOR="1")
    assert b"\033" not in on_terminal(scan, image, TERM="dumb")
    assert "\033" not in scan(image).stdout


def test_reports_go_where_they_are_asked_for_and_replace_old_ones(scan):
    reports = scan.root / "new" / "place"
    image = scan.image("classic", "app.tar")
    assert scan("--report-dir", reports, image).returncode == BLOCKED
    first = (reports / "app.json").read_text()
    (reports / "app.json").write_text("old" * 100000)
    (reports / "app.html").unlink()
    os.symlink(scan.root / "victim", reports / "app.html")
    (reports / "other").write_text("stays")
    assert scan("--report-dir", reports, image).returncode == BLOCKED
    assert json.loads(first)["ArtifactName"] == json.loads((reports / "app.json").read_text())["ArtifactName"]
    assert "<html" in (reports / "app.html").read_text() and not (reports / "app.html").is_symlink()
    assert not (scan.root / "victim").exists()
    assert sorted(p.name for p in reports.iterdir()) == ["app.html", "app.json", "other"]


def test_reports_that_cannot_be_put_there_are_an_error(scan):
    (scan.root / "file").write_text("x")
    done = scan("--report-dir", scan.root / "file", scan.image("clean"))
    assert done.returncode == UNDECIDED and "file" in done.stderr


@pytest.mark.parametrize("closed, code", [("0<&-", BLOCKED), ("0<&- 2>&-", BLOCKED), ("0<&- 1>&- 2>&-", UNDECIDED)])
def test_closed_descriptors_end_in_no_file(closed, code, scan):
    """Without standard output there is nobody to tell a verdict. What is opened next would take their numbers: an archive would be standard input, a report standard error."""
    reports = scan.root / "reports"
    image = scan.image("classic", "app.tar")
    before = image.read_bytes()
    done = scan("--report-dir", reports, image, wrap=["sh", "-c", f'exec "$@" {closed}', "sh"])
    assert done.returncode == code
    assert code != BLOCKED or json.loads((reports / "app.json").read_text())["Results"]
    assert image.read_bytes() == before
    done = scan(scan.root / "none.tar", wrap=["sh", "-c", f'exec "$@" {closed}', "sh"])
    assert done.returncode == USAGE


@pytest.mark.parametrize("options", [["--json"], []])
def test_output_that_cannot_be_written_is_no_success(options, scan):
    with open("/dev/full", "w") as full:
        done = scan(*options, scan.image("clean"), stdout=full)
    assert done.returncode == UNDECIDED and "standard output" in done.stderr, done.stderr


# ---- the host ----

@needs_root
def test_a_full_disk_is_undecided_and_says_so(scan):
    bulk = images.image_of({**images.debian(images.FIXED), "app/bulk": os.urandom(4 << 20)})
    path = scan.root / "bulk.tar"
    images.classic(bulk).write(path)
    scan.cache.mkdir()
    full = 'mount -t tmpfs -o size=1m,mode=755 tmpfs "$0" && "$@"; code=$?; ls "$0/work"; exit $code'
    wrap = ["unshare", "--mount", "--propagation", "private", "sh", "-c", full, str(scan.cache)]
    done = scan("--json", path, wrap=wrap)
    assert done.returncode == UNDECIDED, done.stdout + done.stderr
    shown, end = json.JSONDecoder().raw_decode(done.stdout)
    faults = [x["fault"] for x in (*shown["archives"], *shown["images"]) if x["fault"]]
    assert [f["kind"] for f in faults] == ["no_space"], faults
    assert done.stdout[end:].strip() == ""
    assert scan(path).returncode == PASS


def test_a_cache_that_cannot_be_made_is_undecided(scan):
    scan.cache.write_text("a file")
    done = scan(scan.image())
    assert done.returncode == UNDECIDED and "cache_dir" in done.stderr
    scan.cache.unlink()


def test_what_a_killed_scan_left_is_swept_by_the_next(scan):
    left = scan.cache / "work" / "4194303-1" / "deep" / "deeper"
    left.mkdir(parents=True)
    (left / "layer").write_bytes(b"x")
    (scan.cache / "work" / "odd name").write_text("x")
    assert scan(scan.image()).returncode == PASS
    assert scan.nothing_is_left()


# ---- being stopped ----

def processes(text):
    """Ids of processes with this text in their command line, ours not among them."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(entry.name) != os.getpid() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start_slow(scan, *args):
    """A scan that has reached its scanner, which sleeps."""
    trivy = scan.stand_in("exec /bin/sleep 7231.5\n")
    scan.configure({"trivy": {"path": trivy}})
    image = scan.image("classic")
    process = subprocess.Popen(scan.argv(*args, image), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, process_group=0)
    wait_until(lambda: processes("7231.5"))
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("to_group", [True, False])
def test_stopped_in_the_middle_it_leaves_nothing_behind(number, to_group, scan):
    process = start_slow(scan, "--report-dir", scan.root / "reports")
    if to_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == UNDECIDED and "stopped by a signal" in err, out + err
    assert not processes("7231.5")
    assert not (scan.root / "reports").exists()
    assert scan.nothing_is_left()


def test_killed_it_takes_its_scanner_with_it_and_the_next_sweeps(scan):
    process = start_slow(scan)
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not processes("7231.5"))
    scan.configure()
    assert scan(scan.image("clean")).returncode == PASS


def test_a_scanner_that_takes_too_long_is_ended_with_its_children(scan):
    trivy = scan.stand_in("/bin/sleep 7232.5 &\nexec /bin/sleep 7232.5\n")
    done = scan.configure({"trivy": {"path": trivy, "timeout": "1s"}})("--json", scan.image("classic"))
    assert done.returncode == UNDECIDED and json.loads(done.stdout)["images"][0]["fault"]["kind"] == "timeout"
    assert not processes("7232.5")
