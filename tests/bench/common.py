"""What the benchmarks share: where programs are, how times are compared."""

import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/standins"), str(ROOT / "tests/fixtures")]

CACHE = pathlib.Path(os.environ.get("TIDEWAITER_CACHE") or pathlib.Path(
    os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tidewaiter")


def fail(text):
    sys.exit(f"bench: {text}")


def program(build, name):
    """An executable of a build directory or below an installation's prefix."""
    for place in ("", "bin", "libexec/tidewaiter", "cli", "executor"):
        path = build / place / name
        if path.is_file():
            return str(path.resolve())
    return fail(f"{name} is not in {build}: build it with cmake --preset release && cmake --build build/release")


def output(*argv):
    """What a script of ours prints, its last line."""
    return subprocess.run([str(arg) for arg in argv], check=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True).stdout.strip().split("\n")[-1]


def compile_c(source, target):
    subprocess.run(["cc", "-O2", "-o", str(target), str(source)], check=True)
    return str(target)


def settings(path, lines):
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o644)
    return path


def machine():
    """The machine in a few words."""
    model = "unknown CPU"
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{os.cpu_count()} CPUs, {model}, Linux {os.uname().release.split('-')[0]}"


def median(values):
    return statistics.median(values)


def spread(values):
    """Median and the quarters about it, in the unit of the values."""
    quarters = statistics.quantiles(values, n=4) if len(values) > 3 else [min(values), median(values), max(values)]
    return f"{quarters[1]:.2f} ({quarters[0]:.2f} to {quarters[2]:.2f})"
