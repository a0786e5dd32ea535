"""tidewaiter policy check, test and explain; the JSON Schema says what the reader says."""

import json
import pathlib
import re
import subprocess

import jsonschema
import pytest
import yaml

SOURCE = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = SOURCE / "docs/policy.example.yml"
CASES = SOURCE / "tests/policy/cases"
REPORT = CASES / "reports/checkout.json"


class Loader(yaml.SafeLoader):
    """Dates and times stay texts, as in JSON."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@pytest.fixture(scope="session")
def schema():
    text = json.loads((SOURCE / "docs/policy.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


@pytest.fixture
def tidewaiter(program):
    def call(*args):
        return subprocess.run([program("tidewaiter"), "policy", *map(str, args)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)

    return call


@pytest.fixture
def policy(tmp_path):
    def write(text):
        path = tmp_path / "policy.yml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False))
        return path

    return write


def example():
    return yaml.load(EXAMPLE.read_text(), Loader=Loader)


def test_the_example_is_ok_for_the_reader_and_the_schema(tidewaiter, schema):
    done = tidewaiter("check", EXAMPLE, "--today", "2026-01-15")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{EXAMPLE}: ok (5 rules, 2 exceptions, 1 break-glass entry)\n"
    schema.validate(example())


def test_the_first_policy_of_the_reference_is_ok(tidewaiter, schema, policy):
    text = re.search(r"```yaml\n(version.*?)```", (SOURCE / "docs/reference/policy.md").read_text(), re.S).group(1)
    done = tidewaiter("check", policy(text), "--today", "2026-01-15")
    assert (done.returncode, ": ok (2 rules, 1 exception" in done.stdout) == (0, True), done.stderr
    schema.validate(yaml.load(text, Loader=Loader))


EXCEPTION = {"id": "CVE-1", "expires": "2026-01-31", "reason": "r", "owner": "o"}
BREAK_GLASS = {"name": "n", "project": "p/q", "ref": "main", "from": "2026-01-01T00:00:00Z", "hours": 1, "who": "w", "reason": "r"}


def without(entry, key):
    return {k: v for k, v in entry.items() if k != key}


def rule(**more):
    return {"version": 1, "rules": [{"name": "a", "mode": "warn", **more}]}


GOOD = [
    {"version": 1},
    rule(),
    rule(match={"protected": True, "tag": "any"}),
    rule(new_only="main", grace={"published": 3650}, enforce_from="2026-02-28"),
    rule(grace={"published": 0, "fixed": 3650}),
    rule(misconfigurations="HIGH", secrets="fail", accept={"scope": "product", "raised_severity": "keep"}),
    {"version": 1, "max_days": 1, "exceptions": [EXCEPTION]},
    {"version": 1, "exceptions": [{**EXCEPTION, "package": "p", "versions": ">= 1.2, <2"}]},
    {"version": 1, "exceptions": [{**EXCEPTION, "purl": "pkg:npm/%40a/b@1", "versions": "<2", "aliases": ["GHSA-1"]}]},
    {"version": 1, "break_glass": [BREAK_GLASS]},
]
BAD = [
    {},
    {"version": 2},
    {"version": 1, "rule": []},
    {"version": 1, "max_days": 0},
    rule(match={"projects": []}), rule(match={"images": []}), rule(match={"jobs": []}), rule(match={"stages": []}), rule(match={"branches": []}),
    {"version": 1, "max_days": 3651},
    {"version": 1, "rules": {}},
    {"version": 1, "rules": [{"name": "a"}]},
    {"version": 1, "rules": [{"mode": "warn"}]},
    rule(mode="off"),
    rule(name="a b"),
    rule(name="a" * 65),
    rule(severity="SEVERE"),
    rule(fixable_only="sometimes"),
    rule(match={"project": ["x"]}),
    rule(match={"projects": "x"}),
    rule(match={"projects": [""]}),
    rule(match={"protected": "perhaps"}),
    rule(grace={"published": -1}),
    rule(grace={"fixed": 3651}),
    rule(grace={"modified": 1}),
    rule(secrets="block"),
    rule(misconfigurations="on"),
    rule(accept={"scope": "all"}),
    rule(ignore_files=["dockerignore"]),
    rule(enforce_from="soon"),
    *({"version": 1, "exceptions": [without(EXCEPTION, key)]} for key in EXCEPTION),
    {"version": 1, "exceptions": [{**EXCEPTION, "id": "CVE-*"}]},
    {"version": 1, "exceptions": [{**EXCEPTION, "expires": "never"}]},
    *({"version": 1, "exceptions": [{**EXCEPTION, key: ""}]} for key in EXCEPTION),
    *({"version": 1, "break_glass": [{**BREAK_GLASS, key: ""}]} for key in BREAK_GLASS),
    rule(name=""),
    {"version": 1, "exceptions": [{**EXCEPTION, "versions": "<1"}]},
    {"version": 1, "exceptions": [{**EXCEPTION, "package": "p", "versions": "1.0"}]},
    {"version": 1, "exceptions": [{**EXCEPTION, "package": "p", "versions": "<1,"}]},
    {"version": 1, "exceptions": [{**EXCEPTION, "purl": "npm/x"}]},
    *({"version": 1, "break_glass": [without(BREAK_GLASS, key)]} for key in BREAK_GLASS),
    {"version": 1, "break_glass": [{**BREAK_GLASS, "hours": 73}]},
    {"version": 1, "break_glass": [{**BREAK_GLASS, "from": "today"}]},
]


@pytest.mark.parametrize("document", GOOD)
def test_what_the_reader_takes_the_schema_takes(tidewaiter, schema, policy, document):
    done = tidewaiter("check", policy(document), "--today", "2026-01-15")
    assert done.returncode in (0, 1), done.stderr
    schema.validate(document)


@pytest.mark.parametrize("document", BAD)
def test_what_the_reader_refuses_the_schema_refuses(tidewaiter, schema, policy, document):
    path = policy(document)
    done = tidewaiter("check", path)
    assert done.returncode == 2 and done.stdout == ""
    assert f"{path}:" in done.stderr and "allowed" in done.stderr
    assert not schema.is_valid(document)


# every key, with a value that is allowed
FULL = {
    "version": 1, "max_days": 30, "contact": "c",
    "rules": [{"name": "a", "mode": "warn", "severity": "HIGH", "fixable_only": True, "new_only": "main", "enforce_from": "2026-01-01",
               "match": {"projects": ["x"], "branches": ["x"], "images": ["x"], "stages": ["x"], "jobs": ["x"], "protected": True,
                         "tag": "any"},
               "grace": {"published": 1, "fixed": 1}, "on_no_packages": "pass", "on_unknown_os": "pass", "on_eol_os": "pass",
               "on_hidden_packages": "pass", "secrets": "pass", "misconfigurations": "off",
               "accept": {"scope": "branch", "raised_severity": "ask"}, "ignore_files": ["openvex"]}],
    "exceptions": [{**EXCEPTION, "aliases": ["GHSA-1"], "package": "p", "versions": "<1", "purl": "pkg:npm/a", "image": "i", "project": "p",
                    "ticket": "t"}],
    "break_glass": [BREAK_GLASS],
}
ODD = [None, True, -1, 1.5, 3651, "", "x", "a b", "x\ty", "CVE-1*", "A" * 65, "off", "true", [], ["x"], [""], [["x"]], {}, {"x": 1}]
DAYS = ["2026-01-31", "2026-13-01", "2026-1-1", "2026-01-31T00:00:00Z", "2026-01-31 00:00:60.5+01:00", "2026-01-31T24:00:00Z",
        "2026-01-31T00:00Z", "2026-01-31T00:00:00.Z", "2026-01-31T00:00:00+0100"]
ODD_OF = {
    "versions": ["<1", ">=1, <2", " < 1 ,", "~1", ",".join(8 * ["<1"]), ",".join(9 * ["<1"]), "<" + "1" * 255, "<" + "1" * 256],
    "purl": ["pkg:npm/@a/b@1?x=y#z", "pkg:npm/", "PKG:npm/a", "pkg:npm/a@", "pkg:npm/*", "pkg:npm/a?b c", "pkg:/a", "pkg://npm/a",
             "pkg:n@m/a", "pkg:npm/a/", "pkg:npm/a?", "pkg:npm/?a"],
    "expires": DAYS, "enforce_from": DAYS, "from": DAYS,
    "name": ["A" * 64, "é", "a/b"], "id": ["A" * 64, "é", "a/b:c"], "hours": [0, 72, 73], "max_days": [0, 3650], "contact": ["\u2028"],
    "ignore_files": [["trivyignore", "openvex"], ["openvex", "openvex"]], "severity": ["HIGH", "high"], "mode": ["WARN"],
}


def places(node, at=()):
    """Every place in it but the whole."""
    if at:
        yield at
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(value, (*at, key))


def with_other(place, value):
    whole = json.loads(json.dumps(FULL))
    node = whole
    for key in place[:-1]:
        node = node[key]
    was, node[place[-1]] = node[place[-1]], value
    return whole, was


def is_of_another_type(was, value):
    """YAML knows no types: true is a text, too, and "1" a number. The schema wants the type, so that editors tell of a branch called 1.0."""
    if isinstance(was, (dict, list)) or isinstance(value, (dict, list)):
        return False
    return isinstance(was, str) != isinstance(value, str)


@pytest.mark.parametrize("place", list(places(FULL)), ids=lambda place: ".".join(map(str, place)))
def test_reader_and_schema_say_the_same_of_any_value_of_any_key(tidewaiter, schema, policy, place):
    for value in ODD + ODD_OF.get(place[-1], []):
        document, was = with_other(place, value)
        done = tidewaiter("check", policy(json.dumps(document, ensure_ascii=False)), "--today", "2026-01-15")
        assert done.returncode in (0, 1, 2), done.stderr
        reader, by_schema = done.returncode != 2, schema.is_valid(document)
        assert reader == by_schema or (reader and is_of_another_type(was, value)), (value, done.stderr)


def test_every_key_is_tried(schema):
    def keys(node):
        for key, value in (node.items() if isinstance(node, dict) else ()):
            if key == "properties":
                yield from value
            yield from keys(value)
        for value in node if isinstance(node, list) else ():
            yield from keys(value)

    assert set(keys(schema.schema)) == {place[-1] for place in places(FULL) if isinstance(place[-1], str)}


def test_every_key_of_the_schema_stands_in_the_reference(schema):
    text = (SOURCE / "docs/reference/policy.md").read_text()

    def keys(node):
        if isinstance(node, dict):
            yield from node.get("properties", {})
            for value in node.values():
                yield from keys(value)
        elif isinstance(node, list):
            for value in node:
                yield from keys(value)

    missing = {key for key in keys(schema.schema) if f"`{key}`" not in text and f".{key}`" not in text and f"`{key}." not in text}
    assert missing == set()


def test_check_names_rules_that_are_never_reached(tidewaiter, policy):
    path = policy("version: 1\nrules:\n  - {name: all, mode: warn}\n  - {name: rest, mode: warn, match: {tag: true}}\n")
    done = tidewaiter("check", path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{path}:4: rule rest is never reached: rule all in line 3 takes all that it matches",
        f"{path}: not ok (2 rules, 0 exceptions, 0 break-glass entries)",
    ]
    # until it is enforced, an announced rule leaves everything to the next
    text = path.read_text().replace("name: all,", "name: all, enforce_from: 2026-02-01,")
    assert tidewaiter("check", policy(text), "--today", "2026-01-31").returncode == 0
    assert tidewaiter("check", policy(text), "--today", "2026-02-01").returncode == 1


def test_check_names_a_grace_that_another_makes_needless(tidewaiter, policy):
    path = policy("version: 1\nrules:\n"
                  "  - {name: one, mode: warn, match: {tag: true}, grace: {published: 14, fixed: 14}}\n"
                  "  - {name: two, mode: warn, grace: {published: 15, fixed: 14}}\n")
    done = tidewaiter("check", path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"{path}:3: warning: rule one: grace.published of 14 days hardly matters beside grace.fixed of 14: "
        "a flaw is mostly published before there is a fix, and either is enough",
        f"{path}: ok, with warnings (2 rules, 0 exceptions, 0 break-glass entries)",
    ]


@pytest.mark.parametrize("rules, taken_by", [
    # by one
    ([{}, {"tag": True}], "rule r1 in line 3 takes"),
    ([{"projects": ["shop/**"]}, {"projects": ["shop/checkout", "shop/*/x"]}], "rule r1 in line 3 takes"),
    ([{"projects": ["a", "**"]}, {}], "rule r1 in line 3 takes"),
    ([{"branches": ["release/*"]}, {"branches": ["release/1"], "protected": True}], "rule r1 in line 3 takes"),
    ([{"jobs": ["*"]}, {"jobs": ["build/*"]}], "rule r1 in line 3 takes"),
    # by several
    ([{"tag": True}, {"tag": False}, {}], "rules r1 in line 3 and r2 in line 4 take"),
    ([{"tag": True}, {"protected": False}, {"protected": True, "tag": False}, {}],
     "rules r1 in line 3, r3 in line 5 and r2 in line 4 take"),
    ([{"protected": True}, {"protected": True, "tag": False}], "rule r1 in line 3 takes"),
    # something is left
    ([{"projects": ["shop/*"]}, {"projects": ["shop/**"]}], None),
    ([{"projects": ["shop/*"]}, {"projects": ["shop/a/b"]}], None),
    ([{"projects": ["shop/?"]}, {"projects": ["shop/*"]}], None),
    ([{"projects": ["shop**"]}, {"projects": ["s*"]}], None),
    ([{"projects": ["s**p"]}, {"projects": ["s*p"]}], None),
    ([{"projects": ["*"]}, {}], None),
    ([{"jobs": ["b*"]}, {"jobs": ["b/x"]}], None),
    ([{"tag": True}, {"protected": True}, {}], None),
    ([{"images": ["a"]}, {"images": ["a", "b"]}], None),
])
def test_check_sees_what_earlier_rules_leave(tidewaiter, policy, rules, taken_by):
    lines = "".join(f"  - {json.dumps({'name': f'r{k}', 'mode': 'warn', 'match': match})}\n" for k, match in enumerate(rules, 1))
    done = tidewaiter("check", policy(f"version: 1\nrules:\n{lines}"))
    if taken_by:
        assert done.returncode == 1 and f"rule r{len(rules)} is never reached: {taken_by} all that it matches" in done.stdout
    else:
        assert (done.returncode, "never reached" in done.stdout) == (0, False), done.stdout


def test_check_names_exceptions_that_do_not_count_and_those_that_soon_will_not(tidewaiter, policy):
    path = policy("version: 1\nmax_days: 30\nexceptions:\n"
                  "  - {id: CVE-1, expires: 2026-01-14, reason: r, owner: team a}\n"
                  "  - {id: CVE-2, expires: 2026-01-20, reason: r, owner: team b}\n"
                  "  - {id: CVE-3, expires: 2026-02-14, reason: r, owner: team c}\n"
                  "  - {id: CVE-4, expires: 2026-02-15, reason: r, owner: team d}\n")
    done = tidewaiter("check", path, "--today", "2026-01-15")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:-1] == [
        f"{path}:1: warning: there are no rules: the section gate of the settings judges everything",
        f"{path}:4: the exception of CVE-1 expired on 2026-01-14 (team a)",
        f"{path}:5: warning: the exception of CVE-2 expires on 2026-01-20 (team b)",
        f"{path}:7: the exception of CVE-4 does not count: it expires on 2026-02-15, allowed are 30 days (max_days)",
    ]
    assert "CVE-2" not in tidewaiter("check", path, "--today", "2026-01-15", "--soon", "2d").stdout


def test_check_names_ids_that_no_finding_has_so(tidewaiter, policy):
    entry = "expires: 2026-01-20, reason: r, owner: o"
    path = policy("version: 1\nrules: [{name: a, mode: warn}]\nexceptions:\n"
                  f"  - {{id: cve-2024-1, {entry}}}\n  - {{id: CVE-2024-2, aliases: [GHSA-AAAA-bbbb-cccc, ghsa-aaaa-bbbb-dddd], {entry}}}\n"
                  f"  - {{id: CVE-2024-3, aliases: [GHSA-aaaa-bbbb-eeee, RUSTSEC-2024-0001, GO-2024-1], {entry}}}\n")
    done = tidewaiter("check", path, "--today", "2026-01-01")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:-1] == [
        f"{path}:4: warning: the exception of cve-2024-1 excepts nothing by that id: Trivy writes CVE-2024-1",
        f"{path}:5: warning: the exception of GHSA-AAAA-bbbb-cccc excepts nothing by that id: Trivy writes GHSA-aaaa-bbbb-cccc",
        f"{path}:5: warning: the exception of ghsa-aaaa-bbbb-dddd excepts nothing by that id: Trivy writes GHSA-aaaa-bbbb-dddd"]
    j = json.loads(tidewaiter("check", "--json", path, "--today", "2026-01-01").stdout)
    report_schema().validate(j)
    assert [f["kind"] for f in j["findings"]] == ["id-spelling"] * 3 and j["result"] == "warnings"


def test_check_as_json_says_the_same(tidewaiter, policy):
    path = policy("version: 1\nmax_days: 30\nrules:\n  - {name: all, mode: warn, grace: {published: 14, fixed: 14}}\n"
                  "  - {name: rest, mode: warn, match: {tag: true}}\nexceptions:\n"
                  "  - {id: CVE-1, expires: 2026-01-14, reason: r, owner: team a}\n"
                  "  - {id: CVE-2, expires: 2026-01-20, reason: r, owner: team b}\n"
                  "  - {id: CVE-4, expires: 2026-02-15, reason: r, owner: team d}\n"
                  "break_glass:\n  - {name: night, project: a/b, ref: main, from: 2026-01-01T00:00:00Z, hours: 1, who: me, reason: fire}\n")
    text = tidewaiter("check", path, "--today", "2026-01-15")
    done = tidewaiter("check", "--json", path, "--today", "2026-01-15")
    assert (done.returncode, text.returncode) == (1, 1) and done.stderr == ""
    j = json.loads(done.stdout)
    report_schema().validate(j)
    assert [f"{path}:{f['line']}: {'warning: ' if f['level'] == 'warning' else ''}{f['text']}" for f in j["findings"]] == \
        text.stdout.splitlines()[:-1]
    assert [(f["kind"], f["name"], f["expires"], f["owner"]) for f in j["findings"]] == [
        ("needless-grace", "all", None, None), ("unreached-rule", "rest", None, None),
        ("exception-expired", "CVE-1", "2026-01-14", "team a"), ("exception-expires-soon", "CVE-2", "2026-01-20", "team b"),
        ("exception-too-long", "CVE-4", "2026-02-15", "team d"), ("break-glass-ended", "night", None, None)]
    assert (j["result"], j["rules"], j["exceptions"], j["break_glass"]) == ("faults", 2, 3, 1)
    none = json.loads(tidewaiter("check", "--json", policy("version: 1\n")).stdout)
    report_schema().validate(none)
    assert (none["result"], none["findings"][0]["kind"]) == ("warnings", "no-rules")
    one = json.loads(tidewaiter("check", "--json", policy("version: 1\nrules: [{name: a, mode: warn}]\n")).stdout)
    assert (one["result"], one["findings"]) == ("ok", [])


def test_check_reads_the_policy_of_the_settings(tidewaiter, settings, policy):
    path = policy("version: 1\nrules: [{name: a, mode: warn}]\n")
    done = tidewaiter("check", "--config", settings({"scan_user": "tw-no-such-user", "policy": {"file": str(path)}}))
    assert (done.returncode, done.stdout) == (0, f"{path}: ok (1 rule, 0 exceptions, 0 break-glass entries)\n"), done.stderr
    done = tidewaiter("check", "--config", settings())
    assert done.returncode == 2 and "names no policy (policy.file, policy.url)" in done.stderr


def test_what_cannot_be_had_is_something_else_than_what_is_not_understood(tidewaiter, policy, tmp_path):
    path = policy("version: 1\nrules: [{name: a, mode: warn}]\n")
    link, large = tmp_path / "link.yml", tmp_path / "large.yml"
    link.symlink_to(path)
    large.write_text("#" * (1 << 20) + "\n")
    assert [tidewaiter("check", p).returncode for p in (link, large, tmp_path, tmp_path / "missing.yml")] == [0, 2, 2, 3]


IDS = {v["VulnerabilityID"] for r in json.loads(REPORT.read_text())["Results"] for v in r.get("Vulnerabilities", []) if v["Severity"] == "CRITICAL"}


def test_the_cases_of_the_example_hold(tidewaiter):
    done = tidewaiter("test", "--policy", EXAMPLE, CASES)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(f"{len(list(CASES.glob('*.yml')))} of {len(list(CASES.glob('*.yml')))} cases hold\n")


def test_a_case_that_does_not_hold_says_what_is_different(tidewaiter, tmp_path):
    (tmp_path / "report.json").write_text(REPORT.read_text())
    (tmp_path / "wrong.yml").write_text(
        "report: report.json\ntoday: 2026-01-15\njob: {project: shop/checkout, image: shop/checkout, branch: v1, tag: true, protected: true}\n"
        "expect: {verdict: pass, rule: everybody, mode: warn, blocking: [], excepted: [CVE-1], says: [nobody]}\n")
    done = tidewaiter("test", "--policy", EXAMPLE, tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "FAIL  wrong.yml",
        "      verdict: expected pass, found block (1 finding is CRITICAL)",
        "      mode: expected warn, found enforce",
        "      rule: expected everybody, found releases",
        "      blocks: expected [], found [CVE-2023-45853]",
        "      excepted: expected [CVE-1], found [CVE-2024-5535]",
        '      says: "nobody" is in no reason and no note',
        "0 of 1 case holds",
    ]


@pytest.mark.parametrize("unknown, verdict", [("true", "block"), ("false", "pass")])
def test_a_case_may_have_a_release_that_the_database_does_not_know(tidewaiter, tmp_path, unknown, verdict):
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases/report.json").write_text(REPORT.read_text())
    (tmp_path / "policy.yml").write_text("version: 1\nrules:\n  - {name: all, mode: enforce, severity: CRITICAL, on_unknown_os: fail}\n"
                                         "exceptions:\n" + "".join(f"  - {{id: {i}, reason: r, owner: o, expires: 2026-02-01}}\n" for i in IDS))
    (tmp_path / "cases/case.yml").write_text(f"report: report.json\ntoday: 2026-01-15\njob: {{project: p, image: i}}\nunknown_release: {unknown}\n"
                                             f"expect: {{verdict: {verdict}}}\n")
    done = tidewaiter("test", "--policy", tmp_path / "policy.yml", tmp_path / "cases")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case, message", [
    ("report: report.json\n", "wrong.yml:1: today is missing in a case"),
    ("report: ../report.json\ntoday: 2026-01-01\njob: {project: p, image: i}\nexpect: {verdict: pass}\n", "../report.json"),
    ("report: none.json\ntoday: 2026-01-01\njob: {project: p, image: i}\nexpect: {verdict: pass}\n", "none.json"),
    ("report: report.json\ntoday: 2026-01-01\njob: {project: p, image: i}\nexpect: {verdict: pass, blocked: []}\n",
     "wrong.yml:4: expect.blocked is no key of what is expected (is blocking meant?)"),
    ("report: report.json\ntoday: 2026-01-01\njob: {project: p, image: i}\nexpect: {verdict: pass}\n"
     "ignores:\n  - file: trivyignore\n    id: CVE-1\n    paths: ['{a,b']\n", "wrong.yml:8: ignores[1].paths: this is no glob"),
])
def test_a_case_that_is_not_understood_is_wrong_use(tidewaiter, tmp_path, case, message):
    cases = tmp_path / "cases"
    cases.mkdir()
    for place in (tmp_path, cases):
        (place / "report.json").write_text(REPORT.read_text())
    (cases / "wrong.yml").write_text(case)
    done = tidewaiter("test", "--policy", EXAMPLE, cases)
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.parametrize("key", ["projects", "branches", "images", "stages", "jobs"])
@pytest.mark.parametrize("glob", ["prod/[a-z", "a" * 4096])
def test_a_glob_that_could_match_nothing_is_refused(tidewaiter, tmp_path, key, glob):
    """Its rule would apply to nobody, and nobody would see it."""
    (tmp_path / "policy.yml").write_text(f"version: 1\nrules:\n  - {{name: a, mode: enforce, match: {{{key}: [{json.dumps(glob)}]}}}}\n  - {{name: b, mode: audit}}\n")
    done = tidewaiter("check", tmp_path / "policy.yml")
    assert done.returncode == 2 and "each [ with its ]" in done.stderr + done.stdout, done.stdout + done.stderr


def test_a_directory_without_cases_is_no_success(tidewaiter, tmp_path):
    done = tidewaiter("test", "--policy", EXAMPLE, tmp_path)
    assert done.returncode == 2 and "no case in it" in done.stderr


def report_schema():
    text = json.loads((SOURCE / "docs/report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


def explain(tidewaiter, *more):
    return tidewaiter("explain", "--policy", EXAMPLE, "--today", "2026-01-15", "--project", "shop/checkout", "--image",
                      "shop/checkout", "--branch", "v1.2", "--tag", "--protected", *more, REPORT)


def test_explain_says_of_every_finding_what_becomes_of_it_and_why(tidewaiter):
    done = explain(tidewaiter)
    assert done.returncode == 1 and done.stderr == ""
    assert ("excepted (1)\n  CRITICAL CVE-2024-5535\n    openssl 3.0.11-1~deb12u2, fixed in 3.0.15-1~deb12u1\n"
            "    excepted until 2026-03-31: exception in line ") in done.stdout
    assert done.stdout.startswith("blocks (1)\n  CRITICAL CVE-2023-45853\n    zlib1g 1:1.2.13.dfsg-1, no fix yet\n"
                                  "    blocks: CRITICAL\n")
    assert "  LOW CVE-2025-0002\n    curl 7.88.1-10+deb12u5, no fix yet\n" in done.stdout
    assert "\nrule: releases (mode enforce, blocks CRITICAL)\nverdict: block\n" in done.stdout
    assert "\nnote: from 2026-03-01 on the rule releases-high applies here" in done.stdout


def test_explain_as_json_names_the_line_of_an_exception(tidewaiter):
    j = json.loads(explain(tidewaiter, "--json").stdout)
    report_schema().validate(j)
    assert (j["format"], j["rule"], j["verdict"], j["waiver"]) == (1, "releases", "block", None)
    excepted = next(f for f in j["findings"] if f["id"] == "CVE-2024-5535")
    assert (excepted["fate"], excepted["until"]) == ("excepted", "2026-04-01T00:00:00Z")
    assert "CVE-2024-5535" in EXAMPLE.read_text().splitlines()[excepted["line"] - 1]
    fates = {f["id"]: f["fate"] for f in j["findings"]}
    assert fates["CVE-2023-45853"] == "blocks" and fates["CVE-2025-0002"] == "below"


def test_explain_of_what_is_no_report_is_wrong_use(tidewaiter):
    done = tidewaiter("explain", "--policy", EXAMPLE, "--project", "p", "--image", "i", EXAMPLE)
    assert done.returncode == 2 and done.stdout == ""
    assert tidewaiter("explain", "--policy", EXAMPLE, REPORT).returncode == 2


def test_help_has_the_options_of_each_action(tidewaiter):
    text = tidewaiter("--help").stdout
    for words in ("Options of policy check:", "--soon TIME", "Options of policy test:", "Options of policy explain:", "--image NAME"):
        assert words in text
