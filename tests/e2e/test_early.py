"""images.early: while a job still runs its archives' layers go into the host's store, and nothing else comes of it."""

import hashlib
import io
import json
import os
import pathlib
import signal
import tarfile
import time

import pytest
from inspected import REPORT, archive, inspected, log  # noqa: F401
from runner import At
from slot_host import host, needs_root  # noqa: F401

pytestmark = needs_root

EARLY = {"images": {"early": True}}
PATIENCE_S = 60


def diff_ids(kind):
    """Of the one image of a docker-archive."""
    with tarfile.open(fileobj=io.BytesIO(archive(kind))) as tar:
        config = json.load(tar.extractfile("manifest.json"))[0]["Config"]
        return {d.replace(":", "-") for d in json.load(tar.extractfile(config))["rootfs"]["diff_ids"]}


class Job:
    """A job that says "written" and then waits for go(); what the test does meanwhile is given as a callable."""

    def __init__(self, inspected):  # noqa: F811
        self.inspected = inspected
        self.root = inspected.host.root
        self.cache = self.root / "var-cache"

    def store(self):
        """Digests of what the store holds; each file is what its name says."""
        found = set()
        for path in (self.cache / "layers").glob("now/*"):
            assert path.name == "sha256-" + hashlib.sha256(path.read_bytes()).hexdigest()
            found.add(path.name)
        return found

    def processes(self):
        """Pids of `tidewaiter inspect early` of this test's runner."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"early" in words and any(str(self.root).encode() in word for word in words):
                found.append(int(entry.name))
        return found

    def scanners(self):
        """Children of these, those that are about to end too: their command line is empty already."""
        found = []
        for pid in self.processes():
            try:
                found += pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except OSError:
                continue
        return found

    def wait(self, what):
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline, f"it did not come about: {self.store()}"
            time.sleep(0.01)

    def has_layers(self, *kinds):
        return lambda: set().union(*map(diff_ids, kinds)) <= self.store()

    def is_read(self, *kinds):
        """There is a record of what was read, too, and the scanner has ended."""
        return lambda: (self.has_layers(*kinds)() and any((self.cache / "work").glob("*/archive-*.json")) and
                        not self.scanners())

    def at(self, number, what, stage="build_script"):
        """For play(at=…): waits until that is so (or does it), then lets the job go on."""
        def act(_call):
            try:
                what()
            finally:
                (self.root / f"go{number}").touch()
        return At(stage, act, f"\nwritten {number}".encode())

    def until(self, number, condition):
        return self.at(number, lambda: self.wait(condition))

    def pause(self, number):
        """A line of the job's script."""
        return f"echo; echo written {number}; until [ -e {self.root}/go{number} ]; do sleep 0.02; done"

    def left(self):
        work = self.cache / "work"
        return self.processes() + (sorted(p.name for p in work.iterdir()) if work.exists() else [])


@pytest.fixture
def job(inspected):  # noqa: F811
    inspected.ready(over=EARLY)
    return Job(inspected)


@pytest.mark.parametrize("kind", ["classic", "docker25", "gzip-layers", "links"])
def test_layers_are_in_the_store_before_the_step_ends(job, kind):
    result = job.inspected.play(kind, more=[job.pause(1)], at=[job.until(1, job.is_read(kind))])
    assert result.exit_code == 90, log(result)
    assert "tar_images/app.tar was read while the job ran" in log(result)
    assert job.left() == []


def test_an_archive_that_is_compressed_as_a_whole_is_unpacked_early(job):
    result = job.inspected.play("classic", script=["mkdir -p out/tar_images", "gzip <image >out/app.tar.gz", "rm image", job.pause(1)],
                                at=[job.until(1, job.is_read("classic"))])
    assert result.exit_code == 90, log(result)
    assert "out/app.tar.gz was read while the job ran" in log(result)
    assert job.left() == []


def test_an_image_that_was_read_early_has_the_report_of_one_that_was_not(job):
    reports = []
    for number, before in enumerate([[], ["exec 5<>tar_images/app.tar"]]):
        (job.root / "go1").unlink(missing_ok=True)
        result = job.inspected.play("classic", id=number + 1, more=[*before, job.pause(1)], at=[job.until(1, job.is_read("classic"))])
        assert result.exit_code == 90, log(result)
        assert ("was read while the job ran" in log(result)) == (not before), log(result)
        reports.append(json.loads(next(a for a in result.artifacts if a.type == "archive").read(REPORT)))
    for report in reports:
        del report["CreatedAt"]
    assert reports[0] == reports[1]


@pytest.mark.parametrize("first, second, code", [("clean", "classic", 90), ("classic", "clean", None)])
def test_what_is_there_at_the_end_is_judged(job, first, second, code):
    result = job.inspected.play(first, more=[job.pause(1), "timeout 30 cp other tar_images/app.tar", "rm other"],
                                project={"other": archive(second)}, at=[job.until(1, job.is_read(first))])
    assert result.exit_code == code, log(result)
    assert "was read while the job ran" not in log(result)
    assert job.left() == []


def test_bytes_changed_behind_the_times_of_the_file_are_judged(job):
    """Early read a clean image; the same file, of the same length and mtime, holds another by the end."""
    flawed, good = archive("classic"), archive("clean")
    size = max(len(flawed), len(good))
    project = {"image": good.ljust(size, b"\0"), "other": flawed.ljust(size, b"\0")}
    result = job.inspected.play(script=["mkdir tar_images", "cat image >tar_images/app.tar", "cp -p tar_images/app.tar stamp", job.pause(1),
                                        "cat other 1<>tar_images/app.tar >&1", "touch -r stamp tar_images/app.tar", "rm image other stamp"],
                                project=project, at=[job.until(1, job.is_read("clean"))])
    assert result.exit_code == 90, log(result)


MAPPED = """
import mmap, os, sys, time
with open("tar_images/app.tar", "r+b") as file:
    view = mmap.mmap(file.fileno(), 0)
view[:] = view[:]
print("\\nwritten 1", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
view[:] = open("other", "rb").read()
"""


def test_stores_through_a_mapping_are_judged(job):
    """Early read a clean image of a file that the job still had mapped: the times of the file need not tell of the stores."""
    flawed, good = archive("classic"), archive("clean")
    size = max(len(flawed), len(good))
    project = {"image": good.ljust(size, b"\0"), "other": flawed.ljust(size, b"\0"), "mapped.py": MAPPED.encode()}
    result = job.inspected.play(script=["mkdir tar_images", "mv image tar_images/app.tar", f"python3 mapped.py {job.root}/go1", "rm other"],
                                project=project, at=[job.until(1, job.has_layers("clean"))])
    assert result.exit_code == 90, log(result)
    assert "was read while the job ran" not in log(result)


def test_odd_files_do_not_keep_the_next_from_being_read(job):
    odd = ["mkdir -p tar_images/dir.tar", "mkfifo tar_images/fifo.tar", "ln -s /etc/passwd tar_images/link.tar",
           "head -c 700 image >tar_images/cut.tar", "head -c 100000 /dev/zero >tar_images/zero.tar", "exec 5<>tar_images/open.tar",
           "cat image >&5", "cat image >tar_images/twice.tar", "ln tar_images/twice.tar tar_images/again.tar",
           "cat image >tar_images/gone.tar", "rm tar_images/gone.tar", "cat image >tar_images/away.tar", "mv tar_images/away.tar away",
           "mkdir deep", "mv tar_images deep/", "mv deep/tar_images ."]
    script = [*odd, job.pause(1), "mv other tar_images/app.tar", job.pause(2), "exec 5>&-", "rm -r image away tar_images/[!a]* tar_images/again.tar"]
    result = job.inspected.play("classic", script=script, project={"other": archive("clean")},
                                at=[job.at(1, lambda: None), job.until(2, job.has_layers("clean"))])
    assert result.state == "success", log(result)
    assert job.left() == []


def test_a_flood_of_files_costs_the_job_nothing(job):
    script = ["mkdir tar_images many", "for d in 1 2 3; do mkdir many/$d; done", 'for i in {1..20000}; do : >"tar_images/$i.tar"; done',
              "mkdir many/d{1..2000}", "rm -r many tar_images/*", "mv image tar_images/app.tar"]
    result = job.inspected.play("classic", script=script)
    assert result.exit_code == 90, log(result)
    assert job.left() == []


def test_an_early_process_that_is_killed_changes_nothing(job):
    def kill():
        job.wait(job.processes)
        for pid in job.processes():
            os.kill(pid, signal.SIGKILL)
        job.wait(lambda: not job.processes())

    result = job.inspected.play("classic", more=[job.pause(1)], at=[job.at(1, kill)])
    assert result.exit_code == 90, log(result)
    assert job.left() == []


@pytest.mark.parametrize("event", ["cancel", "job_timeout"])
def test_nothing_is_left_of_a_job_that_is_stopped(job, event):
    def stop(call):
        job.wait(job.has_layers("classic"))
        call.event(event)

    result = job.inspected.play("classic", more=["echo; echo written 1; sleep 1000"], at=[At("build_script", stop, b"\nwritten 1")])
    assert result.state != "success", log(result)
    assert job.left() == [] and job.inspected.host.processes() == []


def test_a_step_that_ends_at_once_leaves_nothing(job):
    for number in range(3):
        result = job.inspected.play("clean", id=number + 1)
        assert result.state == "success", log(result)
        assert job.left() == []


def test_a_step_of_the_user_has_one_beside_it_and_after_script_has_none(job):
    def expect(number):
        return lambda: seen.setdefault(number, len(job.processes()))

    seen = {}
    result = job.inspected.play("clean", more=[job.pause(1)], after_script=[job.pause(2)],
                                at=[job.at(1, expect(1)), job.at(2, expect(2), "after_script")])
    assert result.state == "success", log(result)
    assert seen == {1: 1, 2: 0}


def test_without_the_setting_there_is_no_such_process(inspected):  # noqa: F811
    inspected.ready()
    job, seen = Job(inspected), []
    result = inspected.play("clean", more=[job.pause(1)], at=[job.at(1, lambda: seen.append(job.processes()))])
    assert result.state == "success", log(result)
    assert seen == [[]]
