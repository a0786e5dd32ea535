"""tidewaiter db: Trivy's own download from a real registry, import, status; what goes wrong on the way changes nothing."""

import base64
import io
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "fixtures"))

import images  # noqa: E402
from registry import MEDIA_TYPES, Registry, layout, tar_gz  # noqa: E402

IS_ROOT = os.geteuid() == 0
VULNERABILITIES = MEDIA_TYPES["trivy.db"]
JAVA = MEDIA_TYPES["trivy-java.db"]
PAGE = 4096


def stamp(hours_ago):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600 * hours_ago))


class Tools:
    """Trivy and the files of the small database."""

    def __init__(self, directory):
        self.trivy = directory / "trivy"
        self.db = (directory / "db/trivy.db").read_bytes()

    def files(self, hours_ago=1, **changes):
        metadata = {"Version": 2, "UpdatedAt": stamp(hours_ago), "NextUpdate": stamp(hours_ago - 24),
                    "DownloadedAt": "0001-01-01T00:00:00Z", **changes}
        return {"trivy.db": self.db, "metadata.json": json.dumps(metadata).encode()}


def java_files(hours_ago=1):
    """A Java index that is empty, by SQLite itself."""
    import sqlite3

    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place, "trivy-java.db")
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE artifacts(id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT)")
            connection.execute("CREATE TABLE indices(artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT)")
        connection.close()
        metadata = {"Version": 1, "UpdatedAt": stamp(hours_ago), "NextUpdate": stamp(hours_ago - 72)}
        return {"trivy-java.db": path.read_bytes(), "metadata.json": json.dumps(metadata).encode()}


@pytest.fixture(scope="module")
def tools():
    with tempfile.TemporaryDirectory(prefix="tidewaiter-db-", dir="/srv" if IS_ROOT else None) as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        built = subprocess.run([SOURCE / "scripts" / "trivy"], capture_output=True, text=True, check=True).stdout.strip()
        shutil.copy(built, directory / "trivy")
        subprocess.run([SOURCE / "scripts" / "trivy-db", directory], capture_output=True, check=True)
        yield Tools(directory)


@pytest.fixture(scope="module")
def registry():
    with tempfile.TemporaryDirectory(prefix="tidewaiter-registry-") as name:
        made = Registry(name)
        yield made
        made.close()


class Host:
    def __init__(self, root, program, write, tools, registry):
        self.root = root
        self.program = program("tidewaiter")
        self.write = write
        self.tools = tools
        self.registry = registry
        self.store = root / "var-cache/db"
        self.current = self.store / "current"
        self.trivy = {"path": str(tools.trivy), "db_repositories": [registry.name("mirror/trivy-db:2")],
                      "java_db_repositories": []}
        self.config = None
        self.configure()

    def configure(self, **trivy):
        self.trivy = {**self.trivy, **trivy}
        self.config = self.write({"scan_user": "nobody", "courier_user": "daemon", "trivy": self.trivy})

    def start(self, *args):
        return subprocess.Popen([self.program, "--config", str(self.config), *map(str, args)], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __call__(self, *args, code=0):
        process = self.start("db", *args)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, out + err
        assert "Sanitizer" not in err
        return out + err

    def status(self, code=0):
        return json.loads(self("status", "--json", code=code))

    def push(self, files, media_type=VULNERABILITIES, path="mirror/trivy-db:2"):
        layer = tar_gz(files)
        self.registry.push(path, layer, media_type)
        return layer

    def versions(self):
        return sorted(p.name for p in self.store.iterdir() if not p.name.startswith(".") and not p.is_symlink())

    def leftovers(self):
        return sorted(p.name for p in self.store.iterdir() if p.name.startswith(".") and p.name != ".lock")

    def scan(self, kind="docker25"):
        path = self.root / f"{kind}.tar"
        images.KINDS[kind].write(path)
        process = self.start("scan", "--json", path)
        out, err = process.communicate(timeout=120)
        assert out.startswith("{"), err
        return json.loads(out), err

    def wrapper(self, script):
        """A program in Trivy's place that may run "$TRIVY" in the end."""
        path = self.root / "wrapper"
        path.write_text(f"#!/bin/sh\nTRIVY={self.tools.trivy}\n{script}\n")
        path.chmod(0o755)
        self.configure(path=str(path))


@pytest.fixture
def host(root, program, settings, tools, registry):
    return Host(root, program, settings, tools, registry)


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- update ---


def test_the_database_comes_from_the_first_mirror_that_answers_and_scans_use_it(host, tools):
    host.push(tools.files(2))
    host.configure(db_repositories=["localhost:1/dead/trivy-db:2", host.registry.name("mirror/trivy-db:2")])
    said = host("update")
    assert "localhost:1" in said and "connection refused" in said
    assert f"from {host.registry.name('mirror/trivy-db:2')}" in said
    status = host.status()["vulnerabilities"]
    assert (status["state"], status["is_kept"], status["schema"]) == ("fresh", True, 2)
    assert status["vulnerabilities"] > 20 and status["advisories"] > 20 and status["sources"] >= 3
    assert pathlib.Path(status["leads_to"]) == host.current.resolve()
    result, _ = host.scan()
    assert result["verdict"] == "block" and result["trivy"]["database"] == status["updated_at"]
    assert host.leftovers() == []


@pytest.mark.skipif(not IS_ROOT, reason="owners are root's to give")
def test_only_the_courier_writes_it_and_only_the_scanner_reads_it(host, tools):
    host.push(tools.files())
    host("update")
    for path in [host.store, *host.current.resolve().iterdir(), host.current.resolve()]:
        st = path.stat()
        assert (path.owner(), path.group()) == ("daemon", "nogroup"), path
        assert st.st_mode & 0o027 == 0, path


def test_the_last_two_versions_are_kept_and_an_older_one_needs_force(host, tools):
    for hours in (5, 4, 3):
        host.push(tools.files(hours))
        host("update")
    kept = host.versions()
    assert len(kept) == 2 and host.current.resolve().name == kept[1]
    assert "holds the one in use" in host("update")
    host.push(tools.files(20))
    said = host("update", code=3)
    assert "older than the one in use" in said and "--force" in said and host.versions() == kept
    host("update", "--force")
    assert host.current.resolve().name == min(host.versions())




def zero_page(data, page):
    return data[:page * PAGE] + bytes(PAGE) + data[(page + 1) * PAGE:]


@pytest.mark.parametrize("change, words", [
    pytest.param(lambda f: {**f, "trivy.db": f["trivy.db"][:8 * PAGE]}, "it is cut", id="cut"),
    pytest.param(lambda f: {**f, "trivy.db": zero_page(f["trivy.db"], root_page(f["trivy.db"]))}, "damaged: page", id="hole"),
    pytest.param(lambda f: {**f, "trivy.db": bytes(65536)}, "its head is damaged", id="zeros"),
    pytest.param(lambda f: {**f, "metadata.json": f["metadata.json"].replace(b'"Version": 2', b'"Version": 3')},
                 "schema 3", id="schema"),
    pytest.param(lambda f: {**f, "metadata.json": f["metadata.json"].replace(b'"UpdatedAt": "20', b'"UpdatedAt": "21')},
                 "made in the future", id="future"),
    pytest.param(lambda f: {"trivy.db": f["trivy.db"]}, "metadata", id="no-metadata"),
])
def test_what_is_no_good_leaves_the_old_one_in_use(host, tools, change, words):
    host.push(tools.files(3))
    host("update")
    before = os.readlink(host.current)
    host.push(change(tools.files(2)))
    said = host("update", code=3)
    assert words in said and "the one in use stays" in said
    assert os.readlink(host.current) == before and host.status()["vulnerabilities"]["state"] == "fresh"
    assert host.leftovers() == [] and len(host.versions()) == 1


def root_page(data):
    """The page of the topmost bucket, of the newer head."""
    heads = [struct.unpack_from("<Q", data, k * PAGE + 16 + at)[0] for k in (0, 1) for at in (48, 16)]
    return heads[1] if heads[0] > heads[2] else heads[3]


def test_a_download_that_is_cut_or_of_another_kind_leaves_the_old_one_in_use(host, tools):
    host.push(tools.files(3))
    host("update")
    before = os.readlink(host.current)
    host.push(tools.files(2), media_type="application/octet-stream")
    assert "unacceptable media type" in host("update", code=3)
    layer = host.push({**tools.files(2), "metadata.json": json.dumps({"Version": 2, "UpdatedAt": stamp(2), "x": "y"}).encode()})
    stored = host.registry.blob_path(layer)
    stored.write_bytes(layer[:len(layer) // 2])
    host("update", code=3)
    stored.write_bytes(layer[:-9] + bytes([layer[-9] ^ 1]) + layer[-8:])
    host("update", code=3)
    assert os.readlink(host.current) == before and host.leftovers() == []


@pytest.mark.skipif(not IS_ROOT, reason="mounts")
def test_a_full_disk_leaves_the_old_one_in_use(host, tools):
    host.push(tools.files(3))
    host("update")
    saved = host.root / "saved"
    subprocess.run(["cp", "-a", host.store, saved], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220k,mode=2750,uid=daemon,gid=nogroup", "none", host.store], check=True)
    try:
        subprocess.run(["cp", "-a", f"{saved}/.", host.store], check=True)
        host.push(tools.files(2))
        said = host("update", code=3)
        assert "no space left" in said.lower()
        assert host.status()["vulnerabilities"]["state"] == "fresh" and host.leftovers() == []
        file = host.root / "db.tar.gz"
        file.write_bytes(tar_gz(tools.files(2)))
        assert "No space left" in host("import", file, code=3)
        assert host.leftovers() == [] and len(host.versions()) == 1
    finally:
        subprocess.run(["umount", host.store], check=True)


def test_killed_anywhere_there_is_a_whole_database_and_the_next_update_cleans_up(host, tools):
    host.push(tools.files(100))
    host.configure(db_max_age="30d")
    host("update")
    chance = random.Random(4)
    for k in range(14):
        host.push(tools.files(90 - k))
        process = host.start("db", "update")
        try:
            process.communicate(timeout=chance.uniform(0, 0.3))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        assert "fresh" in host("status", "--verify")
    host.push(tools.files(1))
    assert "in use" in host("update")
    assert host.leftovers() == [] and len(host.versions()) == 2
    assert host.scan()[0]["verdict"] == "block"


def test_two_updates_at_once_are_one(host, tools):
    host.push(tools.files())
    host.wrapper(f'echo >>{host.root}/starts\nwhile [ ! -e {host.root}/go ]; do /bin/sleep 0.05; done\nexec "$TRIVY" "$@"')
    (host.root / "starts").write_text("")
    (host.root / "starts").chmod(0o666)
    first = host.start("db", "update")
    wait_for(lambda: (host.root / "starts").read_text())
    second = host.start("db", "update")
    line = second.stderr.readline()
    assert "another update is under way" in line
    (host.root / "go").write_text("")
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0 and " in use, of " in out, err
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0 and "another update did it" in out, err
    assert (host.root / "starts").read_text() == "\n" and len(host.versions()) == 1


def test_a_scan_that_runs_keeps_what_it_opened(host, tools):
    host.push(tools.files(5))
    host("update")
    opened = host.current.resolve()
    host.wrapper(f"case $* in *--input*) while [ ! -e {host.root}/go ]; do /bin/sleep 0.05; done;; esac\n"
                 'exec "$TRIVY" "$@"')
    images.KINDS["docker25"].write(host.root / "app.tar")
    scan = host.start("scan", "--json", host.root / "app.tar")
    wait_for(lambda: host.status()["vulnerabilities"]["in_use_by_scans"])
    for hours in (4, 3, 2):
        host.push(tools.files(hours))
        said = host("update")
    assert "1 older in use by scans" in said and opened.is_dir()
    assert host.status()["vulnerabilities"]["in_use_by_scans"] == [opened.name]
    (host.root / "go").write_text("")
    out, err = scan.communicate(timeout=60)
    result = json.loads(out)
    assert result["verdict"] == "block", err
    assert result["trivy"]["database"].replace(":", "-") == opened.name
    host.push(tools.files(1))
    host("update")
    assert not opened.exists() and len(host.versions()) == 2


@pytest.fixture(scope="module")
def certificate(tools):
    """(certificate, key, CA) for localhost."""
    with tempfile.TemporaryDirectory(prefix="tidewaiter-ca-", dir=tools.trivy.parent) as name:
        place = pathlib.Path(name)
        place.chmod(0o755)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-keyout", place / "key", "-out", place / "cert", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
        (place / "cert").chmod(0o644)
        yield place / "cert", place / "key", place / "cert"


def test_a_registry_with_tls_and_a_password_is_reached_and_the_password_shown_to_nobody(host, tools, certificate, tmp_path):
    secret = "s3cret-of-the-mirror"
    # by htpasswd -nbB mirror s3cret-of-the-mirror
    hashed = "mirror:" + bcrypt(secret)
    (tmp_path / "htpasswd").write_text(hashed + "\n")
    (tmp_path / "registry").mkdir()
    made = Registry(tmp_path / "registry", certificate, tmp_path / "htpasswd")
    try:
        basic = base64.b64encode(f"mirror:{secret}".encode()).decode()
        made.authorization = {"Authorization": f"Basic {basic}"}
        made.push("trivy-db:2", tar_gz(tools.files()), VULNERABILITIES)
        host.configure(db_repositories=[made.name("trivy-db:2")])
        assert "certificate" in host("update", code=3)
        host.configure(db_ca_file=str(certificate[2]))
        assert "unauthorized" in host("update", code=3).lower()
        file = host.root / "config.json"
        file.write_text(json.dumps({"auths": {f"localhost:{made.port}": {"auth": basic}}}))
        file.chmod(0o600)
        host.configure(db_credentials_file=str(file))
        if IS_ROOT:
            assert "db_credentials_file" in host("update", code=3)
            shutil.chown(file, "daemon")
        host.wrapper(f'{{ echo "$@"; /usr/bin/env; }} >>{host.root}/seen\nexec "$TRIVY" "$@"')
        (host.root / "seen").write_text("")
        (host.root / "seen").chmod(0o666)
        said = host("update")
        assert " in use, of " in said
        seen = (host.root / "seen").read_text()
        assert "--db-repository" in seen and "DOCKER_CONFIG" in seen
        for text in (seen, said, *(p.read_text(errors="replace") for p in host.store.rglob("*") if p.is_file())):
            assert secret not in text and basic not in text
    finally:
        made.close()


def bcrypt(secret):
    """docker-registry takes bcrypt alone; crypt(3) of glibc's libcrypt has it."""
    import ctypes
    import ctypes.util

    crypt = ctypes.CDLL(ctypes.util.find_library("crypt")).crypt
    crypt.restype = ctypes.c_char_p
    return crypt(secret.encode(), b"$2y$05$abcdefghijklmnopqrstuu").decode()


def test_the_java_index_comes_along_and_one_of_the_two_can_be_left_out(host, tools):
    host.push(tools.files())
    host.push(java_files(), JAVA, "mirror/trivy-java-db:1")
    assert "java_db_repositories is empty" in host("update")
    host.configure(java_db_repositories=[host.registry.name("mirror/trivy-java-db:1")])
    said = host("update", "--only", "java")
    assert "Java index" in said and "vulnerability database" not in said
    assert host.status()["java"]["state"] == "fresh"
    index = host.root / "var-cache/java-db/current/trivy-java.db"
    index.resolve().write_bytes(index.read_bytes()[:PAGE])
    status = host.status(code=1)
    assert status["java"]["state"] == "damaged" and status["vulnerabilities"]["state"] == "fresh"
    result, _ = host.scan()
    assert result["verdict"] == "undecided" and "tidewaiter db update" in result["images"][0]["fault"]["text"]


def test_a_database_that_the_admin_keeps_is_shown_and_left_alone(host, tools):
    theirs = host.root / "theirs"
    theirs.mkdir()
    for name, data in tools.files().items():
        (theirs / name).write_bytes(data)
        (theirs / name).chmod(0o644)
    theirs.chmod(0o755)
    host.configure(db_dir=str(theirs))
    status = host.status()["vulnerabilities"]
    assert (status["state"], status["is_kept"]) == ("fresh", False) and status["vulnerabilities"] > 20
    said = host("update", code=2)
    assert "trivy.db_dir" in said and sorted(p.name for p in theirs.iterdir()) == ["metadata.json", "trivy.db"]
    (theirs / "trivy.db").write_bytes(zero_page(tools.db, root_page(tools.db)))
    assert host.status(code=1)["vulnerabilities"]["state"] == "damaged"


# --- import ---


def write_tree(place, files):
    for name, data in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for path in [place, *place.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return place


TYPES = {"symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "directory": tarfile.DIRTYPE}


def write_tar(path, entries, mode="w"):
    """Entries of content, or of one of TYPES."""
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as tar:
        for name, data in entries:
            entry = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
            else:
                entry.type = TYPES[data]
                entry.linkname = "/etc/passwd" if "link" in data else ""
                tar.addfile(entry)
    return path


@pytest.mark.parametrize("form", ["tar.gz", "plain tar", "with ./", "directory", "OCI directory", "OCI tar"])
@pytest.mark.parametrize("kind", ["vulnerabilities", "java"])
def test_each_form_is_imported(host, tools, form, kind):
    files = tools.files() if kind == "vulnerabilities" else java_files()
    media_type = VULNERABILITIES if kind == "vulnerabilities" else JAVA
    place = host.root / "brought"
    if form == "directory":
        write_tree(place, files)
    elif form == "OCI directory":
        write_tree(place, layout(tar_gz(files), media_type))
    elif form == "OCI tar":
        write_tar(place, layout(tar_gz(files), media_type).items())
    elif form == "tar.gz":
        place.write_bytes(tar_gz(files))
        place.chmod(0o600)
    elif form == "plain tar":
        write_tar(place, files.items())
    else:
        write_tar(place, [("./", "directory"), *((f"./{n}", d) for n, d in reversed(files.items()))], "w:gz")
    assert " in use, of " in host("import", place)
    code = 0 if kind == "vulnerabilities" else 1
    assert host.status(code=code)[kind]["state"] == "fresh"
    assert "holds the one in use" in host("import", place)


def refused_forms(tools):
    good = tools.files()
    db, metadata = good["trivy.db"], good["metadata.json"]
    items = list(good.items())
    oci = layout(tar_gz(good), VULNERABILITIES)
    blob = max((n for n in oci if n.startswith("blobs/")), key=lambda n: len(oci[n]))
    two = json.loads(oci["index.json"])
    two["manifests"] *= 2
    return {
        "another file": ([*items, ("evil.so", b"x")], "nothing else belongs"),
        "a path": ([("metadata.json", metadata), ("../trivy.db", db)], "neither trivy.db"),
        "an absolute name": ([("metadata.json", metadata), ("/trivy.db", db)], "neither trivy.db"),
        "a symbolic link": ([("trivy.db", db), ("metadata.json", "symlink")], "no regular file"),
        "a hard link": ([("trivy.db", db), ("metadata.json", "hard link")], "no regular file"),
        "a device": ([("trivy.db", db), ("metadata.json", "device")], "no regular file"),
        "twice": ([*items, ("trivy.db", db)], "twice"),
        "without metadata": ([("trivy.db", db)], "metadata.json"),
        "large metadata": ([("trivy.db", db), ("metadata.json", b" " * (2 << 20))], "too large"),
        "neither": ([("readme", b"x")], "neither trivy.db"),
        "a blob that is another": ([*((n, b + b"x" if n == blob else b) for n, b in oci.items())], "not what its name"),
        "a blob that is missing": ([*((n, b) for n, b in oci.items() if n != blob)], "is missing"),
        "two manifests": ([*{**oci, "index.json": json.dumps(two).encode()}.items()], "expected one"),
        "another artifact": ([*layout(tar_gz(good), "application/x").items()], "no media type of a database"),
    }


@pytest.mark.parametrize("name", ["another file", "a path", "an absolute name", "a symbolic link", "a hard link", "a device", "twice",
                                  "without metadata", "large metadata", "neither", "a blob that is another",
                                  "a blob that is missing", "two manifests", "another artifact"])
def test_anything_else_is_refused_by_name_and_leaves_nothing(host, tools, name):
    entries, words = refused_forms(tools)[name]
    host.push(tools.files(3))
    host("update")
    said = host("import", write_tar(host.root / "brought.tar", entries), code=1)
    assert words in said
    assert host.leftovers() == [] and len(host.versions()) == 1


def test_a_layout_that_is_compressed_as_a_whole_and_what_is_no_archive_are_refused(host, tools):
    oci = layout(tar_gz(tools.files()), VULNERABILITIES)
    assert "unpack it first" in host("import", write_tar(host.root / "oci.tar.gz", oci.items(), "w:gz"), code=1)
    cut = tar_gz(tools.files())
    (host.root / "cut.tar.gz").write_bytes(cut[:len(cut) - 100])
    host("import", host.root / "cut.tar.gz", code=1)
    (host.root / "text").write_text("hello")
    assert "unknown data" in host("import", host.root / "text", code=1)
    os.mkfifo(host.root / "pipe")
    assert "neither a file nor a directory" in host("import", host.root / "pipe", code=1)
    assert "No such file" in host("import", host.root / "nothing", code=3)
    write_tree(host.root / "empty", {"x": b""})
    assert "no OCI layout" in host("import", host.root / "empty", code=1)


def free_pages(data):
    """Pages that nothing leads to: the heads, the free list, and what it names."""
    newest = max((0, 1), key=lambda k: struct.unpack_from("<Q", data, k * PAGE + 64)[0])
    at, high = struct.unpack_from("<QQ", data, newest * PAGE + 48)
    count = struct.unpack_from("<H", data, at * PAGE + 10)[0]
    free = set(struct.unpack_from(f"<{count}Q", data, at * PAGE + 16))
    return free | {0, 1, at} | set(range(high, len(data) // PAGE))


def test_of_a_real_database_every_page_that_is_zeroed_is_missed(host, tools):
    host.push(tools.files(50))
    host.configure(db_max_age="30d")
    host("update")
    free = free_pages(tools.db)
    n_pages = len(tools.db) // PAGE
    assert len(free) < n_pages - 4
    for page in range(2, n_pages):
        place = write_tree(host.root / "brought", {**tools.files(n_pages - page), "trivy.db": zero_page(tools.db, page)})
        said = host("import", place, code=0 if page in free else 3)
        assert page in free or "damaged" in said


# --- what scans make of it ---


def test_of_a_damaged_database_of_the_admins_own_no_scan_is_clean(host, tools):
    theirs = write_tree(host.root / "theirs", tools.files())
    host.configure(db_dir=str(theirs))
    verdicts = set()
    for page in sorted(set(range(2, len(tools.db) // PAGE)) - free_pages(tools.db)):
        (theirs / "trivy.db").write_bytes(zero_page(tools.db, page))
        result, err = host.scan()
        assert result["verdict"] in ("block", "undecided"), (page, err)
        if result["verdict"] == "block":
            assert len(result["images"][0]["findings"]) == len(all_findings(host, tools, theirs)), page
        verdicts.add(result["verdict"])
    assert "undecided" in verdicts


def all_findings(host, tools, theirs):
    damaged = (theirs / "trivy.db").read_bytes()
    (theirs / "trivy.db").write_bytes(tools.db)
    result, _ = host.scan()
    (theirs / "trivy.db").write_bytes(damaged)
    return result["images"][0]["findings"]


def test_without_a_database_the_verdict_names_the_way_out_and_status_says_absent(host):
    assert host.status(code=1)["vulnerabilities"]["state"] == "absent"
    result, _ = host.scan()
    assert result["verdict"] == "undecided" and "tidewaiter db update" in result["images"][0]["fault"]["text"]


def test_an_old_one_is_said_to_be_old(host, tools):
    host.push(tools.files(50))
    host("update")
    status = host.status(code=1)["vulnerabilities"]
    assert status["state"] == "old" and status["age_s"] > 49 * 3600 and "trivy.db_max_age" in status["fault"]
    assert host.scan()[0]["verdict"] == "undecided"


def test_wrong_use_is_said(host):
    for args in ([], ["list"], ["update", "x"], ["import"], ["import", "a", "b"], ["status", "--force"], ["update", "--only", "x"]):
        said = host(*args, code=2)
        assert said.count("\n") == 1, said
