"""Fixtures for all end-to-end tests.

TIDEWAITER_BUILD names the build directory (default: the first of build/*, build
that has been built), TIDEWAITER_SHARED the directory of the recordings.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "standins"))

from defectdojo import DefectDojo  # noqa: E402
from runner import Driver, Runner  # noqa: E402

PROGRAMS = ("config", "prepare", "run", "cleanup")


def find_build():
    """The build directory with the programs in it, or None."""
    named = os.environ.get("TIDEWAITER_BUILD")
    if named:
        return pathlib.Path(named).resolve()
    for candidate in [*sorted((SOURCE / "build").glob("*")), SOURCE / "build"]:
        if find_program(candidate, "tidewaiter-run"):
            return candidate
    return None


def find_program(build, name):
    """An executable of the build, wherever in it the linker put it."""
    for place in (build, build / "bin", build / "libexec/tidewaiter", build / "cli", build / "executor"):
        if (place / name).is_file():
            return place / name
    return None


@pytest.fixture(scope="session")
def source_dir():
    return SOURCE


@pytest.fixture(scope="session")
def build_dir():
    build = find_build()
    if build is None:
        pytest.fail("nothing is built: set TIDEWAITER_BUILD to the build directory")
    return build


@pytest.fixture(scope="session")
def programs_dir(build_dir):
    """The build; or, where users of jobs cannot reach that (a clone below /root), what it installs, below /srv."""
    if os.geteuid() != 0 or all(place.stat().st_mode & 0o001 for place in (build_dir, *build_dir.parents)):
        yield build_dir
        return
    with tempfile.TemporaryDirectory(prefix="tidewaiter-programs-", dir="/srv") as name:
        os.chmod(name, 0o755)
        subprocess.run(["cmake", "--install", build_dir, "--prefix", name], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)
        yield pathlib.Path(name)


@pytest.fixture(scope="session")
def program(programs_dir):
    """program("tidewaiter-run") → its absolute path as a string."""

    def find(name):
        path = find_program(programs_dir, name)
        if path is None:
            pytest.fail(f"{name} is not in {programs_dir}")
        return str(path)

    return find


@pytest.fixture(scope="session")
def shared_dir():
    """The recordings: ../shared beside the repository or TIDEWAITER_SHARED."""
    shared = pathlib.Path(os.environ.get("TIDEWAITER_SHARED", SOURCE.parent / "shared"))
    if not shared.is_dir():
        pytest.fail(f"no recordings in {shared}: set TIDEWAITER_SHARED")
    return shared


@pytest.fixture(scope="session")
def cases_dir(shared_dir):
    return shared_dir / "gitlab-runner" / "19.4.0"


@pytest.fixture
def no_sanitizer(build_dir):
    """For what the sanitizers themselves do not bear; other builds run it (scripts/check)."""
    if "fsanitize" in (build_dir / "CMakeCache.txt").read_text():
        pytest.skip("the sanitizers need what this takes away")


@pytest.fixture
def root():
    """A directory that users of jobs can reach: not below /tmp, which jobs have of
    their own, not below pytest's, which is closed to others."""
    base = pathlib.Path(os.environ.get("TIDEWAITER_TEST_ROOT", "/srv" if os.geteuid() == 0 else
                                       tempfile.gettempdir()))
    path = pathlib.Path(tempfile.mkdtemp(prefix="tidewaiter-test-", dir=base))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def tools():
    """Trivy and its small database, trivy and db, where users without rights can read them."""
    with tempfile.TemporaryDirectory(prefix="tidewaiter-tools-", dir="/srv" if os.geteuid() == 0 else None) as name:
        place = pathlib.Path(name)
        place.chmod(0o755)
        built = subprocess.run([SOURCE / "scripts" / "trivy"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        shutil.copy(built.stdout.splitlines()[-1], place / "trivy")
        subprocess.run([SOURCE / "scripts" / "trivy-db", place], stdin=subprocess.DEVNULL, capture_output=True, check=True)
        yield place


@pytest.fixture
def dojo():
    """A stand-in DefectDojo."""
    with DefectDojo() as server:
        yield server


@pytest.fixture
def make_runner(root):
    """make_runner(driver, **options of Runner): a stand-in runner, closed at the end."""
    made = []

    def make(driver, **options):
        runner = Runner(root / f"runner{len(made)}", driver, **options)
        made.append(runner)
        return runner

    yield make
    for runner in made:
        runner.close()


MINIMAL = {
    "config": "#!/bin/sh\necho '{\"driver\":{\"name\":\"minimal\",\"version\":\"1\"}}'\n",
    "prepare": "#!/bin/sh\nexit 0\n",
    "run": """#!/bin/bash
rm -f "$BUILD_EXIT_CODE_FILE"
bash "$1" && exit 0
code=$?
echo "$code" >"$BUILD_EXIT_CODE_FILE"
exit "$BUILD_FAILURE_EXIT_CODE"
""",
    "cleanup": "#!/bin/sh\nexit 0\n",
}


@pytest.fixture
def minimal(root):
    """minimal(run="script text", …) → a Driver that only hands scripts to bash; each
    of the four may be given as text. args: what follows the path of each."""
    made = []

    def make(args=(), **texts):
        place = root / f"minimal{len(made)}"
        place.mkdir()
        made.append(place)
        argv = {}
        for name in PROGRAMS:
            path = place / name
            path.write_text(texts.get(name, MINIMAL[name]))
            path.chmod(0o755)
            argv[name] = [str(path), *args]
        return Driver(**argv)

    return make


@pytest.fixture
def minimal_driver(minimal):
    return minimal()


def to_yaml(value, indent=0):
    """value in the small part of YAML that settings need; strings always quoted."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                lines.append(f"{pad}{key}:\n{to_yaml(item, indent + 1)}")
            else:
                lines.append(f"{pad}{key}: {scalar(item)}")
        return "\n".join(lines)
    lines = []
    for item in value:
        if isinstance(item, dict):
            body = to_yaml(item, indent + 1)
            lines.append(f"{pad}- {body.lstrip()}")
        else:
            lines.append(f"{pad}- {scalar(item)}")
    return "\n".join(lines)


def scalar(item):
    if isinstance(item, bool):
        return "true" if item else "false"
    if item == []:
        return "[]"
    if isinstance(item, int):
        return str(item)
    text = str(item).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def merged(base, over):
    out = dict(base)
    for key, value in over.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


@pytest.fixture
def settings(root):
    """settings({section: {key: value}}) → path of a tidewaiter.yml whose directories
    all lie below root; what is given is laid over that."""
    made = []

    def write(over=None):
        base = {
            "state_dir": str(root / "state"),
            "cache_dir": str(root / "var-cache"),
            "job": {"builds_dir": str(root / "job-builds"), "cache_dir": str(root / "job-cache")},
        }
        path = root / f"tidewaiter{len(made)}.yml"
        path.write_text(to_yaml(merged(base, over or {})) + "\n")
        made.append(path)
        return path

    return write


@pytest.fixture
def tidewaiter_driver(program):
    """tidewaiter_driver(settings file) → the Driver of the four programs."""

    def make(config):
        return Driver(**{name: [program(f"tidewaiter-{name}"), "--config", str(config)] for name in PROGRAMS})

    return make
