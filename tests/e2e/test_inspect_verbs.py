"""tidewaiter inspect run, verify, publish, withhold: called as the run phase calls them, on a project directory in which
everything may be a trap."""

import json
import mmap
import os
import pathlib
import stat
import subprocess

import pytest
from inspected import archive, tool
from slot_host import host, needs_root, payload  # noqa: F401

pytestmark = needs_root

OK, BLOCKED, USAGE, UNDECIDED = 0, 1, 2, 3
RECORD = "tidewaiter-inspection.json"


class Place:
    """A job between its script and its uploads: plan and project directory are there."""

    def __init__(self, host, place):
        self.host = host
        self.tools = place
        self.tmpdir = self.project = self.plan = None

    def ready(self, mode="enforce", over=None, **job):
        trivy = self.tools / "trivy"
        if not trivy.exists():
            trivy.write_bytes(pathlib.Path(tool("trivy")).read_bytes())
            trivy.chmod(0o755)
            tool("trivy-db", str(self.tools))
        settings = {"trivy": {"path": str(trivy), "db_dir": str(self.tools / "db")}, "gate": {"mode": mode}}
        for section, values in (over or {}).items():
            settings[section] = {**settings.get(section, {}), **values}
        self.host.ready(1, settings)
        self.tmpdir = self.host.attempt(payload(**job))
        self.host.config(self.tmpdir)
        done = self.host.call("prepare", self.tmpdir)
        assert done.returncode == 0, done.stdout + done.stderr
        self.plan = json.loads((self.tmpdir / "tidewaiter-plan.json").read_text())
        self.project = pathlib.Path(self.plan["project_dir"])
        self.project.mkdir(parents=True, exist_ok=True)
        self.give(self.project)
        return self

    def give(self, path):
        """To the job's user."""
        os.chown(path, self.plan["uid"], self.plan["gid"], follow_symlinks=False)

    def leave(self, name="tar_images/app.tar", kind="clean"):
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kind if isinstance(kind, bytes) else archive(kind))
        self.give(path.parent)
        self.give(path)
        return path

    def inspect(self, verb):
        done = subprocess.run([self.host.program("tidewaiter"), "inspect", verb, "--tmpdir", str(self.tmpdir)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
                              env={"PATH": "/nowhere"})
        self.said = done.stdout + done.stderr
        work = self.host.root / "var-cache" / "work"
        assert not work.exists() or not list(work.iterdir())
        return done.returncode

    def record(self):
        return json.loads((self.tmpdir / RECORD).read_text())

    def reports(self):
        place = self.tmpdir / "tidewaiter-reports"
        return sorted(p.name for p in place.iterdir()) if place.exists() else None


@pytest.fixture
def job(host, root):  # noqa: F811
    place = root / "tools"
    place.mkdir(mode=0o755)
    return Place(host, place)


# ---- run ----

def test_run_leaves_a_record_and_reports_out_of_the_job_s_reach(job):
    job.ready().leave()
    assert job.inspect("run") == OK, job.said
    record = job.record()
    assert record["verdict"] == "pass"
    assert [(f["name"], f["is_unfit"], f["is_ignored"]) for f in record["archives"]] == [("tar_images/app.tar", False, False)]
    assert stat.S_IMODE((job.tmpdir / RECORD).stat().st_mode) == 0o600
    assert job.reports() == ["app.html", "app.json"]
    assert not (job.project / "scan_result").exists()


@pytest.mark.parametrize("mode, code", [("enforce", BLOCKED), ("warn", OK), ("audit", OK)])
def test_only_enforce_changes_the_exit_code(mode, code, job):
    job.ready(mode).leave(kind="classic")
    assert job.inspect("run") == code, job.said
    assert job.record()["verdict"] == "block" and job.record()["archives"][0]["is_unfit"]


@pytest.mark.parametrize("over, mode, code", [({}, "enforce", UNDECIDED), ({"gate": {"on_error": "warn"}}, "enforce", OK),
                                              ({}, "audit", OK)])
def test_without_a_scanner_it_is_undecided(over, mode, code, job):
    job.ready(mode, {"trivy": {"path": "/nowhere/trivy"}, "gate": {"mode": mode, **over.get("gate", {})}}).leave()
    assert job.inspect("run") == code, job.said
    assert job.record()["verdict"] == "undecided" and job.record()["archives"][0]["is_unfit"]


def test_a_project_directory_that_is_gone_leaves_no_record_of_before(job):
    job.ready().leave()
    assert job.inspect("run") == OK, job.said
    job.project.rename(job.project.with_name("elsewhere"))
    assert job.inspect("run") == UNDECIDED, job.said
    assert not (job.tmpdir / RECORD).exists()


@pytest.mark.parametrize("verb", ["run", "verify", "publish", "withhold"])
def test_a_project_directory_that_became_a_link_is_not_followed(verb, job):
    job.ready().leave(kind="classic")
    assert job.inspect("run") == BLOCKED, job.said
    other = job.host.root / "other"
    job.project.rename(other)
    job.project.symlink_to(other)
    assert job.inspect(verb) == UNDECIDED and "symbolic link" in job.said
    assert (other / "tar_images/app.tar").exists() and not (other / "scan_result").exists()


def test_reports_of_an_earlier_inspection_go(job):
    job.ready("audit").leave("tar_images/first.tar", "classic")
    assert job.inspect("run") == OK, job.said
    (job.project / "tar_images/first.tar").unlink()
    job.leave("tar_images/second.tar")
    assert job.inspect("run") == OK, job.said
    assert job.reports() == ["second.html", "second.json"]


def test_calls_that_are_none_are_wrong_use(job):
    job.ready()
    assert job.inspect("look") == USAGE and '"look"' in job.said
    (job.tmpdir / "tidewaiter-plan.json").write_text("{")
    assert job.inspect("run") == UNDECIDED and "tidewaiter-plan.json" in job.said
    (job.tmpdir / "tidewaiter-plan.json").unlink()
    assert job.inspect("run") == UNDECIDED and "tidewaiter-plan.json" in job.said
    for args in ((), ("run",), ("run", "--tmpdir"), ("run", "--dir", str(job.tmpdir)), ("run", "--tmpdir", str(job.tmpdir), "x")):
        done = subprocess.run([job.host.program("tidewaiter"), "inspect", *args], capture_output=True, text=True, check=False)
        assert done.returncode == USAGE, args


# ---- verify ----

def rewrite(path, at=5000):
    """Other bytes in place."""
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"x")


def replaced(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


def with_times_put_back(path):
    before = path.stat()
    rewrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_with_times_put_back(path):
    before = path.stat()
    replaced(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def moved_and_linked(path):
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to("moved")


def a_link(path):
    path.rename(path.parent.parent / "other")
    path.symlink_to("../other")


def a_fifo(path):
    path.unlink()
    os.mkfifo(path)


def a_second_name(path):
    os.link(path, path.parent.parent / "other")


def appeared(path):
    (path.parent / "late.tar").write_bytes(archive("classic"))


def appeared_elsewhere(path):
    (path.parent.parent / "late.tar.gz").write_bytes(archive("tar-gz"))


def cut(path):
    os.truncate(path, 4096)


@pytest.mark.parametrize("change", [rewrite, replaced, with_times_put_back, replaced_with_times_put_back, moved_and_linked, a_link,
                                    a_fifo, a_second_name, appeared, appeared_elsewhere, cut], ids=lambda c: c.__name__)
def test_verify_finds(change, job):
    path = job.ready().leave()
    assert job.inspect("run") == OK, job.said
    assert job.inspect("verify") == OK, job.said
    change(path)
    assert job.inspect("verify") == BLOCKED, job.said
    assert "not what was inspected" in job.said


def touch_read(path):
    path.read_bytes()


def other_file(path):
    (path.parent.parent / "notes").write_text("x")


def other_tar(path):
    (path.parent.parent / "sources.tar").write_bytes(b"no image")


def gone(path):
    path.unlink()


@pytest.mark.parametrize("change", [touch_read, other_file, other_tar, gone], ids=lambda c: c.__name__)
def test_verify_lets_pass(change, job):
    path = job.ready().leave()
    assert job.inspect("run") == OK, job.said
    change(path)
    assert job.inspect("verify") == OK, job.said


def test_verify_finds_a_store_through_a_mapping_that_outlived_its_descriptor(job):
    path = job.ready().leave()
    with open(path, "r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0)
    assert job.inspect("run") == OK, job.said
    assert job.record()["archives"][0]["digest"].startswith("sha256:")
    assert job.inspect("verify") == OK, job.said
    mapping[5000] ^= 1
    assert job.inspect("verify") == BLOCKED and "not what was inspected" in job.said
    mapping.close()


def test_verify_does_not_trust_a_writer_that_came_after_the_inspection(job):
    path = job.ready().leave()
    assert job.inspect("run") == OK, job.said
    with open(path, "r+b"):
        assert job.inspect("verify") == BLOCKED and "open for writing" in job.said


def test_verify_without_an_inspection_takes_no_image_for_inspected(job):
    job.ready().leave()
    assert job.inspect("verify") == BLOCKED, job.said


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "{}{}", '{"verdict":"fine","archives":[]}', '{"verdict":"pass"}',
                                  '{"verdict":"pass","archives":[{"name":"tar_images/app.tar"}]}'])
def test_a_record_that_is_not_understood_is_an_error(text, job):
    job.ready().leave()
    assert job.inspect("run") == OK, job.said
    (job.tmpdir / RECORD).write_text(text)
    for verb in ("verify", "withhold"):
        assert job.inspect(verb) == UNDECIDED and RECORD in job.said, (verb, job.said)
    assert (job.project / "tar_images/app.tar").exists()


# ---- publish ----

def outside(job):
    place = job.host.root / "outside"
    place.mkdir(exist_ok=True)
    (place / "app.json").write_text("untouched")
    place.chmod(0o777)
    return place


def published(job):
    return sorted(p.name for p in (job.project / "scan_result").iterdir())


def test_publish_gives_the_reports_to_the_job_s_user(job):
    job.ready().leave(kind="clean")
    assert job.inspect("run") == OK, job.said
    assert job.inspect("publish") == OK, job.said
    assert published(job) == ["app.html", "app.json"]
    for path in (job.project / "scan_result", *(job.project / "scan_result").iterdir()):
        assert path.stat().st_uid == job.plan["uid"]
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
    assert (job.project / "scan_result/app.json").read_bytes() == (job.tmpdir / "tidewaiter-reports/app.json").read_bytes()


def link_out(job):
    (job.project / "scan_result").symlink_to(outside(job))


def link_nowhere(job):
    (job.project / "scan_result").symlink_to("/nowhere/at/all")


def fifo(job):
    os.mkfifo(job.project / "scan_result")


def file(job):
    (job.project / "scan_result").write_text("x")


def full(job):
    place = job.project / "scan_result"
    (place / "app.json").mkdir(parents=True)
    (place / "app.html").symlink_to(outside(job) / "app.json")
    (place / "deep" / "er").mkdir(parents=True)
    (place / "deep" / "link").symlink_to(outside(job))
    (place / "evil.json").write_text("{}")
    place.chmod(0)


@pytest.mark.parametrize("trap", [link_out, link_nowhere, fifo, file, full], ids=lambda t: t.__name__)
def test_publish_puts_a_directory_of_its_own_in_place_of(trap, job):
    job.ready().leave()
    assert job.inspect("run") == OK, job.said
    trap(job)
    assert job.inspect("publish") == OK, job.said
    assert not (job.project / "scan_result").is_symlink()
    assert published(job) == ["app.html", "app.json"]
    if (job.host.root / "outside").exists():
        assert (outside(job) / "app.json").read_text() == "untouched"
        assert sorted(p.name for p in outside(job).iterdir()) == ["app.json"]


@pytest.mark.parametrize("kind", ["link", "fifo", "file"])
def test_publish_does_not_go_through_what_stands_above_its_directory(kind, job):
    job.ready(over={"report": {"dir": "out/reports"}}).leave()
    assert job.inspect("run") == OK, job.said
    (outside(job) / "reports").mkdir()
    above = job.project / "out"
    {"link": lambda: above.symlink_to(outside(job)), "fifo": lambda: os.mkfifo(above), "file": lambda: above.write_text("x")}[kind]()
    assert job.inspect("publish") == UNDECIDED and "out/reports" in job.said
    assert list((outside(job) / "reports").iterdir()) == []


def test_publish_makes_a_directory_of_several_parts(job):
    job.ready(over={"report": {"dir": "out/reports"}}).leave()
    assert job.inspect("run") == OK and job.inspect("publish") == OK, job.said
    assert sorted(p.name for p in (job.project / "out/reports").iterdir()) == ["app.html", "app.json"]
    assert (job.project / "out").stat().st_uid == job.plan["uid"]


def test_publish_without_an_inspection_touches_nothing(job):
    job.ready().leave("scan_result/own.json", b"{}")
    assert job.inspect("publish") == OK, job.said
    assert published(job) == ["own.json"]


# ---- withhold ----

def test_withhold_takes_out_what_did_not_pass_and_leaves_the_rest(job):
    job.ready()
    job.leave("tar_images/bad.tar", "classic")
    job.leave("tar_images/forged.tar", "forged-layer")
    job.leave("tar_images/good.tar", "clean")
    job.leave("sources.tar", b"no image")
    assert job.inspect("run") == BLOCKED, job.said
    job.leave("tar_images/late.tar", "clean")
    assert job.inspect("withhold") == OK, job.said
    assert sorted(p.name for p in (job.project / "tar_images").iterdir()) == ["good.tar"]
    assert (job.project / "sources.tar").exists()
    for name in ("bad.tar is withheld: it did not pass", "forged.tar is withheld", "late.tar is withheld: it was not inspected"):
        assert name in job.said


def test_withhold_takes_out_an_image_that_changed(job):
    path = job.ready().leave()
    assert job.inspect("run") == OK, job.said
    rewrite(path)
    assert job.inspect("withhold") == OK, job.said
    assert not path.exists()


def test_withhold_without_an_inspection_takes_out_every_image(job):
    path = job.ready().leave()
    other = job.leave("build/nested.tar", "classic")
    assert job.inspect("withhold") == OK, job.said
    assert not path.exists() and not other.exists()


def test_withhold_takes_a_link_and_never_what_it_leads_to(job):
    job.ready()
    image = outside(job) / "image.tar"
    image.write_bytes(archive("classic"))
    (job.project / "tar_images").mkdir()
    (job.project / "tar_images" / "app.tar").symlink_to(image)
    os.link(image, job.project / "tar_images" / "second.tar")
    assert job.inspect("withhold") == OK, job.said
    assert image.exists() and list((job.project / "tar_images").iterdir()) == []


def test_withhold_does_not_look_behind_a_linked_directory(job):
    job.ready()
    (outside(job) / "app.tar").write_bytes(archive("classic"))
    (job.project / "tar_images").symlink_to(outside(job))
    assert job.inspect("withhold") == OK, job.said
    assert (outside(job) / "app.tar").exists()
    assert not (job.project / "tar_images").is_symlink()
