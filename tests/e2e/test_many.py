"""Many inspections of one host at once: in order, apart from each other, and all right in the end."""

import json
import os
import pathlib
import re
import subprocess
import time

import pytest
from test_scan_stage import archive, place  # noqa: F401

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="without root nothing is separated")


@pytest.fixture
def start(program, settings, place, root):
    """start(FILE, trivy=path, **trivy section) → a `tidewaiter scan` that runs."""
    running = []

    def run(file, trivy=None, **section):
        path = settings({"scan_user": "nobody", "courier_user": "daemon",
                         "trivy": {"path": str(trivy or place.trivy), "db_dir": str(place.db), **section}})
        process = subprocess.Popen([program("tidewaiter"), "--config", str(path), "scan", "--json", str(file)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield run
    (root / "go").touch()
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return value


def end(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, json.loads(out), err


def waiter(root, place):
    """A Trivy that waits until root/go is there."""
    return script(root / "waiter", f"while [ ! -e {root}/go ]; do /bin/sleep 0.03; done\nexec {place.trivy} \"$@\"\n")


def processes_of(path):
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(path).encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            pass
    return found


@as_root
def test_an_inspection_sees_neither_files_nor_processes_of_another(start, archive, place, root):
    first = start(archive("clean", "first"), waiter(root, place))
    works = root / "var-cache" / "work"
    work, = until(lambda: [w for w in works.iterdir() if (w / "trivy" / "config.yaml").exists()] if works.exists() else [])
    pids = until(lambda: [p for p in processes_of("waiter") or processes_of("/proc/self/fd") if p != first.pid])
    tries = " ".join(f"{place}/x" for place in ("/tmp", "/var/tmp", "/dev/shm", root / "var-cache" / "results", root / "var-cache" / "layers",
                                                root / "var-cache" / "trivy-slots", work))
    spy = script(root / "spy", f"""
seen=
[ ! -e {work}/trivy ] || seen="$seen work"
for p in {' '.join(map(str, pids))}; do [ ! -e /proc/$p ] || seen="$seen process"; kill -0 $p 2>/dev/null && seen="$seen signal"; done
for f in {tries}; do (: >$f) 2>/dev/null && seen="$seen $f"; done
[ "$(/usr/bin/wc -l </proc/net/route)" -le 1 ] || seen="$seen network"
(: >$HOME/x) || seen="$seen no-home"
[ $$ -lt 100 ] || seen="$seen pid-$$"
echo "FATAL saw:$seen." >&2
exit 1
""")
    code, result, _ = end(start(archive("clean", "second"), spy))
    assert code == 3
    assert "saw:." in result["images"][0]["fault"]["text"], result["images"][0]["fault"]["text"]
    (root / "go").touch()
    assert end(first)[0] == 0


def test_who_waits_says_so_with_its_place(start, archive, place, root):
    trivy = waiter(root, place)
    queue = root / "var-cache" / "inspections"
    started = []
    for n in range(4):
        started.append(start(archive("clean", f"n{n}"), trivy, parallel=1, results_max=0))
        until(lambda count=n + 1: queue.exists() and len([t for t in queue.iterdir() if len(t.name) == 20]) == count)
    time.sleep(0.3)
    (root / "go").touch()
    ends = [end(process) for process in started]
    assert [code for code, _, _ in ends] == [0] * 4
    said = [re.findall(r"waiting: .*", err) for _, _, err in ends]
    assert said[0] == []
    assert "this inspection is the next (trivy.parallel: 1)" in said[1][0]
    assert "1 inspection before this one (trivy.parallel: 1)" in said[2][0]
    assert "2 inspections before this one (trivy.parallel: 1)" in said[3][0]
    assert list(queue.glob("0*")) == []


def test_40_inspections_together_all_end_right(start, archive):
    kinds = [("docker25", 1), ("clean", 0), ("low-only", 0), ("unfixed-only", 1)] * 10
    running = [start(archive(kind, f"{kind}-{n}"), parallel=2, results_max=0) for n, (kind, _) in enumerate(kinds)]
    for process, (kind, code) in zip(running, kinds):
        got, result, err = end(process)
        assert got == code, (kind, result, err)
        assert result["images"][0]["fault"] is None
