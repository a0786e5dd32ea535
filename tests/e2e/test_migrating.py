"""The copied job that Tidewaiter replaces (docs/migrating.md) and Tidewaiter, over the same archives with the same
Trivy and database: the same images are found vulnerable, with the same ids."""

import json
import pathlib
import subprocess

import pytest
from inspected import images, inspected, tool  # noqa: F401
from slot_host import host  # noqa: F401

# What teams copied, but for the place of the database and DefectDojo's script, which here only notes what it was given.
OLD_JOB = r"""
mkdir -p scan_result && cd tar_images
found=0
for X in *.tar; do
  "$TRIVY" image --timeout 15m --offline-scan --skip-db-update --skip-java-db-update --cache-dir "$CACHE" --quiet \
    --input $X -f json -o ../scan_result/${X%.tar}.json --severity CRITICAL
  if awk '/"Vulnerabilities"/{f=1} END{exit !f}' ../scan_result/${X%.tar}.json; then
    found=1
    echo ${X%.tar} >>../uploaded
  fi
done
exit $found
"""

KINDS = {"app": "classic", "old": "legacy", "new": "docker25", "none": "clean"}


@pytest.fixture
def project(inspected):  # noqa: F811
    inspected.ready()
    place = inspected.host.root / "project"
    (place / "tar_images").mkdir(parents=True)
    return place


def old_job(project):
    """Its exit code, and the ids of each image that it took for vulnerable."""
    done = subprocess.run(["bash", "-c", OLD_JOB], cwd=project, capture_output=True, check=False, timeout=300,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(project), "TRIVY": tool("trivy"),
                               "CACHE": str(project.parent / "trivy-db")})
    uploaded = project / "uploaded"
    names = uploaded.read_text().split() if uploaded.exists() else []
    return done.returncode, {name: ids(project / "scan_result" / f"{name}.json") for name in names}


def ids(path):
    report = json.loads(path.read_text())
    return sorted((v["VulnerabilityID"], v["PkgName"], v["InstalledVersion"])
                  for result in report.get("Results", []) for v in result.get("Vulnerabilities", []))


def new_job(inspected, project):  # noqa: F811
    files = sorted((project / "tar_images").iterdir())
    done = inspected.host.tidewaiter("scan", "--json", "--severity", "CRITICAL", *map(str, files))
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    return done.returncode, report, {
        pathlib.Path(image["archive"]).stem: sorted((f["id"], f["package"], f["installed"]) for f in image["findings"]
                                                    if f["is_blocking"])
        for image in report["images"] if image["counts"]["blocking"]}


def test_the_same_images_are_found_vulnerable_with_the_same_ids(inspected, project):  # noqa: F811
    for name, kind in KINDS.items():
        images.KINDS[kind].write(project / "tar_images" / f"{name}.tar")
    old_code, old = old_job(project)
    new_code, report, new = new_job(inspected, project)
    assert set(old) == {"app", "old", "new"} and all(old.values())
    assert new == old
    assert (old_code, new_code) == (1, 1)
    # scan_result/<archive without .tar>.json, as the old job named them
    assert sorted(image["report"] for image in report["images"]) == sorted(KINDS)


def test_an_archive_that_trivy_cannot_read_was_green_and_is_not_any_more(inspected, project):  # noqa: F811
    images.KINDS["classic"].write(project / "whole")
    data = (project / "whole").read_bytes()
    (project / "tar_images" / "app.tar").write_bytes(data[:len(data) // 2])
    assert old_job(project) == (0, {})
    code, report, _ = new_job(inspected, project)
    assert (code, report["verdict"]) == (1, "block")
