"""Jobs that are inspected: settings with real Trivy and the small database of the tests, a runner, images."""

import functools
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile

import pytest
from runner import Driver, Job
from slot_host import host  # noqa: F401

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "fixtures"))

import images  # noqa: E402
import redteam  # noqa: E402, F401

PHASES = ("config", "prepare", "run", "cleanup")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REPORT = "scan_result/app.json"


@functools.lru_cache
def tool(*args):
    done = subprocess.run([str(SOURCE / "scripts" / args[0]), *args[1:]], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{args[0]}: {done.stderr}")
    return done.stdout.splitlines()[-1]


@functools.lru_cache
def archive(kind):
    """The bytes of an image archive."""
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place, "image")
        images.KINDS[kind].write(path)
        return path.read_bytes()


class Inspected:
    """A host with users, a runner and settings in which docker_build jobs are inspected."""

    def __init__(self, host, make_runner):
        self.host = host
        self.make_runner = make_runner
        self.runner = None

    def ready(self, mode="enforce", over=None, slots=1):
        self.runner = self.make_runner(Driver(run=[]))
        base = {
            "job": {"path": f"{self.runner.bin}:{SYSTEM_PATH}", "runner_path": str(self.runner.bin / "gitlab-runner")},
            "trivy": {"path": self._trivy(), "db_dir": f"{self._database()}/db"},
            "gate": {"mode": mode},
        }
        for section, values in (over or {}).items():
            base[section] = {**base.get(section, {}), **values}
        self.host.ready(slots, base)
        self.runner.driver = Driver(**{phase: self.host.argv(phase) for phase in PHASES})
        return self

    def _trivy(self):
        """Where scan users can start it."""
        path = self.host.root / "trivy"
        try:
            os.link(tool("trivy"), path)
        except OSError:
            shutil.copy(tool("trivy"), path)
        return str(path)

    def _database(self):
        """Where scan users can read it."""
        place = self.host.root / "trivy-db"
        place.mkdir(exist_ok=True)
        place.chmod(0o755)
        return tool("trivy-db", str(place))

    def play(self, kind="classic", *, more=(), script=None, at=(), on_stage=None, **job):
        """Plays a job whose script leaves an image archive of that kind in tar_images/app.tar."""
        lines = ["mkdir tar_images", "mv image tar_images/app.tar"] if script is None else script
        made = Job(script=[*lines, *more], project={"image": archive(kind), **job.pop("project", {})}, **job)
        return self.runner.play(made, at=at, on_stage=on_stage)

    def uids(self):
        return {pwd.getpwnam(name).pw_uid for name in self.host.users()}

    def uploads(self):
        """The calls of gitlab-runner that the stand-in heard of."""
        return [call for call in self.runner.gitlab.calls if "artifacts-uploader" in str(call)]


@pytest.fixture
def inspected(host, make_runner):  # noqa: F811
    return Inspected(host, make_runner)


def text(result, stage="build_script"):
    return result.stage(stage).output.decode(errors="replace")


def log(result):
    return result.log.decode(errors="replace")


def archives(result):
    return [a for a in result.artifacts if a.type == "archive"]


def is_root():
    return os.geteuid() == 0
