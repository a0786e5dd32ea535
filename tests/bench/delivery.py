#!/usr/bin/python3
"""What delivering to DefectDojo costs a job, and whether anything is lost or doubled when much goes wrong.

    tests/bench/delivery.py [--build DIR] [--rounds N] [overhead] [drain] [jobs]

overhead  `tidewaiter scan` of a small image whose result is known, with and without --upload, turn by turn: DefectDojo
          refuses connections, or its breaker is open; with an empty spool and with many reports in it
drain     `tidewaiter spool serve` takes 1 000 reports of 20 tests to a stand-in that is killed (SIGKILL) and started
          again 20 times meanwhile; then every report must be there once, in order, and no finding twice
jobs      50 jobs at the same time into 5 tests, the same must hold

The stand-in for DefectDojo is tests/standins/defectdojo.py. An ordinary user's spool is used; as root too.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import common
import images

MS = 1000


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Place:
    """Settings, token and spool of one user, in a directory that is gone afterwards."""

    def __init__(self, root, build, port):
        self.root = root
        self.program = common.program(build, "tidewaiter")
        self.port = port
        self.n = 0
        token = root / "token"
        token.write_text("0123456789abcdef0123456789abcdef01234567\n")
        token.chmod(0o600)
        self.token = token
        self.config = root / "tidewaiter.yml"
        self.spool = root / "state/spool"
        for name in ("new", "dead", "lock", "server"):
            (self.spool / name).mkdir(mode=0o700, parents=True)
        self.spool.chmod(0o700)
        (root / "state").chmod(0o711)
        self.config_lines = [
            f"state_dir: {root}/state", f"cache_dir: {root}/cache", f"scan_user: {USERS[0]}", f"courier_user: {USERS[1]}",
            "defectdojo:", f"  url: http://127.0.0.1:{port}", f"  token_file: {token}", "  product_type: CI",
            "  wait: 120s"]
        self.own()

    def own(self):
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{USERS[1]}:", str(self.spool), str(self.token)], check=True)

    def configure(self, *more):
        common.settings(self.config, self.config_lines + list(more))

    def run(self, *args, **options):
        return subprocess.run([self.program, "--config", str(self.config), *map(str, args)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, **options)

    def start(self, *args):
        return subprocess.Popen([self.program, "--config", str(self.config), *map(str, args)], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def waiting(self, place="new"):
        return sorted(path for path in (self.spool / place).iterdir() if "." not in path.name)

    def add(self, test, body):
        """A delivery as stages/delivery.h has it."""
        self.n += 1
        data = json.dumps(body).encode()
        head = {"format": 1, "server": "", "token_file": "", "project": "group/app", "product_type": "CI",
                "product": "group/app", "engagement": "main", "test": test, "service": test, "environment": "",
                "version": "1", "branch": "main", "commit": "c0ffee", "build_id": f"{self.n}-0", "minimum_severity": "",
                "tags": [], "active": 0, "verified": 0, "created_s": int(time.time()) - 600,
                "n_findings": sum(len(r["Vulnerabilities"]) for r in body["Results"]), "report_len": len(data)}
        key = hashlib.sha256(f"group/app\0main\0{test}\0".encode()).hexdigest()[:16]
        path = self.spool / "new" / f"20260102030405{self.n:06}-{key}"
        path.write_bytes(json.dumps(head).encode() + b"\n" + data)
        path.chmod(0o600)
        return head["build_id"]


def report(*cves):
    return {"SchemaVersion": 2, "ArtifactName": "app", "Results": [
        {"Target": "app (debian 12)", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [
            {"VulnerabilityID": cve, "PkgName": "libx", "InstalledVersion": "1.0", "FixedVersion": "1.1",
             "Severity": "HIGH", "Title": f"flaw {cve}", "Description": "text", "Status": "fixed"} for cve in cves]}]}


class StandIn:
    """The stand-in as a program whose rows outlive it."""

    def __init__(self, root, port, token):
        self.argv = [sys.executable, str(common.ROOT / "tests/standins/defectdojo.py"), "--port", str(port),
                     "--state", str(root / "dojo.state"), "--token-file", str(token)]
        self.url = f"http://127.0.0.1:{port}"

    def start(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                return self.state()
            except OSError:
                time.sleep(0.05)
        return common.fail("the stand-in for DefectDojo does not start")

    def state(self):
        with urllib.request.urlopen(f"{self.url}/_standin/state", timeout=60) as answer:
            return json.load(answer)

    def tell(self, word, body=""):
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/_standin/{word}", body.encode(), method="POST"),
                               timeout=60).close()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def check(state, builds):
    """builds: test title -> build ids in order. Ends the program where something is lost, doubled or out of order."""
    tests = {row["title"]: row["id"] for row in state["tests"]}
    for title, wanted in builds.items():
        arrived = [row["build_id"] for row in state["imports"] if row["test"] == tests[title]]
        if arrived != wanted:
            common.fail(f"test {title}: {len(wanted)} reports were given, {len(arrived)} rows are there, "
                        f"first difference: {next(((a, b) for a, b in zip(arrived, wanted) if a != b), None)}")
    twice = [key for key, n in collections.Counter(
        (row["test"], row["hash_code"]) for row in state["findings"]).items() if n > 1]
    if twice:
        common.fail(f"{len(twice)} findings are there twice")


# ---- overhead ----

def scanning_lines(root):
    """Trivy and a small database where users without rights can read them."""
    shutil.copy(common.output(common.ROOT / "scripts/trivy"), root / "trivy")
    subprocess.run([common.ROOT / "scripts/trivy-db", root / "trivy-db"], check=True, capture_output=True)
    return ["trivy:", f"  path: {root}/trivy", f"  db_dir: {root}/trivy-db/db"]


def timed(place, archive, *more):
    """Wall clock and CPU time of all its processes, ms."""
    begun = time.monotonic()
    process = place.start("scan", "--as", "group/app", "--branch", "main", *more, archive)
    _, status, usage = os.wait4(process.pid, 0)
    took = (time.monotonic() - begun) * MS
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        common.fail(f"scan ended with {process.returncode}")
    return took, (usage.ru_utime + usage.ru_stime) * MS


def forget(place, kept):
    for path in place.waiting():
        if path not in kept:
            path.unlink()
            path.with_name(path.name + ".state").unlink(missing_ok=True)


def close_breakers(place):
    for path in (place.spool / "server").iterdir():
        path.unlink()


def overhead(place, archive, rounds, n_waiting):
    for n in range(n_waiting - len(place.waiting())):
        place.add(f"other-{n % 500}", report("CVE-2024-1"))
    place.own()
    kept = set(place.waiting())
    times = collections.defaultdict(list)
    for k in range(rounds + 1):
        for case in ("without", "refused", "open") if k % 2 else ("open", "refused", "without"):
            if case == "refused":
                close_breakers(place)
            elif case == "open":
                place.run("scan", "--as", "group/app", "--branch", "main", "--upload", archive)
                forget(place, kept)
            took = timed(place, archive, *(() if case == "without" else ("--upload",)))
            forget(place, kept)
            if k > 0:
                times[case].append(took)
    base = [common.median(values) for values in zip(*times["without"])]
    for case, words in (("refused", "connections are refused"), ("open", "the breaker is open")):
        wall, cpu = ([value - base[k] for value in values] for k, values in enumerate(zip(*times[case])))
        print(f"| {n_waiting:6} | {words} | {common.spread(wall)} | {common.spread(cpu)} |", flush=True)


def run_overhead(args):
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-", dir=args.dir) as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        place = Place(root, args.build, free_port())
        archive = root / "app.tar"
        images.KINDS["classic"].write(archive)
        place.configure("  spool_count_max: 100000", *scanning_lines(root))
        print("| waiting in the spool | DefectDojo | ms more than without delivery | CPU ms more |\n"
              "|---|---|---|---|")
        for n in (0, 1000, 10000):
            overhead(place, archive, args.rounds, n)


# ---- drain ----

def run_drain(args):
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-", dir=args.dir) as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        place = Place(root, args.build, free_port())
        # What was cut off is not sent again before nobody can be at work on it any more: by default half an hour.
        place.configure("  timeout: 60s")
        builds = {}
        for n in range(args.reports):
            title = f"t{n % 20}"
            builds.setdefault(title, []).append(place.add(title, report(*(f"CVE-{n + k}" for k in range(0, 100, 20)))))
        place.own()
        dojo = StandIn(root, place.port, place.token)
        dojo.start()
        begun = time.monotonic()
        serving = place.start("spool", "serve")
        for kill in range(1, args.kills + 1):
            while args.reports - len(place.waiting()) < args.reports * kill // (args.kills + 1):
                time.sleep(0.01)
            dojo.kill()
            time.sleep(0.5)
            dojo.start()
        while place.waiting():
            time.sleep(0.05)
        took = time.monotonic() - begun
        serving.terminate()
        if serving.wait(timeout=10) != 0 or place.waiting("dead"):
            common.fail("serve ended badly, or reports were given up")
        check(dojo.state(), builds)
        dojo.kill()
        print(f"{args.reports} reports, {args.kills} times killed: all there once and in order, no finding twice; "
              f"{took:.0f} s", flush=True)


# ---- jobs ----

def run_jobs(args):
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-", dir=args.dir) as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        place = Place(root, args.build, free_port())
        place.configure("  test: \"{image} {branch}\"", "  engagement: main", *scanning_lines(root))
        archive = root / "app.tar"
        images.KINDS["classic"].write(archive)
        place.run("scan", archive)  # what Trivy says is kept
        dojo = StandIn(root, place.port, place.token)
        dojo.start()
        dojo.tell("pause", "findings")
        begun = time.monotonic()
        jobs = [place.start("scan", "--upload", "--as", "group/app", "--branch", f"b{n % 5}", archive) for n in range(50)]
        while len(place.waiting()) < len(jobs):
            time.sleep(0.02)
        builds = {}
        for path in place.waiting():
            head = json.loads(path.read_bytes().split(b"\n", 1)[0])
            builds.setdefault(head["test"], []).append(head["build_id"])
        dojo.tell("resume")
        for job in jobs:
            job.wait()
        took = time.monotonic() - begun
        if place.waiting() or place.waiting("dead"):
            common.fail(f"{len(place.waiting())} reports were not delivered by their jobs")
        check(dojo.state(), builds)
        dojo.kill()
        print(f"50 jobs at once into {len(builds)} tests: all there once and in order, no finding twice; {took:.1f} s",
              flush=True)


USERS = ("nobody", "daemon")


def main():
    p = argparse.ArgumentParser(description="What delivering costs and whether it is reliable.")
    p.add_argument("--build", default=str(common.ROOT / "build/release"), type=pathlib.Path)
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--reports", type=int, default=1000)
    p.add_argument("--kills", type=int, default=20)
    p.add_argument("--dir", default="/srv" if os.geteuid() == 0 else None, help="where the spool is made")
    p.add_argument("what", nargs="*", choices=[[], "overhead", "drain", "jobs"], default=[])
    args = p.parse_args()
    args.build = pathlib.Path(args.build)
    print(common.machine(), flush=True)
    for name, run in (("overhead", run_overhead), ("drain", run_drain), ("jobs", run_jobs)):
        if not args.what or name in args.what:
            run(args)


if __name__ == "__main__":
    main()
