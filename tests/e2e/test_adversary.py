"""Jobs that try to get an image past the inspection, and hosts that lack what an inspection needs."""

import platform
import shutil
import signal
import subprocess

import pytest
from inspected import archive, archives, inspected, log, tool  # noqa: F401
from slot_host import host, needs_root  # noqa: F401

# --- while the runner's own stages run, in which code of the job runs, too ---

PUT_BACK = r"""
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void put_back(void)
{
	unsetenv("LD_PRELOAD");
	if (access("copy", F_OK) == 0 && access("ready", F_OK) == 0)
		(void)!system("mkdir -p tar_images; cp copy tar_images/app.tar");
}
"""


@pytest.fixture
def library(tmp_path):
    """What each program that a stage script starts loads: it puts the image back."""
    (tmp_path / "late.c").write_text(PUT_BACK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "late.so", "late.c"], cwd=tmp_path, check=True, stdin=subprocess.DEVNULL)
    return (tmp_path / "late.so").read_bytes()


def play(inspected, library, kind, more=(), **job):
    """With a library that every program of a stage script loads."""
    inspected.ready()
    project = inspected.host.root / "job-builds/0/group/app"
    return inspected.play(kind, variables={"LD_PRELOAD": f"{project}/late.so"}, project={"late.so": library},
                          script=["mkdir tar_images; cp image copy; mv image tar_images/app.tar; touch notes", "touch ready",
                                  *more], **job)


@pytest.mark.usefixtures("no_sanitizer")  # they have to be loaded before all else
def test_blocked_image_that_a_library_puts_back_is_not_uploaded(library, inspected):
    result = play(inspected, library, "classic", artifacts=["tar_images/*.tar", "notes"], artifacts_when="always")
    assert result.exit_code == 90, log(result)
    [artifact] = archives(result)
    assert "notes" in artifact.names() and "tar_images/app.tar" not in artifact.names()


@pytest.mark.parametrize("how", [
    {"artifacts": ["tar_images/*.tar", "notes"], "artifacts_when": "always"},
    {"cache": [{"key": "k", "paths": ["tar_images/"], "policy": "push", "when": "always"}]},
])
def test_image_put_back_while_the_script_itself_stores_it_is_said_and_taken_away(how, library, inspected):
    """A job that failed by itself uploads with the script's own gitlab-runner: a limit, but no silent one."""
    result = play(inspected, library, "clean", more=["exit 7"], **how)
    assert (result.state, result.exit_code) == ("failed", 7), log(result)
    assert "tar_images/app.tar was put back while this stage ran, and may have been stored" in log(result)


def test_images_beyond_what_discover_looks_at_are_withheld_too(inspected):
    result = inspected.ready().play(
        "clean", script=["mkdir tar_images; for i in $(seq 4200); do echo $i >tar_images/$i.tar; done; touch notes; exit 7"],
        artifacts=["tar_images/", "notes"], artifacts_when="always")
    assert result.exit_code == 7, log(result)
    [artifact] = archives(result)
    assert "notes" in artifact.names() and not [n for n in artifact.names() if n.endswith(".tar")]


@pytest.mark.parametrize("mode, kind, state", [("audit", "classic", "success"), ("enforce", "clean", "success"),
                                               ("enforce", "classic", "failed")])
def test_name_of_an_archive_may_be_any_bytes(mode, kind, state, inspected):
    name = r"$(printf 'tar_images/a\033[31m\n::\377.tar')"
    result = inspected.ready(mode).play(kind, script=[f'mkdir tar_images; mv image "{name}"; touch notes'],
                                        artifacts=["tar_images/", "notes"], artifacts_when="always")
    assert result.state == state, log(result)
    assert "tidewaiter: error" not in log(result)
    [artifact] = archives(result)
    assert "notes" in artifact.names()
    assert any("tar_images/a" in n for n in artifact.names()) == (state == "success")


# --- what a host may lack or limit: a verdict that does not come is never a pass, and nothing hangs or crashes ---

# seccomp ERRNO CALL… -- COMMAND…: calls by number fail; 1024 behind a colon: with that second argument alone
SECCOMP = r"""
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
static struct sock_filter f[256];
static unsigned short n;
static void add(unsigned short code, unsigned k, unsigned char yes, unsigned char no)
{
	f[n++] = (struct sock_filter){ code, yes, no, k };
}
int main(int argc, char **argv)
{
	const unsigned fail = SECCOMP_RET_ERRNO | (unsigned)atoi(argv[1]);
	char **at = argv + 2;
	add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	for (; strcmp(*at, "--") != 0; at++) {
		const char *argument = strchr(*at, ':');
		add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)atoi(*at), 0, argument ? 4 : 1);
		if (argument) {
			add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]), 0, 0);
			add(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)atoi(argument + 1), 0, 1);
		}
		add(BPF_RET | BPF_K, fail, 0, 0);
		if (argument)
			add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	}
	add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	struct sock_fprog p = { n, f };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p))
		return 99;
	execv(at[1], at + 1);
	return 98;
}
"""
ENOSYS, EPERM = 38, 1
# numbers of x86_64; those from 424 on are the same everywhere
KERNEL = {"openat2": ["437"], "mount_setattr": ["442"], "open_tree": ["428"], "move_mount": ["429"], "clone3": ["435"],
          "pidfd_open": ["434"], "pidfd_send_signal": ["424"], "close_range": ["436"]}
KERNEL_X86 = {"F_SETLEASE": ["72:1024"], "unshare": ["272"], "setns": ["308"], "mount": ["165"], "flock": ["73"],
              "link": ["86", "265"], "eventfd": ["290"], "signalfd": ["289"]}
MISSING = [*KERNEL, *(KERNEL_X86 if platform.machine() == "x86_64" else [])]
FLAWED = 1
UNDECIDED = 3


@pytest.fixture
def scan(root, program, settings):
    """scan("kind", prefix…, **options of run) → how `tidewaiter scan` of that archive ended, and where."""
    shutil.copy(tool("trivy"), root / "trivy")
    (root / "db-place").mkdir(mode=0o755)
    database = tool("trivy-db", str(root / "db-place"))
    path = settings({"scan_user": "nobody", "courier_user": "daemon",
                     "trivy": {"path": str(root / "trivy"), "db_dir": f"{database}/db"}})

    # beside the rest, where it is not below /tmp
    shutil.copy(program("tidewaiter"), root / "tidewaiter")

    def run(kind, *prefix, **options):
        (root / "image.tar").write_bytes(archive(kind))
        done = subprocess.run([*prefix, str(root / "tidewaiter"), "--config", str(path), "scan", str(root / "image.tar")],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False, **options)
        work = root / "var-cache" / "work"
        assert not work.exists() or list(work.iterdir()) == [], "something is left"
        return done

    return run


@pytest.fixture(scope="module")
def seccomp(tmp_path_factory):
    place = tmp_path_factory.mktemp("seccomp")
    (place / "seccomp.c").write_text(SECCOMP)
    subprocess.run(["cc", "-o", "seccomp", "seccomp.c"], cwd=place, check=True, stdin=subprocess.DEVNULL)
    return str(place / "seccomp")


@pytest.mark.parametrize("number, name", [(ENOSYS, name) for name in MISSING] +
                         [(EPERM, name) for name in ("openat2", "mount_setattr", "clone3", "pidfd_open")])
@pytest.mark.usefixtures("no_sanitizer")
def test_kernel_that_lacks_a_call_finds_the_flaws_or_says_why_not(number, name, seccomp, scan):
    done = scan("classic", seccomp, str(number), *{**KERNEL, **KERNEL_X86}[name], "--")
    assert done.returncode in (FLAWED, UNDECIDED), done.stderr
    assert "killed by" not in done.stderr


@pytest.mark.parametrize("limit", [f"nofile={n}" for n in (4, 8, 14, 20, 28)] +
                         ["nproc=1", "fsize=0", "fsize=1000", "as=60000000"])
@pytest.mark.usefixtures("no_sanitizer")
def test_limit_that_is_too_low_is_told_and_never_a_pass(limit, scan):
    done = scan("classic", "/usr/bin/prlimit", f"--{limit}")
    assert done.returncode in (FLAWED, 2, UNDECIDED), done.stderr
    assert done.stdout + done.stderr and "killed by" not in done.stderr


@pytest.mark.parametrize("kind, code", [("clean", 0), ("classic", FLAWED)])
@pytest.mark.parametrize("mask", [0, 0o027, 0o077, 0o777])
def test_umask_of_the_caller_changes_no_verdict(mask, kind, code, scan):
    done = scan(kind, umask=mask)
    assert done.returncode == code, done.stdout + done.stderr


def test_caller_that_ignores_the_end_of_children_changes_no_verdict(scan):
    done = scan("classic", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert done.returncode == FLAWED, done.stdout + done.stderr


@needs_root
@pytest.mark.parametrize("prefix", [
    ["/usr/bin/setpriv", "--bounding-set", "-sys_admin"], ["/usr/bin/setpriv", "--bounding-set", "-setuid"],
    ["/usr/bin/setpriv", "--bounding-set", "-chown"], ["/usr/bin/unshare", "-U", "-r"],
    ["/usr/bin/unshare", "-m", "/bin/sh", "-c", 'umount -l /proc; exec "$0" "$@"'],
    ["/usr/bin/unshare", "-m", "/bin/sh", "-c", 'mount -t tmpfs none /dev; exec "$0" "$@"'],
])
@pytest.mark.usefixtures("no_sanitizer")
def test_root_without_what_root_has_is_undecided_in_one_line(prefix, scan):
    done = scan("clean", *prefix)
    assert done.returncode == UNDECIDED and "killed by" not in done.stderr, done.stdout + done.stderr


@needs_root
def test_tmp_that_is_read_only_and_noexec_is_not_needed(scan):
    done = scan("classic", "/usr/bin/unshare", "-m", "/bin/sh", "-c",
                'mount -t tmpfs -o noexec,ro none /tmp; exec "$0" "$@"')
    assert done.returncode == FLAWED, done.stdout + done.stderr
