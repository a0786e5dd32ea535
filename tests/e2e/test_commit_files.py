"""Ignore files of a commit, read from the objects of a repository that the job can write."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import zlib

import pytest

GIT = shutil.which("git")
pytestmark = pytest.mark.skipif(GIT is None, reason="git is not installed")

ENV = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a",
       "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com"}


class Project:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        subprocess.run([GIT, "init", "-q", "-b", "main", path], check=True, env=ENV)

    def git(self, *args, **options):
        return subprocess.run([GIT, "-C", self.path, *args], check=True, env=ENV, stdout=subprocess.PIPE, text=True,
                              **options).stdout.strip()

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def commit(self, **files):
        for name, text in files.items():
            self.write(name.replace("__", "/"), text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")

    def object(self, name):
        return self.path / ".git/objects" / name[:2] / name[2:]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


@pytest.fixture
def read(project, build_dir):
    def run(sha, path=None):
        done = subprocess.run([build_dir / "tests/unit/commit_files_tool", path or project.path, sha], stdout=subprocess.PIPE,
                              text=True, timeout=60, check=True)
        return json.loads(done.stdout)
    return run


def ids(answer):
    return [e["id"] for e in answer["entries"]]


VEX = json.dumps({"@context": "https://openvex.dev/ns/v0.2.0", "statements": [
    {"vulnerability": {"name": "CVE-V"}, "status": "fixed", "products": [{"@id": "pkg:npm/a@1"}]}]})


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_the_commit_are_read_loose_or_packed(project, read, packed):
    project.commit(readme="x")
    project.write(".trivyignore", "CVE-1 exp:2030-01-01\n")
    project.write(".trivyignore.yaml", "vulnerabilities:\n  - id: CVE-2\n")
    project.write("app.openvex.json", VEX)
    project.write(".vex/more.json", VEX.replace("CVE-V", "CVE-W"))
    sha = project.commit()
    if packed:
        project.git("gc", "-q", "--prune=now")
    got = read(sha)
    assert sorted(ids(got)) == ["CVE-1", "CVE-2", "CVE-V", "CVE-W"] and got["notes"] == []


def test_a_commit_without_such_files_excuses_nothing_and_says_nothing(project, read):
    assert read(project.commit(readme="x")) == {"entries": [], "notes": []}


def test_the_work_tree_and_the_index_and_other_commits_do_not_count(project, read):
    project.write(".trivyignore", "CVE-1\n")
    sha = project.commit()
    project.write(".trivyignore", "CVE-1\nCVE-2\n")
    project.write("evil.openvex.json", VEX)
    project.git("add", "-A")
    assert ids(read(sha)) == ["CVE-1"]
    project.commit()
    assert ids(read(sha)) == ["CVE-1"]


def test_replaced_objects_have_no_effect(project, read):
    sha = project.commit(readme="x")
    project.write(".trivyignore", "CVE-1\n")
    evil = project.commit()
    project.git("replace", sha, evil)
    assert project.git("show", "--stat", "--format=", f"{sha}:.trivyignore") == "CVE-1"
    assert ids(read(sha)) == []


def test_grafts_and_configuration_have_no_effect(project, read, tmp_path):
    project.write(".trivyignore", "CVE-1\n")
    sha = project.commit()
    (project.path / ".git/info").mkdir(exist_ok=True)
    (project.path / ".git/info/grafts").write_text(f"{sha} {'1' * 40}\n")
    (project.path / ".git/config").write_text("[core]\n\trepositoryformatversion = 99\n[include]\n\tpath = /dev/zero\n")
    (project.path / ".git/HEAD").write_text("nonsense")
    assert ids(read(sha)) == ["CVE-1"]


def test_alternates_have_no_effect(project, read, tmp_path):
    other = Project(tmp_path / "other")
    other.write(".trivyignore", "CVE-1\n")
    sha = other.commit()
    (project.path / ".git/objects/info").mkdir(parents=True, exist_ok=True)
    (project.path / ".git/objects/info/alternates").write_text(f"{other.path}/.git/objects\n")
    assert project.git("cat-file", "-t", sha) == "commit"
    got = read(sha)
    assert got["entries"] == [] and "do not count" in got["notes"][0]


def test_a_gitdir_file_leads_nowhere(project, read, tmp_path):
    project.write(".trivyignore", "CVE-1\n")
    sha = project.commit()
    (project.path / ".git").rename(tmp_path / "moved")
    (project.path / ".git").write_text(f"gitdir: {tmp_path}/moved\n")
    assert project.git("rev-parse", "HEAD") == sha
    got = read(sha)
    assert got["entries"] == [] and "the project has no .git/objects" in got["notes"][0]


@pytest.mark.parametrize("what", [".git", ".git/objects"])
def test_a_link_for_the_directory_leads_nowhere(project, read, tmp_path, what):
    project.write(".trivyignore", "CVE-1\n")
    sha = project.commit()
    (project.path / what).rename(tmp_path / "moved")
    (project.path / what).symlink_to(tmp_path / "moved")
    assert ids(read(sha)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_links_among_the_objects_are_not_followed(project, read, tmp_path):
    project.write(".trivyignore", "CVE-1\n")
    sha = project.commit()
    file = project.object(sha)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert project.git("cat-file", "-t", sha) == "commit"
    assert ids(read(sha)) == []


def forge(project, name, kind, data):
    """An object whose bytes are not what its name says."""
    path = project.object(name)
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.unlink()
    path.write_bytes(zlib.compress(b"%s %d\0" % (kind, len(data)) + data))


def test_objects_that_are_not_what_their_names_say_are_refused(project, read):
    project.write(".trivyignore", "CVE-1\n")
    sha = project.commit()
    tree, blob = project.git("rev-parse", f"{sha}^{{tree}}"), project.git("rev-parse", f"{sha}:.trivyignore")
    project.write(".trivyignore", "CVE-EVIL\n")
    evil = project.commit()
    evil_tree = project.git("rev-parse", f"{evil}^{{tree}}")
    whole = {name: project.object(name).read_bytes() for name in (sha, tree, blob)}

    def expect_nothing():
        got = read(sha)
        assert got["entries"] == [] and len(got["notes"]) == 1, got
        for name, data in whole.items():
            project.object(name).unlink()
            project.object(name).write_bytes(data)
        assert ids(read(sha)) == ["CVE-1"]

    forge(project, blob, b"blob", b"CVE-EVIL\n")
    expect_nothing()
    forge(project, tree, b"tree", zlib.decompress(project.object(evil_tree).read_bytes()).partition(b"\0")[2])
    expect_nothing()
    forge(project, sha, b"commit", zlib.decompress(project.object(evil).read_bytes()).partition(b"\0")[2])
    expect_nothing()
    forge(project, sha, b"tree", b"")
    expect_nothing()


def test_a_pack_with_a_false_index_is_refused(project, read):
    """The index says that the good commit lies where the evil one does."""
    project.write(".trivyignore", "CVE-1\n")
    good = project.commit()
    project.write(".trivyignore", "CVE-EVIL\n")
    evil = project.commit()
    project.git("gc", "-q", "--prune=now")
    index = next((project.path / ".git/objects/pack").glob("*.idx"))
    data = bytearray(index.read_bytes())
    n = int.from_bytes(data[8 + 255 * 4:8 + 256 * 4], "big")
    names = [bytes(data[8 + 1024 + 20 * i:8 + 1024 + 20 * i + 20]).hex() for i in range(n)]
    offsets = 8 + 1024 + 20 * n + 4 * n
    a, b = (offsets + 4 * names.index(x) for x in (good, evil))
    data[a:a + 4] = data[b:b + 4]
    index.chmod(0o600)
    index.write_bytes(data)
    assert ids(read(good)) == []


def test_a_false_index_of_many_packs_is_refused(project, read):
    """The same by the multi-pack-index, which stands before the packs' own."""
    project.write(".trivyignore", "CVE-1\n")
    good = project.commit()
    project.git("repack", "-q", "-d")
    project.write(".trivyignore", "CVE-EVIL\n")
    evil = project.commit()
    project.git("repack", "-q", "-d")
    project.git("multi-pack-index", "write")
    index = project.path / ".git/objects/pack/multi-pack-index"
    data = bytearray(index.read_bytes())
    chunks = {}
    for i in range(data[6]):
        at = 12 + 12 * i
        chunks[bytes(data[at:at + 4])] = int.from_bytes(data[at + 4:at + 12], "big")
    fanout, names, offsets = chunks[b"OIDF"], chunks[b"OIDL"], chunks[b"OOFF"]
    n = int.from_bytes(data[fanout + 255 * 4:fanout + 256 * 4], "big")
    order = [bytes(data[names + 20 * i:names + 20 * i + 20]).hex() for i in range(n)]
    a, b = (offsets + 8 * order.index(x) for x in (good, evil))
    data[a:a + 8] = data[b:b + 8]
    index.chmod(0o600)
    index.write_bytes(data[:-20] + hashlib.sha1(data[:-20]).digest())
    assert ids(read(good)) in ([], ["CVE-1"])


def test_a_clone_without_its_files_is_told(project, read, tmp_path):
    """As GIT_CLONE_EXTRA_FLAGS: --filter=blob:none makes one."""
    project.write(".trivyignore", "CVE-1\n")
    sha = project.commit()
    project.git("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "clone"
    subprocess.run([GIT, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{project.path}", clone], check=True, env=ENV)
    got = read(sha, clone)
    assert got["entries"] == [] and "do not count" in got["notes"][0] and ".trivyignore" in got["notes"][0], got


def test_a_commit_graph_that_lies_has_no_effect(project, read):
    project.write(".trivyignore", "CVE-1\n")
    good = project.commit()
    project.write(".trivyignore", "CVE-EVIL\n")
    evil = project.commit()
    trees = [project.git("rev-parse", f"{c}^{{tree}}") for c in (good, evil)]
    project.git("commit-graph", "write", "--reachable")
    graph = project.path / ".git/objects/info/commit-graph"
    data = graph.read_bytes().replace(bytes.fromhex(trees[0]), bytes.fromhex(trees[1]))
    graph.chmod(0o600)
    graph.write_bytes(data[:-20] + hashlib.sha1(data[:-20]).digest())
    assert ids(read(good)) == ["CVE-1"]


@pytest.mark.parametrize("damage", ["empty", "noise", "fifo", "device", "directory", "huge"])
@pytest.mark.parametrize("where", ["loose", "pack", "index"])
def test_what_is_no_object_costs_no_more_than_its_time(project, read, damage, where):
    project.write(".trivyignore", "CVE-1\n")
    sha = project.commit()
    if where != "loose":
        project.git("gc", "-q", "--prune=now")
    path = project.object(sha) if where == "loose" else next(
        (project.path / ".git/objects/pack").glob("*.pack" if where == "pack" else "*.idx"))
    path.unlink()
    if damage == "empty":
        path.touch()
    elif damage == "noise":
        path.write_bytes(os.urandom(5000))
    elif damage == "fifo":
        os.mkfifo(path)
    elif damage == "directory":
        path.mkdir()
    elif damage == "huge":
        with path.open("wb") as f:
            f.truncate(1 << 42)
    elif os.geteuid() == 0:
        os.mknod(path, 0o20666, os.makedev(1, 5))
    got = read(sha)
    assert got["entries"] == [] and len(got["notes"]) == 1, got


def test_a_file_that_is_too_large_or_a_link_does_not_count(project, read):
    project.write(".trivyignore", "#" * (1024 * 1024) + "\nCVE-1\n")
    got = read(project.commit())
    assert got["entries"] == [] and "allowed is a blob" in got["notes"][0]
    (project.path / ".trivyignore").unlink()
    project.write("elsewhere", "CVE-1\n")
    (project.path / ".trivyignore").symlink_to("elsewhere")
    assert ids(read(project.commit())) == []


def test_a_malformed_file_is_told_and_the_others_count(project, read):
    project.write(".trivyignore", "CVE-1\n")
    project.write(".trivyignore.yaml", "vulnerabilities:\n  - idd: CVE-2\n")
    got = read(project.commit())
    assert ids(got) == ["CVE-1"] and ".trivyignore.yaml:2" in got["notes"][0], got


def test_a_shallow_clone_as_the_runner_makes_it_is_enough(project, read, tmp_path):
    project.commit(readme="x")
    project.write(".trivyignore", "CVE-1\n")
    sha = project.commit()
    clone = tmp_path / "clone"
    subprocess.run([GIT, "clone", "-q", "--depth", "1", f"file://{project.path}", clone], check=True, env=ENV)
    assert ids(read(sha, clone)) == ["CVE-1"]


@pytest.mark.parametrize("sha", ["", "HEAD", "main", "1" * 40, "g" * 40, "1" * 64, "../../../etc/passwd"])
def test_what_is_no_commit_of_it_is_told(project, read, sha):
    project.write(".trivyignore", "CVE-1\n")
    project.commit()
    got = read(sha)
    assert got["entries"] == [] and len(got["notes"]) == 1
