"""A stand-in for the part of GitLab that a runner and its jobs talk to.

Artifacts are taken and handed out as GitLab does (one upload per type, formats
that go with their types, the job's own token), and a repository is served over
HTTP by git itself. What gitlab-runner's stand-in was called with is kept too.
"""

import http.server
import json
import os
import pathlib
import re
import subprocess
import threading
import urllib.parse
import zipfile
from base64 import b64decode
from dataclasses import dataclass, field

RAW_TYPES = {"container_scanning", "codequality", "sarif", "sast", "dependency_scanning"}
GZIP_TYPES = {"annotations", "cyclonedx", "junit", "dotenv"}
CHUNK = 1 << 20


@dataclass
class Artifact:
    """One upload that GitLab accepted; `path` holds its bytes."""

    job: str
    type: str
    format: str
    filename: str
    expire_in: str
    path: pathlib.Path

    def names(self):
        """The names in a zip, sorted."""
        with zipfile.ZipFile(self.path) as z:
            return sorted(z.namelist())

    def read(self, name):
        with zipfile.ZipFile(self.path) as z:
            return z.read(name)

    def bytes(self):
        return self.path.read_bytes()


@dataclass
class Job:
    token: str
    may_upload: bool = True
    artifacts: list = field(default_factory=list)


def format_allowed(type_, format_):
    if type_ in RAW_TYPES:
        return format_ == "raw"
    if type_ in GZIP_TYPES:
        return format_ == "gzip"
    return type_ != "archive" or format_ == "zip"


class GitLab:
    """Serves on a port of its own until close(); state is read under `lock`."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()
        self.jobs = {}
        self.calls = []
        self.refused = []
        self.faults = []
        self.repositories = {}
        gitlab = self

        class Handler(_Handler):
            server_gitlab = gitlab

        self._httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self.host, self.port = self._httpd.server_address
        self.url = f"http://{self.host}:{self.port}"
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self):
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()

    def add_job(self, id_, token):
        with self.lock:
            self.jobs[str(id_)] = Job(token)

    def refuse_job(self, id_):
        """From here on the job's token is refused, as after an abort."""
        with self.lock:
            self.jobs[str(id_)].may_upload = False

    def add_archive(self, id_, token, files):
        """A job that has run before and left an archive for others."""
        self.add_job(id_, token)
        path = self.root / f"{id_}-archive.zip"
        with zipfile.ZipFile(path, "w") as z:
            for name, content in files.items():
                z.writestr(name, content)
        with self.lock:
            self.jobs[str(id_)].artifacts.append(
                Artifact(str(id_), "archive", "zip", "artifacts.zip", "", path))

    def artifacts(self, id_):
        with self.lock:
            return list(self.jobs[str(id_)].artifacts)

    def add_repository(self, project, files, token):
        """Commits files to `main` of a bare repository; returns the commit."""
        work = self.root / "git" / (project + ".work")
        bare = self.root / "git" / (project + ".git")
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(self.root),
               "GIT_CONFIG_NOSYSTEM": "1"}
        for who in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{who}_NAME": "Test", f"GIT_{who}_EMAIL": "test@example.com",
                    f"GIT_{who}_DATE": "2026-01-01T00:00:00Z"}

        def git(*args, cwd=None):
            done = subprocess.run(["git", *args], cwd=cwd, env=env, check=True, capture_output=True)
            return done.stdout.decode().strip()

        work.mkdir(parents=True)
        git("init", "-q", "-b", "main", str(work))
        for name, content in files.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        git("add", "-A", cwd=work)
        git("commit", "-q", "-m", "Initial commit", cwd=work)
        git("clone", "-q", "--bare", str(work), str(bare))
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=bare)
        with self.lock:
            self.repositories[project] = token
        return git("rev-parse", "HEAD", cwd=work)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_gitlab = None

    def log_message(self, *args):
        pass

    def _answer(self, status, body=b"", type_="application/json"):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", type_)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _skip_body(self):
        left = int(self.headers.get("Content-Length", 0))
        while left > 0:
            data = self.rfile.read(min(left, CHUNK))
            if not data:
                break
            left -= len(data)

    def do_GET(self):
        self._dispatch()

    def do_POST(self):
        self._dispatch()

    def _dispatch(self):
        url = urllib.parse.urlsplit(self.path)
        job = re.fullmatch(r"/api/v4/jobs/([0-9]+)/artifacts", url.path)
        if url.path == "/standin/calls" and self.command == "POST":
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with self.server_gitlab.lock:
                self.server_gitlab.calls.append(call)
            return self._answer(200, {})
        if job and self.command == "POST":
            return self._take_artifact(job[1], dict(urllib.parse.parse_qsl(url.query)))
        if job:
            return self._give_archive(job[1])
        return self._git(url)

    def _job(self, id_):
        """The job if the request's token is its own and still good."""
        job = self.server_gitlab.jobs.get(id_)
        if job is None or not job.may_upload or self.headers.get("JOB-TOKEN") != job.token:
            return None
        return job

    def _take_artifact(self, id_, query):
        gitlab = self.server_gitlab
        type_ = query.get("artifact_type", "archive")
        format_ = query.get("artifact_format", "zip")
        status, message = 201, ""
        with gitlab.lock:
            if gitlab.faults:
                status, message = gitlab.faults.pop(0), "fault"
            elif self._job(id_) is None:
                status, message = 403, "Forbidden"
            elif not format_allowed(type_, format_):
                status, message = 400, f"Invalid artifact format {format_} for {type_}"
        if status != 201:
            self._skip_body()
            return self._refuse(id_, type_, status, message)
        path = gitlab.root / f"{id_}-{type_}-{threading.get_ident()}.{format_}"
        filename = self._save_multipart(path)
        if filename is None:
            return self._refuse(id_, type_, 400, "no file in the form")
        with gitlab.lock:
            job = gitlab.jobs[id_]
            same = [a for a in job.artifacts if a.type == type_]
            if same:
                equal = same[0].bytes() == path.read_bytes()
                path.unlink()
                status = 201 if equal else 400
            else:
                final = gitlab.root / f"{id_}-{type_}.{format_}"
                path.rename(final)
                job.artifacts.append(
                    Artifact(id_, type_, format_, filename, query.get("expire_in", ""), final))
        if status != 201:
            return self._refuse(id_, type_, 400, "another artifact of the same type already exists")
        return self._answer(201, {"id": int(id_)})

    def _refuse(self, id_, type_, status, message):
        with self.server_gitlab.lock:
            self.server_gitlab.refused.append((id_, type_, status))
        return self._answer(status, {"message": message})

    def _save_multipart(self, path):
        """Writes the form's only file to path; its name, or None."""
        left = int(self.headers.get("Content-Length", 0))
        boundary = re.search(r"boundary=([^;]+)", self.headers.get("Content-Type", ""))
        if boundary is None:
            self._skip_body()
            return None
        name = None
        while left > 0:
            line = self.rfile.readline(4096)
            left -= len(line)
            found = re.search(rb'filename="([^"]*)"', line)
            if found:
                name = found[1].decode()
            if line in (b"\r\n", b""):
                break
        tail = len(b"\r\n--" + boundary[1].encode() + b"--\r\n")
        size = left - tail
        with open(path, "wb") as f:
            while size > 0:
                data = self.rfile.read(min(size, CHUNK))
                if not data:
                    break
                f.write(data)
                size -= len(data)
        self.rfile.read(tail)
        return name

    def _give_archive(self, id_):
        with self.server_gitlab.lock:
            job = self._job(id_)
            found = [a for a in job.artifacts if a.type == "archive"] if job else []
        if job is None:
            return self._answer(403, {"message": "Forbidden"})
        if not found:
            return self._answer(404, {"message": "Not Found"})
        return self._answer(200, found[0].bytes(), "application/zip")

    def _git(self, url):
        project = re.fullmatch(r"/(.+)\.git/(info/refs|git-upload-pack)", url.path)
        token = self.server_gitlab.repositories.get(project[1]) if project else None
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if token is None:
            return self._answer(404, {"message": "Not Found"})
        user = self.headers.get("Authorization", "").removeprefix("Basic ")
        if b64decode(user) != b"gitlab-ci-token:" + token.encode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="GitLab"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "GIT_HTTP_EXPORT_ALL": "1",
               "GIT_PROJECT_ROOT": str(self.server_gitlab.root / "git"), "PATH_INFO": url.path,
               "QUERY_STRING": url.query, "REQUEST_METHOD": self.command,
               "CONTENT_TYPE": self.headers.get("Content-Type", ""),
               "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
               "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
               "CONTENT_LENGTH": str(len(body)), "REMOTE_USER": "gitlab-ci-token"}
        out = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True,
                             check=False).stdout
        head, _, rest = out.partition(b"\r\n\r\n")
        status, type_ = 200, "application/octet-stream"
        for line in head.decode().split("\r\n"):
            name, _, value = line.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            if name == "Content-Type":
                type_ = value
        return self._answer(status, rest, type_)
