"""A policy that is a file in a Git repository: real git, over TLS with a password, over SSH and from a directory."""

import base64
import contextlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
from listening import Listener

GIT = shutil.which("git")
SSHD = "/usr/sbin/sshd"
TOKEN = "s3cr3t-of-the-policy"

pytestmark = pytest.mark.skipif(GIT is None, reason="git is not installed")


def policy(severity="HIGH", broken=False):
    text = f"version: 1\nrules:\n  - name: all\n    mode: enforce\n    severity: {severity}\n"
    return text + "    severitty: LOW\n" if broken else text


class Repository:
    def __init__(self, path):
        self.path = path
        subprocess.run([GIT, "init", "-q", "-b", "main", path], check=True, env=self.env())
        # what a server of Git does by itself
        self.git("config", "http.uploadpack", "true")

    @staticmethod
    def env():
        return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a",
                "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com"}

    def git(self, *args):
        return subprocess.run([GIT, "-C", self.path, *args], check=True, env=self.env(), stdout=subprocess.PIPE,
                              text=True).stdout.strip()

    def commit(self, text=None, path="policy.yml", message="x"):
        file = pathlib.Path(self.path, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(policy() if text is None else text, encoding="utf-8")
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "policies")


@pytest.fixture
def ask(tmp_path, build_dir):
    tool = build_dir / "tests/unit/policy_git_tool"

    def run(url, *words, state=tmp_path / "state", env=None, **settings):
        args = [f"url={url}"] + [f"{k}={v}" for k, v in settings.items()]
        done = subprocess.run([tool, state, *args, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60, check=True, env={"PATH": "/usr/bin:/bin", **(env or {})})
        assert TOKEN not in done.stderr + done.stdout
        return json.loads(done.stdout)
    return run


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    at = tmp_path_factory.mktemp("tls")
    for name, host in (("right", "localhost"), ("wrong", "localhost"), ("other", "elsewhere.example.com")):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", at / f"{name}.key", "-out",
                        at / f"{name}.pem", "-days", "2", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"],
                       check=True, stderr=subprocess.DEVNULL)
    return at


class Backend(http.server.BaseHTTPRequestHandler):
    """git http-backend, behind a password."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self):
        server, body = self.server, self.body()
        server.n_asked += 1
        server.goes_on.wait(60)
        server.seen.append((self.command, self.path, self.headers.get("Authorization")))
        if server.renamed and self.path.startswith(server.renamed[0]):
            return self.answer(301, [("Location", server.url + self.path.replace(*server.renamed))])
        if server.moved_to:
            return self.answer(302, [("Location", server.moved_to + self.path)])
        if server.password and self.headers.get("Authorization") != "Basic " + base64.b64encode(server.password).decode():
            return self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')])
        path, _, query = self.path.partition("?")
        env = {"PATH": "/usr/bin:/bin", "GIT_PROJECT_ROOT": str(server.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
               "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
               "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
               "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent", "REMOTE_ADDR": "127.0.0.1"}
        out = subprocess.run([GIT, "http-backend"], input=body, env=env, stdout=subprocess.PIPE, check=True).stdout
        head, _, rest = out.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = next((int(v.split()[0]) for k, v in headers if k == "Status"), 200)
        return self.answer(status, [h for h in headers if h[0] != "Status"], rest)

    do_GET = do_POST = serve


@contextlib.contextmanager
def git_server(root, certificate=None, password=None, moved_to=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    server.daemon_threads = True
    server.root, server.password, server.moved_to, server.seen = root, password, moved_to, []
    server.renamed, server.n_asked = None, 0
    server.goes_on = threading.Event()
    server.goes_on.set()
    server.handle_error = lambda *args: None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.with_suffix(".pem"), certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"{'https' if certificate else 'http'}://localhost:{server.server_port}"
    try:
        yield server
    finally:
        server.goes_on.set()
        server.shutdown()
        server.server_close()


def credentials(tmp_path, text):
    path = tmp_path / "credentials"
    path.write_text(text + "\n", encoding="utf-8")
    path.chmod(0o600)
    return path


# ---- from a directory: versions, ages, what is kept --------------------------------------------------------------------


def test_the_policy_is_that_of_the_branchs_newest_commit(repository, ask):
    first = repository.commit(policy("HIGH"))
    got = ask(f"file://{repository.path}", fetch_every=0)
    assert got["text"] == policy("HIGH") and first[:12] in got["origin"] and got["note"] is None and got["fault"] is None
    second = repository.commit(policy("LOW"))
    got = ask(f"file://{repository.path}", fetch_every=0)
    assert got["text"] == policy("LOW") and got["name"] == f"policy.yml@{second[:12]}"


def test_it_is_asked_at_most_so_often(repository, ask):
    repository.commit(policy("HIGH"))
    url = f"file://{repository.path}"
    ask(url, fetch_every=3600_000)
    repository.commit(policy("LOW"))
    assert ask(url, fetch_every=3600_000)["text"] == policy("HIGH")
    assert ask(url, "now", fetch_every=3600_000)["text"] == policy("LOW")


def test_branch_tag_annotated_tag_and_commit_are_refs(repository, ask):
    url = f"file://{repository.path}"
    one = repository.commit(policy("LOW"))
    repository.git("tag", "light")
    two = repository.commit(policy("MEDIUM"))
    repository.git("tag", "-a", "-m", "x", "annotated")
    repository.commit(policy("CRITICAL"))
    repository.git("branch", "topic/x", two)
    for ref, severity in (("light", "LOW"), ("annotated", "MEDIUM"), (one, "LOW"), ("topic/x", "MEDIUM"),
                          ("refs/heads/topic/x", "MEDIUM"), ("refs/tags/light", "LOW"), ("main", "CRITICAL")):
        assert ask(url, ref=ref)["text"] == policy(severity), ref


def test_a_name_that_is_a_branch_and_a_tag_is_refused(repository, ask):
    repository.commit()
    repository.git("tag", "both")
    repository.git("branch", "both")
    assert "is a branch and a tag" in ask(f"file://{repository.path}", ref="both")["fault"]


def test_a_path_in_a_directory_of_the_repository(repository, ask):
    repository.commit(policy("LOW"), path="gates/production/policy.yml")
    assert ask(f"file://{repository.path}", path="gates/production/policy.yml")["text"] == policy("LOW")


@pytest.mark.parametrize("settings, said", [
    ({"ref": "gone"}, "there is no branch or tag gone"), ({"path": "no.yml"}, "has no file no.yml"),
    ({"path": "dir"}, "is no plain file"), ({"path": "link"}, "is no plain file"),
    ({"ref": "1" * 40}, "there is no commit 1111"), ({"ref": "1" * 12}, "a commit is named by all of its 40 digits"),
    ({"path": "linked/file"}, "has no file linked/file"), ({"path": "module"}, "is no plain file"),
    ({"path": "module/policy.yml"}, "has no file module/policy.yml"), ({"path": "policy.yml/x"}, "has no file policy.yml/x"),
])
def test_what_is_not_there_is_told(repository, ask, settings, said):
    repository.commit("x", path="dir/file")
    os.symlink("/etc/passwd", pathlib.Path(repository.path, "link"))
    os.symlink("dir", pathlib.Path(repository.path, "linked"))
    first = repository.commit()
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{first},module")
    repository.git("commit", "-q", "-m", "x")
    got = ask(f"file://{repository.path}", **settings)
    assert got["text"] is None and said in got["fault"]


def test_a_policy_that_is_too_large_is_refused(repository, ask):
    repository.commit("#" * (1024 * 1024 + 1))
    assert "allowed are" in ask(f"file://{repository.path}")["fault"]


def test_a_broken_newest_version_leaves_the_last_good_one(repository, ask):
    good = repository.commit(policy("HIGH"))
    url = f"file://{repository.path}"
    ask(url)
    bad = repository.commit(policy(broken=True))
    got = ask(url, "now")
    assert got["text"] == policy("HIGH") and good[:12] in got["origin"]
    assert bad[:12] in got["note"] and "severitty" in got["note"] and f"policy.yml@{bad[:12]}:6" in got["note"]
    # kept in mind by the next ones, and gone with the next good one
    assert bad[:12] in ask(url)["note"]
    repository.commit(policy("LOW"))
    got = ask(url, "now")
    assert got["text"] == policy("LOW") and got["note"] is None


def test_a_deleted_branch_and_a_moved_repository_leave_the_last_good_version(repository, ask, tmp_path):
    repository.commit()
    repository.git("branch", "rules")
    url = f"file://{repository.path}"
    ask(url, ref="rules")
    repository.git("branch", "-D", "rules")
    got = ask(url, "now", ref="rules")
    assert got["text"] == policy() and "there is no branch or tag rules" in got["note"]
    pathlib.Path(repository.path).rename(tmp_path / "elsewhere")
    assert ask(url, "now", ref="rules")["text"] == policy()


def test_a_forced_push_is_followed(repository, ask):
    repository.commit(policy("HIGH"))
    repository.commit(policy("LOW"))
    url = f"file://{repository.path}"
    assert ask(url)["text"] == policy("LOW")
    repository.git("reset", "-q", "--hard", "HEAD~1")
    assert ask(url, "now")["text"] == policy("HIGH")


def age(state, seconds):
    """As if all that is kept had been got so long ago."""
    for name in ("good", "state"):
        for path in pathlib.Path(state).glob(f"policy/*/{name}"):
            head, sep, rest = path.read_text(encoding="utf-8").partition("\n")
            head = json.loads(head)
            for key in ("confirmed", "tried"):
                if key in head:
                    head[key] -= seconds
            path.write_text(json.dumps(head) + sep + rest, encoding="utf-8")


def test_beyond_its_age_the_last_good_version_judges_no_more(repository, ask, tmp_path):
    repository.commit()
    url = f"file://{repository.path}"
    ask(url)
    shutil.rmtree(repository.path)
    age(tmp_path / "state", 3000)
    got = ask(url, max_age=3600_000)
    assert got["text"] and "50 min" in got["note"]
    age(tmp_path / "state", 700)
    got = ask(url, max_age=3600_000)
    # handed over, so that it can say how strict it was
    assert got["text"] and not got["note"] and "is too old" in got["fault"] and "policy.max_age" in got["fault"]


def test_a_time_in_the_future_is_no_proof_of_youth(repository, ask, tmp_path):
    repository.commit()
    url = f"file://{repository.path}"
    ask(url)
    shutil.rmtree(repository.path)
    age(tmp_path / "state", -100_000)
    assert "is too old" in ask(url, max_age=3600_000)["fault"]


def test_it_is_asked_before_what_is_kept_would_be_too_old(repository, ask, tmp_path):
    repository.commit(policy("HIGH"))
    url = f"file://{repository.path}"
    ask(url)
    repository.commit(policy("LOW"))
    age(tmp_path / "state", 50)
    assert ask(url, fetch_every=3600_000, max_age=120_000)["text"] == policy("HIGH")
    age(tmp_path / "state", 50)
    assert ask(url, fetch_every=3600_000, max_age=120_000)["text"] == policy("LOW")


def test_a_policy_that_is_pinned_to_a_commit_needs_no_server_any_more(repository, ask, tmp_path):
    sha = repository.commit(policy("HIGH"))
    url = f"file://{repository.path}"
    ask(url, ref=sha)
    repository.git("update-server-info")
    for path in pathlib.Path(repository.path, ".git/refs/heads").iterdir():
        path.unlink()
    age(tmp_path / "state", 100_000)
    got = ask(url, ref=sha)
    assert got["text"] == policy("HIGH") and got["note"] is None and got["fault"] is None, got


@pytest.mark.parametrize("other", [{"ref": "other"}, {"path": "other.yml"}])
def test_another_ref_or_path_is_never_answered_with_what_is_kept_of_one(repository, ask, other):
    repository.commit(policy("LOW"))
    url = f"file://{repository.path}"
    ask(url)
    got = ask(url, "never", **other)
    assert got["text"] is None and got["fault"]


@pytest.mark.parametrize("change", [lambda data: data[:-10], lambda data: data + b"# more\n", lambda data: data[:40]])
def test_what_is_kept_and_not_whole_does_not_judge(repository, ask, tmp_path, change):
    repository.commit(policy("LOW"))
    url = f"file://{repository.path}"
    ask(url)
    good = next((tmp_path / "state").glob("policy/*/good"))
    good.write_bytes(change(good.read_bytes()))
    got = ask(url, "never")
    assert got["text"] is None and got["fault"]


@pytest.mark.parametrize("name", ["good", "state", "repo.git/HEAD", "repo.git/config", "repo.git/objects"])
def test_what_is_damaged_is_fetched_again(repository, ask, tmp_path, name):
    repository.commit(policy("HIGH"))
    url = f"file://{repository.path}"
    ask(url)
    path = next((tmp_path / "state").glob(f"policy/*/{name}"))
    if path.is_dir():
        for pack in path.rglob("*"):
            if pack.is_file():
                pack.chmod(0o600)
                pack.write_bytes(b"\0" * 64)
    else:
        path.write_bytes(b"\xff\0{")
    repository.commit(policy("LOW"))
    got = ask(url, "now")
    assert got["text"] == policy("LOW"), got


def truncate(path):
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size // 2)


def of_pack(suffix):
    return lambda clone: next((clone / "objects/pack").glob(f"*.{suffix}"))


@pytest.mark.parametrize("harm", [
    lambda clone: truncate(of_pack("pack")(clone)),
    lambda clone: truncate(of_pack("idx")(clone)),
    lambda clone: of_pack("pack")(clone).unlink(),
    lambda clone: of_pack("idx")(clone).unlink(),
    lambda clone: (clone / "refs/tidewaiter/head").write_bytes(b""),
    lambda clone: (clone / "refs/tidewaiter/head").write_bytes(b"f" * 40 + b"\n"),
    lambda clone: (clone / "HEAD").unlink(),
    lambda clone: shutil.rmtree(clone / "objects"),
    lambda clone: (shutil.rmtree(clone), clone.write_bytes(b"")),
    lambda clone: (shutil.rmtree(clone), clone.symlink_to("/etc")),
], ids=["half a pack", "half an index", "no pack", "no index", "an empty ref", "a ref to nothing", "no HEAD", "no objects", "a file", "a link"])
@pytest.mark.parametrize("is_newer", [False, True])
def test_a_clone_that_is_half_there_is_made_anew(repository, ask, tmp_path, harm, is_newer):
    repository.commit(policy("HIGH"))
    url = f"file://{repository.path}"
    ask(url)
    harm(next((tmp_path / "state").glob("policy/*/repo.git")))
    if is_newer:
        repository.commit(policy("LOW"))
    got = ask(url, "now")
    assert got["text"] == policy("LOW" if is_newer else "HIGH") and got["note"] is None, got
    assert pathlib.Path("/etc/passwd").exists()


@pytest.mark.parametrize("part", ["", "refs/heads", "objects", "packed-refs", "HEAD"])
@pytest.mark.parametrize("is_bare", [False, True])
def test_a_mirror_that_others_can_write_is_not_followed(repository, ask, tmp_path, part, is_bare):
    repository.commit()
    path = repository.path / ".git"
    repository.git("pack-refs", "--all")
    if is_bare:
        path = tmp_path / "bare.git"
        subprocess.run([GIT, "clone", "-q", "--bare", repository.path, path], check=True, env=repository.env())
    url = f"file://{path if is_bare else repository.path}"
    assert ask(url)["fault"] is None
    (path / part).chmod(0o775)
    got = ask(url, "now", state=tmp_path / "another")
    assert got["text"] is None and "others can write" in got["fault"], got


def test_a_repository_of_sha_256_is_told(ask, tmp_path):
    path = tmp_path / "sha256"
    done = subprocess.run([GIT, "init", "-q", "--object-format=sha256", path], env=Repository.env(), stderr=subprocess.PIPE)
    if done.returncode:
        pytest.skip("this Git has no SHA-256")
    subprocess.run([GIT, "-C", path, "commit", "-q", "--allow-empty", "-m", "x"], env=Repository.env(), check=True)
    got = ask(f"file://{path}")
    assert got["text"] is None and got["fault"], got


def test_what_a_killed_fetch_left_is_in_nobodys_way(repository, ask, tmp_path):
    repository.commit(policy("HIGH"))
    url = f"file://{repository.path}"
    ask(url)
    clone = next((tmp_path / "state").glob("policy/*/repo.git"))
    (clone / "objects/pack/pack_git2_0123456789abcdef").write_bytes(b"PACK" + b"\0" * 1000)
    (clone / "refs/tidewaiter").mkdir(exist_ok=True)
    (clone / "refs/tidewaiter/head.lock").write_bytes(b"")
    (clone / "HEAD.lock").write_bytes(b"")
    repository.commit(policy("LOW"))
    assert ask(url, "now")["text"] == policy("LOW")
    assert not list(clone.rglob("*.lock")) and not list(clone.rglob("pack_git2_*"))


def test_the_clone_does_not_grow_for_ever(repository, ask, tmp_path):
    url = f"file://{repository.path}"
    for i in range(3):
        repository.commit(policy() + f"# {i}\n")
        assert ask(url, "now")["text"].endswith(f"# {i}\n")
    packs, = (tmp_path / "state").glob("policy/*/repo.git/objects/pack")
    assert len(list(packs.glob("*.pack"))) == 3
    for i in range(1000):
        (packs / f"pack-{i:040x}.pack").write_bytes(b"")
    repository.commit(policy() + "# last\n")
    assert ask(url, "now")["text"].endswith("# last\n")
    assert len(list((tmp_path / "state").glob("policy/*/repo.git/objects/pack/*.pack"))) == 1


def test_a_tag_that_is_named_like_the_branch_holds_no_policy_up(repository, ask, tmp_path):
    """Nor is it the policy; and the same of a branch that is named like the tag."""
    repository.commit(policy("HIGH"))
    url = f"file://{repository.path}"
    assert ask(url)["text"] == policy("HIGH")
    repository.git("tag", "v1")
    assert ask(url, ref="v1")["text"] == policy("HIGH")
    strange = repository.commit(policy("CRITICAL"))
    repository.git("reset", "-q", "--hard", "HEAD~1")
    repository.git("tag", "main", strange)
    repository.git("branch", "v1", strange)
    for ref in ("main", "v1"):
        got = ask(url, "now", ref=ref)
        assert got["text"] == policy("HIGH") and not got["note"] and not got["fault"], got
    repository.commit(policy("LOW"))
    assert ask(url, "now")["text"] == policy("LOW")
    # who sees both from the beginning knows of neither
    shutil.rmtree(tmp_path / "state")
    assert "is a branch and a tag" in ask(url)["fault"]


def of_nobody(path, mode):
    os.chown(path, 65534, 65534)
    os.chmod(path, mode)


def test_a_mirror_that_leads_to_what_others_can_write_is_not_followed(repository, ask, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    weak = repository.commit(policy("CRITICAL"))
    repository.git("branch", "topic/x", weak)
    url, git = f"file://{repository.path}", pathlib.Path(repository.path, ".git")
    assert ask(url, ref="topic/x")["text"]
    of_nobody(git / "refs/heads/topic", 0o777)
    assert "belongs to user" in ask(url, "now", ref="topic/x")["note"]
    assert ask(url)["text"]
    of_nobody(git / "refs/heads/main", 0o666)
    assert "belongs to user" in ask(url, "now")["note"]
    theirs = tmp_path / "theirs"
    shutil.copytree(git, theirs)
    (tmp_path / "worktree").mkdir()
    (tmp_path / "worktree/.git").write_text(f"gitdir: {theirs}\n")
    assert "is no directory" in ask(f"file://{tmp_path}/worktree")["fault"]
    shutil.copytree(theirs, tmp_path / "bare")
    (tmp_path / "bare/commondir").write_text(f"{theirs}\n")
    assert "leads elsewhere" in ask(f"file://{tmp_path}/bare")["fault"]


def test_what_the_server_has_wrong_does_not_cost_the_clone(repository, ask, tmp_path):
    """A ref to a tag of a tree is nothing that a clone made anew would mend."""
    repository.commit(policy("HIGH"))
    url = f"file://{repository.path}"
    ask(url)
    clone, = (tmp_path / "state").glob("policy/*/repo.git")
    mark = clone / "mark"
    mark.write_text("")
    tree = repository.git("rev-parse", "HEAD^{tree}")
    repository.git("tag", "-a", "-m", "x", "tree", tree)
    got = ask(url, "now", ref="tree")
    assert got["text"] is None and "policy.ref" in got["fault"], got
    assert mark.exists()


def test_hooks_and_configuration_of_the_repository_have_no_effect(repository, ask, tmp_path):
    mark = tmp_path / "mark"
    for hook in ("post-checkout", "pre-commit", "post-update", "reference-transaction", "post-merge"):
        path = pathlib.Path(repository.path, ".git/hooks", hook)
        path.write_text(f"#!/bin/sh\ntouch {mark}\n", encoding="utf-8")
    repository.commit("[submodule \"x\"]\n\tpath = x\n\turl = file:///nonexistent\n", path=".gitmodules")
    repository.commit(policy("LOW"))
    for hook in pathlib.Path(repository.path, ".git/hooks").iterdir():
        hook.chmod(0o755)
    assert ask(f"file://{repository.path}")["text"] == policy("LOW") and not mark.exists()


def test_configuration_of_the_user_has_no_effect(repository, ask, tmp_path):
    repository.commit(policy("LOW"))
    home = tmp_path / "home"
    (home / ".config/git").mkdir(parents=True)
    for path in (home / ".gitconfig", home / ".config/git/config"):
        path.write_text("[url \"file:///nonexistent/\"]\n\tinsteadOf = file:///\n[http]\n\tproxy = http://127.0.0.1:1\n")
    got = ask(f"file://{repository.path}", env={"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"),
                                                "GIT_DIR": "/nonexistent", "http_proxy": "http://127.0.0.1:1"})
    assert got["text"] == policy("LOW"), got


def test_many_at_once_get_the_same(repository, ask, tmp_path, build_dir):
    repository.commit(policy("LOW"))
    tool = build_dir / "tests/unit/policy_git_tool"
    args = [tool, tmp_path / "state", f"url=file://{repository.path}", "fetch_every=0", "feed"]
    several = [subprocess.Popen(args, stdout=subprocess.PIPE, text=True) for _ in range(12)]
    for one in several:
        got = json.loads(one.communicate(timeout=60)[0])
        assert got["text"] == policy("LOW") and got["note"] is None, got


def test_one_that_is_killed_in_the_midst_leaves_the_next_a_way(repository, ask, tmp_path, build_dir):
    url = f"file://{repository.path}"
    tool = build_dir / "tests/unit/policy_git_tool"
    for i in range(15):
        repository.commit(policy() + f"# {i}\n")
        one = subprocess.Popen([tool, tmp_path / "state", f"url={url}", "now", "feed"], stdout=subprocess.DEVNULL)
        # killed at another place each time, or when all is done: either must leave it whole
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.wait(timeout=0.001 * i)
        one.send_signal(signal.SIGKILL)
        one.wait()
    got = ask(url, "now")
    assert got["text"].endswith("# 14\n") and got["note"] is None, got


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_full_disk_is_told_and_nothing_that_was_good_is_lost(repository, ask, tmp_path):
    state = tmp_path / "small"
    state.mkdir()
    repository.commit(policy("HIGH"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", state], check=True)
    try:
        url = f"file://{repository.path}"
        assert ask(url, state=state)["text"] == policy("HIGH")
        (state / "filler").write_bytes(b"\0" * 4096)
        with contextlib.suppress(OSError), (state / "filler").open("ab") as f:
            while True:
                f.write(b"\0" * 4096)
                f.flush()
        pathlib.Path(repository.path, "noise").write_bytes(os.urandom(200_000))
        repository.commit(policy("LOW"))
        got = ask(url, "now", state=state)
        assert got["text"] == policy("HIGH") and "No space left" in got["note"], got
        (state / "filler").unlink()
        assert ask(url, "now", state=state)["text"] == policy("LOW")
    finally:
        subprocess.run(["umount", state], check=True)


# ---- who asks, and who waits -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent_server():
    """Takes connections and never says anything; the list grows by each."""
    with Listener() as server:
        yield f"http://localhost:{server.port}/policies.git", server.held


def until(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never became so")


def state_of(state):
    return json.loads(next(pathlib.Path(state).glob("policy/*/state")).read_text())


@pytest.fixture
def begin(tmp_path, build_dir):
    started = []

    def run(url, *words, **settings):
        args = [build_dir / "tests/unit/policy_git_tool", tmp_path / "state", f"url={url}",
                *(f"{k}={v}" for k, v in settings.items()), *words]
        started.append(subprocess.Popen(args, stdout=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1]
    yield run
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
        one.communicate()


def test_a_failure_counts_from_its_end_so_that_not_each_job_waits_for_a_server_that_hangs(ask, tmp_path):
    with silent_server() as (url, held):
        started = int(time.time())
        assert "longer than its time" in ask(url, fetch_timeout=2000, fetch_every=3600_000)["fault"]
        assert state_of(tmp_path / "state")["tried"] >= started + 2
        n_asked = len(held)
        assert "longer than its time" in ask(url, fetch_timeout=2000, fetch_every=3600_000)["fault"]
        assert len(held) == n_asked == 1


def test_who_comes_while_the_first_one_asks_gets_that_answer(repository, begin, tmp_path):
    repository.commit(policy("LOW"))
    with git_server(tmp_path) as server:
        server.goes_on.clear()
        first = begin(f"{server.url}/policies/.git", fetch_timeout=60_000)
        until(lambda: list((tmp_path / "state").glob("policy/*/repo.git/HEAD")))
        others = [begin(f"{server.url}/policies/.git", "feed", fetch_timeout=60_000) for _ in range(3)]
        time.sleep(0.3)
        server.goes_on.set()
        for one in (first, *others):
            got = json.loads(one.communicate(timeout=60)[0])
            assert got["text"] == policy("LOW") and got["note"] is None, got
        assert len(server.seen) == 2  # what there is, and the pack


def test_nobody_waits_for_one_who_asks_a_server_that_failed_before(repository, begin, ask, tmp_path):
    repository.commit(policy("LOW"))
    with git_server(tmp_path) as server:
        url = f"{server.url}/policies/.git"
        ask(url)
        server.moved_to = "http://elsewhere.example.com"
        assert "redirect" in ask(url, "now")["note"].lower()
        server.goes_on.clear()
        age(tmp_path / "state", 1000)
        first = begin(url, fetch_timeout=60_000)
        until(lambda: state_of(tmp_path / "state")["asking"])
        got = ask(url, fetch_timeout=60_000)
        assert got["text"] == policy("LOW") and "redirect" in got["note"].lower() and first.poll() is None


def test_one_who_was_killed_while_asking_leaves_the_next_to_ask(repository, begin, ask, tmp_path):
    repository.commit(policy("LOW"))
    with git_server(tmp_path) as server:
        server.goes_on.clear()
        url = f"{server.url}/policies/.git"
        first = begin(url, fetch_timeout=60_000)
        until(lambda: list((tmp_path / "state").glob("policy/*/repo.git/HEAD")))
        first.kill()
        first.wait()
        server.goes_on.set()
        got = ask(url)
        assert got["text"] == policy("LOW") and got["note"] is None, got


def test_while_a_good_version_may_judge_a_failure_is_no_reason_to_ask_more_often(repository, ask, tmp_path):
    repository.commit(policy("HIGH"))
    url = f"file://{repository.path}"
    ask(url)
    repository.commit(policy(broken=True))
    ask(url, "now")
    repository.commit(policy("LOW"))
    age(tmp_path / "state", 40)
    assert ask(url, fetch_every=100_000)["text"] == policy("HIGH")
    assert ask(url, fetch_every=100_000, max_age=60_000)["text"] == policy("LOW")


# ---- over TLS ------------------------------------------------------------------------------------------------------------


def test_https_with_user_and_password(repository, ask, tmp_path, certificates):
    repository.commit(policy("LOW"))
    with git_server(tmp_path, certificates / "right", f"deploy:{TOKEN}".encode()) as server:
        got = ask(f"{server.url}/policies/.git", ca_file=certificates / "right.pem",
                  credentials_file=credentials(tmp_path, f"deploy:{TOKEN}"))
        assert got["text"] == policy("LOW"), got
        second = repository.commit(policy("HIGH"))
        got = ask(f"{server.url}/policies/.git", "now", ca_file=certificates / "right.pem",
                  credentials_file=credentials(tmp_path, f"deploy:{TOKEN}"))
        assert got["text"] == policy("HIGH") and second[:12] in got["origin"]
    kept = b"".join(p.read_bytes() for p in (tmp_path / "state").rglob("*") if p.is_file())
    assert TOKEN.encode() not in kept


def test_https_with_a_token_alone(repository, ask, tmp_path, certificates):
    repository.commit(policy("LOW"))
    with git_server(tmp_path, certificates / "right", f"oauth2:{TOKEN}".encode()) as server:
        got = ask(f"{server.url}/policies/.git", ca_file=certificates / "right.pem",
                  credentials_file=credentials(tmp_path, TOKEN))
    assert got["text"] == policy("LOW"), got


def test_a_commit_that_no_branch_points_to_is_found_on_its_branch(repository, ask, tmp_path):
    one = repository.commit(policy("LOW"))
    repository.commit(policy("HIGH"))
    with git_server(tmp_path) as server:
        assert ask(f"{server.url}/policies/.git", ref=one)["text"] == policy("LOW")


@pytest.mark.parametrize("ca, certificate", [("wrong", "right"), ("other", "other"), ("", "right")])
def test_a_certificate_of_another_authority_or_name_is_refused(repository, ask, tmp_path, certificates, ca, certificate):
    repository.commit()
    with git_server(tmp_path, certificates / certificate, f"deploy:{TOKEN}".encode()) as server:
        got = ask(f"{server.url}/policies/.git", ca_file=certificates / f"{ca}.pem" if ca else "",
                  credentials_file=credentials(tmp_path, f"deploy:{TOKEN}"))
        assert got["text"] is None and "certificate is not trusted" in got["fault"], got
        assert server.seen == []


def test_a_wrong_password_and_none_are_told_apart(repository, ask, tmp_path, certificates):
    repository.commit()
    with git_server(tmp_path, certificates / "right", f"deploy:{TOKEN}".encode()) as server:
        url = f"{server.url}/policies/.git"
        got = ask(url, ca_file=certificates / "right.pem", credentials_file=credentials(tmp_path, "deploy:other"))
        assert "does not accept policy.credentials_file" in got["fault"] and "other" not in got["fault"]
        got = ask(url, "now", ca_file=certificates / "right.pem")
        assert "wants credentials and policy.credentials_file is not set" in got["fault"]


def test_credentials_are_in_no_command_line_and_no_environment(repository, begin, tmp_path):
    repository.commit()
    with git_server(tmp_path, password=f"deploy:{TOKEN}".encode()) as server:
        server.goes_on.clear()
        one = begin(f"{server.url}/policies/.git", credentials_file=credentials(tmp_path, f"deploy:{TOKEN}"), fetch_timeout=60_000)
        until(lambda: server.n_asked)
        family = [p.parent for p in pathlib.Path("/proc").glob("[0-9]*/stat") if is_of_session(p, one.pid)]
        assert len(family) == 2  # it, and the child that holds libgit2
        for process in family:
            assert TOKEN.encode() not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        server.goes_on.set()
        assert json.loads(one.communicate(timeout=60)[0])["text"] == policy()


def is_of_session(stat, sid):
    with contextlib.suppress(OSError):
        return int(stat.read_text().rpartition(")")[2].split()[3]) == sid
    return False


def test_credentials_that_others_can_read_are_not_used(repository, ask, tmp_path, certificates):
    repository.commit()
    path = credentials(tmp_path, f"deploy:{TOKEN}")
    path.chmod(0o644)
    with git_server(tmp_path, certificates / "right", f"deploy:{TOKEN}".encode()) as server:
        got = ask(f"{server.url}/policies/.git", ca_file=certificates / "right.pem", credentials_file=path)
        assert "policy.credentials_file" in got["fault"] and server.seen == []


def test_a_redirect_to_another_host_is_not_followed(repository, ask, tmp_path):
    repository.commit()
    with git_server(tmp_path) as there, git_server(tmp_path, moved_to=there.url.replace("localhost", "127.0.0.1")) as server:
        got = ask(f"{server.url}/policies/.git", credentials_file=credentials(tmp_path, f"deploy:{TOKEN}"))
        assert got["text"] is None and "redirect" in got["fault"].lower(), got
        assert there.seen == []


def test_a_redirect_on_the_same_host_is_followed(repository, ask, tmp_path):
    """As GitLab answers for a project that was renamed."""
    repository.commit(policy("LOW"))
    with git_server(tmp_path, password=f"deploy:{TOKEN}".encode()) as server:
        server.renamed = ("/old/.git", "/policies/.git")
        got = ask(f"{server.url}/old/.git", credentials_file=credentials(tmp_path, f"deploy:{TOKEN}"))
        assert got["text"] == policy("LOW"), got


def test_a_redirect_away_from_tls_is_not_followed(repository, ask, tmp_path, certificates):
    repository.commit()
    with git_server(tmp_path) as there, git_server(tmp_path, certificates / "right", moved_to=there.url) as server:
        got = ask(f"{server.url}/policies/.git", ca_file=certificates / "right.pem",
                  credentials_file=credentials(tmp_path, f"deploy:{TOKEN}"))
        assert got["text"] is None and "redirect" in got["fault"].lower(), got
        assert there.seen == []


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"
                                       b"Content-Length: 1000\r\n\r\n001e# service=git-upload-pack\n"])
def test_a_server_that_hangs_costs_the_timeout_and_no_more(repository, ask, tmp_path, says):
    repository.commit()
    url = f"file://{repository.path}"
    ask(url)
    with Listener(lambda connection: connection.sendall(says)) as server:
        started = time.monotonic()
        got = ask(f"http://localhost:{server.port}/policies.git", fetch_timeout=1000)
        assert "longer than its time" in got["fault"] and time.monotonic() - started < 30
        # the others do not wait anew
        assert "longer than its time" in ask(f"http://localhost:{server.port}/policies.git", "never")["fault"]


@contextlib.contextmanager
def tunnel():
    """A proxy that knows CONNECT."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_CONNECT(self):
            asked.append(self.path)
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port))) as there:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=pump, args=(there, self.connection), daemon=True)
                back.start()
                pump(self.connection, there)
                back.join()

    def pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_proxy_is_used_where_one_is_set_and_never_that_of_the_environment(repository, ask, tmp_path, certificates):
    repository.commit(policy("LOW"))
    dead = {name: "http://127.0.0.1:1" for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy")}
    with tunnel() as (proxy, asked), git_server(tmp_path, certificates / "right", f"deploy:{TOKEN}".encode()) as server:
        settings = {"ca_file": certificates / "right.pem", "credentials_file": credentials(tmp_path, f"deploy:{TOKEN}")}
        got = ask(f"{server.url}/policies/.git", env=dead, **settings)
        assert got["text"] == policy("LOW") and not asked, got
        got = ask(f"{server.url}/policies/.git", "now", proxy=proxy, **settings)
        assert got["text"] == policy("LOW") and got["note"] is None and asked, got


def test_a_server_that_never_stops_is_cut_off(ask, tmp_path):
    line = b"0050" + b"1" * 40 + b" refs/heads/" + b"x" * 23 + b"\n"

    def pour(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n"
                           b"001e# service=git-upload-pack\n0000")
        while True:
            connection.sendall(line * 1000)

    with Listener(pour) as server:
        got = ask(f"http://localhost:{server.port}/policies.git", fetch_timeout=2000)
        assert got["text"] is None and got["fault"], got


def test_a_repository_that_is_too_large_is_cut_off(repository, ask, tmp_path):
    pathlib.Path(repository.path, "noise").write_bytes(os.urandom(3_000_000))
    repository.commit()
    with git_server(tmp_path) as server:
        got = ask(f"{server.url}/policies/.git", fetch_max=1_000_000)
    assert got["text"] is None and "policy.fetch_max" in got["fault"], got
    used = sum(p.stat().st_size for p in (tmp_path / "state").rglob("*") if p.is_file())
    assert used < 2_200_000


def test_a_file_bomb_in_a_pack_is_not_read(repository, ask):
    repository.commit("\0" * 50_000_000)
    assert "allowed are" in ask(f"file://{repository.path}")["fault"]


# ---- over SSH ------------------------------------------------------------------------------------------------------------


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@pytest.fixture
def sshd(tmp_path):
    if os.geteuid() != 0 or not os.access(SSHD, os.X_OK):
        pytest.skip("needs root and OpenSSH's server")
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    port, at = free_port(), tmp_path / "ssh"
    at.mkdir(mode=0o700)
    for name in ("host", "other", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "x", "-f", at / name], check=True)
    shutil.copy(at / "user.pub", at / "authorized")
    (at / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\nStrictModes no\n"
        "UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n", encoding="utf-8")
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", at / "config"], stderr=subprocess.DEVNULL)
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.02)

    def known(name):
        path = at / f"known_{name}"
        key = (at / f"{name}.pub").read_text(encoding="utf-8").split()[:2]
        path.write_text(f"[localhost]:{port} {' '.join(key)}\n", encoding="utf-8")
        return path
    server.known, server.at, server.port = known, at, port
    yield server
    server.terminate()
    server.wait()


def test_ssh_with_a_key_and_a_known_host(repository, ask, sshd):
    repository.commit(policy("LOW"))
    got = ask(f"ssh://root@localhost:{sshd.port}{repository.path}", ssh_key_file=sshd.at / "user",
              known_hosts_file=sshd.known("host"))
    assert got["text"] == policy("LOW"), got


@pytest.mark.parametrize("key, known, said", [
    ("user", "other", "known_hosts_file"), ("user", None, "known_hosts_file"),
    ("stranger", "host", "does not accept policy.ssh_key_file"), (None, "host", "policy.ssh_key_file is not set"),
])
def test_ssh_with_a_strange_host_or_key_is_refused(repository, ask, sshd, key, known, said):
    repository.commit()
    got = ask(f"ssh://root@localhost:{sshd.port}{repository.path}", ssh_key_file=sshd.at / key if key else "",
              known_hosts_file=sshd.known(known) if known else "")
    assert got["text"] is None and said in got["fault"], got


def test_a_known_host_of_the_users_own_file_does_not_count(repository, ask, sshd, tmp_path):
    repository.commit()
    (tmp_path / "home/.ssh").mkdir(parents=True)
    shutil.copy(sshd.known("host"), tmp_path / "home/.ssh/known_hosts")
    got = ask(f"ssh://root@localhost:{sshd.port}{repository.path}", ssh_key_file=sshd.at / "user",
              env={"HOME": str(tmp_path / "home")})
    assert got["text"] is None and "known_hosts_file" in got["fault"], got


def rsa_line(sshd):
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", sshd.at / "rsa"], check=True)
    return f"[localhost]:{sshd.port} {' '.join((sshd.at / 'rsa.pub').read_text().split()[:2])}\n"


KNOWN_HOSTS = {
    "a line that is none": (lambda sshd, line, key: f"garbage\n{line}", True),
    "comments": (lambda sshd, line, key: f"# of the admin\n\n{line}", True),
    "RSA first": (lambda sshd, line, key: rsa_line(sshd) + line, True),
    "600 names": (lambda sshd, line, key: ",".join(f"h{n}.example.com" for n in range(600)) + f",{line}", True),
    "no newline, CRLF": (lambda sshd, line, key: f"# c\r\n{line.rstrip()}", True),
    "revoked behind": (lambda sshd, line, key: f"{line}@revoked * {key}\n", False),
    "revoked before": (lambda sshd, line, key: f"@revoked [localhost]:{sshd.port} {key}\n{line}", False),
    "an authority": (lambda sshd, line, key: f"@cert-authority * {key}\n", False),
}


@pytest.mark.parametrize("how", KNOWN_HOSTS)
def test_a_known_hosts_file_counts_as_it_does_for_openssh(repository, ask, sshd, how):
    write, is_known = KNOWN_HOSTS[how]
    repository.commit(policy("LOW"))
    known = sshd.known("host")
    line = known.read_text(encoding="utf-8")
    known.write_text(write(sshd, line, line.split(" ", 1)[1].strip()), encoding="utf-8")
    url = f"ssh://root@localhost:{sshd.port}{repository.path}"
    got = ask(url, ssh_key_file=sshd.at / "user", known_hosts_file=known)
    assert (got["text"] == policy("LOW")) == is_known, got
    ssh = f"ssh -i {sshd.at}/user -o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes -o BatchMode=yes"
    git = subprocess.run(["git", "ls-remote", url], env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_SSH_COMMAND": ssh},
                         capture_output=True, text=True, timeout=60)
    assert (git.returncode == 0) == is_known, git.stderr
