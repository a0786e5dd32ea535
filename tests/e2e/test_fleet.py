"""What the hosts of a fleet share: results in a Redis, and a Trivy server. Real ones of both, with TLS and without."""

import datetime
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from listening import Listener
from test_results import trivy  # noqa: F401
from test_scan_stage import CRITICAL, age, archive, ids, place, scan  # noqa: F401

KEY = "a key of a fleet that is long enough"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def until_open(port):
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def certificate(root):
    """(certificate, key) of 127.0.0.1, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256()))
    paths = root / "tls.crt", root / "tls.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return paths


@pytest.fixture
def secret(root):
    """secret(name, text) → a file for the courier ("daemon" here) alone."""

    def write(name, text):
        path = root / name
        path.write_text(text + "\n")
        path.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(path, "root", "daemon")
            path.chmod(0o640)
        return str(path)

    return write


class Redis:
    def __init__(self, directory, certificate=None, password=None):
        self.port = free_port()
        argv = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
        if certificate:
            argv += ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file", str(certificate[0]), "--tls-key-file",
                     str(certificate[1]), "--tls-ca-cert-file", str(certificate[0]), "--tls-auth-clients", "no"]
        else:
            argv += ["--port", str(self.port)]
        if password:
            argv += ["--user", "default", "off", "--user", "fleet", "on", f">{password}", "~tidewaiter:*", "+@all"]
        self.options = (["--tls", "--cacert", str(certificate[0])] if certificate else []) + (
            ["--user", "fleet", "--pass", password, "--no-auth-warning"] if password else [])
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until_open(self.port)

    def ask(self, *words, stdin=None):
        extra = ["-x"] if stdin is not None else []
        return subprocess.run(["redis-cli", "-h", "127.0.0.1", "-p", str(self.port), *self.options, *extra, *words], input=stdin,
                              capture_output=True, check=True, timeout=20).stdout

    def keys(self):
        return sorted(self.ask("keys", "tidewaiter:result:*").decode().split())

    def get(self, key):
        return self.ask("get", key)[:-1]

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def make_redis(root):
    made = []

    def make(**options):
        made.append(Redis(root, **options))
        return made[-1]

    yield make
    for redis in made:
        redis.close()


@pytest.fixture
def look(scan, trivy, secret):
    """look(FILE, host="a", **trivy section) → (exit code, JSON, finished process): hosts have caches of their own."""

    def run(file, host="a", key=KEY, over=None, **section):
        if "results_redis" in section:
            section = {"results_key_file": secret("fleet.key", key), **section}
        cache = {"cache_dir": str(trivy.path.parent / f"cache-{host}")}
        return scan(file, over={**cache, **(over or {}), "trivy": {"path": str(trivy.path), **section}})

    return run


def said(done):
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["plain", "password", "tls", "tls and password"])
def test_a_result_of_one_host_serves_the_others(kind, look, trivy, archive, make_redis, certificate, secret):
    section = {}
    if "password" in kind:
        section["results_auth_file"] = secret("auth", "fleet:not to be seen")
    if "tls" in kind:
        section["results_ca_file"] = str(certificate[0])
    redis = make_redis(certificate=certificate if "tls" in kind else None, password="not to be seen" if "password" in kind else None)
    section["results_redis"] = f"redis{'s' if 'tls' in kind else ''}://127.0.0.1:{redis.port}"
    path = archive("docker25")
    code, first, done = look(path, "a", **section)
    assert code == 1, said(done)
    name, = redis.keys()
    assert 0 < int(redis.ask("ttl", name)) <= 7 * 86400
    trivy.breaks()
    code, again, done = look(path, "b", **section)
    assert code == 1, said(done)
    assert ids(again["images"][0]) == ids(first["images"][0])
    assert "not to be seen" not in said(done)
    # and now it is on that host
    redis.close()
    assert look(path, "b")[0] == 1


def test_another_database_of_the_redis_is_another_place(look, archive, make_redis):
    redis = make_redis()
    assert look(archive("clean"), results_redis=f"redis://127.0.0.1:{redis.port}/3")[0] == 0
    assert not redis.keys()
    assert redis.ask("-n", "3", "dbsize").strip() == b"1"


def test_an_invented_result_is_not_believed(look, trivy, archive, make_redis):
    """Who reaches the Redis but lacks the key: a sealed entry of a clean image for a flawed one, another key's, damage."""
    redis = make_redis()
    section = {"results_redis": f"redis://127.0.0.1:{redis.port}"}
    flawed = archive("docker25")
    look(archive("clean"), "a", **section)
    clean_name, = redis.keys()
    look(flawed, "a", **section)
    flawed_name, = set(redis.keys()) - {clean_name}
    clean, good = redis.get(clean_name), redis.get(flawed_name)
    trivy.breaks()
    for n, value in enumerate([clean, good[:-1], good[:90] + bytes([good[90] ^ 1]) + good[91:], b"", b"x" * 1000, good + b"x"]):
        redis.ask("set", flawed_name, stdin=value)
        code, result, done = look(flawed, f"victim{n}", **section)
        assert (code, result["verdict"]) == (3, "undecided"), n
        assert "not of our key" in said(done), n
    redis.ask("set", flawed_name, stdin=good)
    assert look(flawed, "victim", key="another key that is also long enough", **section)[0] == 3
    assert look(flawed, "victim", **section)[0] == 1


def listener(answer):
    """A server that gives `answer` to whatever it is told; None: nothing at all."""

    def serve(connection):
        if answer is not None:
            connection.recv(4096)
            connection.sendall(answer)

    return Listener(serve)


@pytest.mark.parametrize("answer", [
    None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR no\033[31m\r\n", b"$2000000000\r\n" + b"x" * 100000, b"*1000000000\r\n",
    b"$-1\r\n$-1\r\n*99999999\r\n", b"$5\r\nab", b":7\r\n",
], ids=["slow", "http", "error", "huge", "list", "more", "cut", "number"])
def test_a_redis_that_is_slow_or_lies_costs_one_bounded_delay(answer, look, archive):
    with listener(answer) as server:
        section = {"results_redis": f"redis://127.0.0.1:{server.port}"}
        started = time.monotonic()
        code, result, done = look(archive("docker25"), **section)
        took = time.monotonic() - started
    assert code == 1 and ids(result["images"][0], blocking=True) == CRITICAL
    assert said(done).count("trivy.results_redis") == 1, said(done)
    assert "\033[31m" not in said(done)
    assert took < 20


def test_a_redis_that_is_down_is_done_without(look, archive):
    code, _, done = look(archive("clean"), results_redis=f"redis://127.0.0.1:{free_port()}")
    assert code == 0
    assert said(done).count("trivy.results_redis") == 1


@pytest.mark.parametrize("what", ["no key", "short key", "wrong authority"])
def test_what_is_set_wrongly_is_said_and_done_without(what, look, archive, make_redis, certificate, root):
    redis = make_redis(certificate=certificate)
    section = {"results_redis": f"rediss://127.0.0.1:{redis.port}", "results_ca_file": str(certificate[0])}
    key = KEY
    if what == "no key":
        section["results_key_file"] = str(root / "nothing")
    elif what == "short key":
        key = "short"
    else:
        del section["results_ca_file"]
    code, _, done = look(archive("clean"), key=key, **section)
    assert code == 0
    assert "results in Redis" in said(done)
    assert not redis.keys()


# ---- the Trivy server ----


class TrivyServer:
    def __init__(self, place, root, token):
        self.port = free_port()
        cache = root / "server-cache"
        shutil.copytree(place.db, cache / "db")
        argv = [str(place.trivy), "server", "--listen", f"127.0.0.1:{self.port}", "--cache-dir", str(cache), "--skip-db-update"]
        if token:
            argv += ["--token", token]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until_open(self.port)

    def close(self):
        self.process.kill()
        self.process.wait()


class TlsFront:
    """TLS in front of a plain server."""

    def __init__(self, certificate, port):
        self.back = port
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*map(str, certificate))
        self.server = Listener(self.begin)
        self.port = self.server.port

    def begin(self, connection):
        threading.Thread(target=self.relay, args=(connection,), daemon=True).start()

    def relay(self, connection):
        try:
            front = self.context.wrap_socket(connection, server_side=True)
        except OSError:
            return
        back = socket.create_connection(("127.0.0.1", self.back))
        threading.Thread(target=self.copy, args=(back, front), daemon=True).start()
        self.copy(front, back)

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            s.close()

    def close(self):
        self.server.close()


@pytest.fixture
def serve(place, root):
    made = []

    def make(token=None, certificate=None):
        made.append(TrivyServer(place, root, token))
        if certificate:
            made.append(TlsFront(certificate, made[-1].port))
        return made[-1]

    yield make
    for server in reversed(made):
        server.close()


@pytest.mark.parametrize("kind", ["plain", "token", "tls and token"])
def test_a_trivy_server_gives_the_same_findings_as_a_database_here(kind, look, serve, archive, certificate, secret, root):
    path = archive("docker25")
    _, here, _ = look(path, "other")
    section = {"db_dir": str(root / "no-database")}
    if "token" in kind:
        section["server_token_file"] = secret("server.token", "not to be seen")
    if "tls" in kind:
        section["server_ca_file"] = str(certificate[0])
    server = serve(token="not to be seen" if "token" in kind else None, certificate=certificate if "tls" in kind else None)
    code, there, done = look(path, server=f"http{'s' if 'tls' in kind else ''}://127.0.0.1:{server.port}/", **section)
    assert code == 1, said(done)
    assert there["images"][0]["findings"] == here["images"][0]["findings"]
    assert "not to be seen" not in said(done)


@pytest.mark.parametrize("what", ["down", "wrong token", "no token", "wrong authority", "old database"])
def test_without_a_good_trivy_server_the_verdict_is_undecided(what, look, serve, archive, certificate, secret, place):
    section = {"server_token_file": secret("server.token", "right")}
    if what == "old database":
        place = type(place)(place.directory)
        place.db = place.database("old-server", age(49))
    if what == "down":
        section["server"] = f"http://127.0.0.1:{free_port()}"
    elif what == "old database":
        section["server"] = f"http://127.0.0.1:{old_server(place, serve).port}"
    elif what == "wrong authority":
        section["server"] = f"https://127.0.0.1:{serve(token='right', certificate=certificate).port}"
    else:
        section["server"] = f"http://127.0.0.1:{serve(token='right').port}"
    if what == "wrong token":
        section["server_token_file"] = secret("server.token", "wrong")
    elif what == "no token":
        section["server_token_file"] = ""
    code, result, _ = look(archive("clean"), **section)
    assert (code, result["verdict"]) == (3, "undecided")
    text = result["images"][0]["fault"]["text"]
    assert ("trivy.db_max_age" if what == "old database" else "Trivy") in text


def old_server(place, serve):
    """A server whose database is the old one."""
    server = serve(token="right")
    server.process.kill()
    server.process.wait()
    cache = place.directory / "old-cache"
    shutil.rmtree(cache, ignore_errors=True)
    shutil.copytree(place.db, cache / "db")
    server.process = subprocess.Popen([str(place.trivy), "server", "--listen", f"127.0.0.1:{server.port}", "--cache-dir", str(cache),
                                       "--skip-db-update", "--token", "right"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until_open(server.port)
    return server


@pytest.mark.skipif(os.geteuid() != 0, reason="without root nothing is separated")
def test_a_trivy_with_a_server_reaches_that_server_and_nothing_else(look, serve, archive, trivy, secret, root):
    """It has neither the server's token nor a network, and calls that Trivy's client does not make are not passed on."""
    server = serve(token="the real token")
    spy = root / "spy.py"
    spy.write_text(f"""
import re, socket, sys
seen = []
config = next(a for a in sys.argv if a.startswith("--config=")).split("=", 1)[1]
token = re.search('token: "(.*)"', open(config).read()).group(1)
if token == "the real token" or "the real token" in " ".join(sys.argv): seen.append("token")
try:
    socket.create_connection(("127.0.0.1", {server.port}), 2); seen.append("direct")
except OSError: pass
port = int(next(a for a in sys.argv if a.startswith("--server=")).rsplit(":", 1)[1])
def ask(head, body=b""):
    s = socket.create_connection(("127.0.0.1", port), 5)
    s.sendall(head.encode() + b"\\r\\n\\r\\n" + body)
    return s.makefile("rb").readline().split()[1].decode() if True else ""
t = "Trivy-Token: " + token
codes = [ask("GET /version HTTP/1.1\\r\\n" + t), ask("GET /version HTTP/1.1\\r\\nTrivy-Token: x"), ask("GET /healthz HTTP/1.1\\r\\n" + t),
         ask("POST /twirp/trivy.cache.v1.Cache/DeleteBlobs HTTP/1.1\\r\\nContent-Length: 0\\r\\n" + t),
         ask("CONNECT 127.0.0.1:80 HTTP/1.1\\r\\n" + t), ask("GET http://127.0.0.1:1/version HTTP/1.1\\r\\n" + t),
         ask("GET /version/../healthz HTTP/1.1\\r\\n" + t)]
print("FATAL saw:" + ",".join(seen) + " " + ",".join(codes), file=sys.stderr)
sys.exit(1)
""")
    trivy.path.write_text(f"#!/bin/sh\nexec /usr/bin/python3 -I {spy} \"$@\"\n")
    code, result, _ = look(archive("clean"), server=f"http://127.0.0.1:{server.port}", server_token_file=secret("server.token", "the real token"))
    assert code == 3
    assert "saw: 200,401,403,403,403,403,403" in result["images"][0]["fault"]["text"], result["images"][0]["fault"]["text"]
