"""tidewaiter config check and show; the example files."""

import subprocess
import tomllib

import pytest


@pytest.fixture
def tidewaiter(program):
    def call(*args):
        return subprocess.run([program("tidewaiter"), *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)

    return call


def test_check_says_ok(tidewaiter, settings):
    path = settings({"job": {"slots": 3}, "gate": {"mode": "enforce"}})
    done = tidewaiter("--config", path, "config", "check")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}: ok (3 slots, mode enforce, 0 entries in projects)\n"


def test_config_may_stand_behind_the_verb(tidewaiter, settings):
    path = settings()
    assert tidewaiter("config", "check", "--config", path).returncode == 0


def test_check_names_file_line_key_and_what_is_allowed(tidewaiter, settings):
    path = settings()
    path.write_text("gate:\n  mode: audit\n  severity: SEVERE\n")
    done = tidewaiter("--config", path, "config", "check")
    assert done.returncode == 2 and done.stdout == ""
    assert f"{path}:3" in done.stderr
    for word in ("severity", "SEVERE", "CRITICAL"):
        assert word in done.stderr


def test_check_reads_every_entry_of_projects(tidewaiter, settings):
    path = settings({"projects": [{"match": "a/**", "gate": {"mode": "enforce"}},
                                  {"match": "b/**", "report": {"dir": "../up"}}]})
    done = tidewaiter("--config", path, "config", "check")
    assert done.returncode == 2
    assert "projects[2].report.dir" in done.stderr and "../up" in done.stderr


def test_show_says_where_values_come_from(tidewaiter, settings):
    path = settings({"gate": {"severity": "HIGH"}, "projects": [{"match": "group/**", "gate": {"mode": "enforce"}}]})
    done = tidewaiter("--config", path, "config", "show", "--project", "group/app")
    assert done.returncode == 0, done.stderr
    lines = {line.split("#")[0].strip(): line.split("#")[1].strip() for line in done.stdout.splitlines()
             if "#" in line and not line.startswith("#")}
    assert lines["mode: enforce"] == 'projects: match "group/**"'
    assert lines["severity: HIGH"] == str(path)
    assert lines["slots: 8"] == "default"


def test_show_of_another_project_has_the_files_own(tidewaiter, settings):
    path = settings({"projects": [{"match": "group/**", "gate": {"mode": "enforce"}}]})
    done = tidewaiter("--config", path, "config", "show", "--project=elsewhere/app")
    assert "no entry of projects matches" in done.stdout
    assert "mode: audit" in done.stdout and "mode: enforce" not in done.stdout


def test_show_can_be_read_again(tidewaiter, settings, root):
    path = settings({"gate": {"severity": "HIGH"}, "job": {"env_set": ["A=b: #c"], "slot_wait": "90s"}})
    shown = tidewaiter("--config", path, "config", "show")
    again = root / "again.yml"
    again.write_text(shown.stdout)
    second = tidewaiter("--config", again, "config", "show")
    assert second.returncode == 0, second.stderr

    def values(text):
        return [line[:line.rindex(" # ")] for line in text.splitlines() if " # " in line]

    assert values(second.stdout) == values(shown.stdout)


def test_the_token_is_never_shown(tidewaiter, settings, root):
    token = root / "token"
    token.write_text("hunter2")
    token.chmod(0o600)
    path = settings({"defectdojo": {"token_file": str(token)}})
    done = tidewaiter("--config", path, "config", "show")
    assert str(token) in done.stdout and "hunter2" not in done.stdout + done.stderr


def test_the_example_file_is_what_show_prints(tidewaiter, source_dir):
    done = tidewaiter("config", "show", "--example")
    assert done.returncode == 0
    assert done.stdout == (source_dir / "tidewaiter.yml.example").read_text()


@pytest.mark.parametrize("option", ["--example", "--defaults"])
def test_what_show_prints_is_understood(tidewaiter, root, option):
    path = root / "t.yml"
    path.write_text(tidewaiter("config", "show", option).stdout)
    done = tidewaiter("--config", path, "config", "check")
    assert done.returncode == 0, done.stderr
    assert "mode audit" in done.stdout


@pytest.mark.parametrize("args", [[], ["list"], ["check", "now"], ["show", "--all"], ["show", "--project"],
                                  ["show", "--project", ""], ["show", "--defaults", "--example"],
                                  ["show", "--defaults", "--project", "a/b"]])
def test_wrong_use_is_2(tidewaiter, settings, args):
    done = tidewaiter("--config", settings(), "config", *args)
    assert done.returncode == 2 and done.stdout == ""
    assert "config" in done.stderr


@pytest.mark.parametrize("program_name, args", [
    ("tidewaiter", ["--help"]), ("tidewaiter", ["--version"]), ("tidewaiter", ["config", "show", "--example"]),
    *[("tidewaiter", [verb, "--help"]) for verb in ("scan", "rehearse", "config", "doctor", "setup", "spool")],
    *[(f"tidewaiter-{phase}", [option]) for phase in ("config", "prepare", "run", "cleanup")
      for option in ("--help", "--version")],
])
def test_output_that_cannot_be_written_is_said_and_is_no_success(program, program_name, args):
    with open("/dev/full", "w") as full:
        done = subprocess.run([program(program_name), *args], stdin=subprocess.DEVNULL, stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == (3 if program_name == "tidewaiter" else 2)
    assert "standard output: " in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("args, words", [
    (["conifg", "check"], '"conifg" is no verb (is config meant?), allowed are scan, '),
    (["help", "frob"], '"frob" is no verb, allowed are '), (["--confg", "x"], '"--confg" is no option (is --config meant?)'),
    (["--config"], "--config needs a file"), (["--config=", "config", "check"], "--config needs a file"),
    (["config", "show", "--exmaple"], "config show: --exmaple is no option (is --example meant?), allowed are --project, "),
    (["doctor", "--jsn"], "doctor: --jsn is no option (is --json meant?)"),
    (["doctor", "now"], 'doctor takes options only, "now" is none'), (["doctor", "--as"], "doctor: --as needs a value, PATH"),
    (["setup", "--dry"], "setup: --dry is no option, allowed are --dry-run"),
    (["spool", "list", "--now"], "spool list: --now is no option, allowed are --json"),
    (["spool", "flush", "--deadline", "5"], 'spool flush: --deadline: "5" is not possible, allowed is a duration'),
    (["rehearse", "--scirpt", "x"], "rehearse: --scirpt is no option (is --script meant?)"),
])
def test_a_wrong_call_is_told_in_one_line_with_what_is_near(tidewaiter, args, words):
    done = tidewaiter(*args)
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_check_warns_of_what_is_hardly_meant_and_is_ok(tidewaiter, settings, root):
    token = root / "open-token"
    token.write_text("hunter2\n")
    token.chmod(0o644)
    path = settings()
    path.write_text(f"defectdojo:\n  url: http://dojo.example.com\n  token_file: {token}\n"
                    "projects:\n- match: '**'\n- match: group/app\n")
    done = tidewaiter("--config", path, "config", "check")
    assert done.returncode == 0 and done.stdout.endswith("2 entries in projects, with warnings)\n")
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    assert f"{path}:2: defectdojo.url: http://dojo.example.com is not encrypted" in lines[0]
    assert f"{path}:3: defectdojo.token_file: {token} has mode 0644 and holds a secret" in lines[1]
    assert f'{path}:6: projects[2].match: "group/app" is never reached' in lines[2]
    assert "hunter2" not in done.stdout + done.stderr


def test_the_runners_example_is_whole(source_dir):
    config = tomllib.loads((source_dir / "config.toml.example").read_text())
    assert config["concurrent"] <= 8, "job.slots by default"
    files = set()
    for runner in config["runners"]:
        assert runner["executor"] == "custom" and runner["token"].startswith("glrt-")
        assert runner["custom_build_dir"]["enabled"] is False
        custom = runner["custom"]
        for phase in ("config", "prepare", "run", "cleanup"):
            assert custom[f"{phase}_exec"].endswith(f"/libexec/tidewaiter/tidewaiter-{phase}")
            assert custom[f"{phase}_args"][0] == "--config"
            files.add(custom[f"{phase}_args"][1])
        known = {f"{phase}_{what}" for phase in ("config", "prepare", "run", "cleanup") for what in ("exec", "args")}
        assert set(custom) - known == {"config_exec_timeout", "prepare_exec_timeout", "cleanup_exec_timeout",
                                       "graceful_kill_timeout", "force_kill_timeout"}
    assert files == {"/etc/tidewaiter/tidewaiter.yml", "/etc/tidewaiter/enforce.yml"}


@pytest.mark.parametrize("text, words", [
    ("trivy: {results_redis: \"redis://127.0.0.1/1\", results_key_file: /nx/1}", "trivy.results_key_file: /nx/1"),
    ("trivy: {results_redis: \"redis://127.0.0.1/1\"}", "trivy.results_redis: is set and trivy.results_key_file is not"),
    ("trivy: {server: \"https://trivy.example.com\", server_token_file: /nx/2}", "trivy.server_token_file: /nx/2"),
    ("trivy: {db_credentials_file: /nx/3}", "trivy.db_credentials_file: /nx/3"),
    ("defectdojo: {client_cert_file: /nx/4}", "defectdojo.client_cert_file: /nx/4"),
    ("defectdojo: {client_key_file: /nx/5}", "is set and defectdojo.client_cert_file is not"),
    ("defectdojo: {redis_auth_file: /nx/6}", "defectdojo.redis_auth_file: /nx/6"),
    ("defectdojo: {product: \"{project_name}\", engagement: all, test: all}", "projects share a test"),
    ("projects: [{match: \"a/**\"}, {match: a/b}]", '"a/b" is never reached'),
    ("projects: [{match: \"a/*\"}, {match: \"a/b*\"}]", '"a/b*" is never reached'),
])
def test_what_is_possible_and_hardly_meant_is_a_warning(program, root, text, words):
    path = root / "tidewaiter.yml"
    path.write_text(f"state_dir: {root}/state\ncache_dir: {root}/cache\n{text}\n")
    done = subprocess.run([program("tidewaiter"), "--config", path, "config", "check"], capture_output=True, text=True)
    assert done.returncode == 0 and words in done.stderr, done.stderr


@pytest.mark.parametrize("text", [
    "trivy: {db_dir: \"\", java_db_dir: \"\"}", "projects: [{match: \"a/*\"}, {match: \"a/b/c\"}]", "projects: [{match: \"a/b*\"}, {match: \"a/*\"}]",
    "projects: [{match: \"a/*\"}, {match: \"a/**\"}]", "defectdojo: {product: \"{project_path}\", engagement: all}",
])
def test_what_is_well_is_no_warning(program, root, text):
    path = root / "tidewaiter.yml"
    path.write_text(f"state_dir: {root}/state\ncache_dir: {root}/cache\n{text}\n")
    done = subprocess.run([program("tidewaiter"), "--config", path, "config", "check"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
