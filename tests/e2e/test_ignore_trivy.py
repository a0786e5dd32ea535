"""What a project's .trivyignore and .trivyignore.yaml excuse is what they excuse for Trivy itself, and never more."""

import json
import subprocess

import pytest
from inspected import tool
from test_commit_files import Project

POLICY = """version: 1
rules:
  - {name: all, mode: enforce, severity: UNKNOWN, ignore_files: [trivyignore]}
"""


def flaw(cve, name, version, purl=None, path=None):
    return {"VulnerabilityID": cve, "PkgName": name, "InstalledVersion": version, "Severity": "HIGH", "Status": "affected",
            "PkgIdentifier": {"PURL": purl} if purl else {}, **({"PkgPath": path} if path else {})}


BEANS = "org.springframework:spring-beans"
REPORT = {
    "SchemaVersion": 2, "ArtifactName": "app:1", "ArtifactType": "container_image", "Results": [
        {"Target": "Java", "Class": "lang-pkgs", "Type": "jar", "Vulnerabilities": [
            flaw("CVE-2022-1", BEANS, "5.3.15", "pkg:maven/org.springframework/spring-beans@5.3.15", "app/lib/spring-beans-5.3.15.jar"),
            flaw("CVE-2022-1", BEANS, "5.3.16", "pkg:maven/org.springframework/spring-beans@5.3.16",
                 "app/x.war/WEB-INF/lib/spring-beans-5.3.16.jar"),
            flaw("CVE-2022-1", "org.a:b c", "1.0+x", "pkg:maven/org.a/b%20c@1.0%2Bx", "b.jar"),
            flaw("GHSA-aaaa-bbbb-cccc", "org.z:z", "1", "pkg:maven/org.z/z@1", "deep/er/z.jar"),
            flaw("CVE-2022-2", "org.z:z", "1", None, "deep/er/z.jar")]},
        {"Target": "app/package-lock.json", "Class": "lang-pkgs", "Type": "npm", "Vulnerabilities": [
            flaw("CVE-2022-1", "@scope/pkg", "1.2.3", "pkg:npm/%40scope/pkg@1.2.3"),
            flaw("CVE-2022-3", "jquery", "3.3.9", "pkg:npm/jquery@3.3.9")]}]}

LINES = [
    "CVE-2022-1\n", " CVE-2022-1", "CVE-2022-1 exp:2020-01-01", "CVE-2022-1 exp:2099-01-01", "CVE-2022-1 exp:2099-1-1", "CVE-2022-1 exp:",
    "CVE-2022-1 exp: 2099-01-01", "CVE-2022-1 # exp:2020-01-01", "CVE-2022-1 # exp:x", "CVE-2022-1#c", "#CVE-2022-1",
    "CVE-2022-1 CVE-2022-3", "cve-2022-1", "CVE-2022-1\texp:2099-01-01", "CVE-2022-1\vexp:2020-01-01", "CVE-2022-1\f", "CVE-2022-*",
    "GHSA-aaaa-bbbb-cccc", "\ufeffCVE-2022-1", "CVE-2022-1\r\nCVE-2022-3\r\n", "CVE-2022-1 exp:2020-01-01\nCVE-2022-1",
    "CVE-2022-1\nCVE-2022-1 exp:2020-01-01", "CVE-2022-1 exp:2099-01-01 exp:2020-01-01", "CVE-2022-1 exp:2020-01-01 exp:2099-01-01",
    "CVE-2022-1 EXP:2020-01-01", "// CVE-2022-1", "CVE-2022-1 exp:2099-01-01T00:00:00Z",
    "CVE-2022-1 exp:2099-01-01\n\n # x\n  CVE-2022-3   foo exp:2099-01-01 bar"]
PATHS = [
    "app/lib/spring-beans-5.3.15.jar", "app/**", "app/*", "**/*.jar", "*.jar", "**", "app/lib/*", "/app/lib/*", "./app/lib/*", "Java", "Ja*",
    "app/package-lock.json", "app/package-lock.{json,yaml}", "app/{lib,x.war}/**", "app/x.war", "app/x.war/**", "app/*/WEB-INF/**",
    "app/lib/spring-beans-5.3.1?.jar", "app/lib/spring-beans-5.3.[0-9]5.jar", "app/lib/spring-beans-5.3.1[!5].jar",
    "app/lib/spring-beans-5.3.1[^6].jar", "app/lib/spring-{beans,core}-5.3.1{5,6}.jar", "**/lib/*", "app/**/lib/*", "app", "b.jar",
    "B.jar", "**/b.jar", "app//lib/*", "app/***", "app/lib**", "app/lib**/*", "a**", "**.jar", "**/lib**", "app/**jar", "b.jar/**",
    "{app,b.jar}/**", "app/**/*.json", "{**/x,app/lib}/*", "{app,deep}/{lib,er}/*", "app/lib/spring\\-beans*", "app/x.war/WEB-INF/**/"]
PURLS = [
    "pkg:maven/org.springframework/spring-beans", "pkg:maven/org.springframework/spring-beans@5.3.15",
    "pkg:maven/org.springframework/Spring-Beans", "pkg:maven/org.springframework/spring-beans@5", "pkg:maven/spring-beans",
    "pkg:npm/%40scope/pkg", "pkg:npm/@scope/pkg", "pkg:npm/%40scope/pkg@1.2.3", "pkg:npm/scope/pkg", "pkg:maven/org.a/b%20c",
    "pkg:maven/org.a/b%20c@1.0+x", "pkg:maven/org.a/b%20c@1.0%2Bx", "pkg:Maven/org.springframework/spring-beans",
    "pkg:maven/org.springframework/spring-beans?type=jar", "pkg://maven/org.springframework/spring-beans",
    "pkg:maven/org.springframework/spring-beans#sub", "pkg:/maven/org.springframework/spring-beans@5.3.16"]
ENTRIES = [
    "paths: ['app/**'], purls: ['pkg:npm/%40scope/pkg']", "paths: [nope], purls: ['pkg:npm/%40scope/pkg']", "paths: [], purls: []",
    "expired_at: 2020-01-01", "expired_at: 2099-01-01", "expired_at: 2020-01-01T00:00:00Z", "expired_at: 2099-01-01T00:00:00+02:00",
    "statement: why", "paths: [nope, b.jar]"]

# Read more strictly here: what excuses it is not what somebody surely meant, or a typing error that Trivy passes over.
STRICTER = [
    (".trivyignore", "\u00a0CVE-2022-1"), (".trivyignore.yaml", "vulnerabilities: [{id: CVE-2022-1, paths: ['*']}]"),
    (".trivyignore.yaml", "vulnerabilities: [{id: CVE-2022-1, paths: ['']}]"),
    (".trivyignore.yaml", "vulnerabilities: [{id: CVE-2022-1, path: [b.jar]}]"),
    (".trivyignore.yaml", "vulnerabilities: [{id: CVE-2022-1, paths: }]"),
    (".trivyignore.yaml", "vulnerabilities: [{id: CVE-2022-1}]\nvulnerability: []\n"),
    (".trivyignore.yaml", "vulnerabilities: [{id: CVE-2022-1}]\n---\nvulnerabilities: []\n")]
# Of these Trivy says that the file is wrong, and scans nothing.
WRONG = ["paths: ['[']", "paths: ['{a,b']", "paths: ['a}']", "purls: ['']", "paths: b.jar"]


@pytest.fixture
def both(tmp_path, program):
    project, policy, report = Project(tmp_path / "project"), tmp_path / "policy.yml", tmp_path / "report.json"
    policy.write_text(POLICY)
    report.write_text(json.dumps(REPORT))

    trivy = tool("trivy")

    def left_of(j):
        return [(v["VulnerabilityID"], v["PkgName"], v["InstalledVersion"]) for r in j.get("Results", []) for v in r.get("Vulnerabilities", [])]

    def run(name, text):
        """What Tidewaiter excuses, and what Trivy does; None: it will not have the file."""
        for old in project.path.glob(".trivyignore*"):
            old.unlink()
        sha = project.commit(**{name: text})
        done = subprocess.run([program("tidewaiter"), "policy", "explain", "--policy", policy, "--project", "group/app", "--image", "app", "--json",
                               "--commit", sha, "--repository", project.path, report], capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr
        ours = sorted((f["id"], f["package"], f["installed"]) for f in json.loads(done.stdout)["findings"] if f["fate"] == "ignored")
        done = subprocess.run([trivy, "convert", "--format", "json", "--ignorefile", project.path / name, report],
                              capture_output=True, text=True, cwd=tmp_path)
        if done.returncode != 0:
            return ours, None
        left = left_of(json.loads(done.stdout))
        return ours, sorted(f for f in left_of(REPORT) if f not in left)
    return run


def entry(rest):
    return f"vulnerabilities:\n  - {{id: CVE-2022-1, {rest}}}\n"


def test_a_trivyignore_excuses_what_it_does_for_trivy(both):
    seen = {text: both(".trivyignore", text) for text in LINES}
    assert {text: ours for text, (ours, _) in seen.items()} == {text: theirs for text, (_, theirs) in seen.items()}
    assert {len(ours) for ours, _ in seen.values()} == {0, 1, 4, 5}


@pytest.mark.parametrize("entries", [
    [f"paths: [{json.dumps(p)}]" for p in PATHS], [f"purls: [{json.dumps(p)}]" for p in PURLS], ENTRIES], ids=["paths", "purls", "more"])
def test_a_trivyignore_yaml_excuses_what_it_does_for_trivy(both, entries):
    seen = {text: both(".trivyignore.yaml", entry(text)) for text in entries}
    assert {text: ours for text, (ours, _) in seen.items()} == {text: theirs for text, (_, theirs) in seen.items()}
    assert {0, 1} < {len(ours) for ours, _ in seen.values()}


@pytest.mark.parametrize("name,text", STRICTER)
def test_what_is_hardly_meant_excuses_less(both, name, text):
    ours, theirs = both(name, text)
    assert set(ours) < set(theirs)


@pytest.mark.parametrize("rest", WRONG)
def test_what_is_wrong_for_trivy_excuses_nothing(both, rest):
    assert both(".trivyignore.yaml", entry(rest)) == ([], None)
