"""The scan stage with a real Trivy: what it finds, what cannot mislead it, what leaves a verdict undecided.

Everything through `tidewaiter scan`, so discover, unpack, gate and report are the real ones, too.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "fixtures"))

import images  # noqa: E402
import redteam  # noqa: E402, F401

CRITICAL = {"CVE-2023-38545", "CVE-2022-1292", "CVE-2019-10744", "CVE-2021-44906", "CVE-2023-23914"}


class Place:
    """A Trivy and a database that users without rights can read too."""

    def __init__(self, directory):
        self.directory = directory
        self.trivy = directory / "trivy"
        self.db = directory / "db"

    def database(self, name, change):
        """A copy of the database, changed."""
        copy = self.directory / name
        shutil.copytree(self.db, copy)
        change(copy)
        return copy


@pytest.fixture(scope="module")
def place():
    base = "/srv" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="tidewaiter-trivy-", dir=base) as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        built = subprocess.run([SOURCE / "scripts" / "trivy"], capture_output=True, text=True, check=True).stdout.strip()
        shutil.copy(built, directory / "trivy")
        subprocess.run([SOURCE / "scripts" / "trivy-db", directory], capture_output=True, check=True)
        yield Place(directory)


@pytest.fixture
def archive(root):
    """archive("docker25") → the path of that kind of image archive."""

    def write(kind, name=None):
        path = root / f"{name or kind}.tar"
        images.KINDS[kind].write(path)
        return path

    return write


@pytest.fixture
def scan(program, settings, place):
    """scan(FILE…, settings={…}) → (exit code, JSON, finished process)."""

    def run(*files, over=None, env=None, cwd=None, options=()):
        section = {"path": str(place.trivy), "db_dir": str(place.db), **(over or {}).get("trivy", {})}
        path = settings({"scan_user": "nobody", "courier_user": "daemon", **(over or {}), "trivy": section})
        done = subprocess.run([program("tidewaiter"), "--config", str(path), "scan", "--json", *options, *map(str, files)],
                              capture_output=True, text=True, timeout=300, check=False, cwd=cwd,
                              env={**os.environ, **(env or {})})
        assert done.stdout.startswith("{"), done.stderr + done.stdout
        return done.returncode, json.loads(done.stdout), done

    return run


def ids(image, blocking=False):
    return {f["id"] for f in image["findings"] if f["is_blocking"] or not blocking}


def test_it_finds_what_trivy_finds_in_the_same_archive(scan, archive, place, root):
    path = archive("docker25")
    code, result, _ = scan(path)
    assert code == 1
    image = result["images"][0]
    assert image["verdict"] == "block"
    assert ids(image, blocking=True) == CRITICAL
    cache = root / "their-cache"
    shutil.copytree(place.db, cache / "db")
    report = subprocess.run([place.trivy, "image", "--input", path, "--format", "json", "--quiet", "--skip-db-update",
                             "--offline-scan", "--cache-dir", cache, "--scanners", "vuln"],
                            capture_output=True, check=True).stdout
    theirs = {(v["VulnerabilityID"], v["PkgName"], v["InstalledVersion"], v["Severity"])
              for r in json.loads(report)["Results"] for v in r.get("Vulnerabilities", [])}
    ours = {(f["id"], f["package"], f["installed"], f["severity"]) for f in image["findings"]}
    assert ours == theirs


def test_findings_are_given_to_the_steps_that_brought_them(scan, archive):
    _, result, _ = scan(archive("docker25"))
    image = result["images"][0]
    assert [layer["is_base"] for layer in image["layers"]] == [True, False, False]
    assert image["layers"][1]["step"] == "RUN npm ci"
    by_layer = {}
    for finding in image["findings"]:
        by_layer.setdefault(finding["layer"], set()).add(finding["package"])
    assert by_layer == {0: {"curl", "openssl"}, 1: {"lodash", "minimist"}}


@pytest.mark.parametrize("kind, verdict, code", [
    ("clean", "pass", 0), ("low-only", "pass", 0), ("unfixed-only", "block", 1), ("no-packages", "warn", 0),
    ("no-layers", "warn", 0), ("eol-os", "warn", 0), ("no-os", "block", 1), ("unknown-os", "block", 1),
])
def test_each_kind_of_image_has_its_verdict(scan, archive, kind, verdict, code):
    got, result, _ = scan(archive(kind))
    assert (result["verdict"], got) == (verdict, code)


@pytest.mark.parametrize("kind, setting", [("no-packages", "on_no_packages"), ("no-packages", "on_unknown_os"), ("eol-os", "on_eol_os")])
def test_settings_make_an_odd_image_a_block(scan, archive, kind, setting):
    code, result, _ = scan(archive(kind), over={"gate": {setting: "fail"}})
    assert (result["verdict"], code) == ("block", 1)


def test_fixable_only_lets_what_nobody_fixes_pass(scan, archive):
    code, result, _ = scan(archive("unfixed-only"), over={"gate": {"fixable_only": True}})
    assert (result["verdict"], code) == ("pass", 0)


def test_nothing_in_environment_or_directory_changes_what_is_found(scan, archive, root):
    path = archive("docker25")
    here = root / "job"
    here.mkdir()
    (here / ".trivyignore").write_text("\n".join(CRITICAL))
    (here / ".trivyignore.yaml").write_text("vulnerabilities:\n" + "".join(f"  - id: {i}\n" for i in CRITICAL))
    (here / "trivy.yaml").write_text("severity: [LOW]\nvulnerability:\n  ignore-unfixed: true\nscan:\n  skip-dirs: ['/']\n")
    (here / ".cache").mkdir()
    env = {"TRIVY_SEVERITY": "LOW", "TRIVY_IGNORE_UNFIXED": "true", "TRIVY_IGNOREFILE": str(here / ".trivyignore"),
           "TRIVY_CONFIG": str(here / "trivy.yaml"), "TRIVY_SKIP_DIRS": "/", "TRIVY_SKIP_FILES": "**", "TRIVY_PKG_TYPES": "os",
           "TRIVY_SERVER": "http://127.0.0.1:1", "TRIVY_CACHE_DIR": str(here), "TRIVY_DB_REPOSITORY": "127.0.0.1/x",
           "TRIVY_EXIT_CODE": "9", "TRIVY_FORMAT": "table", "HOME": str(here), "XDG_CACHE_HOME": str(here), "XDG_CONFIG_HOME": str(here)}
    _, plain, _ = scan(path)
    code, result, _ = scan(path, env=env, cwd=here)
    assert code == 1
    assert ids(result["images"][0]) == ids(plain["images"][0]) >= CRITICAL


def test_an_ignore_file_inside_the_image_changes_nothing(scan, root):
    image = images.app()
    image.steps.append(("COPY . /", images.layer({
        ".trivyignore": "\n".join(CRITICAL).encode(), "app/.trivyignore": "\n".join(CRITICAL).encode(),
        "trivy.yaml": b"severity: [LOW]\n"})))
    path = root / "ignored.tar"
    images.classic(image).write(path)
    _, result, _ = scan(path)
    assert ids(result["images"][0], blocking=True) == CRITICAL


def age(hours):
    def change(directory):
        import datetime
        when = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=hours)
        path = directory / "metadata.json"
        metadata = json.loads(path.read_text())
        metadata["UpdatedAt"] = when.strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
        path.write_text(json.dumps(metadata))
    return change


def schema(directory):
    path = directory / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "Version": 1}))


def cut(size):
    return lambda directory: os.truncate(directory / "trivy.db", size)


@pytest.mark.parametrize("name, change, words", [
    ("old", age(49), "trivy.db_max_age"),
    ("future", age(-5), "future"),
    ("schema", schema, "schema 1"),
    ("no-metadata", lambda d: (d / "metadata.json").unlink(), "metadata.json"),
    ("broken-metadata", lambda d: (d / "metadata.json").write_text("{"), "metadata.json"),
    ("no-database", lambda d: (d / "trivy.db").unlink(), "holds no trivy.db"),
    ("empty", cut(0), "no database"),
    ("cut-early", cut(3000), "is cut"),
    ("cut", cut(40000), "is cut"),
    ("other", lambda d: (d / "trivy.db").write_bytes(bytes(131072)), "no database"),
])
def test_without_a_good_database_the_verdict_is_undecided(scan, archive, place, name, change, words):
    database = place.database(name, change)
    code, result, done = scan(archive("clean"), over={"trivy": {"db_dir": str(database)}})
    assert (result["verdict"], code) == ("undecided", 3), done.stderr
    fault = result["images"][0]["fault"]
    assert words in fault["text"]
    assert fault["kind"] == "failed"
    assert result["images"][0]["findings"] is None


def test_a_database_of_47_hours_is_good_enough(scan, archive, place):
    code, result, _ = scan(archive("clean"), over={"trivy": {"db_dir": str(place.database("young", age(47)))}})
    assert (result["verdict"], code) == ("pass", 0)


def test_the_executable_is_what_settings_name_by_sha256(scan, archive, place):
    digest = hashlib.sha256(place.trivy.read_bytes()).hexdigest()
    code, _, _ = scan(archive("clean"), over={"trivy": {"sha256": digest}})
    assert code == 0
    code, result, _ = scan(archive("clean", "again"), over={"trivy": {"sha256": "0" * 64}})
    assert code == 3
    assert "trivy.sha256" in result["images"][0]["fault"]["text"]


def test_a_trivy_that_is_not_there_leaves_it_undecided(scan, archive, root):
    code, result, _ = scan(archive("clean"), over={"trivy": {"path": str(root / "nothing")}})
    assert (result["verdict"], code) == ("undecided", 3)
    assert "trivy.path" in result["images"][0]["fault"]["text"]


def stand_in(root, text):
    path = root / "not-trivy"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("text, words", [
    ("exit 0\n", "Trivy's report"),
    ("echo '{\"SchemaVersion\":2,\"Trivy\":{\"Version\":\"0.74.0\"},\"Metadata\":{\"ImageID\":\"sha256:00\"}}'\n", "about sha256:00"),
    ("echo '[]'\n", "a list of results"),
    ("echo '{\"SchemaVersion\":2,\"Trivy\":{\"Version\":\"0.50.1\"}}'\n", "0.50.1 is not supported"),
    ("echo '{\"SchemaVersion\":2}'; exit 1\n", "exited with 1"),
    ("kill -SEGV $$\n", "SIGSEGV"),
])
def test_no_other_answer_of_a_scanner_counts_as_clean(scan, archive, root, text, words):
    code, result, _ = scan(archive("clean"), over={"trivy": {"path": stand_in(root, text)}})
    assert (result["verdict"], code) == ("undecided", 3)
    assert words in result["images"][0]["fault"]["text"]


def test_an_image_with_java_archives_needs_the_java_index(scan, root):
    import io
    import zipfile
    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as packed:
        packed.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
    path = root / "java.tar"
    images.classic(images.image_of({**images.debian(images.FIXED), "app/x.jar": jar.getvalue()})).write(path)
    code, result, _ = scan(path)
    assert (result["verdict"], code) == ("undecided", 3)
    assert "trivy.java_db_dir" in result["images"][0]["fault"]["text"]


@pytest.mark.parametrize("parallel", [1, 3])
def test_several_images_are_scanned_and_one_fault_does_not_touch_the_others(scan, archive, parallel):
    files = [archive("docker25", "a"), archive("forged-layer", "b"), archive("clean", "c"), archive("alpine", "d")]
    code, result, _ = scan(*files, over={"trivy": {"parallel": parallel}})
    assert code == 1
    assert [pathlib.Path(i["archive"]).name for i in result["images"]] == ["a.tar", "c.tar", "d.tar"]
    assert [i["verdict"] for i in result["images"]][:2] == ["block", "pass"]
    assert all(i["fault"] is None and i["findings"] is not None for i in result["images"])
    assert result["archives"][1]["fault"]["kind"] == "refused"


def test_scans_of_many_jobs_at_once_all_end_right(program, settings, place, archive):
    path = settings({"scan_user": "nobody", "courier_user": "daemon", "trivy": {"path": str(place.trivy), "db_dir": str(place.db), "parallel": 1}})
    kinds = [("docker25", 1), ("clean", 0)] * 3
    running = [subprocess.Popen([program("tidewaiter"), "--config", str(path), "scan", "--json", str(archive(kind, f"{kind}-{n}"))],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for n, (kind, _) in enumerate(kinds)]
    for process, (kind, code) in zip(running, kinds):
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, (kind, out, err)
        # that some of them waited is said elsewhere
        assert json.loads(out)["verdict"] == ("block" if code else "pass")


def test_reports_name_the_image_and_nothing_of_ours(scan, archive, root):
    reports = root / "reports"
    scan(archive("docker25"), options=["--report-dir", str(reports)])
    report = json.loads((reports / "docker25.json").read_text())
    assert report["ArtifactName"] == "registry.example.org/group/app:1.0"
    assert report["Metadata"]["RepoTags"] == ["registry.example.org/group/app:1.0"]
    assert report["Results"][0]["Target"] == "registry.example.org/group/app:1.0 (debian 12.5)"
    for name in ("docker25.json", "docker25.html"):
        text = (reports / name).read_text()
        assert str(root) not in text.replace(str(root / "docker25.tar"), "")
    assert sorted(p.name for p in reports.iterdir()) == ["docker25.html", "docker25.json"]


def test_the_table_is_for_narrow_screens_and_tells_what_to_do(program, settings, place, archive):
    path = settings({"scan_user": "nobody", "courier_user": "daemon", "trivy": {"path": str(place.trivy), "db_dir": str(place.db)}})
    done = subprocess.run([program("tidewaiter"), "--config", str(path), "scan", str(archive("docker25"))],
                          capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 1
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\033" not in done.stdout
    for words in ("3 of 5 come with the base image", "2 of 5 come with `RUN npm ci`", "CVE-2023-38545", "7.88.1-10+deb12u4",
                  "no fix yet", "build on a newer base image"):
        assert words in done.stdout
