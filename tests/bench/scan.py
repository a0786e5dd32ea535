#!/usr/bin/env python3
"""From the archive to the verdict: `tidewaiter scan` against `trivy image --input`.

The same archives (made here, kept in the cache), the same Trivy, database and scanners, `--cache-backend memory`, a warm page
cache. Three times of ours: first (nothing of the image is known), layers (all its layers are in the layer store, no result),
same (this very image was scanned before). A round takes all four once, Trivy first in one and last in the next; a round
before them is shown apart: on a virtual machine whose host takes back free memory the first run after a pause pays for getting it
again. The limit: the archive's bytes hashed by all CPUs at the speed of `openssl speed`, then Trivy on an OCI directory with plain
layers. The memory is that of the largest process of ours (VmHWM), in a run of its own; at most 64 MB.

As root, "early": what a job waits for its verdict with images.early and without, results forgotten, nothing of the image known.

At the end a report of 30 MB with 20 000 findings, printed by a stand-in for Trivy: read, judged and rendered, at most 2 s and 400 MB.
"""

import argparse
import copy
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
import time

import common
import images

PHASES = ("first", "layers", "same")
USER_PREFIX = "tidewaiter-bench-"


def oci_plain(image):
    archive = images.docker25(image)
    del archive.members[archive.find("manifest.json")]
    return archive


class Case:
    def __init__(self, label, size, layers, goals=None, gzipped=False, oci=None):
        self.label, self.size, self.layers, self.goals, self.gzipped, self.oci = label, size, layers, goals, gzipped, oci

    def archive(self, directory):
        oci = {None: "", oci_plain: "-oci", images.oci_only: "-oci-gzip"}[self.oci]
        path = directory / f"big-{self.size // 1_000_000}-{self.layers}{oci}.tar{'.gz' if self.gzipped else ''}"
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            images.big(part, self.size, self.layers, self.gzipped, self.oci or images.docker25)
            part.rename(path)
        return path


CASES = [
    Case("824 MB, 7 layers, tar", 824_000_000, 7, (1.2, 2.0, 2.5)),
    Case("1.6 GB, 47 layers, tar", 1_600_000_000, 47, (4.0, 5.0, 5.0)),
    Case("824 MB, .tar.gz", 824_000_000, 7, (5.0, 6.0, 7.0), gzipped=True),
    Case("824 MB, OCI tar", 824_000_000, 7, oci=oci_plain),
    Case("824 MB, OCI tar, layers gzip", 824_000_000, 7, oci=images.oci_only),
]

STAND_IN = r"""
#include <fcntl.h>
#include <unistd.h>
int main(void)
{
	static char p[1 << 16];
	int fd = open(REPORT, O_RDONLY);
	ssize_t n;
	while ((n = read(fd, p, sizeof(p))) > 0)
		if (write(1, p, (size_t)n) != n)
			return 1;
	return n < 0;
}
"""


def warm(path):
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass


def run(argv, ok, cwd):
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


def hash_speed():
    """Bytes a second that all CPUs together hash by SHA-256."""
    done = subprocess.run(["openssl", "speed", "-seconds", "1", "-bytes", "65536", "-evp", "sha256", "-multi", str(os.cpu_count())],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return float(re.search(r"^sha256\s+([\d.]+)k", done.stdout, re.M | re.I).group(1)) * 1000


class Bench:
    def __init__(self, args, work):
        self.args, self.work = args, work
        self.ours = common.program(args.build, "tidewaiter")
        # below a place that the user who runs Trivy for us can reach
        self.trivy = work / "trivy"
        shutil.copy(common.output(common.ROOT / "scripts/trivy"), self.trivy)
        self.database = common.output(common.ROOT / "scripts/trivy-db", work / "db")
        self.cache = work / "cache"
        self.theirs = [str(self.trivy), "image", "--quiet", "--offline-scan", "--skip-db-update", "--skip-version-check",
                       "--cache-dir", self.database, "--cache-backend", "memory", "--scanners", "vuln", "--format", "json", "--input"]
        self.scan = self.scan_with("tidewaiter.yml", self.trivy)

    def scan_with(self, name, trivy):
        config = common.settings(self.work / name, [
            f"state_dir: {self.work}/state", f"cache_dir: {self.cache}",
            f"trivy: {{ path: {trivy}, db_dir: {self.database}/db, scanners: [vuln] }}",
        ])
        return [self.ours, "--config", str(config), "scan", "--severity", "CRITICAL", "--json"]

    def forget(self, phase):
        """What the phase must not know."""
        gone = {"first": ("layers", "results"), "layers": ("results",), "same": ()}[phase]
        for name in gone:
            shutil.rmtree(self.cache / name, ignore_errors=True)

    def time_ours(self, archive, phase):
        self.forget(phase)
        return run([*self.scan, str(archive)], {1}, self.work)[0]

    def round(self, archive, number, with_theirs):
        times = {}
        order = ["theirs", *PHASES] if number % 2 else [*PHASES, "theirs"]
        for who in order:
            if who != "theirs":
                times[who] = self.time_ours(archive, who)
            elif with_theirs:
                times[who] = run([*self.theirs, str(archive)], {0}, self.work)[0]
        return times

    def ready(self, archive):
        """An OCI directory of the same image with plain layers; None where the tool that makes it was not built."""
        tool = self.args.build / "tests/unit/unpack_tool"
        if not tool.is_file():
            return None
        place = self.work / "ready"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return json.loads(run([str(tool.resolve()), str(archive), str(place)], {0}, self.work)[1])["images"][0]["layout"]

    def limit(self, archive, size, rounds):
        layout = self.ready(archive)
        if not layout:
            return None
        times = [run([*self.theirs, layout], {0}, self.work)[0] for _ in range(rounds + 1)][1:]
        return size / hash_speed() + common.median(times)

    def measure(self, case):
        archive = case.archive(self.args.archives)
        warm(archive)
        before = self.round(archive, 1, not case.oci)
        slow = before.get("theirs", 0) > 10
        rounds = [self.round(archive, n, not case.oci and not (slow and n >= 1)) for n in range(self.args.rounds)]
        times = {who: [r[who] for r in rounds if who in r] for who in ("theirs", *PHASES)}
        times["before"] = before
        times["limit"] = self.limit(archive, case.size, self.args.rounds)
        self.forget("first")
        times["peak"] = peak_memory(self.scan + [str(archive)], self.ours, self.work)
        return times


def show(case, times, plain):
    theirs = common.median(times["theirs"]) if times["theirs"] else None
    print(f"{case.label}: {'Trivy cannot' if theirs is None else 'Trivy alone ' + common.spread(times['theirs']) + ' s'}, "
          f"limit {'not known' if times['limit'] is None else '%.2f s' % times['limit']}, our peak {times['peak']:.0f} MB")
    for at, phase in enumerate(PHASES):
        ours = common.median(times[phase])
        line = f"  {phase:7} {common.spread(times[phase]):24} s, before {times['before'][phase]:5.2f}"
        if theirs:
            line += f"   {theirs / ours:6.2f}x faster, goal {case.goals[at]:.1f}x"
        elif plain and case.oci is oci_plain:
            line += f"   {ours / common.median(plain[phase]):6.2f}x the plain tar, goal 1.1x"
        print(line, flush=True)


class JobEnd:
    """From the end of a job's script to the verdict, in a real job as a user of its own: with images.early and without. The
    script ends when the archive has been read, or, without, when it is there."""

    def __init__(self, bench, early):
        from runner import Driver, Runner
        self.bench, self.early = bench, early
        self.place = bench.work / f"job-{early}"
        self.place.mkdir(mode=0o755)
        self.cache = self.place / "cache"
        runner_path = self.place / "runner/bin/gitlab-runner"
        config = common.settings(self.place / "tidewaiter.yml", [
            f"state_dir: {self.place}/state", f"cache_dir: {self.cache}",
            f"scan_user: {USER_PREFIX}scan", f"courier_user: {USER_PREFIX}courier", "gate: { mode: audit }",
            f"images: {{ early: {str(early).lower()} }}",
            f"job: {{ user_prefix: {USER_PREFIX}, slots: 1, runner_path: {runner_path}, builds_dir: {self.place}/builds,"
            f" cache_dir: {self.place}/job-cache }}",
            f"trivy: {{ path: {bench.trivy}, db_dir: {bench.database}/db, scanners: [vuln], results_max: 0 }}"])
        subprocess.run([bench.ours, "--config", str(config), "setup"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.runner = Runner(self.place / "runner", Driver(**{
            phase: [common.program(bench.args.build, f"tidewaiter-{phase}"), "--config", str(config)]
            for phase in ("config", "prepare", "run", "cleanup")}))

    def is_read(self):
        return any((self.cache / "work").glob("*/archive-*.json"))

    def time(self, archive):
        from runner import At, Job
        shutil.rmtree(self.cache / "layers", ignore_errors=True)
        go = self.place / "go"
        go.unlink(missing_ok=True)
        at = {}

        def end_script(_call):
            deadline = time.monotonic() + 300
            while self.early and not self.is_read() and time.monotonic() < deadline:
                time.sleep(0.01)
            at["end"] = time.monotonic()
            go.touch()

        def next_stage(_name, _call):
            if "end" in at:
                at.setdefault("verdict", time.monotonic())

        name = "app.tar" + archive.suffix * (archive.suffix != ".tar")
        result = self.runner.play(Job(script=[f"cp {archive} {name}", "echo; echo written", f"until [ -e {go} ]; do sleep 0.005; done"]),
                                  at=[At("build_script", end_script, b"\nwritten")], on_stage=next_stage, max_seconds=600)
        if result.state != "success" or b"CRITICAL" not in result.log:
            common.fail(f"the job ended with {result.state}:\n{result.log.decode(errors='replace')[-2000:]}")
        return at["verdict"] - at["end"]


def remove_users():
    for entry in pwd.getpwall():
        if entry.pw_name.startswith(USER_PREFIX):
            subprocess.run(["userdel", entry.pw_name], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def early(bench):
    ends = {how: JobEnd(bench, how) for how in (False, True)}
    for case in (CASES[0], CASES[2]):
        archive = bench.work / f"job{''.join(case.archive(bench.args.archives).suffixes)}"
        shutil.copy(case.archive(bench.args.archives), archive)
        archive.chmod(0o644)
        times = {how: [] for how in ends}
        for number in range(bench.args.rounds + 1):
            for how, end in ends.items():
                took = end.time(archive)
                if number:
                    times[how].append(took)
        archive.unlink()
        print(f"{case.label}, from the end of the job's script to the verdict: early {common.spread(times[True])} s, "
              f"else {common.spread(times[False])} s, {common.median(times[False]) / common.median(times[True]):.2f}x", flush=True)
    for end in ends.values():
        end.runner.close()


def large_report(bench):
    """20 000 findings in 30 MB about a small image."""
    archive = bench.work / "small.tar"
    images.docker25(images.app()).write(archive)
    report = json.loads(run([*bench.theirs, str(archive)], {0}, bench.work)[1])
    result = next(r for r in report["Results"] if r.get("Vulnerabilities"))
    model = result["Vulnerabilities"][0]
    result["Vulnerabilities"] = []
    for n in range(20_000):
        one = copy.copy(model)
        one["VulnerabilityID"] = f"CVE-{2000 + n % 25}-{10000 + n}"
        one["PkgName"] = f"{model['PkgName']}-{n % 700}"
        one["Severity"] = ("LOW", "MEDIUM", "HIGH", "CRITICAL", "UNKNOWN")[n % 5]
        one["Description"] = ""
        one["Description"] = "Text of a description. " * 100
        one["Description"] = one["Description"][:max(0, 1500 - len(json.dumps(one)) + len(one["Description"]))]
        result["Vulnerabilities"].append(one)
    path = bench.work / "report.json"
    path.write_text(json.dumps(report))
    source = bench.work / "stand-in.c"
    source.write_text(STAND_IN.replace("REPORT", json.dumps(str(path))))
    stand_in = common.compile_c(source, bench.work / "stand-in")
    argv = [*bench.scan_with("large.yml", stand_in), str(archive)]
    times = []
    for _ in range(bench.args.rounds):
        bench.forget("first")
        times.append(run(argv, {1}, bench.work)[0])
    bench.forget("first")
    print(f"report of {path.stat().st_size / 1e6:.0f} MB, 20 000 findings: {common.spread(times)} s, goal 2 s; "
          f"our peak {peak_memory(argv, bench.ours, bench.work):.0f} MB, goal 400 MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=common.ROOT / "build/release", help="directory of the release build")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--archives", type=pathlib.Path, default=common.CACHE / "bench", help="where the archives are kept")
    parser.add_argument("--only", help="part of the name of what to measure; \"report\" is the large report, \"early\" a job with images.early")
    args = parser.parse_args()
    print(common.machine() + "\n")
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-", dir="/srv" if os.geteuid() == 0 else "/var/tmp") as name:
        work = pathlib.Path(name)
        work.chmod(0o755)
        bench = Bench(args, work)
        plain = None
        for case in CASES:
            if args.only and args.only not in case.label:
                continue
            times = bench.measure(case)
            show(case, times, plain)
            if case is CASES[0]:
                plain = times
        if os.geteuid() == 0 and (not args.only or args.only == "early"):
            try:
                early(bench)
            finally:
                remove_users()
        if not args.only or args.only == "report":
            large_report(bench)


if __name__ == "__main__":
    main()
