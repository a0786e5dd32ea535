#!/usr/bin/python3
"""What asking DefectDojo for its triage costs an inspection.

    tests/bench/triage.py [--build DIR] [--rounds N]

`tidewaiter scan` of a small image whose result is known, turn by turn: of no project, so that nobody is asked (without), and
as a project whose product has 100, 1 000 and 5 000 findings, every tenth of them accepted; then DefectDojo refuses connections, then
it takes them and is silent. Each twice: nothing would block, so that nobody waits for the answer; and something would. A job
asks while its last step runs, too: what that brought is kept here for nobody.

The stand-in for DefectDojo is tests/standins/defectdojo.py, which answers a row in far less than the 2.6 ms of a real one.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import shutil
import socket
import tempfile
import time
import urllib.request

import common
import delivery
import images

WAIT_S = 2


def accept(dojo, token, ids):
    body = {"name": "a", "owner": 1, "accepted_findings": ids}
    request = urllib.request.Request(f"{dojo.url}/api/v2/risk_acceptance/", json.dumps(body).encode(), method="POST", headers={
        "Authorization": f"Token {token.read_text().strip()}", "Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=60).close()


@contextlib.contextmanager
def with_findings(place, n):
    """A DefectDojo in which the product has so many."""
    state = place.root / f"state-{n}"
    state.mkdir()
    dojo = delivery.StandIn(state, place.port, place.token)
    dojo.start()
    try:
        place.configure()
        place.add("group/app", delivery.report(*(f"CVE-2024-{k:05}" for k in range(n))))
        place.own()
        done = place.run("spool", "flush", "--now")
        ids = [f["id"] for f in dojo.state()["findings"]]
        if len(ids) != n:
            common.fail(f"{len(ids)} findings arrived: {done.stdout}{done.stderr}")
        accept(dojo, place.token, ids[::10])
        yield
    finally:
        dojo.kill()


@contextlib.contextmanager
def refusing(place):
    yield


@contextlib.contextmanager
def silent(place):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", place.port))
        s.listen(64)
        yield


def scan(place, archive, *more):
    """Wall clock, ms."""
    shutil.rmtree(place.root / "state/triage", ignore_errors=True)
    begun = time.monotonic()
    process = place.start("scan", *more, archive)
    if process.wait() not in (0, 1):
        common.fail(f"scan ended with {process.returncode}")
    return (time.monotonic() - begun) * delivery.MS


def measure(place, archives, words, rounds, lines):
    place.configure(f"  wait: {WAIT_S}s", *lines, "gate:", "  mode: enforce")
    for verdict, archive in archives.items():
        times = collections.defaultdict(list)
        for k in range(rounds + 1):
            for case in ("without", "with") if k % 2 else ("with", "without"):
                took = scan(place, archive, *(("--as", "group/app", "--branch", "main") if case == "with" else ()))
                if k > 0:
                    times[case].append(took)
        ratio = [a / b for a, b in zip(times["with"], times["without"])]
        print(f"| {words} | {verdict} | {common.spread(times['without'])} | "
              f"{common.spread(times['with'])} | {common.median(ratio):.2f} |", flush=True)


def main():
    p = argparse.ArgumentParser(description="What asking for triage costs an inspection.")
    p.add_argument("--build", default=str(common.ROOT / "build/release"), type=pathlib.Path)
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--dir", default="/srv" if os.geteuid() == 0 else None, help="where state and spool are made")
    args = p.parse_args()
    print(common.machine(), "load %.1f" % os.getloadavg()[0], flush=True)
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-", dir=args.dir) as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        place = delivery.Place(root, args.build, delivery.free_port())
        place.config_lines.remove("  wait: 120s")
        lines = delivery.scanning_lines(root)
        archives = {"passes": root / "clean.tar", "blocks": root / "app.tar"}
        images.classic(images.clean()).write(archives["passes"])
        images.classic(images.app()).write(archives["blocks"])
        print("| DefectDojo | the job | without, ms | with, ms | ratio |\n|---|---|---|---|---|")
        for n in (100, 1000, 5000):
            with with_findings(place, n):
                measure(place, archives, f"{n} findings", args.rounds, lines)
        for words, server in (("refuses connections", refusing), (f"is silent, `wait: {WAIT_S}s`", silent)):
            with server(place):
                measure(place, archives, words, args.rounds, lines)


if __name__ == "__main__":
    main()
