#!/usr/bin/env python3
"""many.py [--build DIR] [--jobs N] [--parallel N] [--rounds N]: N inspections started together against the same
one after the other. Every image is another one and nothing is kept between rounds, so that each is unpacked and scanned."""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import common
import images


def make_images(directory, n):
    paths = []
    for k in range(n):
        kind = ["docker25", "clean", "alpine", "low-only"][k % 4]
        path = directory / f"{kind}-{k}.tar"
        image = images.app() if kind == "docker25" else images.image_of({**images.debian(images.FIXED), "etc/number": str(k).encode()})
        image.steps.append((f"COPY {k} /", images.layer({"opt/filler": os.urandom(4 << 20), "opt/number": str(k).encode()})))
        images.classic(image).write(path)
        paths.append(path)
    return paths


def inspect(program, config, path):
    done = subprocess.run([program, "--config", str(config), "scan", "--json", str(path)], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        common.fail(f"{path.name}: {done.stderr}")
    return done.returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=common.ROOT / "build/release")
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    program = common.program(options.build, "tidewaiter")
    with tempfile.TemporaryDirectory(prefix="tidewaiter-many-", dir="/srv" if os.geteuid() == 0 else None) as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        shutil.copy(common.output(common.ROOT / "scripts/trivy"), root / "trivy")
        common.output(common.ROOT / "scripts/trivy-db", root)
        paths = make_images(root, options.jobs)
        config = common.settings(root / "tidewaiter.yml", [
            f"state_dir: {root}/state", f"cache_dir: {root}/cache", "scan_user: nobody", "courier_user: daemon",
            f"job: {{ builds_dir: {root}/builds, cache_dir: {root}/job-cache }}",
            "images: { store_max: 0 }",
            f"trivy: {{ path: {root}/trivy, db_dir: {root}/db, parallel: {options.parallel}, results_max: 0 }}"])
        times = {"one after the other": [], "together": []}
        codes = {}
        for k in range(options.rounds):
            for how in sorted(times, reverse=bool(k % 2)):
                start = time.monotonic()
                with concurrent.futures.ThreadPoolExecutor(options.jobs if how == "together" else 1) as pool:
                    found = list(pool.map(lambda p: inspect(program, config, p), paths))
                times[how].append(time.monotonic() - start)
                if codes.setdefault("all", found) != found:
                    common.fail(f"{how}: verdicts differ")
    print(f"{options.jobs} inspections, trivy.parallel {options.parallel}, {common.machine()}")
    for how, values in times.items():
        print(f"  {how:20} {common.median(values):6.2f} s  {options.jobs / common.median(values):5.1f} inspections a second")
    print(f"  throughput           {common.median(times['one after the other']) / common.median(times['together']):.2f} times")


if __name__ == "__main__":
    main()
