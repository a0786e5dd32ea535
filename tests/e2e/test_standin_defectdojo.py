"""The stand-in DefectDojo is held against every exchange that was recorded from the real one."""

import datetime
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("TIDEWAITER_SHARED", ROOT.parent / "shared")) / "defectdojo"
sys.path.insert(0, str(ROOT / "tests" / "standins"))

from defectdojo import DefectDojo, multipart  # noqa: E402

PROGRAM = ROOT / "tests" / "standins" / "defectdojo.py"
UPLOAD = "/api/v2/reimport-scan/"
EXCHANGES = sorted(p.name.removesuffix(".json") for p in (SHARED / "exchanges").glob("*.json"))


def exchange(name):
    return json.loads((SHARED / "exchanges" / f"{name}.json").read_text())


def recorded_report(name):
    return json.loads((SHARED / "reports" / f"{name}.json").read_text())


def vulnerability(n, severity="HIGH", **fields):
    flaw = f"A flaw was found in lib{n}. "
    return {
        "VulnerabilityID": f"CVE-2024-{n:05}", "PkgID": f"lib{n}@1.0.{n}", "PkgName": f"lib{n}",
        "InstalledVersion": f"1.0.{n}-1", "FixedVersion": f"1.0.{n}-2", "Status": "fixed",
        "Title": f"lib{n}: heap overflow number {n}", "Description": flaw * 6, "Severity": severity,
        "CweIDs": [f"CWE-{100 + n}"],
        "CVSS": {"nvd": {"V3Vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "V3Score": 9.8}},
        "References": [f"https://access.redhat.com/security/cve/CVE-2024-{n:05}",
                       f"https://nvd.nist.gov/vuln/detail/CVE-2024-{n:05}"],
        **fields,
    }


def report(*vulnerabilities, target="app:1 (debian 12.5)", **result):
    return {"SchemaVersion": 2, "ArtifactName": "x", "Results": [
        {"Target": target, "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": list(vulnerabilities), **result}]}


# -- what each exchange stands on: builds the state, gives the file that is sent ---------------------------------------


class Stage:
    """The rows that the recorded server had when p1 (2), main (2) and img (2) were the newest."""

    def __init__(self, dojo):
        self.dojo = dojo

    def ids(self, **ids):
        for table, value in ids.items():
            self.dojo.next_id(table, value)

    def product(self, name="p1", engagement="main", product_id=2, engagement_id=2):
        self.ids(products=product_id, engagements=engagement_id)
        product = self.dojo.add_product(name)
        return self.dojo.add_engagement(engagement, product["id"], lead=2)

    def send(self, content, **fields):
        response = self.dojo.post_report(content, **fields)
        assert response.status == 201, response.body
        return response.body


def stand_first(stage):
    return recorded_report("first")


def stand_p1(stage):
    stage.product()
    return recorded_report("first")


def stand_img(stage):
    """p1, main, img with the five findings of first.json."""
    stand_first(stage)
    stage.send(recorded_report("first"))
    return recorded_report("first")


def stand_img_next(test_id):
    def stand(stage):
        content = stand_img(stage)
        stage.ids(tests=test_id)
        return content
    return stand


def stand_second(stage):
    stand_img(stage)
    return recorded_report("second")


def stand_reactivated(stage):
    stand_second(stage)
    stage.send(recorded_report("second"), build_id="job-2")
    return recorded_report("first")


def stand_eleven(stage):
    """Five findings without service, six with service app, four of them closed."""
    stage.product()
    stage.send(recorded_report("first"), service=None)
    first = recorded_report("first")["Results"][0]["Vulnerabilities"]
    stage.send(report(*first, vulnerability(6)))
    stage.send(report(first[0], first[1]))
    return report(first[0], first[1])


def stand_service_changed(stage):
    stand_eleven(stage)
    stage.dojo.worker = False
    return report(vulnerability(7))


def stand_target_changed(stage):
    stage.product("pd", product_id=6, engagement_id=6)
    stage.ids(tests=34)
    stage.send(recorded_report("target-app-1"), product_name="pd", test_title="tag")
    return recorded_report("target-app-2")


def stand_risk_accepted(stage):
    stage.product("pd2", product_id=7, engagement_id=7)
    stage.ids(tests=35)
    stage.send(recorded_report("target-app-1"), product_name="pd2", test_title="tag")
    stage.dojo.accept([f["id"] for f in stage.dojo.findings("tag") if f["severity"] == "Critical"])
    return recorded_report("target-app-1")


def stand_triaged(stage):
    stage.product("pe", product_id=8, engagement_id=8)
    stage.ids(tests=36)
    stage.send(recorded_report("triaged"), product_name="pe", test_title="gate")
    ids = [f["id"] for f in stage.dojo.findings("gate")]
    for finding, change in zip(ids, (
            {"false_p": True, "active": False, "verified": False},
            {"out_of_scope": True, "active": False, "verified": False},
            {"active": False}, {"is_mitigated": True, "active": False})):
        assert stage.dojo.call("PATCH", f"/api/v2/findings/{finding}/", change).status == 200
    return recorded_report("triaged")


def stand_empty_report(stage):
    stage.product("ph", product_id=9, engagement_id=9)
    stage.ids(tests=37)
    unknown = report(vulnerability(1, Status="unknown"), vulnerability(2, Status="under_investigation"))
    stage.send(unknown, product_name="ph", test_title="a", service=None)
    return recorded_report("no-results")


def stand_all_duplicates(stage):
    stage.product("pj1", product_id=10, engagement_id=10)
    content = report(vulnerability(41, "CRITICAL"), vulnerability(42), target="app (debian 12)")
    stage.ids(tests=39, findings=65)
    stage.send(content, product_name="pj1", test_title="a", service=None)
    stage.ids(tests=40)
    return content


def stand_dedup_timeout(stage):
    stage.product("pstop", product_id=66, engagement_id=59)
    content = report(vulnerability(1), vulnerability(2))
    stage.send(content, product_name="pstop", test_title="a", service=None)
    stage.ids(tests=138)
    stage.dojo.worker = False
    return content


def stand_duplicate_page(stage):
    stage.dojo.store.write_order = "report"
    content = stand_all_duplicates(stage)
    stage.send(content, product_name="pj1", test_title="b", service=None)


def stand_page(stage):
    """Ten findings of test 55, Critical and High in turn, in the order of the report."""
    stage.dojo.store.write_order = "report"
    stage.product()
    stage.ids(tests=55, findings=263)
    stage.send(report(*(vulnerability(51 + i, "HIGH" if i % 2 else "CRITICAL") for i in range(10))), service="f")


def stand_imports(stage):
    """b-2: one of ten closed, one new, nine as they were."""
    stand_page(stage)
    stage.ids(imports=86, actions=406)
    kept = [vulnerability(51 + i, "HIGH" if i % 2 else "CRITICAL") for i in range(9)]
    stage.send(report(*kept, vulnerability(70, "CRITICAL")), service="f", build_id="b-2")


def stand_new_test(test_id, content):
    def stand(stage):
        stage.product()
        stage.ids(tests=test_id)
        return content() if callable(content) else content
    return stand


def stand_environment_created(stage):
    stand_eleven(stage)
    stage.ids(tests=30)
    first = recorded_report("first")["Results"][0]["Vulnerabilities"]
    return report(first[0], first[1])


def stand_race(stage):
    """Another upload creates the product after this one has looked for it."""
    stage.dojo.pause("context")
    stage.after_start = lambda: (stage.dojo.wait_paused(), stage.dojo.add_product("pg0-2"), stage.dojo.resume())
    return recorded_report("first")


def stand_finding_57(stage):
    stage.product()
    stage.ids(findings=57)
    stage.send(report(vulnerability(1)))


def stand_finding_49(stage):
    stage.product()
    stage.ids(findings=49)
    stage.send(report(vulnerability(1, "CRITICAL")))
    stage.ids(acceptances=2)


def stand_acceptances(stage):
    """Two acceptances whose findings were closed since."""
    stage.product()
    stage.send(report(vulnerability(1), vulnerability(2)))
    for finding, name in zip(stage.dojo.findings("img"), ("ra ci", "ra admin")):
        stage.dojo.accept([finding["id"]], name=name, recommendation="A", decision="A", accepted_by="boss")
    stage.send(report())


def stand_engagement_54(stage):
    stage.product(engagement_id=54)


def stand_engagements(stage):
    stage.product()


def stand_test_2(stage):
    stand_img(stage)
    stage.send(recorded_report("first"), build_id="job-6")


def stand_overridden(stage):
    stage.dojo.store.hash_code_fields = ["title", "vulnerability_ids", "file_path"]
    stage.product(engagement_id=57)
    stage.ids(tests=135)
    stage.send(recorded_report("first"), test_title="t")


def stand_list_tests(stage):
    stand_img(stage)


def stand_test_55(stage):
    stage.product()
    stage.ids(tests=55)
    stage.send(report())


def fault(text):
    def stand(stage):
        stage.dojo.fault = text
        return recorded_report("first")
    return stand


def with_null(member):
    return lambda stage: (stage.product(), report(vulnerability(1), **{member: None}))[1]


def with_flaw(**fields):
    return lambda stage: (stage.product(), report(vulnerability(1, **fields)))[1]


def stand_bytes(data):
    return lambda stage: (stage.product(), data)[1]


def truncated(stage):
    """Cut inside of a text that starts at character 2227."""
    stage.product()
    return b'{"a":' + b" " * 2222 + b'"unterminated'


def nothing(stage):
    return recorded_report("first")


STAND = {
    "any-404-unknown-path": nothing,
    "engagement-close-200": stand_engagement_54,
    "engagements-200": stand_engagements,
    "finding-patch-400": stand_finding_57,
    "findings-200-duplicate": stand_duplicate_page,
    "findings-200-page": stand_page,
    "import-201": stand_img_next(3),
    "list-400-bad-ordering": nothing,
    "list-400-bad-test-filter": nothing,
    "probe-400-ok": stand_p1,
    "probe-403": nothing,
    "product-types-200": nothing,
    "product-types-200-invisible": nothing,
    "reimport-201-all-duplicates": stand_all_duplicates,
    "reimport-201-dedup-timeout": stand_dedup_timeout,
    "reimport-201-empty-report": stand_empty_report,
    "reimport-201-first": stand_first,
    "reimport-201-reactivated": stand_reactivated,
    "reimport-201-risk-accepted": stand_risk_accepted,
    "reimport-201-second": stand_second,
    "reimport-201-service-changed": stand_service_changed,
    "reimport-201-target-changed": stand_target_changed,
    "reimport-201-triaged": stand_triaged,
    "risk-acceptance-200": stand_acceptances,
    "risk-acceptance-201": stand_finding_49,
    "test-200": stand_test_2,
    "test-200-hash-overridden": stand_overridden,
    "test-imports-200": stand_imports,
    "test-imports-200-empty": stand_test_55,
    "test-types-200": nothing,
    "tests-200": stand_list_tests,
    "upload-201-body-null": stand_new_test(11, b"null"),
    "upload-201-empty-results": stand_new_test(7, {"SchemaVersion": 2, "Results": []}),
    "upload-201-environment-created": stand_environment_created,
    "upload-201-no-results": stand_new_test(6, lambda: recorded_report("no-results")),
    "upload-201-null-vulnerabilities": stand_new_test(
        15, {"SchemaVersion": 2, "Results": [{"Target": "a", "Vulnerabilities": None}]}),
    "upload-201-result-without-target": stand_new_test(
        20, {"SchemaVersion": 2, "Results": [{"Vulnerabilities": [vulnerability(1)]}]}),
    "upload-201-severity-none-dropped": stand_new_test(22, report(vulnerability(1, "NONE"), vulnerability(2, "high"))),
    "upload-201-tag-quote-split": stand_eleven,
    "upload-201-tags-comma": stand_eleven,
    "upload-201-title-600-truncated": stand_new_test(24, report(vulnerability(1, Title="t" * 600, PkgName="p" * 500))),
    "upload-301-no-trailing-slash": nothing,
    "upload-400-bad-cwe": with_flaw(CweIDs=["NVD-CWE-noinfo"]),
    "upload-400-empty-file": stand_bytes(b""),
    "upload-400-environment-unknown": stand_img,
    "upload-400-get-method": nothing,
    "upload-400-no-schema-version": stand_bytes(b'{"ArtifactName": "x"}'),
    "upload-400-not-json": stand_bytes(b"this is no JSON"),
    "upload-400-race-product-created": stand_race,
    "upload-400-schema-version-3": stand_bytes(b'{"SchemaVersion": 3, "Results": []}'),
    "upload-400-test-id-conflict": stand_p1,
    "upload-400-too-large": stand_bytes(b" " * (101 << 20)),
    "upload-400-truncated-json": truncated,
    "upload-404-product-absent": nothing,
    "upload-500-html-broker-down": fault("500-html"),
    "upload-500-installed-version-130": with_flaw(InstalledVersion="1" * 130),
    "upload-500-lone-surrogate": stand_bytes(
        json.dumps(report(vulnerability(1, Description="a\ud800b"))).encode()),
    "upload-500-nul-character": with_flaw(Description="a\0b"),
    "upload-500-null-cvss": with_flaw(CVSS=None),
    "upload-500-null-cweids": with_flaw(CweIDs=None),
    "upload-500-null-licenses": with_null("Licenses"),
    "upload-500-null-misconfigurations": with_null("Misconfigurations"),
    "upload-500-null-references": with_flaw(References=None),
    "upload-500-null-results": stand_bytes(b'{"SchemaVersion": 2, "Results": null}'),
    "upload-500-null-secrets": with_null("Secrets"),
    "upload-500-pkg-name-600": with_flaw(PkgName="p" * 600),
    "upload-502-server-died": fault("died:1"),
    "upload-502-server-down": fault("502"),
    "user-profile-200": nothing,
    "user-profile-403-bad-token": nothing,
    "user-profile-403-no-token": nothing,
}
# Refusals before anything is created, and errors that lie in the form: p1 and main exist, a good report is sent.
OF_THE_FORM = re.compile(r"upload-(4|500-\w+-\w*-?\d)")
STAND.update((name, stand_p1) for name in EXCHANGES if name not in STAND and OF_THE_FORM.match(name))
STAFF = {"risk-acceptance-201", "risk-acceptance-200"}

DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
DATE = re.compile(r"\d{4}-\d\d-\d\d")


def same(recorded, got, at="body"):
    """The recorded value, placeholders honoured, is what came; says where it is not."""
    if recorded == "<DATETIME>":
        assert isinstance(got, str) and DATETIME.fullmatch(got), at
    elif recorded == "<DATE>":
        assert isinstance(got, str) and DATE.fullmatch(got), at
    elif isinstance(recorded, dict):
        assert isinstance(got, dict) and list(got) == list(recorded), at
        for key in recorded:
            same(recorded[key], got[key], f"{at}.{key}")
    elif isinstance(recorded, list):
        assert isinstance(got, list) and len(got) == len(recorded), at
        for i, (left, right) in enumerate(zip(recorded, got)):
            same(left, right, f"{at}[{i}]")
    else:
        assert type(got) is type(recorded) and got == recorded, at


def same_page(recorded, got, at="body"):
    cut = re.fullmatch(r"(.*?) \[… HTML page, (\d+) bytes\]", recorded, re.DOTALL)
    text = got.decode()
    if cut is None:
        assert text == recorded, at
        return
    # The recorded head ends in the middle of a word or of a comment; the stand-in's goes on in its own way.
    assert len(got) == int(cut[2]), at
    head = cut[1].split(" <!-- jQuery")[0]
    assert " ".join(text.split()).startswith(head), at


def encode(request, dojo, content):
    headers = {k: v.replace("<TOKEN>", dojo.token) for k, v in request["headers"].items()}
    if request.get("form") is not None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers["Content-Type"], body = multipart(request["form"], request["file"], data)
        return headers, body
    body = request.get("body")
    return headers, None if body is None else body if isinstance(body, str) else json.dumps(body)


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_exchange_recorded_from_the_real_one_is_answered_alike(name):
    recorded = exchange(name)
    request, expected = recorded["request"], recorded["response"]
    with DefectDojo(worker_timeout=0) as dojo:
        stage = Stage(dojo)
        stage.after_start = lambda: None
        content = STAND[name](stage)
        headers, body = encode(request, dojo, content)
        if name in STAFF:
            headers["Authorization"] = f"Token {dojo.admin_token}"
        if "defectdojo.example" in json.dumps(expected["body"]):
            headers["Host"] = "defectdojo.example"
        helper = threading.Thread(target=stage.after_start)
        helper.start()
        got = dojo.send(request["method"], request["url"], body, headers)
        helper.join()
        assert dojo.errors == []
    assert got.status == expected["status"]
    assert http.client.responses[got.status] in (expected["reason"], "Request Entity Too Large")
    for key in ("Content-Type", "Location", "Allow", "Vary"):
        assert got.headers.get(key) == expected["headers"].get(key), key
    if got.headers["Content-Type"] == "application/json":
        same(expected["body"], got.body)
        assert got.headers["Content-Length"] == expected["headers"].get("Content-Length", str(len(got.raw)))
    else:
        same_page(expected["body"], got.raw)


def test_every_exchange_has_been_found_and_has_a_stage():
    assert len(EXCHANGES) >= 105
    assert set(EXCHANGES) == set(STAND)


# -- what the notes say beyond the exchanges ---------------------------------------------------------------------------


@pytest.fixture
def dojo():
    with DefectDojo(worker_timeout=0) as server:
        yield server
        assert server.errors == []


def totals(statistics, key="total"):
    return {k: v["total"][key] for k, v in statistics.items()}


def in_background(function, *args, **kwargs):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args, **kwargs)))
    thread.start()

    def wait():
        thread.join(30)
        return result[0]
    return wait


def test_of_two_faults_in_a_request_the_earlier_check_answers(dojo):
    bad = {"Authorization": "Token 0"}
    good = {"Authorization": f"Token {dojo.token}"}
    json_type = {"Content-Type": "application/json"}
    assert dojo.send("POST", UPLOAD[:-1], b"{}", {**bad, **json_type}).status == 301
    assert dojo.send("POST", UPLOAD, b"{}", {**bad, **json_type}).status == 403
    assert dojo.send("POST", UPLOAD, b"{}", {**good, **json_type}).status == 415
    assert dojo.post_report({}, product_name=None, scan_type="x").body == ["product_name parameter missing"]
    assert "scan_type" in dojo.post_report({}, scan_type="x", auto_create_context="false").body
    assert dojo.post_report(b"no JSON", auto_create_context="false").status == 404
    assert dojo.test("img") is None
    assert dojo.post_report(b"no JSON").status == 400
    assert dojo.findings("img") == [] and dojo.test("img")["build_id"] == "job-1"
    assert dojo.imports == []
    assert list(dojo.post_report(report(vulnerability(1))).body["statistics"]) == ["before", "delta", "after"]


def test_several_bad_fields_are_named_in_one_answer(dojo):
    body = dojo.post_report({}, minimum_severity="high", tags=["a b"], active="maybe").body
    assert list(body) == ["minimum_severity", "active", "tags", "message", "pro"]


def test_a_probe_without_a_file_leaves_no_trace(dojo):
    before = dojo.products, dojo.engagements, dojo.tests
    assert dojo.post_report(None, file_name=None, product_name="probe").status == 400
    assert (dojo.products, dojo.engagements, dojo.tests) == before


def test_two_uploads_into_one_test_at_once_double_the_findings_and_the_next_one_heals(dojo):
    content = report(*(vulnerability(i) for i in range(30)))
    dojo.post_report(report())
    dojo.pause("findings")
    waits = [in_background(dojo.post_report, content, build_id=f"b{i}") for i in range(2)]
    dojo.wait_paused(2)
    dojo.resume()
    assert [w().status for w in waits] == [201, 201]
    assert dojo.statistics("img")["total"]["total"] == 60
    healed = dojo.post_report(content).body["statistics"]
    assert healed["after"]["total"]["active"] == 30
    assert totals(healed["delta"]) == {"created": 0, "closed": 30, "reactivated": 0, "untouched": 30}


def test_the_row_and_the_build_id_appear_only_when_all_is_written(dojo):
    dojo.post_report(report())
    test = dojo.test("img")["id"]
    rows = f"/api/v2/test_imports/?test={test}&build_id=late"
    dojo.pause("row")
    wait = in_background(dojo.post_report, report(vulnerability(1)), build_id="late")
    dojo.wait_paused()
    assert dojo.call("GET", rows).body["count"] == 0
    assert dojo.call("GET", f"/api/v2/tests/{test}/").body["build_id"] == "job-1"
    assert dojo.call("GET", f"/api/v2/findings/?test={test}").body["count"] == 1
    dojo.resume()
    assert wait().status == 201
    assert dojo.call("GET", rows).body["count"] == 1
    assert dojo.call("GET", rows.replace("late", "LATE")).body["count"] == 0


def test_hanging_up_cancels_nothing(dojo):
    dojo.pause("findings")
    content_type, body = multipart({"scan_type": "Trivy Scan", "product_name": "p", "product_type_name": "CI",
                                    "engagement_name": "e", "auto_create_context": "true", "build_id": "gone"},
                                   "t.json", json.dumps(report(vulnerability(1))).encode())
    connection = dojo.connect()
    connection.request("POST", UPLOAD, body, {"Authorization": f"Token {dojo.token}", "Content-Type": content_type})
    dojo.wait_paused()
    connection.close()
    dojo.resume()
    dojo.wait_for(lambda: dojo.running == 0)
    assert [i["build_id"] for i in dojo.imports] == ["gone"]
    assert len(dojo.findings()) == 1


def test_a_version_that_is_too_long_fails_after_the_findings_were_changed(dojo):
    dojo.post_report(report(vulnerability(1), vulnerability(2)))
    assert dojo.post_report(report(vulnerability(2), vulnerability(3)), version="v" * 101).status == 500
    assert [f["active"] for f in dojo.findings("img")] == [False, True, True]
    assert len(dojo.imports) == 1 and dojo.test("img")["version"] == "1.0.0"


def test_a_value_that_is_too_long_leaves_the_less_severe_findings_and_closes_nothing(dojo):
    dojo.post_report(report(vulnerability(9)))
    bad = report(vulnerability(1, "CRITICAL"), vulnerability(2, "HIGH"),
                 vulnerability(3, "MEDIUM", VulnerabilityID="C" * 51), vulnerability(4, "LOW"))
    assert dojo.post_report(bad).status == 500
    assert [(f["severity"], f["active"]) for f in dojo.findings("img")] == [("High", True), ("Low", True)]
    assert len(dojo.imports) == 1


@pytest.mark.parametrize("field, limit", [("VulnerabilityID", 50), ("InstalledVersion", 100), ("PkgName", 500),
                                          ("PkgPath", 4000)])
def test_the_longest_value_of_a_report_is_stored_and_a_longer_one_is_an_error(dojo, field, limit):
    assert dojo.post_report(report(vulnerability(1, **{field: "x" * limit}))).status == 201
    assert dojo.post_report(report(vulnerability(2, **{field: "x" * (limit + 1)}))).status == 500


def test_a_duplicate_stays_inactive_although_its_original_is_gone(dojo):
    content = report(vulnerability(1, "CRITICAL"))
    dojo.post_report(content, test_title="a")
    assert dojo.post_report(content, test_title="b").body["statistics"]["after"]["critical"]["duplicate"] == 1
    dojo.post_report(report(), test_title="a")
    after = dojo.post_report(content, test_title="b").body["statistics"]["after"]["critical"]
    assert after["active"] == 0 and after["is_mitigated"] == 0
    assert not any(f["active"] for f in dojo.findings())


def test_another_service_or_deduplication_on_the_engagement_keeps_a_finding_of_its_own(dojo):
    content = report(vulnerability(1))
    dojo.post_report(content, test_title="a")
    other = dojo.post_report(content, test_title="b", service="other").body
    apart = dojo.post_report(content, engagement_name="x", deduplication_on_engagement="true").body
    assert [b["statistics"]["after"]["total"]["active"] for b in (other, apart)] == [1, 1]


def test_the_same_finding_twice_in_a_report_is_first_a_duplicate_and_then_closed(dojo):
    twice = report(vulnerability(1), vulnerability(1))
    assert dojo.post_report(twice).body["statistics"]["after"]["total"]["duplicate"] == 1
    again = dojo.post_report(twice).body["statistics"]
    assert totals(again["delta"]) == {"created": 0, "closed": 1, "reactivated": 0, "untouched": 1}


def test_without_deduplication_the_same_finding_counts_in_every_test():
    with DefectDojo(deduplication=False) as dojo:
        for title in ("a", "b"):
            after = dojo.post_report(report(vulnerability(1)), test_title=title).body["statistics"]["after"]
            assert after["total"]["active"] == 1


def test_the_statistics_of_async_come_before_deduplication(dojo):
    dojo.post_report(report(vulnerability(1)), test_title="a")
    body = dojo.post_report(report(vulnerability(1)), test_title="b", deduplication_execution_mode="async").body
    assert body["deduplication_complete"] is False and body["statistics"]["after"]["total"]["active"] == 1
    assert dojo.statistics("b")["total"]["active"] == 0


def test_the_worker_deduplicates_when_it_is_back(dojo):
    dojo.post_report(report(vulnerability(1)), test_title="a")
    dojo.worker = False
    dojo.post_report(report(vulnerability(1)), test_title="b", deduplication_execution_mode="async_wait")
    assert dojo.statistics("b")["total"]["active"] == 1
    dojo.worker = True
    assert dojo.statistics("b")["total"]["active"] == 0


def test_an_acceptance_lives_as_long_as_its_finding_is_reported(dojo):
    content = report(vulnerability(1, "CRITICAL"))
    dojo.post_report(content)
    finding = dojo.findings("img")[0]["id"]
    dojo.accept([finding])
    untouched = dojo.post_report(content).body["statistics"]
    assert untouched["after"]["critical"]["active"] == 0 and untouched["delta"]["untouched"]["total"]["total"] == 1
    dojo.post_report(report(vulnerability(1, "CRITICAL", FixedVersion="9")))
    back = dojo.post_report(content).body["statistics"]["after"]["critical"]
    assert (back["active"], back["risk_accepted"]) == (1, 0)
    assert dojo.acceptances[0]["accepted_findings"] == []


def test_an_acceptance_that_expires_makes_its_finding_active(dojo):
    dojo.post_report(report(vulnerability(1)))
    acceptance = dojo.accept([dojo.findings("img")[0]["id"]])
    assert dojo.statistics("img")["total"]["active"] == 0
    dojo.expire(acceptance["id"])
    assert dojo.statistics("img")["total"]["active"] == 1


def test_a_patched_finding_keeps_its_identity(dojo):
    content = report(vulnerability(1))
    dojo.post_report(content)
    before = dojo.findings("img")[0]
    dojo.accept([before["id"]])
    patch = {"severity": "Critical", "description": "reworded", "mitigation": "2"}
    assert dojo.call("PATCH", f"/api/v2/findings/{before['id']}/", patch).status == 200
    assert totals(dojo.post_report(content).body["statistics"]["delta"])["untouched"] == 1
    after = dojo.findings("img")[0]
    assert (after["hash_code"], after["severity"], after["description"], after["risk_accepted"]) == \
        (before["hash_code"], "Critical", "reworded", True)


def test_with_other_hash_fields_a_reworded_finding_is_untouched():
    with DefectDojo(hash_code_fields=["title", "vulnerability_ids", "file_path"]) as dojo:
        dojo.post_report(report(vulnerability(1)))
        reworded = report(vulnerability(1, "CRITICAL", Title="other", FixedVersion="9", Description="new"))
        assert totals(dojo.post_report(reworded).body["statistics"]["delta"])["untouched"] == 1
        assert dojo.findings("img")[0]["severity"] == "High"


@pytest.mark.parametrize("status, active, verified, mitigated", [
    ("affected", 1, 1, 0), ("will_not_fix", 1, 1, 0), ("end_of_life", 1, 1, 0), ("fix_deferred", 1, 1, 0),
    ("under_investigation", 1, 0, 0), ("", 1, 0, 0), (None, 1, 0, 0)])
def test_the_status_of_a_vulnerability_decides_active_and_verified(dojo, status, active, verified, mitigated):
    after = dojo.post_report(report(vulnerability(1, Status=status))).body["statistics"]["after"]["total"]
    assert (after["active"], after["verified"], after["is_mitigated"]) == (active, verified, mitigated)


def test_a_vulnerability_that_does_not_affect_is_mitigated_at_once(dojo):
    after = dojo.post_report(report(vulnerability(1, Status="not_affected"))).body["statistics"]["after"]["total"]
    assert (after["active"], after["is_mitigated"]) == (0, 1)


def test_a_missing_severity_is_critical_and_an_unknown_word_is_dropped(dojo):
    after = dojo.post_report(report(vulnerability(1, None), vulnerability(2, "critical"))).body["statistics"]["after"]
    assert after["critical"]["total"] == 1 and after["total"]["total"] == 1


def test_fields_left_out_blank_the_test_and_tags_left_out_stay(dojo):
    dojo.post_report(report(), tags=["A:b"])
    dojo.post_report(report(), tags=None, version=None, build_id=None)
    test = dojo.test("img")
    assert (test["version"], test["build_id"], test["tags"]) == ("", "", ["a:b"])


def test_active_and_verified_count_only_when_they_are_sent(dojo):
    dojo.post_report(report(vulnerability(1)), active="true", verified="false")
    assert [(f["active"], f["verified"]) for f in dojo.findings("img")] == [(True, False)]


def test_minimum_severity_closes_what_is_below_it_and_close_old_findings_false_closes_nothing(dojo):
    content = report(vulnerability(1, "CRITICAL"), vulnerability(2, "HIGH"))
    dojo.post_report(content)
    assert totals(dojo.post_report(content, minimum_severity="Critical").body["statistics"]["delta"])["closed"] == 1
    dojo.post_report(report(), close_old_findings="false")
    assert dojo.statistics("img")["total"]["active"] == 1


def test_import_scan_closes_what_older_tests_of_the_engagement_have(dojo):
    path = "/api/v2/import-scan/"
    dojo.post_report(report(vulnerability(1), vulnerability(2)), path=path)
    dojo.post_report(report(vulnerability(2)), path=path)
    assert len(dojo.tests) == 3
    assert [f["active"] for f in dojo.findings()] == [False, True, False]


def test_a_new_finding_is_no_duplicate_of_one_that_was_closed(dojo):
    content = report(vulnerability(1))
    dojo.post_report(content, test_title="a")
    dojo.post_report(report(), test_title="a")
    assert dojo.post_report(content, test_title="b").body["statistics"]["after"]["total"]["active"] == 1


def test_do_not_reactivate_leaves_a_closed_finding_closed(dojo):
    for content in (report(vulnerability(1)), report(), report(vulnerability(1))):
        body = dojo.post_report(content, do_not_reactivate="true").body
    assert totals(body["statistics"]["delta"]) == {"created": 0, "closed": 0, "reactivated": 0, "untouched": 0}
    assert body["statistics"]["after"]["total"]["is_mitigated"] == 1


def test_the_same_finding_twice_in_a_report_for_a_test_that_exists_is_one(dojo):
    dojo.post_report(report())
    delta = dojo.post_report(report(vulnerability(1), vulnerability(1))).body["statistics"]["delta"]
    assert totals(delta) == {"created": 1, "closed": 0, "reactivated": 0, "untouched": 0}


def test_a_reimport_that_makes_its_test_leaves_the_other_tests_alone(dojo):
    dojo.post_report(report(vulnerability(1)), test_title="a")
    dojo.post_report(report(vulnerability(2)), test_title="b")
    assert dojo.statistics("a")["total"]["active"] == 1


def test_reports_in_utf_16_and_with_a_mark_are_read_and_bad_utf_8_is_refused(dojo):
    text = json.dumps(report(vulnerability(1)))
    for encoding in ("utf-16", "utf-8-sig"):
        assert dojo.post_report(text.encode(encoding)).status == 201
    assert list(dojo.post_report(b'{"a": "\xff"}').body) == ["message", "pro"]


def test_a_redirect_keeps_the_query_and_never_ends_its_body_for_an_upload(dojo):
    answer = dojo.call("GET", "/api/v2/tests?title=x")
    assert (answer.headers["Location"], answer.cut) == ("/api/v2/tests/?title=x", False)
    answer = dojo.post_report(report(), path=UPLOAD[:-1])
    assert (answer.status, answer.cut) == (301, True)


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(dojo):
    dojo.post_report(report(*(vulnerability(i, ("CRITICAL", "HIGH", "LOW")[i % 3]) for i in range(60))))
    return dojo


@pytest.mark.parametrize("query, count", [
    ("", 60), ("nonsense=1", 60), ("test=", 60), ("active=true", 60), ("active=False", 0), ("active=0", 60),
    ("active=FALSE", 60), ("severity=Critical", 20), ("severity=critical", 0), ("severity=Bogus", 0),
    ("severity=Critical,High", 40), ("severity=Critical,%20High", 20), ("severity=Critical&severity=Low", 20),
    ("vulnerability_id=CVE-2024-00003", 1), ("component_name=lib59", 1), ("product_name=p1", 60),
    ("test__engagement=2", 60), ("test__engagement__product=1", 0)])
def test_filters_of_findings_mostly_fail_open(filled, query, count):
    assert filled.call("GET", f"/api/v2/findings/?{query}").body["count"] == count


@pytest.mark.parametrize("query", ["test=999999", "test=abc", "o=nonsense", "test=1%202"])
def test_filters_of_findings_that_fail_say_400(filled, query):
    assert filled.call("GET", f"/api/v2/findings/?{query}").status == 400


@pytest.mark.parametrize("limit, n", [("100", 60), ("7", 7), ("0", 25), ("-1", 25), ("abc", 25), ("", 25)])
def test_a_limit_that_is_none_is_25(filled, limit, n):
    assert len(filled.call("GET", f"/api/v2/findings/?limit={limit}").body["results"]) == n


def test_pages_follow_each_other_without_loss(filled):
    seen, path = [], "/api/v2/findings/?limit=25&o=id"
    while path:
        body = filled.call("GET", path).body
        seen += [f["id"] for f in body["results"]]
        path = body["next"] and body["next"].removeprefix(filled.url)
    assert seen == sorted(f["id"] for f in filled.findings())
    assert filled.call("GET", "/api/v2/findings/?offset=1000").body["results"] == []


def test_the_next_link_takes_host_and_scheme_from_the_request(filled):
    headers = {"Authorization": f"Token {filled.token}", "Host": "x.example", "X-Forwarded-Proto": "https"}
    assert filled.send("GET", "/api/v2/findings/", None, headers).body["next"].startswith("https://x.example/api/v2/")


def test_a_stranger_sees_nothing(filled):
    for path in ("findings", "tests", "test_imports", "engagements", "products", "product_types"):
        assert filled.call("GET", f"/api/v2/{path}/", token=filled.stranger_token).body["count"] == 0
    finding = filled.findings()[0]["id"]
    assert filled.call("GET", f"/api/v2/findings/{finding}/", token=filled.stranger_token).status == 404
    assert filled.post_report(report(), token=filled.stranger_token).status == 403


def test_lookups_by_name_find_what_they_should(filled):
    assert filled.call("GET", "/api/v2/products/?name_exact=P1").body["results"][0]["id"] == 2
    assert filled.call("GET", "/api/v2/products/?name_exact=p").body["count"] == 0
    assert filled.call("GET", "/api/v2/engagements/?product=2&name=mai").body["count"] == 0
    assert filled.call("GET", "/api/v2/test_types/?name=Nessus").body["count"] == 0
    assert filled.call("GET", "/api/v2/tests/?engagement=2&title=img").body["count"] == 1


def test_a_duplicate_names_its_original_and_related_fields_name_its_place(filled):
    filled.post_report(report(vulnerability(0, "CRITICAL")), test_title="b")
    test = filled.test("b")["id"]
    shown = filled.call("GET", f"/api/v2/findings/?test={test}&related_fields=true").body["results"][0]
    original = filled.call("GET", f"/api/v2/findings/{shown['duplicate_finding']}/").body
    assert shown["hash_code"] == original["hash_code"] and shown["display_status"] == "Inactive, Duplicate"
    assert shown["related_fields"]["test"]["engagement"]["product"]["name"] == "p1"
    assert shown["related_fields"]["test"]["branch_tag"] == filled.test("b")["branch_tag"]


def test_hashes_are_those_of_the_real_one(dojo):
    shown = exchange("findings-200-duplicate")["response"]["body"]["results"][0]
    dojo.post_report(report(vulnerability(41, "CRITICAL"), target="app (debian 12)"), service=None)
    assert dojo.findings()[0]["hash_code"] == shown["hash_code"]


def test_schema_login_and_wrong_paths_answer_without_a_token(dojo):
    assert dojo.send("GET", "/api/v2/oa3/schema/?format=json").body["info"]["version"] == "3.2.0"
    assert b"v. 3.2.0 ( release mode )" in dojo.send("GET", "/login").raw
    for path in ("/api/v2", "/nonsense"):
        answer = dojo.send("GET", path)
        assert (answer.status, answer.headers["Location"][:6]) == (302, "/login")
    assert dojo.send("GET", "/api/v2/nonsense/").status == 404


def test_what_a_member_may_change_and_what_not(filled):
    finding = f"/api/v2/findings/{filled.findings()[0]['id']}/"
    assert filled.call("DELETE", finding).status == 403
    assert filled.call("PATCH", finding, {"severity": "critical"}).status == 400
    assert filled.call("PATCH", finding, {"false_p": True, "active": False, "verified": False}).body["is_mitigated"]
    assert filled.call("PATCH", finding, {"active": True}).body["false_p"] is False
    assert filled.call("POST", finding + "close/", {"is_mitigated": True}).body["is_mitigated"]
    assert filled.call("POST", "/api/v2/engagements/2/close/").status == 200
    assert filled.post_report(report()).body["engagement_id"] == 2
    assert filled.engagements[-1]["status"] == "Completed"


def test_long_answers_are_compressed_for_those_who_ask(filled):
    headers = {"Authorization": f"Token {filled.token}", "Accept-Encoding": "gzip"}
    answer = filled.send("GET", "/api/v2/findings/", None, headers)
    assert answer.headers["Content-Encoding"] == "gzip" and answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.body["count"] == 60


# -- faults ------------------------------------------------------------------------------------------------------------

LOST = (http.client.HTTPException, OSError)
NOT_DONE = [
    ("400-array", 400), ("400-object", 400), ("400-message", 400), ("400-race", 400), ("400-large", 400), ("403", 403),
    ("403-no-token", 403), ("403-permission", 403), ("404", 404), ("404-html", 404), ("413", 413), ("413:read", 413),
    ("429", 429), ("500-json", 500), ("500-html", 500), ("502", 502), ("503", 503), ("504", 504), ("301", 301),
    ("302-login", 302), ("307:https://evil.example/", 307), ("200-html", 200), ("201-empty", 201), ("201-html", 201),
    ("201-array", 201),
]


@pytest.mark.parametrize("name, status", NOT_DONE)
def test_a_canned_fault_answers_so_and_does_nothing(dojo, name, status):
    dojo.fault = name + "*1"
    assert dojo.post_report(report(vulnerability(1))).status == status
    assert dojo.test("img") is None and dojo.uploads[0].status == status
    assert dojo.post_report(report(vulnerability(1))).status == 201


@pytest.mark.parametrize("name", ["201-truncated", "201-deep"])
def test_an_answer_that_is_no_good_json_comes_whole(dojo, name):
    dojo.fault = name
    content_type, body = multipart({}, "t.json", b"{}")
    connection = dojo.connect()
    connection.request("POST", UPLOAD, body, {"Content-Type": content_type})
    with pytest.raises((ValueError, RecursionError)):
        json.loads(connection.getresponse().read())
    connection.close()


@pytest.mark.parametrize("name, landed", [
    ("drop", 0), ("drop-early", 0), ("reset", 0), ("garbage", 0), ("drop-late", 1), ("reset-late", 1),
    ("half-head", 1)])
def test_a_cut_connection_gives_no_answer(dojo, name, landed):
    dojo.fault = name
    with pytest.raises(LOST):
        dojo.post_report(report(vulnerability(1)))
    dojo.wait_for(lambda: dojo.running == 0)
    assert len(dojo.imports) == landed


def test_half_an_answer_has_the_length_of_a_whole_one(dojo):
    dojo.fault = "half"
    answer = dojo.post_report(report(vulnerability(1)))
    assert (answer.status, answer.cut) == (201, True)
    assert len(answer.raw) == int(answer.headers["Content-Length"]) // 2
    assert len(dojo.imports) == 1


def test_truncated_is_half_an_answer_that_looks_whole(dojo):
    dojo.fault = "truncated"
    with pytest.raises(ValueError):
        dojo.post_report(report(vulnerability(1)))
    assert len(dojo.imports) == 1


@pytest.mark.parametrize("name, landed", [("hang", 0), ("hang-late", 1)])
def test_a_server_that_hangs_notices_that_its_client_left(dojo, name, landed):
    dojo.fault = name
    content_type, body = multipart({"scan_type": "Trivy Scan", "product_name": "p", "product_type_name": "CI",
                                    "engagement_name": "e", "auto_create_context": "true"},
                                   "t.json", json.dumps(report()).encode())
    connection = dojo.connect()
    connection.request("POST", UPLOAD, body, {"Authorization": f"Token {dojo.token}", "Content-Type": content_type})
    dojo.wait_for(lambda: dojo.uploads and dojo.uploads[0].complete and len(dojo.imports) == landed)
    connection.sock.settimeout(0.2)
    with pytest.raises(OSError):
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize("name", ["slow:0.01", "late:0.01", "trickle:0"])
def test_a_slow_server_gives_the_right_answer(dojo, name):
    dojo.fault = name
    assert dojo.post_report(report(vulnerability(1))).body["statistics"]["after"]["total"]["total"] == 1


def test_an_endless_answer_ends_only_with_its_client(dojo):
    dojo.fault = "201-endless"
    content_type, body = multipart({}, "t.json", b"{}")
    connection = dojo.connect()
    connection.request("POST", UPLOAD, body, {"Content-Type": content_type})
    assert len(connection.getresponse().read(8 << 20)) == 8 << 20
    connection.close()


def test_an_upload_killed_midway_leaves_what_was_written_and_a_retry_repairs_it(dojo):
    content = report(*(vulnerability(i) for i in range(10)))
    dojo.fault = "died:4*1"
    assert dojo.post_report(content).status == 502
    assert len(dojo.findings("img")) == 4 and dojo.imports == []
    delta = dojo.post_report(content).body["statistics"]["delta"]
    assert totals(delta) == {"created": 6, "closed": 0, "reactivated": 0, "untouched": 4}


def test_a_late_500_has_changed_the_findings_and_wrote_no_row(dojo):
    dojo.fault = "500-late"
    assert dojo.post_report(report(vulnerability(1))).status == 500
    assert len(dojo.findings("img")) == 1 and dojo.imports == []


def test_a_fault_can_be_meant_for_another_path_and_several_stand_beside_each_other(dojo):
    dojo.fault = ["503:7@/api/v2/test_imports/*1", "403@any"]
    answer = dojo.call("GET", "/api/v2/test_imports/")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
    assert dojo.call("GET", "/api/v2/test_imports/").status == 403
    dojo.fault = None
    assert dojo.call("GET", "/api/v2/test_imports/").status == 200


def test_an_unknown_fault_is_refused(dojo):
    with pytest.raises(ValueError):
        dojo.fault = "nonsense"


def test_a_request_cut_in_its_body_does_nothing_and_is_recorded_as_incomplete(dojo):
    content_type, body = multipart({}, "t.json", b"x" * 1000)
    with socket.create_connection((dojo.host, dojo.port)) as connection:
        connection.sendall(f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
                           f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:500])
    dojo.wait_for(lambda: dojo.uploads)
    assert not dojo.uploads[0].complete and dojo.uploads[0].status is None


def test_a_chunked_request_is_read(dojo):
    headers = {"Authorization": f"Token {dojo.token}"}
    headers["Content-Type"], body = multipart({"scan_type": "Trivy Scan"}, None)
    assert dojo.send("POST", UPLOAD, iter([body[:7], body[7:]]), headers).body == ["product_name parameter missing"]


def test_a_body_over_the_limit_is_413_before_it_was_read():
    with DefectDojo(max_body=1000) as dojo:
        with socket.create_connection((dojo.host, dojo.port)) as connection:
            connection.sendall(f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n".encode())
            assert b"413 Request Entity Too Large" in connection.recv(4096)


def test_down_refuses_connections_and_up_brings_back_what_was_there(filled):
    filled.down()
    with pytest.raises(ConnectionRefusedError):
        filled.post_report(report())
    filled.up()
    assert filled.call("GET", "/api/v2/findings/").body["count"] == 60


def test_down_with_kill_leaves_an_upload_half_written(dojo):
    dojo.pause("finding")
    wait = in_background(pytest.raises, LOST, dojo.post_report, report(vulnerability(1)))
    dojo.wait_paused()
    dojo.down(kill=True)
    wait()
    dojo.up()
    dojo.resume()
    assert dojo.test("img")["build_id"] == "job-1" and dojo.findings("img") == [] and dojo.imports == []


def test_every_finding_takes_its_time_and_a_kill_ends_the_wait(dojo):
    dojo.post_report(report())
    dojo.seconds_per_finding = 3600
    wait = in_background(pytest.raises, LOST, dojo.post_report, report(vulnerability(1)))
    dojo.wait_for(lambda: dojo.running == 1)
    assert dojo.call("GET", "/api/v2/findings/").body["count"] == 0
    dojo.down(kill=True)
    wait()
    assert len(dojo.imports) == 1


# -- the program -------------------------------------------------------------------------------------------------------


class Program:
    def __init__(self, directory, *options):
        self.files = {n: directory / n for n in ("port", "token", "state", "requests")}
        self.files["port"].unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, "--port-file", self.files["port"], "--token-file", self.files["token"],
             "--state", self.files["state"], "--requests", self.files["requests"], *options],
            stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        port, token = (self.files[n].read_text().strip() for n in ("port", "token"))
        self.client = DefectDojo(port=int(port), token=token)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.stdout.close()
        return self.process.wait(30)


def test_the_program_keeps_over_a_kill_what_was_written_of_an_upload(tmp_path):
    program = Program(tmp_path)
    client = program.client
    assert client.post_report(report(vulnerability(1))).status == 201
    assert client.send("POST", "/_standin/pause", b"row").status == 200
    wait = in_background(pytest.raises, LOST, client.post_report, report(vulnerability(2)), build_id="killed")
    client.wait_for(lambda: client.call("GET", "/_standin/state").body["paused"] == 1)
    assert program.end(signal.SIGKILL) == -signal.SIGKILL
    wait()
    with open(program.files["state"], "ab") as f:
        f.write(b'{"table": "findi')
    program = Program(tmp_path)
    state = program.client.call("GET", "/_standin/state").body
    assert [f["active"] for f in state["findings"]] == [False, True]
    assert [i["build_id"] for i in state["imports"]] == ["job-1"]
    delta = program.client.post_report(report(vulnerability(2)), build_id="again").body["statistics"]["delta"]
    assert totals(delta) == {"created": 0, "closed": 0, "reactivated": 0, "untouched": 1}
    assert program.end() == 0


def test_the_program_takes_faults_over_http_and_writes_requests_without_the_token(tmp_path):
    program = Program(tmp_path, "--fault", "502*1")
    assert program.client.post_report(report()).status == 502
    assert program.client.send("POST", "/_standin/fault", b"500-html*1").status == 200
    assert program.client.post_report(report()).status == 500
    assert program.client.send("POST", "/_standin/fault", b"nonsense").status == 400
    assert program.client.post_report(report()).status == 201
    lines = [json.loads(line) for line in program.files["requests"].read_text().splitlines()]
    assert [(line["status"], line["fault"]) for line in lines] == [(502, "502*1"), (500, "500-html*1"), (201, None)]
    assert program.client.token not in program.files["requests"].read_text()
    assert program.files["token"].stat().st_mode & 0o777 == 0o600
    assert program.end() == 0


def test_it_speaks_tls(tmp_path):
    key, cert = tmp_path / "key", tmp_path / "cert"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    with DefectDojo(tls_cert=str(cert), tls_key=str(key)) as dojo:
        assert dojo.url.startswith("https://")
        assert dojo.post_report(report(vulnerability(1))).status == 201


def test_dates_of_rows_are_of_today(dojo):
    dojo.post_report(report(vulnerability(1)))
    assert dojo.findings()[0]["date"] == datetime.datetime.now(datetime.timezone.utc).date().isoformat()
