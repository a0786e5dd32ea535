#!/usr/bin/env python3
"""From the archive to the verdict: `tidewaiter scan` against `trivy image --input`.

The same archives (made here, kept in the cache), the same Trivy, database and scanners, `--cache-backend memory`, a warm page
cache; each some times in a row, the first time apart: on a virtual machine whose host takes back free memory the
first run after a pause pays for getting it again, and ours needs as much as the layers are large. Goals: 824 MB in 7 layers no slower, 1.6 GB in 47 layers at least 3 times faster; at most 64 MB
resident in any process of ours. That figure is taken in a run of its own.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import common
import images

SIZES = {
    "824 MB, 7 layers": (824_000_000, 7, False),
    "1.6 GB, 47 layers": (1_600_000_000, 47, False),
    "824 MB, 7 layers, .tar.gz": (824_000_000, 7, True),
}
GOALS = {"824 MB, 7 layers": 1.0, "1.6 GB, 47 layers": 3.0}


def make_archive(directory, size, layers, gzipped):
    path = directory / f"big-{size // 1_000_000}-{layers}.tar{'.gz' if gzipped else ''}"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        images.big(part, size, layers, gzipped)
        part.rename(path)
    return path


def warm(path):
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass


def timed(argv, ok, cwd):
    since = time.monotonic()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          cwd=cwd, env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "LANG": "C.UTF-8"})
    elapsed = time.monotonic() - since
    if done.returncode not in ok:
        common.fail(f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr.decode(errors='replace')[-2000:]}"
                    f"\n{done.stdout.decode(errors='replace')[-2000:]}")
    return elapsed, done.stdout


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        pass
    return found + [grandchild for child in found for grandchild in children(child)]


def peak_memory(argv, ours, cwd):
    """The largest resident set (VmHWM, MB) of any process that runs the program `ours`."""
    peak = 0
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd) as process:
        while process.poll() is None:
            for pid in [process.pid] + children(process.pid):
                try:
                    if os.readlink(f"/proc/{pid}/exe") != ours:
                        continue
                    with open(f"/proc/{pid}/status", encoding="ascii") as file:
                        for line in file:
                            if line.startswith("VmHWM:"):
                                peak = max(peak, int(line.split()[1]))
                except OSError:
                    continue
            time.sleep(0.005)
    return peak / 1000


def ids(report):
    return sorted((vuln["VulnerabilityID"], vuln["PkgName"]) for result in report.get("Results") or []
                  for vuln in result.get("Vulnerabilities") or [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=common.ROOT / "build/release", help="directory of the release build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--archives", type=pathlib.Path, default=common.CACHE / "bench", help="where the archives are kept")
    parser.add_argument("--only", help="part of the name of the images to measure")
    args = parser.parse_args()
    ours = common.program(args.build, "tidewaiter")
    trivy = common.output(common.ROOT / "scripts/trivy")
    print(common.machine() + "\n")
    print(f"{'image':26} {'trivy image --input, s':24} {'first':>6}  {'tidewaiter scan, s':24} {'first':>6} {'faster':>8} {'goal':>6} {'peak, MB':>9}")
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-", dir="/var/tmp") as name:
        work = pathlib.Path(name)
        work.chmod(0o755)
        # below a place that the user who runs Trivy for us can reach
        own = work / "trivy"
        shutil.copy(trivy, own)
        database = common.output(common.ROOT / "scripts/trivy-db", work / "db")
        config = common.settings(work / "tidewaiter.yml", [
            f"state_dir: {work}/state", f"cache_dir: {work}/cache",
            f"trivy: {{ path: {own}, db_dir: {database}/db, scanners: [vuln] }}",
        ])
        theirs = [str(own), "image", "--quiet", "--offline-scan", "--skip-db-update", "--skip-version-check",
                  "--cache-dir", database, "--cache-backend", "memory", "--scanners", "vuln", "--format", "json", "--input"]
        scan = [ours, "--config", str(config), "scan", "--severity", "CRITICAL", "--json"]
        for label, (size, layers, gzipped) in SIZES.items():
            if args.only and args.only not in label:
                continue
            archive = make_archive(args.archives, size, layers, gzipped)
            warm(archive)
            times, first = {}, {}
            for who, argv, ok in (("theirs", theirs, {0}), ("ours", scan, {1})):
                first[who], out = timed([*argv, str(archive)], ok, work)
                times[who] = [timed([*argv, str(archive)], ok, work)[0] for _ in range(args.rounds)]
                if who == "theirs":
                    found = len(ids(json.loads(out)))
            peak = peak_memory(scan + [str(archive)], ours, work)
            ratio = common.median(times["theirs"]) / common.median(times["ours"])
            goal = f"{GOALS[label]:.1f}x" if label in GOALS else "-"
            print(f"{label:26} {common.spread(times['theirs']):24} {first['theirs']:6.2f}  {common.spread(times['ours']):24} "
                  f"{first['ours']:6.2f} {ratio:7.2f}x {goal:>6} {peak:9.1f}   {found} findings", flush=True)


if __name__ == "__main__":
    main()
