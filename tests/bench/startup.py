#!/usr/bin/env python3
"""How long our programs take to start, and what a job costs with them.

1. Each of the four programs that the runner calls (--version) against an empty C program, started by the same
   C program turn by turn. Goal: under 2.0 times.
2. A job with `script: [true]` through config, prepare, the run stages and cleanup against the least driver there can
   be (four C programs; run execs bash), both played by the same stand-in for the runner. Goal: at most 15 ms more. As root jobs run as users
   of their own, made for this and removed again; otherwise unseparated.
"""

import argparse
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time

import common

PHASES = ("config", "prepare", "run", "cleanup")
USER_PREFIX = "tidewaiter-bench-"


def starts(build, work, runs, rounds):
    empty = common.compile_c(common.ROOT / "tests/bench/empty.c", work / "empty")
    spawn = common.compile_c(common.ROOT / "tests/bench/spawn.c", work / "spawn")
    argv = [spawn, str(runs), str(rounds), empty]
    for phase in PHASES:
        argv += ["--", common.program(build, f"tidewaiter-{phase}"), "--version"]
    lines = subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    times = [[float(value) / 1000 for value in line.split()] for line in lines]
    base = common.median(times[0])
    print(f"Start-up, ms ({runs} starts in each of {rounds} rounds)")
    print(f"  {'empty C program':22} {common.spread(times[0]):26}")
    for phase, values in zip(PHASES, times[1:]):
        print(f"  {'tidewaiter-' + phase:22} {common.spread(values):26} {common.median(values) / base:.2f}x (goal < 2.0x)")


def write_settings(work):
    return common.settings(work / "tidewaiter.yml", [
        f"state_dir: {work}/state", f"cache_dir: {work}/cache",
        f"scan_user: {USER_PREFIX}scan", f"courier_user: {USER_PREFIX}courier",
        # the stand-in's own, which Runner puts there
        f"job: {{ user_prefix: {USER_PREFIX}, slots: 2, runner_path: {work}/runner-tidewaiter/bin/gitlab-runner }}",
    ])


def jobs(build, work, count):
    from runner import Driver, Job, Runner
    minimal = work / "minimal"
    minimal.mkdir()
    common.compile_c(common.ROOT / "tests/bench/minimal.c", minimal / "run")
    for phase in PHASES[:2] + PHASES[3:]:
        shutil.copy(minimal / "run", minimal / phase)
    config = write_settings(work)
    if os.geteuid() == 0:
        subprocess.run([common.program(build, "tidewaiter"), "--config", str(config), "setup"], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    drivers = {
        "minimal": Driver(**{phase: [str(minimal / phase)] for phase in PHASES}),
        "tidewaiter": Driver(**{phase: [common.program(build, f"tidewaiter-{phase}"), "--config", str(config)]
                                for phase in PHASES}),
    }
    took = {name: [] for name in drivers}
    runners = {name: Runner(work / f"runner-{name}", driver) for name, driver in drivers.items()}
    for number in range(count + 2):
        for name, runner in runners.items():
            since = time.monotonic()
            result = runner.play(Job(name="test", script=["true"]))
            elapsed = (time.monotonic() - since) * 1000
            if result.state != "success":
                common.fail(f"the job under {name} ended with {result.state}:\n{result.log.decode(errors='replace')}")
            if number >= 2:
                took[name].append(elapsed)
    for runner in runners.values():
        runner.close()
    print(f"\nA job with `script: [true]`, ms ({count} jobs each, "
          f"{'users of their own' if os.geteuid() == 0 else 'not separated, no root'})")
    for name, values in took.items():
        print(f"  {name:22} {common.spread(values)}")
    more = common.median(took["tidewaiter"]) - common.median(took["minimal"])
    print(f"  {'more than minimal':22} {more:.2f} ms (goal <= 15 ms)")


def remove_users():
    for entry in pwd.getpwall():
        if entry.pw_name.startswith(USER_PREFIX):
            subprocess.run(["userdel", entry.pw_name], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=common.ROOT / "build/release", help="directory of the release build")
    parser.add_argument("--starts", type=int, default=50, help="starts in each round")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=40)
    args = parser.parse_args()
    print(common.machine() + "\n")
    base = "/srv" if os.geteuid() == 0 else tempfile.gettempdir()
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-", dir=base) as name:
        work = pathlib.Path(name)
        work.chmod(0o755)
        starts(args.build, work, args.starts, args.rounds)
        try:
            jobs(args.build, work, args.jobs)
        finally:
            if os.geteuid() == 0:
                remove_users()


if __name__ == "__main__":
    main()
