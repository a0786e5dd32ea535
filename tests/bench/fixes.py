#!/usr/bin/python3
"""What knowing since when there are fixes (grace.fixed) costs an inspection.

    tests/bench/fixes.py [--build DIR] [--rounds N]

`tidewaiter scan` of a small image whose result is known, turn by turn: without a policy, under one that does not ask, and under one
that asks, with so many fixes kept; those of the image are known, or all of them new (a lock, a new file, fsync).
"""

import argparse
import os
import pathlib
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import common
import images

MS = 1000
DAY = 86400
HEAD, RECORD = 24, 32
USERS = ("nobody", "daemon")
RULE = "version: 1\nrules:\n  - {name: all, mode: warn%s}\n"


def write_dates(path, records):
    """As stages/fix_dates.c writes them."""
    body = b"".join(sorted(records))
    path.write_bytes(b"TWFIXES1" + struct.pack("=QQ", len(records), zlib.crc32(body)) + body)
    path.chmod(0o600)
    if os.geteuid() == 0:
        subprocess.run(["chown", f"{USERS[1]}:", str(path)], check=True)


def records_of(path):
    data = path.read_bytes()[HEAD:]
    return [data[at:at + RECORD] for at in range(0, len(data), RECORD)]


def others(n):
    now = int(time.time())
    return [secrets.token_bytes(16) + struct.pack("=qq", now - DAY, now - DAY) for _ in range(n)]


class Place:
    def __init__(self, root, build):
        self.root, self.program = root, common.program(build, "tidewaiter")
        self.archive = root / "app.tar"
        images.KINDS["classic"].write(self.archive)
        (root / "state").mkdir(mode=0o711)
        self.dates = root / "state/fixes/dates"
        # where users without rights can read them
        shutil.copy(common.output(common.ROOT / "scripts/trivy"), root / "trivy")
        common.output(common.ROOT / "scripts/trivy-db", root / "trivy-db")
        self.lines = [f"state_dir: {root}/state", f"cache_dir: {root}/cache", f"scan_user: {USERS[0]}", f"courier_user: {USERS[1]}",
                      "trivy:", f"  path: {root}/trivy", f"  db_dir: {root}/trivy-db/db"]

    def policy(self, more):
        """Its settings; None: there is no policy."""
        lines = list(self.lines)
        if more is not None:
            path = common.settings(self.root / "policy.yml", [RULE % more])
            lines += ["policy:", f"  file: {path}"]
        return common.settings(self.root / "tidewaiter.yml", lines)

    def scan(self, config):
        """Wall clock and CPU time of all its processes, ms."""
        with open(self.root / "log", "w+", encoding="utf-8") as log:
            begun = time.monotonic()
            process = subprocess.Popen([self.program, "--config", str(config), "scan", str(self.archive)],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
            took = (time.monotonic() - begun) * MS
            process.returncode = os.waitstatus_to_exitcode(status)
            log.seek(0)
            said = log.read()
        if process.returncode not in (0, 1) or "not known of all" in said:
            common.fail(said)
        return took, (usage.ru_utime + usage.ru_stime) * MS


def measure(place, rounds, kept):
    """Wall clock and CPU time of each way, in rounds."""
    asks = ", grace: {fixed: 14}"
    place.scan(place.policy(asks))
    own = records_of(place.dates)
    more = others(kept - len(own)) if kept > len(own) else []
    ways = {"no policy": (None, own + more), "a policy that does not ask": ("", own + more), "asked, all known": (asks, own + more),
            "asked, all new": (asks, more)}
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (rule, records) in ways.items():
            config = place.policy(rule)
            write_dates(place.dates, records)
            times[name].append(place.scan(config))
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", type=pathlib.Path, default=common.ROOT / "build/release")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--dir", default="/srv" if os.geteuid() == 0 else None, help="where fixes are kept")
    args = parser.parse_args()
    print(f"{common.machine()}; {args.rounds} rounds\n\n| fixes kept | | ms more than without a policy | CPU ms more |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-", dir=args.dir) as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        place = Place(root, args.build)
        for kept in (0, 50_000, 250_000):
            times = measure(place, args.rounds, kept)
            base = times.pop("no policy")
            for way, values in times.items():
                wall, cpu = ([a[k] - b[k] for a, b in zip(values, base)] for k in (0, 1))
                print(f"| {kept:,} | {way} | {common.spread(wall)} | {common.spread(cpu)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
