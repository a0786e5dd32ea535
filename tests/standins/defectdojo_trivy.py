"""Trivy reports as DefectDojo 3.2.0 reads them.

parse(bytes) gives a list of findings (dicts) or raises:
  Refused    the report as a whole is not accepted (400 with a message)
  any other  the real parser trips over it (500)
It keeps the real one's blind spots: content that is dropped without a word, null members that it does not survive.
"""

import json

SEVERITIES = {"CRITICAL": "Critical", "HIGH": "High", "MEDIUM": "Medium", "LOW": "Low", "UNKNOWN": "Info"}
# status: active, verified, mitigated
STATES = {
    "affected": (True, True, False),
    "fixed": (True, True, False),
    "will_not_fix": (True, True, False),
    "fix_deferred": (True, True, False),
    "end_of_life": (True, True, False),
    "under_investigation": (True, False, False),
    "unknown": (True, False, False),
    "": (True, False, False),
    "not_affected": (False, True, True),
}
SMALL_WORDS = frozenset("a an and as at but by en for if in of on or the to v v. via vs vs.".split())


class Refused(Exception):
    """The report is refused with 400 and this message."""


def parse(data):
    try:
        report = _load(data)
        if report is None:
            return []
        if isinstance(report, list):
            return _results(report)
        if report.get("SchemaVersion") == 2:
            return _results(report.get("Results", []))
        raise ValueError("Schema of Trivy json report is not supported")
    except ValueError as e:
        raise Refused(str([str(e)])) from e


def _load(data):
    # Python's json finds UTF-16 and BOMs by itself, but only when it is given bytes.
    try:
        return json.loads(str(data, "utf-8"))
    except ValueError:
        return json.loads(data)


def _results(results):
    found = []
    for result in results:
        if not isinstance(result, dict) or "Target" not in result:
            continue
        for vulnerability in result.get("Vulnerabilities", []) or []:
            finding = _vulnerability(result, vulnerability)
            if finding is not None:
                found.append(finding)
        found.extend(_misconfiguration(result, m) for m in result.get("Misconfigurations", []))
        found.extend(_secret(result, s) for s in result.get("Secrets", []))
        found.extend(_license(result, li) for li in result.get("Licenses", []))
    return found


def _severity(word):
    return "Critical" if word is None else SEVERITIES[word]


def _vulnerability(result, v):
    if not isinstance(v, dict):
        return None
    try:
        package = v["PkgName"]
        severity = _severity(v.get("Severity"))
    except KeyError:
        return None
    vulnerability_id = v.get("VulnerabilityID", "0")
    version = v.get("InstalledVersion", "")
    fixed = v.get("FixedVersion", "")
    cwe_ids = v.get("CweIDs", [])
    cwe = int(cwe_ids[0].split("-")[1]) if len(cwe_ids) > 0 else 0
    nvd = dict(v.get("CVSS", {}).items()).get("nvd") or {}
    status = v.get("Status") or ""
    active, verified, mitigated = STATES.get(status, (True, False, False))
    description = (
        f"{v.get('Title', '')}\n**Target:** {result['Target']}\n**Type:** {result.get('Type', '')}\n"
        f"**Fixed version:** {fixed}\n\n{v.get('Description', '')}\n"
    )
    return _finding(
        result,
        title=" ".join([vulnerability_id, package, version]),
        severity=severity,
        description=description,
        vulnerability_ids=[vulnerability_id],
        cwe=cwe,
        references="\n".join(v.get("References", [])),
        mitigation=fixed,
        fix_available=bool(fixed),
        impact=status,
        component_name=package,
        component_version=version,
        file_path=v.get("PkgPath") or result["Target"],
        cvssv3=nvd.get("V3Vector"),
        cvssv3_score=nvd.get("V3Score"),
        active=active,
        verified=verified,
        is_mitigated=mitigated,
        tags=[result.get("Type"), result.get("Class")],
    )


def _misconfiguration(result, m):
    return _finding(
        result,
        title=f"{m.get('ID')} - {m.get('Title')}",
        severity=_severity(m.get("Severity")),
        description=f"**Target:** {result['Target']}\n**Type:** {m.get('Type')}\n\n"
        f"{m.get('Description')}\n{m.get('Message')}\n",
        mitigation=m.get("Resolution"),
        references="\n".join(m.get("References", [])),
        tags=[result.get("Type"), result.get("Class")],
    )


def _secret(result, s):
    return _finding(
        result,
        title=f"Secret detected in {result['Target']} - {s.get('Title')}",
        severity=_severity(s.get("Severity")),
        description=f"{s.get('Title')}\n**Category:** {s.get('Category')}\n**Match:** {s.get('Match')}\n",
        file_path=result["Target"],
        line=s.get("StartLine"),
        tags=[result.get("Class")],
    )


def _license(result, li):
    return _finding(
        result,
        title=f"License detected in {result['Target']} - {li.get('Name')}",
        severity=_severity(li.get("Severity")),
        description=f"{li.get('Name')}\n**Category:** {li.get('Category')}\n**Package:** {li.get('PkgName')}\n",
        component_name=li.get("PkgName"),
        file_path=li.get("FilePath") or result["Target"],
        tags=[result.get("Class")],
    )


def _finding(result, **fields):
    finding = {
        "vulnerability_ids": [],
        "cwe": 0,
        "references": None,
        "mitigation": None,
        "fix_available": None,
        "impact": None,
        "component_name": None,
        "component_version": None,
        "file_path": None,
        "line": None,
        "cvssv3": None,
        "cvssv3_score": None,
        "active": True,
        "verified": True,
        "is_mitigated": False,
        "service": None,
    }
    finding.update(fields)
    finding["title"] = title_case(finding["title"][:511])
    finding["tags"] = sorted({t.lower() for t in finding["tags"] if t})
    return finding


def title_case(text):
    """Capital first letters as DefectDojo stores a title; words that have a capital or a dot in them stay."""
    words = text.split(" ")
    for i, word in enumerate(words):
        inner = 0 < i < len(words) - 1
        if word in SMALL_WORDS and inner or any(c.isupper() for c in word) or "." in word[1:-1]:
            continue
        words[i] = "-".join("/".join(p[:1].upper() + p[1:] for p in q.split("/")) for q in word.split("-"))
    return " ".join(words)
