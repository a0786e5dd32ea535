"""A host of its own for tests of slots and users: settings, users with a prefix that
nobody else has, and the protocol programs called as the runner calls them.

The test's process stands for the runner: each call is the leader of a process group
whose parent it is.
"""

import itertools
import json
import os
import pathlib
import pwd
import signal
import subprocess
import time

import pytest

IS_ROOT = os.geteuid() == 0
NUMBERS = itertools.count()

needs_root = pytest.mark.skipif(not IS_ROOT, reason="makes users: needs root")


def payload(name="docker_build", project="group/app", project_id=42, **more):
    """What lies in JOB_RESPONSE_FILE of a small job."""
    return {
        "id": 7, "token": "glcbt-secret-token-of-a-job",
        "job_info": {"name": name, "stage": "build", "pipeline_id": 5, "project_id": project_id,
                     "project_full_path": project},
        "git_info": {"repo_url": f"https://x:glcbt-secret-token-of-a-job@gitlab.example.com/{project}.git",
                     "ref": "main", "ref_type": "branch", "sha": "60e138186b7a29a56fa04d6bed0a8b3bebd4c0f1",
                     "protected": False},
        "variables": [], "steps": [{"name": "script", "script": ["true"]}], **more}


class SlotHost:
    """Everything lies below root; users are removed by close()."""

    def __init__(self, root, program, write_settings):
        self.root = root
        self.program = program
        self.write_settings = write_settings
        self.prefix = f"twt{os.getpid()}x{next(NUMBERS)}-"
        self.state = root / "state"
        self.settings = None
        self._tmp = itertools.count()

    def configure(self, slots=2, over=None):
        """Writes the settings; with root makes the users too."""
        own = {"scan_user": f"{self.prefix}scan", "courier_user": f"{self.prefix}courier",
               "job": {"user_prefix": self.prefix, "slots": slots, "slot_wait": "0", "runner_path": "/bin/true"},
               "trivy": {"db_dir": str(self.root / "trivy-db")}}
        for section, values in (over or {}).items():
            own[section] = {**own.get(section, {}), **values} if isinstance(values, dict) else values
        self.settings = self.write_settings(own)
        return self.settings

    def tidewaiter(self, *args, **options):
        return subprocess.run([self.program("tidewaiter"), "--config", str(self.settings), *args],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **options)

    def setup(self, *args):
        done = self.tidewaiter("setup", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ready(self, slots=2, over=None):
        self.configure(slots, over)
        if IS_ROOT:
            self.setup()
        return self

    def attempt(self, job=None):
        """A TMPDIR as the runner makes one."""
        tmpdir = self.root / f"custom-executor{next(self._tmp)}"
        tmpdir.mkdir(mode=0o700)
        response = tmpdir / "response.json"
        response.write_text(job if isinstance(job, str) else json.dumps(job or payload()))
        response.chmod(0o600)
        return tmpdir

    def environment(self, tmpdir, **more):
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.root), "TMPDIR": str(tmpdir),
                "BUILD_FAILURE_EXIT_CODE": "1", "SYSTEM_FAILURE_EXIT_CODE": "2",
                "BUILD_EXIT_CODE_FILE": str(tmpdir / "build_exit_code"),
                "JOB_RESPONSE_FILE": str(tmpdir / "response.json"), **more}

    def argv(self, phase, *args):
        return [self.program(f"tidewaiter-{phase}"), "--config", str(self.settings), *args]

    def start(self, phase, tmpdir, *args, **more):
        return subprocess.Popen(self.argv(phase, *args), cwd=tmpdir, env=self.environment(tmpdir, **more),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                process_group=0)

    def call(self, phase, tmpdir, *args, **more):
        process = self.start(phase, tmpdir, *args, **more)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def config(self, tmpdir, **more):
        """config's answer; it must have gone well."""
        done = self.call("config", tmpdir, **more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def cleanup(self, tmpdir):
        done = self.call("cleanup", tmpdir)
        assert done.returncode == 0, done.stderr

    def slot_of(self, answer):
        """The slot that an answer of config stands for."""
        return int(pathlib.Path(answer["builds_dir"]).name)

    def records(self):
        return sorted(int(path.stem) for path in (self.state / "slots").glob("*.json"))

    def users(self):
        return sorted(entry.pw_name for entry in pwd.getpwall() if entry.pw_name.startswith(self.prefix))

    def processes(self):
        """What runs as one of our users or as one of their subordinate numbers; zombies do not."""
        users = self.users()
        uids = {pwd.getpwnam(name).pw_uid for name in users} - {0}
        for line in pathlib.Path("/etc/subuid").read_text().splitlines():
            name, first, count = line.split(":")
            if name in users:
                uids |= set(range(int(first), int(first) + int(count)))
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if entry.stat().st_uid in uids and os.readlink(entry / "root"):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    def end_processes(self):
        """What a test that failed left running, killed and awaited: userdel refuses a user that has a process."""
        deadline = time.monotonic() + 60
        while pids := self.processes():
            assert time.monotonic() < deadline, f"processes {pids} do not end"
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.005)

    def end_groups(self):
        """The cgroups of jobs that a test did not clean up."""
        name = 2166136261
        for byte in str(self.state).encode():
            name = (name ^ byte) * 16777619 & 0xffffffff
        # glob() would fail at groups of other tests that go away meanwhile
        for top, names, _ in os.walk("/sys/fs/cgroup"):
            for found in [n for n in names if n.startswith(f"tidewaiter-{name:08x}-")]:
                os.rmdir(f"{top}/{found}")

    def close(self):
        if IS_ROOT:
            self.end_processes()
            self.end_groups()
            for name in self.users():
                subprocess.run(["userdel", name], check=True, stdin=subprocess.DEVNULL, capture_output=True)


@pytest.fixture
def host(root, program, settings):
    made = SlotHost(root, program, settings)
    yield made
    made.close()
