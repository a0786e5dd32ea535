"""What a job leaves behind is gone when cleanup is over, and nothing else is."""

import os
import pathlib
import pwd
import re
import shutil
import subprocess
import time

import pytest
from inspected import SYSTEM_PATH
from runner import Driver, Job
from slot_host import IS_ROOT, host, needs_root  # noqa: F401

PHASES = ("config", "prepare", "run", "cleanup")


class Place:
    def __init__(self, host, make_runner):
        self.host = host
        self.make_runner = make_runner
        self.runner = None

    def ready(self, slots=1, **job):
        self.runner = self.make_runner(Driver(run=[]))
        own = {"path": f"{self.runner.bin}:{SYSTEM_PATH}", "runner_path": str(self.runner.bin / "gitlab-runner"), **job}
        self.host.ready(slots, {"inject": {"jobs": ["no-such-job"]}, "job": own})
        self.runner.driver = Driver(**{phase: self.host.argv(phase) for phase in PHASES})
        return self

    def without_groups(self):
        """The driver as on a host without cgroup v2: an empty directory is where that would be mounted."""
        self.runner.driver = Driver(**{phase: ["unshare", "-m", "sh", "-c", 'umount -a -l -t cgroup2; exec "$@"', "sh",
                                               *self.host.argv(phase)] for phase in PHASES})

    def play(self, script, **options):
        return self.runner.play(Job(script=script, **options.pop("job", {})), **options)

    def uid(self):
        return pwd.getpwnam(f"{self.host.prefix}0").pw_uid if IS_ROOT else os.geteuid()

    def slot_files(self):
        """All that is left where a job could write, kept caches left out."""
        found = []
        for top in (self.host.state / "slots" / "0", self.host.root / "job-builds" / "0", self.host.root / "job-cache" / "0"):
            found += [top] if top.exists() else []
        return found

    def of_user(self, *places):
        """What belongs to the job's user in directories that all share."""
        return [e.path for place in places if os.path.isdir(place) for e in os.scandir(place)
                if e.stat(follow_symlinks=False).st_uid == self.uid()]


@pytest.fixture
def place(host, make_runner):  # noqa: F811
    return Place(host, make_runner)


def log(result):
    return result.log.decode(errors="replace")


def groups_left(result):
    """Of the cgroups that the job named in its log, those that are still there: other tests have theirs meanwhile."""
    named = set(re.findall(r"tidewaiter-[0-9a-f]{8}-\d+", log(result)))
    return [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if name in named]


TREES = {
    "closed directories": "mkdir -p a/b/c && touch a/b/c/f && chmod 000 a/b/c a/b a",
    "links out": "ln -s \"$OUTSIDE\" out; ln -s / root; ln \"$OUTSIDE/file\" hard || true; ln -s nowhere broken",
    "odd names": "touch -- \"$(printf 'a\\nb')\" '-rf' ' ' \"$(printf '\\377')\" '*'; mkdir -- '--help'",
    "special files": "mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'",
    "a deep tree": "python3 -c 'import os\nfor _ in range(3000): os.mkdir(\"d\"); os.chdir(\"d\")'",
    "many files": "mkdir many && cd many && seq 5000 | xargs touch",
}


@pytest.mark.parametrize("what", TREES)
def test_tree_is_removed_and_what_it_names_is_left_alone(what, place):
    place.ready()
    outside = place.host.root / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    (outside / "file").write_text("stays")
    result = place.play([f"export OUTSIDE={outside}", f"({TREES[what]})", f"(cd ~ && {TREES[what]})", f"(cd /tmp && {TREES[what]}) || true"])
    assert result.state == "success", log(result)
    assert place.slot_files() == [] and (outside / "file").read_text() == "stays"


@needs_root
def test_processes_end_however_they_hide(place):
    place.ready()
    result = place.play(["cat /proc/self/cgroup",
                         "setsid sleep 1000 & (setsid nohup sh -c 'trap \"\" TERM HUP; sleep 1000; sleep 1000' & )",
                         "python3 -c 'import os, time\nfor _ in range(2):\n if os.fork(): os._exit(0)\n os.setsid()\n"
                         "open(\"up\", \"w\"); time.sleep(1000)' &",
                         "until [ -e up ]; do sleep 0.01; done"], max_seconds=60)
    assert result.state == "success", log(result)
    left = [p for p in pathlib.Path("/proc").glob("[0-9]*") if owner(p) == place.uid()]
    assert left == [] and groups_left(result) == []


def is_living(path):
    """Zombies are not."""
    try:
        return bool(os.readlink(path / "root"))
    except OSError:
        return False


def owner(path):
    try:
        return path.stat().st_uid
    except OSError:
        return None


@needs_root
def test_processes_that_fork_for_ever_end(place):
    place.ready()
    result = place.play(["printf '#!/bin/sh\\nsleep 0.02; setsid \"$0\" & setsid \"$0\" & exit\\n' >bomb; chmod 755 bomb",
                         "ulimit -u 300; setsid ./bomb >/dev/null 2>&1 & sleep 0.3"], max_seconds=90)
    assert result.state == "success", log(result)
    assert [p for p in pathlib.Path("/proc").glob("[0-9]*") if owner(p) == place.uid()] == []


@needs_root
def test_ipc_crontab_and_files_in_shared_places_go(place):
    place.ready(private_tmp=False)
    spool = pathlib.Path("/var/spool/cron/crontabs")
    mark = f"tidewaiter-test-{os.getpid()}"
    result = place.play(["ipcmk -M 4096; ipcmk -Q; ipcmk -S 1", f"touch /tmp/{mark} /var/tmp/{mark} /dev/shm/{mark}",
                         "mkdir -p /tmp/d/d && chmod 0 /tmp/d/d" if not os.path.exists("/tmp/d") else "true",
                         "echo '* * * * * touch /tmp/from-cron' | crontab - || true",
                         "python3 -c 'import ctypes; print(ctypes.CDLL(None).syscall(248, b\"user\", b\"k\", b\"v\", 1, -4))'"])
    assert result.state == "success", log(result)
    assert place.of_user("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock") == []
    assert not (spool / f"{place.host.prefix}0").exists()
    for table in ("shm", "sem", "msg"):
        rows = pathlib.Path("/proc/sysvipc", table).read_text().splitlines()
        column = rows[0].split().index("uid")
        assert all(int(row.split()[column]) != place.uid() for row in rows[1:])


@needs_root
@pytest.mark.skipif(not shutil.which("newuidmap"), reason="needs newuidmap (Debian: uidmap)")
@pytest.mark.parametrize("group", [True, False], ids=["cgroup", "uid"])
def test_what_subordinate_ids_left_goes_too(group, place):
    """A rootless container's user 5, in its namespace and, by a set-uid program, out of it."""
    place.ready()
    if not group:
        place.without_groups()
    mark = f"tidewaiter-sub-{os.getpid()}-{int(group)}"
    inside = "unshare --user --map-auto --map-root-user --setuid 0 --setgid 0"
    # Other users' processes are invisible to the job: each says by a file whose it is.
    result = place.play([
        "cp /bin/bash escaped",
        f"{inside} sh -c 'touch /run/lock/{mark}; mkdir closed; chown 5:5 escaped closed /run/lock/{mark}; chmod 4755 escaped; "
        "chmod 0 closed; setsid setpriv --reuid 6 --clear-groups sh -c \"touch /tmp/in; exec sleep 1000\" >/dev/null 2>&1 &'",
        "setsid ./escaped -p -c 'touch /tmp/out; exec setpriv --reuid \"$(id -u)\" sleep 1001' >/dev/null 2>&1 &",
        "until [ -e /tmp/in ] && [ -e /tmp/out ]; do sleep 0.02; done; sleep 0.2",
        f"stat -c 'owned by %u' /tmp/in /tmp/out /run/lock/{mark}"], max_seconds=60)
    assert result.state == "success", log(result)
    uids = {int(uid) for uid in re.findall(r"^owned by (\d+)$", log(result), re.M)}
    assert len(uids) == 2 and place.uid() not in uids, log(result)
    assert [p for p in pathlib.Path("/proc").glob("[0-9]*") if owner(p) in uids and is_living(p)] == []
    assert not os.path.lexists(f"/run/lock/{mark}") and place.slot_files() == []


@needs_root
def test_files_in_shared_directories_below_shared_ones_go(place):
    place.ready(private_tmp=False)
    top = pathlib.Path(f"/run/lock/tidewaiter-test-{os.getpid()}")
    (top / "own").mkdir(parents=True)
    for shared in (top, top / "own"):
        shared.chmod(0o1777)
    (top / "own" / "roots").touch()
    try:
        result = place.play([f"touch {top}/a {top}/own/b; mkdir -p -m 0 {top}/own/c"])
        assert result.state == "success", log(result)
        assert sorted(p.relative_to(top).as_posix() for p in top.rglob("*")) == ["own", "own/roots"]
    finally:
        shutil.rmtree(top)


@needs_root
def test_keys_of_one_job_are_not_the_next_ones(place):
    place.ready()
    add = "python3 -c 'import ctypes; c = ctypes.CDLL(None); print(\"key\", c.syscall(248, b\"user\", b\"k\", b\"v\", 1, -4))'"
    find = ("python3 -c 'import ctypes; c = ctypes.CDLL(None); "
            "print(\"found\", c.syscall(250, 10, -4, b\"user\", b\"k\", 0))'")
    first = place.play([add, find])
    if "key -1" in log(first):
        pytest.skip("this kernel or container has no keyrings")
    second = place.play([find], job={"id": 1001})
    assert "found -1" not in log(first) and "found -1" in log(second)


@needs_root
def test_mounts_below_the_slots_directories_are_undone(place):
    """A job in group docker can have such made for it; here root is it."""
    place.ready()
    project = {}

    def mount(name, call):
        if name == "cleanup_file_variables":
            target = place.host.root / "job-builds" / "0" / "mounted"
            target.mkdir()
            project["done"] = subprocess.run(["mount", "-t", "tmpfs", "none", str(target)], check=False).returncode
            (target / "inside").touch()

    result = place.play(["true"], on_stage=mount)
    assert result.state == "success" and place.slot_files() == [], log(result)
    assert str(place.host.root) not in pathlib.Path("/proc/self/mounts").read_text()


def test_cleanup_beside_a_run_that_still_goes_on(place):
    place.ready()
    tmpdir = place.host.attempt()
    place.host.config(tmpdir)
    assert place.host.call("prepare", tmpdir).returncode == 0
    script = tmpdir / "script"
    script.write_text("touch up; trap '' TERM; while :; do sleep 1; done\n")
    script.chmod(0o700)
    run = place.host.start("run", tmpdir, str(script), "build_script")
    up = place.host.root / "job-builds" / "0" / "up"
    deadline = time.monotonic() + 30
    while not up.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert up.exists()
    place.host.cleanup(tmpdir)
    run.communicate(timeout=30)
    assert run.returncode == 1 and place.slot_files() == [] and place.host.records() == []


def test_cleanup_that_cannot_do_its_work_says_why_and_keeps_the_slot(place):
    place.ready()
    tmpdir = place.host.attempt()
    place.host.config(tmpdir)
    assert place.host.call("prepare", tmpdir).returncode == 0
    builds = place.host.root / "job-builds"
    if not IS_ROOT:
        pytest.skip("the immutable flag is root's to set")
    held = builds / "0" / "held"
    held.touch()
    if subprocess.run(["chattr", "+i", str(held)], check=False, capture_output=True).returncode != 0:
        pytest.skip("no immutable files on this filesystem")
    try:
        done = place.host.call("cleanup", tmpdir)
        assert done.returncode == 2 and "held" in done.stderr and place.host.records() == [0]
    finally:
        subprocess.run(["chattr", "-i", str(held)], check=True)
    place.host.cleanup(tmpdir)
    assert place.slot_files() == [] and place.host.records() == []
