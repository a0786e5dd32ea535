"""Results of scans that are kept: the same image again needs no Trivy, and everything that a result depends on makes another of it."""

import json
import pathlib
import shutil

import pytest
from test_scan_stage import archive, ids, images, place, scan  # noqa: F401


@pytest.fixture
def trivy(place, root):
    """trivy.path of a Trivy that can be broken without a change to its file."""

    class Breakable:
        path = root / "trivy"
        broken = root / "broken"

        def write(self, words=""):
            self.path.write_text(f"#!/bin/sh\n[ ! -e '{self.broken}' ] || exit 9\n{words}\nexec '{place.trivy}' \"$@\"\n")
            self.path.chmod(0o755)

        def breaks(self):
            self.broken.touch()

        def mends(self):
            self.broken.unlink()

    made = Breakable()
    made.write()
    return made


@pytest.fixture
def look(scan, trivy):
    """look(FILE, **trivy section) → (exit code, JSON)."""

    def run(file, over=None, **section):
        code, result, _ = scan(file, over={**(over or {}), "trivy": {"path": str(trivy.path), **section}})
        return code, result

    return run


def entries(root):
    return [p for p in (root / "var-cache" / "results").iterdir() if len(p.name) == 64]


def test_the_same_image_again_needs_no_trivy(look, trivy, archive, root):
    path = archive("docker25")
    first = look(path)
    assert first[0] == 1 and len(entries(root)) == 1
    trivy.breaks()
    again = look(path)
    assert again[0] == 1
    for result in (first[1], again[1]):
        result.pop("duration", None)
    assert again[1]["images"] == first[1]["images"]


def test_another_archive_of_the_same_image_needs_no_trivy_and_keeps_its_own_name(look, trivy, archive):
    look(archive("docker25", "a"))
    trivy.breaks()
    code, result = look(archive("docker25", "b"))
    assert code == 1
    assert pathlib.Path(result["images"][0]["archive"]).name == "b.tar"


def test_another_policy_judges_a_kept_result_anew(look, trivy, archive):
    path = archive("low-only")
    assert look(path)[0] == 0
    trivy.breaks()
    code, result = look(path, over={"gate": {"severity": "LOW"}})
    assert (code, result["verdict"]) == (1, "block")
    assert look(path)[0] == 0


def newer_database(place):
    def change(directory):
        metadata = directory / "metadata.json"
        content = json.loads(metadata.read_text())
        content["UpdatedAt"] = content["UpdatedAt"][:17] + "59.5Z"
        metadata.write_text(json.dumps(content))

    return {"db_dir": str(place.database("newer", change))}


@pytest.mark.parametrize("what", ["image", "scanners", "database", "java", "program", "timeout", "nothing"])
def test_whatever_a_result_depends_on_makes_it_another(what, look, trivy, archive, place):
    path = archive("clean")
    assert look(path)[0] == 0
    section = {}
    if what == "image":
        path = archive("low-only")
    elif what == "scanners":
        section = {"scanners": ["vuln", "secret"]}
    elif what == "database":
        section = newer_database(place)
    elif what == "java":
        java = place.directory / "java"
        shutil.rmtree(java, ignore_errors=True)
        java.mkdir()
        (java / "metadata.json").write_text((place.db / "metadata.json").read_text().replace('"Version": 2', '"Version": 1').replace('"Version":2', '"Version":1'))
        make_sqlite(java / "trivy-java.db")
        section = {"java_db_dir": str(java)}
    elif what == "program":
        trivy.write(": another")
    elif what == "timeout":
        section = {"timeout": "14m"}
    trivy.breaks()
    code, result = look(path, **section)
    if what == "nothing":
        assert code == 0
        return
    assert (code, result["verdict"]) == (3, "undecided")
    assert "exited with 9" in result["images"][0]["fault"]["text"]
    trivy.mends()
    assert look(path, **section)[0] == 0


def make_sqlite(path):
    import sqlite3
    with sqlite3.connect(path) as db:
        db.execute("create table indices (x)")


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1],
    lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    lambda data: data + b"x",
    lambda data: b"",
    lambda data: data[:16] + b"0" * 64 + data[80:],
], ids=["cut", "flipped", "longer", "empty", "other key"])
def test_a_damaged_result_is_removed_and_not_believed(damage, look, trivy, archive, root):
    path = archive("docker25")
    look(path)
    entry, = entries(root)
    good = entry.read_bytes()
    entry.write_bytes(damage(good))
    trivy.breaks()
    assert look(path)[0] == 3
    assert not entry.exists()
    trivy.mends()
    assert look(path)[0] == 1
    assert entry.exists()


def test_a_result_that_lies_about_its_image_is_not_taken(look, trivy, archive, root):
    """Entries change places: the key inside them does not fit."""
    look(archive("clean"))
    clean, = entries(root)
    path = archive("docker25")
    look(path)
    flawed, = [e for e in entries(root) if e != clean]
    flawed.write_bytes(clean.read_bytes())
    code, result = look(path)
    assert code == 1 and ids(result["images"][0])


def test_a_forged_archive_is_refused_whatever_is_kept_about_the_image_that_it_claims(look, archive):
    look(archive("docker25"))
    code, result = look(archive("forged-layer"))
    assert code == 1
    assert result["archives"][0]["fault"]["kind"] == "refused"


def test_with_a_bound_of_0_nothing_is_kept(look, trivy, archive, root):
    path = archive("clean")
    assert look(path, results_max=0)[0] == 0
    assert not entries(root)
    trivy.breaks()
    assert look(path, results_max=0)[0] == 3
