"""System calls that fail, each in its turn: a disk that is full or broken, descriptors that have run out, connections that end."""

import subprocess

import pytest

from inspected import PHASES, host, inspected  # noqa: F401
from runner import Driver
from test_cleanup import place  # noqa: F401
from test_spool import as_user, make_spool, spool  # noqa: F401
from test_triage import BLOCKED, IS_ROOT, Host

pytestmark = pytest.mark.usefixtures("no_sanitizer")  # LeakSanitizer cannot be traced

POLICY = "version: 1\nrules:\n  - {name: all, mode: enforce, severity: CRITICAL}\n"


@pytest.fixture
def run(tmp_path):
    def call_fails(call, fault, n, argv):
        """argv in which the nth call of a kind ends so, in each of its processes; None: there was no such call."""
        trace = tmp_path / "trace"
        done = subprocess.run(failing(trace, call, fault, n, argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        return done if has_failed(trace) else None
    return call_fails


def failing(trace, call, fault, n, argv):
    return ["strace", "-f", "-qq", "-A", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={n}", *argv]


def has_failed(trace):
    """Since this was asked last."""
    text = trace.read_text(errors="replace") if trace.exists() else ""
    trace.unlink(missing_ok=True)
    return "INJECTED" in text


@pytest.mark.parametrize("call,error", [
    ("write", "ENOSPC"), ("renameat", "EIO"), ("fsync", "ENOSPC"), ("unlinkat", "EIO"), ("flock", "ENOLCK"), ("openat2", "EMFILE"),
    ("sendto", "EPIPE"), ("recvfrom", "EIO"), ("getdents64", "EIO")])
def test_nothing_is_lost_and_nothing_doubled(spool, dojo, run, call, error):  # noqa: F811
    for n in range(1, 60):
        spool.add(test=f"t{n}")
        spool("list")
        done = run(call, f"error={error}", n, spool.argv("flush", "--deadline", "20s"))
        if done is None:
            break
        assert done.returncode in (0, 1, 3), done.stderr
        dojo.wait_for(lambda: not dojo.running)
        spool.let_time_pass()
        spool("flush", "--now")
        assert spool.new() == [] and spool.dead() == []
        assert len(dojo.findings(f"t{n}")) == 2
        assert len([row for row in dojo.imports if row["test"] == dojo.test(f"t{n}")["id"]]) == 1
    assert 1 < n < 59


@pytest.mark.skipif(not IS_ROOT, reason="the scanner is another user")
@pytest.mark.parametrize("call,fault,step", [
    ("openat", "error=ENOENT", 3), ("openat", "error=EMFILE", 3), ("openat2", "error=ENOENT", 1), ("read", "retval=0", 3),
    ("newfstatat", "error=EIO", 3), ("write", "error=ENOSPC", 1), ("getdents64", "retval=0", 2), ("renameat,renameat2", "error=EIO", 1),
    ("mkdirat", "error=ENOSPC", 1), ("clone,clone3,vfork", "error=EAGAIN", 1), ("execve,execveat", "error=ENOENT", 1),
    ("wait4,waitid", "error=ECHILD", 1), ("prctl", "error=EPERM", 1), ("setresuid", "error=EAGAIN", 1), ("mount,unshare", "error=EPERM", 1)])
def test_no_image_that_blocks_gets_through(root, program, settings, tools, dojo, run, call, fault, step):
    host = Host(root, program, settings, tools, dojo)
    host.configure(policy=POLICY)
    assert host.scan(upload=False).returncode == BLOCKED
    argv = [host.program, "--config", str(host.config), "scan", "--as", "group/app", "--branch", "main", str(host.archive)]
    n = 1
    while (done := run(call, fault, n, argv)) is not None:
        # 126, 127: it did not even start
        assert done.returncode in (1, 2, 3, 126, 127), f"{n}: {done.returncode}: {done.stdout}{done.stderr}"
        n += step
    assert n > 1


@pytest.mark.skipif(not IS_ROOT, reason="jobs are other users")
@pytest.mark.parametrize("call,error,step", [("getdents64", "EIO", 1), ("openat2", "EMFILE", 1), ("read", "EIO", 16), ("newfstatat", "EIO", 40),
                                             ("write", "ENOSPC", 3), ("clone,clone3,vfork", "EAGAIN", 3), ("memfd_create", "ENOMEM", 1)])
def test_no_job_with_an_image_that_blocks_is_well(inspected, tmp_path, call, error, step):  # noqa: F811
    """In each process of a stage, the job's own, too: some then fail by themselves, and none may be taken for one without an image."""
    trace = tmp_path / "trace"
    inspected.ready()
    phases = {phase: inspected.host.argv(phase) for phase in PHASES}
    n = 1
    while True:
        inspected.runner.driver = Driver(**{**phases, "run": failing(trace, call, f"error={error}", n, phases["run"])})
        result = inspected.play()
        if not has_failed(trace):
            break
        assert result.state == "failed", f"{n}: {result.log.decode(errors='replace')[-2000:]}"
        n += step
    assert n > 1


LEAVE = ["echo secret | tee /tmp/leftover ~/leftover /var/tmp/leftover /dev/shm/leftover ../leftover", "mkdir -p deep/er; echo x >deep/er/leftover",
         "setsid -f sleep 7654", "for n in {1..100}; do (for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; done; true) 2>/dev/null | grep 'sleep 765[4]' >/dev/null && break; sleep 0.05; done"]
LOOK = ['set +e +o pipefail; find ~ /tmp /var/tmp /dev/shm "$CI_PROJECT_DIR/../.." -name leftover | sed "s/^/SEEN /"',
        'for p in /proc/[0-9]*; do tr "\\0" " " <$p/cmdline | grep "^sleep 7654" | sed "s/^/SEEN /"; done 2>/dev/null; echo LOOKED']


@pytest.mark.skipif(not IS_ROOT, reason="jobs are other users")
@pytest.mark.parametrize("call,error,step", [
    ("unlinkat", "EIO", 6), ("getdents64", "EIO", 8), ("kill,pidfd_send_signal", "EPERM", 1), ("getpriority", "ESRCH", 1),
    ("clone,clone3,vfork", "EAGAIN", 1), ("wait4,waitid", "ECHILD", 2), ("flock", "ENOLCK", 1), ("setresuid", "EAGAIN", 1),
    ("newfstatat", "EIO", 80)])
def test_no_job_sees_what_the_one_before_left(place, tmp_path, call, error, step):  # noqa: F811
    """In its cleanup, and in what takes the slot for the next."""
    trace = tmp_path / "trace"
    place.ready()
    phases = {phase: place.host.argv(phase) for phase in PHASES}
    own = place.play([*LEAVE, *LOOK]).log
    assert own.count(b"leftover\n") >= 6 and b"\nSEEN sleep 7654" in own, "what is looked for can be seen"
    n = 1
    while True:
        failed = {phase: failing(trace, call, f"error={error}", n, phases[phase]) for phase in ("config", "cleanup")}
        place.runner.driver = Driver(**{**phases, "cleanup": failed["cleanup"]})
        assert place.play(LEAVE).state == "success"
        in_cleanup = has_failed(trace)
        place.runner.driver = Driver(**{**phases, "config": failed["config"]})
        first = place.play(LOOK)
        in_config = has_failed(trace)
        place.runner.driver = Driver(**phases)
        second = place.play(LOOK)
        for result in (first, second):
            assert b"\nSEEN" not in result.log, f"{n}: {result.log.decode(errors='replace')}"
        assert second.state == "success" and b"\nLOOKED" in second.log, f"{n}: {second.log.decode(errors='replace')[-2000:]}"
        if not in_cleanup and not in_config:
            break
        n += step
    assert n > 1
