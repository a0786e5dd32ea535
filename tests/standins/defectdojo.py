#!/usr/bin/python3
"""A stand-in for DefectDojo 3.2.0 behind nginx.

It refuses what the real one refuses, in its order of checks, computes statistics as the real one does, and is held
against every recorded exchange in shared/defectdojo/exchanges by tests/e2e/test_standin_defectdojo.py. Standard library
only. Parts: defectdojo_trivy.py (the parser), defectdojo_store.py (rows, matching, duplicates, triage),
defectdojo_api.py (checks and answers), this file (HTTP, faults, the class for tests, the program).

IN PYTEST

    from defectdojo import DefectDojo               # tests/e2e/conftest.py puts tests/standins on sys.path

    with DefectDojo() as dojo:
        dojo.url                    http://127.0.0.1:PORT (no trailing slash, no /api/v2)
        dojo.token                  of user `ci`: not staff, member of product type `CI`, id 2
        dojo.admin_token, dojo.stranger_token             staff (id 1); a user who is a member of nothing (id 3)
        dojo.fault = "502*2"        faults, see below; None takes them away, a list holds several
        dojo.requests               everything that arrived, oldest first; dojo.uploads: the import and reimport posts
                                    (.method .path .query .headers .form .files .body .complete .status .fault; form:
                                    name -> list of texts, files: name -> (file name, bytes), complete: all of it came)
        dojo.wait_for(predicate)    waits until predicate() is true, fails after 30 s
        dojo.post_report(report, test_title="img", …)    uploads with good fields, gives .status .headers .body .cut
        dojo.call(method, path, json=None, token=None)    any other call
        dojo.tests, dojo.imports, dojo.engagements, dojo.products, dojo.acceptances     lists of rows (copies)
        dojo.test(title)            the newest test of that title (or by id), None if there is none
        dojo.findings(test)         its findings (test: id, title or row; none: all)
        dojo.statistics(test)       counts, as `after` has them
        dojo.set_finding(id, false_p=True, active=False, verified=False), dojo.accept(ids, name="…"), dojo.expire(id)
        dojo.add_product_type / add_product / add_engagement / add_test     rows made by hand; dojo.next_id(table, n)
        dojo.pause("row"), dojo.wait_paused(n=1), dojo.resume()             see CONCURRENCY
        dojo.running                uploads that are at work now (their clients may be gone)
        dojo.down(), dojo.up()      refuses connections; comes back on the same port with what it has. down(kill=True)
                                    kills uploads in the middle, as SIGKILL does: what is written stays, no row
        dojo.store.ahead_s = 840    its clock is 14 minutes ahead: Date and every time that it puts down
        dojo.front_ahead_s = -600   and that of the proxy before it, whose Date is, differs from it
        dojo.worker = False         no background worker: async_wait answers after worker_timeout with
                                    deduplication_complete false. Setting it True runs what waits

    Arguments (the program has the same as options): host, port, state, fault, seconds_per_finding, deduplication,
    hash_code_fields, version, worker_timeout (60 s), write_order ("severity": least severe first, or "report"),
    max_body (413 above it; 800 MB), max_report (100 MiB), gzip, tls_cert, tls_key, tls_client_ca, token.

    At the start there are the product types `Research and Development` (1), `CI` (2, ci is a member) and `Other` (3)
    with product `foreign` (1), engagement `main` (1) and test `foreign` (1). Ids count from there as in the real one.

AS A PROGRAM

    python3 tests/standins/defectdojo.py --port 0 --port-file P --token-file F [--state FILE] [--fault SPEC]…

P is written when it listens (number and newline, renamed into place). F is read if it has a token, else written (0600).
--state keeps everything in FILE: one JSON line per change, appended as each row is written, compacted at the start; a
program that is killed with SIGKILL and started again goes on with what had been written, as the real database would.
--requests FILE appends a JSON line per request. SIGTERM and SIGINT end it with 0. A running one is steered over HTTP,
without a token: GET /_standin/state (tests, findings, imports, running, faults), GET /_standin/requests,
POST /_standin/fault (body: one fault per line, empty: none), POST /_standin/pause (body: point), POST /_standin/resume.

FAULTS: NAME[:ARGUMENT][@WHERE][*COUNT]

WHERE: `upload` (default: the two import paths), `any`, or the beginning of a path. COUNT: gone after so many requests.
Of several faults the first that fits is taken.

  nothing has happened on the server
    400-array 400-object 400-message 400-race 400-large 403 403-no-token 403-permission 404 404-html 413 429 500-json
    500-html (broker down) 502 503 504; 429, 502, 503 and 504 take Retry-After as argument. 413 is sent before the body
    is read, and with argument `read` after it. Wrong place: 301 302-login 307:URL
    200-html (a portal's page) 201-empty 201-html 201-truncated 201-array 201-deep 201-endless garbage (no HTTP at all)
    hang        reads the request, never answers          slow:S     answers S seconds late, does the work after them
    drop        reads the request, closes                 drop-early closes without reading the body
    reset       reads the request, sends a TCP reset
  the upload has happened, the client does not learn of it properly
    late:S      answers S seconds after the work          hang-late  never answers
    drop-late   closes without an answer                  reset-late
    half        head and half of the body, then closes    half-head  half of the status line, then closes
    trickle:S   a byte of the answer every S seconds      truncated  half of the body with a Content-Length that fits
  the upload has half happened: findings changed, no Test_Import row; never heals by itself
    500-late    500 JSON just before the row              died:N     killed after N findings are written; 502 HTML

CONCURRENCY

As in the real one an upload takes its picture of the test when it starts, then writes one finding after the other (each
takes seconds_per_finding), and writes the Test_Import row and the test's build_id at the very end. Two at once into one
test therefore double findings. Hanging up cancels nothing. pause(point) stops every upload at that point until resume:
`context` (names and fields are checked, nothing is made), `findings` (picture taken, nothing written), `finding`
(before every finding), `row` (all findings written, row not), `answer` (all done).

WHERE THE RECORDINGS ARE SILENT

The program's published source decided: a new finding is no duplicate of one that was closed; the same hash twice in one
reimport is one finding; not_affected closes an open match, in no bucket; auto_create_context not sent at all is a 400
array. The recorded pages show findings with rising ids in the report's order, the notes say least severe first: see
write_order. Other scan types than `Trivy Scan` are no valid choice here.
"""

import argparse
import copy
import gzip
import http.client
import http.server
import json
import os
import re
import secrets
import select
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse

from defectdojo_api import Answer, Api, Request, field_errors, html_404, html_500, message, server_error
from defectdojo_store import HASH_FIELDS, Died, ServerError, Store

MIB = 1 << 20
UPLOADS = ("/api/v2/reimport-scan/", "/api/v2/import-scan/")
DATE_JOINED = "2026-01-02T03:04:05.678901Z"
PAGE_502 = b"<html><head><title>Error</title></head><body><h1>An error occurred.</h1></body></html>\n"
POINTS = ("context", "findings", "finding", "row", "answer")
BEHAVIOUR = {
    "hang", "slow", "drop", "drop-early", "reset", "late", "hang-late", "drop-late", "reset-late", "half", "half-head",
    "trickle", "truncated", "500-late", "died", "garbage", "201-endless",
}


def nginx_page(status):
    title = f"{status} {http.client.responses[status]}"
    return (f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
            f"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n").encode()


def _nginx(status):
    def make(argument):
        page = PAGE_502 if status == 502 else nginx_page(status)
        return Answer(status, page, "text/html", {"Retry-After": argument} if argument else {})
    return make


def _json(status, body):
    return lambda argument: Answer(status, body)


def _throttled(argument):
    wait = argument or "30"
    body = {"detail": f"Request was throttled. Expected available in {wait} seconds."}
    return Answer(429, body, headers={"Retry-After": wait})


ELSEWHERE = "https://other.example/"
PORTAL = b"<!DOCTYPE html><html><body><h1>Please sign in</h1></body></html>"
CANNED = {
    "400-array": _json(400, ["product_name parameter missing"]),
    "400-object": _json(400, field_errors({"scan_type": [('"Trivy Scan" is not a valid choice.', "invalid_choice")]})),
    "400-message": _json(400, message("['Schema of Trivy json report is not supported']")),
    "400-race": _json(400, message("{'name': ['Product with this Name already exists.']}")),
    "400-large": _json(400, field_errors({"non_field_errors": [
        ("Report file is too large. Maximum supported size is 100 MB", "invalid")]})),
    "403": _json(403, {"detail": "Invalid token."}),
    "403-no-token": _json(403, {"detail": "Authentication credentials were not provided."}),
    "403-permission": _json(403, {"detail": "You do not have permission to perform this action."}),
    "404": _json(404, {"detail": "A test could not be found!"}),
    "404-html": lambda argument: html_404(),
    "413": lambda argument: _nginx(413)(None),
    "429": _throttled,
    "500-json": lambda argument: server_error(),
    "500-html": lambda argument: html_500(),
    "502": _nginx(502),
    "503": _nginx(503),
    "504": _nginx(504),
    "301": lambda argument: Answer(301, nginx_page(301), "text/html", {"Location": argument or ELSEWHERE}),
    "302-login": lambda argument: Answer(302, b"", "text/html; charset=utf-8", {"Location": "/login?next=/api/v2/"}),
    "307": lambda argument: Answer(307, nginx_page(307), "text/html", {"Location": argument or ELSEWHERE}),
    "200-html": lambda argument: Answer(200, PORTAL, "text/html"),
    "201-html": lambda argument: Answer(201, PORTAL, "text/html"),
    "201-empty": lambda argument: Answer(201, b""),
    "201-truncated": lambda argument: Answer(201, b'{"minimum_severity":"Info","statistics":{"after":{"in'),
    "201-array": _json(201, ["created"]),
    "201-deep": lambda argument: Answer(201, b'{"statistics":' * 50000 + b"{}" + b"}" * 50000),
}


class Fault:
    """One fault of the list in this module's description."""

    def __init__(self, text):
        match = re.fullmatch(r"([a-z0-9-]+?)(?::([^@*]*))?(?:@([^*]+))?(?:\*(\d+))?", text)
        if not match or match[1] not in CANNED and match[1] not in BEHAVIOUR:
            raise ValueError(f"unknown fault {text!r}")
        self.text = text
        self.name, self.argument, self.where = match[1], match[2], match[3] or "upload"
        self.left = int(match[4]) if match[4] else None

    def fits(self, method, path):
        if self.where == "upload":
            return method == "POST" and path in UPLOADS
        return self.where == "any" or path.startswith(self.where)


class _Cut(Exception):
    """The client went away in the middle of its request."""


class _Run:
    """One request's way through the store: where it is slowed, stopped and killed."""

    def __init__(self, dojo, fault, stopping):
        self.dojo = dojo
        self.fault = fault
        self.stopping = stopping
        self.left = int(fault.argument or 0) if fault and fault.name == "died" else None

    def step(self):
        if self.left is not None:
            if self.left == 0:
                raise Died
            self.left -= 1
        if self.dojo.seconds_per_finding:
            self.stopping.wait(self.dojo.seconds_per_finding)
        self.checkpoint("finding")

    def checkpoint(self, name):
        self.dojo._pause_here(name, self.stopping)
        if self.stopping.is_set():
            raise Died
        if name == "row" and self.left is not None:
            raise Died
        if name == "row" and self.fault and self.fault.name == "500-late":
            raise ServerError("as asked")

    def wait_for_worker(self):
        self.stopping.wait(self.dojo.settings["worker_timeout"])


class Recorded:
    """A request as it arrived."""

    def __init__(self, request, fault):
        self.method, self.path, self.query = request.method, request.path, request.query
        self.headers = dict(request.headers.items())
        self.form, self.files, self.body = {}, {}, b""
        self.complete = False
        self.status = None
        self.fault = fault.text if fault else None

    def as_json(self):
        fields = {k: v for k, v in vars(self).items() if k not in ("files", "body")}
        fields["headers"] = {k: v for k, v in self.headers.items() if k.lower() != "authorization"}
        fields["files"] = {k: {"name": name, "size": len(data)} for k, (name, data) in self.files.items()}
        fields["body"] = self.body[:100000].decode("utf-8", "replace")
        return fields


class Response:
    """What came back. cut: it ended before its end."""

    def __init__(self, status, headers, raw, cut=False):
        self.cut = cut
        if headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        self.status, self.headers, self.raw = status, headers, raw
        is_json = headers.get("Content-Type", "").startswith("application/json") and not cut
        self.body = json.loads(raw) if is_json and raw else raw


def parse_multipart(content_type, body):
    """(form, files), or None where it is no multipart body."""
    match = re.search(r'boundary="?([^";]+)"?', content_type)
    if not match:
        return None
    form, files = {}, {}
    mark = b"--" + match[1].encode("latin-1")
    at = body.find(mark)
    while at >= 0:
        start = at + len(mark)
        if body[start:start + 2] == b"--":
            return form, files
        head_end = body.find(b"\r\n\r\n", start)
        at = body.find(b"\r\n" + mark, max(head_end, start))
        if head_end < 0 or at < 0:
            return None
        head = body[start:head_end].decode("utf-8", "replace")
        name = re.search(r'[; ]name="((?:[^"\\]|\\.)*)"', head)
        file_name = re.search(r'filename="((?:[^"\\]|\\.)*)"', head)
        data = body[head_end + 4:at]
        at += 2
        if name is None:
            continue
        name = re.sub(r"\\(.)", r"\1", name[1])
        if file_name is None:
            form.setdefault(name, []).append(data.decode("utf-8", "replace"))
        elif file_name[1]:
            files[name] = (re.sub(r"\\(.)", r"\1", file_name[1]), data)
    return None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 600

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except (OSError, ValueError):
            pass

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read_body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts = []
            while True:
                size = int(self._read_line().split(b";")[0] or b"0", 16)
                if size == 0:
                    while self._read_line().strip():
                        pass
                    return b"".join(parts)
                parts.append(self._read_exactly(size))
                self._read_line()
        return self._read_exactly(int(self.headers.get("Content-Length") or 0))

    def _read_line(self):
        line = self.rfile.readline(65537)
        if not line.endswith(b"\n"):
            raise _Cut
        return line.rstrip(b"\r\n") or b"\r\n"

    def _read_exactly(self, size):
        data = self.rfile.read(size)
        if len(data) != size:
            raise _Cut
        return data

    # -- one request --------------------------------------------------------------------------------------------------

    def _serve(self):
        dojo = self.server.dojo
        target = urllib.parse.urlsplit(self.path)
        request = Request(self.command, urllib.parse.unquote(target.path), target.query, self.headers, dojo.scheme)
        if request.path.startswith("/_standin/"):
            self._send(dojo._control(request.method, request.path, self._read_body().decode()))
            return
        fault = dojo._take_fault(request.method, request.path)
        recorded = dojo._record(request, fault)
        try:
            if self._refused_early(fault, recorded):
                return
            self._take_body(request, recorded)
        except (_Cut, OSError, ValueError):
            self.close_connection = True
            return
        dojo._arrived(recorded)
        name = fault.name if fault else ""
        if self._misbehave(fault):
            return
        if name in CANNED:
            answer = CANNED[name](fault.argument)
        else:
            answer = self._work(request, fault)
        if answer is None:
            self.close_connection = True
            return
        recorded.status = answer.status
        dojo._log(recorded)
        self._answer(answer, fault, request)

    def _refused_early(self, fault, recorded):
        """nginx answers 413 as soon as it has the head."""
        dojo = self.server.dojo
        if fault and fault.name == "drop-early":
            self._close()
            return True
        too_large = int(self.headers.get("Content-Length") or 0) > dojo.settings["max_body"]
        if too_large or fault and fault.name == "413" and fault.argument != "read":
            recorded.status = 413
            dojo._log(recorded)
            self.close_connection = True
            self._send(_nginx(413)(None))
            self._linger()
            return True
        return False

    def _take_body(self, request, recorded):
        body = self._read_body()
        if request.content_type == "multipart/form-data":
            parts = parse_multipart(self.headers["Content-Type"], body)
            request.form, request.files = parts if parts else ({}, {})
        else:
            request.body = body
        recorded.form, recorded.files, recorded.body = request.form, request.files, request.body
        recorded.complete = True

    def _work(self, request, fault):
        """None where this server was killed meanwhile."""
        dojo = self.server.dojo
        run = _Run(dojo, fault, self.server.stopping)
        with dojo._working(request):
            try:
                return dojo.api.answer(request, run)
            except Died:
                return None if self.server.stopping.is_set() else _nginx(502)(None)

    def _misbehave(self, fault):
        """True where that was all of it."""
        name = fault.name if fault else ""
        if name == "hang":
            self._hang()
        elif name == "slow":
            self.server.stopping.wait(float(fault.argument or 1))
            return self.server.stopping.is_set()
        elif name == "reset":
            self._reset()
        elif name == "drop":
            self._close()
        elif name == "garbage":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            self._close()
        elif name == "201-endless":
            self._endless()
        else:
            return False
        return True

    def _answer(self, answer, fault, request):
        name = fault.name if fault else ""
        if name == "late":
            self.server.stopping.wait(float(fault.argument or 1))
        elif name == "hang-late":
            self._hang()
            return
        elif name == "drop-late":
            self._close()
            return
        elif name == "reset-late":
            self._reset()
            return
        elif name == "truncated":
            answer.body = answer.body[:len(answer.body) // 2]
        if name in ("half", "half-head", "trickle"):
            self._broken(answer, name, fault.argument)
        elif answer.status == 301 and request.method == "POST" and name != "301":
            self._send_301(answer)
        else:
            self._send(answer)

    # -- writing ------------------------------------------------------------------------------------------------------

    def _head(self, answer, length, encoding=None):
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, '')}", "Server: nginx",
                 f"Date: {self.date_time_string(time.time() + self.server.dojo.store.ahead_s + self.server.dojo.front_ahead_s)}", f"Content-Type: {answer.content_type}"]
        lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        lines.append(f"Connection: {'close' if self.close_connection else 'keep-alive'}")
        if encoding:
            lines.append(f"Content-Encoding: {encoding}")
        lines.extend(f"{k}: {v}" for k, v in answer.headers.items())
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send(self, answer):
        wants_gzip = "gzip" in self.headers.get("Accept-Encoding", "") and self.server.dojo.settings["gzip"]
        if self.command == "HEAD":
            data = self._head(answer, len(answer.body))
        elif wants_gzip and len(answer.body) >= 1000:
            packed = gzip.compress(answer.body, 1)
            data = self._head(answer, None, "gzip") + b"%x\r\n" % len(packed) + packed + b"\r\n0\r\n\r\n"
        else:
            data = self._head(answer, len(answer.body)) + answer.body
        self.wfile.write(data)

    def _send_301(self, answer):
        """Chunked without an end: readable, but curl reports error 18."""
        self.close_connection = True
        self.wfile.write(self._head(answer, None))
        self._close()

    def _broken(self, answer, name, argument):
        head = self._head(answer, len(answer.body))
        if name == "half-head":
            self.wfile.write(head[:10])
        elif name == "half":
            self.wfile.write(head + answer.body[:len(answer.body) // 2])
        else:
            for byte in head + answer.body:
                self.wfile.write(bytes([byte]))
                if self.server.stopping.wait(float(argument or 0.1)):
                    break
            return
        self._close()

    def _endless(self):
        self.close_connection = True
        self.wfile.write(self._head(Answer(201, b""), None))
        block = b"10000\r\n" + b" " * 65536 + b"\r\n"
        while not self.server.stopping.is_set():
            self.wfile.write(block)

    # -- ending -------------------------------------------------------------------------------------------------------

    def _close(self):
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _linger(self):
        """Reads on for a moment, so that the client sees the answer and no reset."""
        try:
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(5)
            while self.connection.recv(65536):
                pass
        except (OSError, ValueError):
            pass

    def _reset(self):
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()

    def _hang(self):
        """Until the client hangs up or this server ends."""
        self.close_connection = True
        while not self.server.stopping.wait(0.02):
            if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(65536):
                return


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, address, dojo):
        self.dojo = dojo
        self.stopping = threading.Event()
        self.connections = set()
        super().__init__(address, _Handler)

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, (OSError, ValueError)):
            self.dojo.errors.append(error)
            super().handle_error(request, client_address)

    def hang_up(self):
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class _Working:
    def __init__(self, dojo, counted):
        self.dojo, self.counted = dojo, counted

    def __enter__(self):
        self.dojo._count(self.counted)

    def __exit__(self, *_):
        self.dojo._count(-self.counted)


class DefectDojo:
    """See the description of this module."""

    def __init__(self, host="127.0.0.1", port=0, state=None, fault=None, seconds_per_finding=0.0, deduplication=True,
                 hash_code_fields=HASH_FIELDS, version="3.2.0", worker_timeout=60.0, write_order="severity",
                 max_body=800 * MIB, max_report=100 * MIB, gzip=True, tls_cert=None, tls_key=None, tls_client_ca=None,
                 token=None, requests_file=None):
        self.host, self.port = host, port
        self.seconds_per_finding = seconds_per_finding
        self.settings = {"version": version, "max_body": max_body, "max_report": max_report, "gzip": gzip,
                         "worker_timeout": worker_timeout}
        self.token = token or secrets.token_hex(20)
        self.admin_token, self.stranger_token = secrets.token_hex(20), secrets.token_hex(20)
        self.errors = []
        self._tls = (tls_cert, tls_key, tls_client_ca) if tls_cert else None
        self.scheme = "https" if tls_cert else "http"
        self._changed = threading.Condition()
        self._requests, self._faults = [], []
        self._pause, self._paused, self._turn, self._running = None, 0, 0, 0
        self._requests_file = requests_file
        self._server = None
        self.front_ahead_s = 0
        self.store = Store(state, deduplication, hash_code_fields, write_order)
        self.api = Api(self.store, self._users(), self.settings)
        self.fault = fault
        if not self.store.rows("product_types"):
            self._first_rows()

    def _users(self):
        named = ((self.admin_token, 1, "admin", True), (self.token, 2, "ci", False),
                 (self.stranger_token, 3, "stranger", False))
        return {token: {"id": n, "username": name, "is_staff": staff, "date_joined": DATE_JOINED}
                for token, n, name, staff in named}

    def _first_rows(self):
        for name in ("Development", "Staging", "Production", "Test"):
            self.store.add("environments", {"name": name})
        self.add_product_type("Research and Development")
        self.add_product_type("CI", [2])
        foreign = self.add_product("foreign", self.add_product_type("Other")["id"])
        self.add_test("foreign", self.add_engagement("main", foreign["id"])["id"])

    # -- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.down(kill=True)
        self.store.close()

    def up(self):
        self._server = _Server((self.host, self.port), self)
        self.port = self._server.server_address[1]
        if self._tls:
            cert, key, client_ca = self._tls
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            if client_ca:
                context.load_verify_locations(client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True,
                                                      do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def down(self, kill=False):
        """Refuses connections. Uploads at work go on, unless they are to be killed."""
        server, self._server = self._server, None
        if server is None:
            return
        if kill:
            server.stopping.set()
            with self._changed:
                self._changed.notify_all()
        server.shutdown()
        server.server_close()
        if kill:
            self.wait_for(lambda: self.running == 0)
            server.hang_up()

    @property
    def url(self):
        return f"{self.scheme}://{self.host}:{self.port}"

    # -- steering -----------------------------------------------------------------------------------------------------

    @property
    def fault(self):
        with self._changed:
            return [f.text for f in self._faults] or None

    @fault.setter
    def fault(self, faults):
        if isinstance(faults, str):
            faults = [faults]
        parsed = [Fault(f) for f in faults or []]
        with self._changed:
            self._faults = parsed

    @property
    def worker(self):
        return self.store.worker

    @worker.setter
    def worker(self, there):
        with self.store.lock:
            self.store.worker = there
            if there:
                self.store.drain()

    def pause(self, point):
        if point not in POINTS:
            raise ValueError(f"no such point: {point!r}; there are {', '.join(POINTS)}")
        with self._changed:
            self._pause = point

    def resume(self):
        with self._changed:
            self._pause = None
            self._turn += 1
            self._changed.notify_all()

    def wait_paused(self, n=1, timeout=30):
        self.wait_for(lambda: self._paused >= n, timeout)

    def wait_for(self, predicate, timeout=30):
        deadline = time.monotonic() + timeout
        while not predicate():
            with self._changed:
                self._changed.wait(0.02)
            if time.monotonic() > deadline:
                raise TimeoutError("the stand-in DefectDojo waited in vain")

    @property
    def running(self):
        with self._changed:
            return self._running

    # -- what the handlers call ---------------------------------------------------------------------------------------

    def _pause_here(self, name, stopping):
        with self._changed:
            if self._pause != name:
                return
            turn = self._turn
            self._paused += 1
            self._changed.notify_all()
            while self._turn == turn and not stopping.is_set():
                self._changed.wait()
            self._paused -= 1

    def _take_fault(self, method, path):
        with self._changed:
            for fault in self._faults:
                if fault.fits(method, path):
                    if fault.left is not None:
                        fault.left -= 1
                        if fault.left == 0:
                            self._faults.remove(fault)
                    return fault
        return None

    def _record(self, request, fault):
        recorded = Recorded(request, fault)
        with self._changed:
            self._requests.append(recorded)
            self._changed.notify_all()
        return recorded

    def _arrived(self, recorded):
        with self._changed:
            self._changed.notify_all()

    def _log(self, recorded):
        if self._requests_file:
            line = json.dumps(recorded.as_json()).encode() + b"\n"
            fd = os.open(self._requests_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.write(fd, line)
            os.close(fd)

    def _working(self, request):
        return _Working(self, 1 if request.method == "POST" and request.path in UPLOADS else 0)

    def _count(self, change):
        with self._changed:
            self._running += change
            self._changed.notify_all()

    def _control(self, method, path, body):
        name = path.removeprefix("/_standin/").strip("/")
        try:
            if method == "GET" and name == "state":
                with self.store.lock:
                    tables = copy.deepcopy({t: self.store.rows(t) for t in self.store.tables})
                return Answer(200, {**tables, "running": self.running, "paused": self._paused, "faults": self.fault})
            if method == "GET" and name == "requests":
                return Answer(200, [r.as_json() for r in self.requests])
            if method == "POST" and name == "fault":
                self.fault = body.split()
            elif method == "POST" and name == "pause":
                self.pause(body.strip())
            elif method == "POST" and name == "resume":
                self.resume()
            else:
                return Answer(404, {"detail": "Not found."})
        except ValueError as e:
            return Answer(400, {"detail": str(e)})
        return Answer(200, {})

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def requests(self):
        with self._changed:
            return list(self._requests)

    @property
    def uploads(self):
        return [r for r in self.requests if r.method == "POST" and r.path in UPLOADS]

    def _rows(self, table):
        with self.store.lock:
            return copy.deepcopy(self.store.rows(table))

    tests = property(lambda self: self._rows("tests"))
    imports = property(lambda self: self._rows("imports"))
    engagements = property(lambda self: self._rows("engagements"))
    products = property(lambda self: self._rows("products"))
    acceptances = property(lambda self: self._rows("acceptances"))

    def test(self, test):
        if isinstance(test, dict):
            return test
        found = [t for t in self.tests if t["id"] == test or t["title"] == test]
        return found[-1] if found else None

    def findings(self, test=None):
        rows = self._rows("findings")
        if test is None:
            return rows
        test = self.test(test)
        return [f for f in rows if test and f["test"] == test["id"]]

    def statistics(self, test):
        return self.store.test_statistics(self.test(test)["id"])

    # -- changing -----------------------------------------------------------------------------------------------------

    def next_id(self, table, value):
        """The id that the next row of that table gets. Tables as in defectdojo_store.TABLES, and "actions"."""
        self.store.next_id(table, value)

    def add_product_type(self, name, members=(), **fields):
        return self.store.add_product_type(name, members, **fields)

    def add_product(self, name, product_type=2, members=(), **fields):
        return self.store.add_product(name, product_type, members, **fields)

    def add_engagement(self, name, product, **fields):
        return self.store.add_engagement(name, product, **fields)

    def add_test(self, title, engagement, **fields):
        return self.store.add_test(title, engagement, **fields)

    def set_finding(self, finding_id, **changes):
        return copy.deepcopy(self.store.change_finding(self.store.get("findings", finding_id), changes))

    def accept(self, finding_ids, name="accepted", **fields):
        body = {"name": name, "owner": 1, "accepted_findings": list(finding_ids), **fields}
        return self.call("POST", "/api/v2/risk_acceptance/", body, self.admin_token).body

    def expire(self, acceptance_id):
        self.store.expire(acceptance_id)

    def connect(self):
        if not self._tls:
            return http.client.HTTPConnection(self.host, self.port, timeout=60)
        context = ssl.create_default_context(cafile=self._tls[0])
        context.check_hostname = False
        return http.client.HTTPSConnection(self.host, self.port, timeout=60, context=context)

    def send(self, method, path, body=None, headers=None):
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            try:
                raw, cut = response.read(), False
            except http.client.IncompleteRead as e:
                raw, cut = e.partial, True
            return Response(response.status, response.headers, raw, cut)
        finally:
            connection.close()

    def call(self, method, path, json_body=None, token=None):
        headers = {"Authorization": f"Token {token or self.token}"}
        body = None
        if json_body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(json_body).encode()
        return self.send(method, path, body, headers)

    def post_report(self, report, file_name="trivy.json", path=UPLOADS[0], token=None, **fields):
        """Uploads a report (object or bytes) with fields that are right; a field of None is left out."""
        form = {"scan_type": "Trivy Scan", "product_type_name": "CI", "product_name": "p1", "engagement_name": "main",
                "test_title": "img", "auto_create_context": "true", "version": "1.0.0", "branch_tag": "main",
                "commit_hash": "0123456789abcdef0123456789abcdef01234567", "build_id": "job-1", "service": "app",
                "deduplication_execution_mode": "sync", "close_old_findings": "true", "tags": ["trivy"], **fields}
        if not isinstance(report, bytes) and file_name:
            report = json.dumps(report).encode()
        content_type, body = multipart(form, file_name, report)
        return self.send("POST", path, body, {"Authorization": f"Token {token or self.token}",
                                              "Content-Type": content_type})


def multipart(form, file_name=None, data=b""):
    boundary = "standin-" + secrets.token_hex(8)
    parts = []
    for name, value in form.items():
        for text in value if isinstance(value, list) else [] if value is None else [value]:
            parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode())
    if file_name:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{file_name}"\r\n' \
               "Content-Type: application/json\r\n\r\n"
        parts += [head.encode(), data, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(parts)


def _write_file(path, text):
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as f:
        f.write(text + "\n")
    os.rename(path + ".new", path)


def _token_of(path):
    if path and os.path.exists(path):
        with open(path) as f:
            return f.read().strip() or None
    return None


def main():
    summary = "A stand-in for DefectDojo 3.2.0; the description of the module tells all of it."
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", help="gets the port once it listens")
    parser.add_argument("--token-file", help="token of user ci: read if there, else written")
    parser.add_argument("--state", help="keep everything in this file")
    parser.add_argument("--requests", help="append every request to this file, as JSON lines")
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--seconds-per-finding", type=float, default=0.0)
    parser.add_argument("--no-deduplication", action="store_true")
    parser.add_argument("--no-worker", action="store_true")
    parser.add_argument("--worker-timeout", type=float, default=60.0)
    parser.add_argument("--hash-code-fields", default=",".join(HASH_FIELDS))
    parser.add_argument("--write-order", choices=("severity", "report"), default="severity")
    parser.add_argument("--version", default="3.2.0", help="the version it claims to be")
    parser.add_argument("--max-body", type=int, default=800 * MIB)
    parser.add_argument("--max-report", type=int, default=100 * MIB)
    parser.add_argument("--no-gzip", action="store_true")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument("--tls-client-ca")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        dojo = DefectDojo(
            args.host, args.port, args.state, args.fault, args.seconds_per_finding, not args.no_deduplication,
            args.hash_code_fields.split(","), args.version, args.worker_timeout, args.write_order, args.max_body,
            args.max_report, not args.no_gzip, args.tls_cert, args.tls_key, args.tls_client_ca,
            _token_of(args.token_file), args.requests)
        dojo.worker = not args.no_worker
    except ValueError as e:
        parser.error(str(e))
    with dojo:
        if args.token_file and _token_of(args.token_file) is None:
            _write_file(args.token_file, dojo.token)
        if args.port_file:
            _write_file(args.port_file, str(dojo.port))
        print(dojo.url, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


if __name__ == "__main__":
    sys.exit(main())
