"""Days since there is a fix (grace.fixed): what this host first saw is kept for all, before it counts."""

import datetime
import json
import pathlib
import re
import struct
import subprocess
import zlib

import pytest
from inspected import archives, host, inspected, log  # noqa: F401
from slot_host import needs_root
from test_fleet import KEY, make_redis, secret  # noqa: F401
from test_scan_verb import BLOCKED, PASS, scan  # noqa: F401

DAY = 86400
HEAD, RECORD = 24, 32


class Dates:
    """<state_dir>/fixes/dates, as stages/fix_dates.c writes it."""

    def __init__(self, state):
        self.path = pathlib.Path(state, "fixes", "dates")

    def records(self):
        data = self.path.read_bytes()[HEAD:]
        return [(data[at:at + 16], *struct.unpack("=qq", data[at + 16:at + RECORD])) for at in range(0, len(data), RECORD)]

    def write(self, records):
        body = b"".join(key + struct.pack("=qq", since, seen) for key, since, seen in records)
        with open(self.path, "r+b") as file:
            file.truncate()
            file.write(b"TWFIXES1" + struct.pack("=QQ", len(records), zlib.crc32(body)) + body)

    def age(self, days):
        """As if all of it had been seen so many days ago."""
        self.write([(key, since - days * DAY, seen - days * DAY) for key, since, seen in self.records()])


def policy(root, *rules):
    path = root / "policy.yml"
    path.write_text("version: 1\nrules:\n" + "".join(f"  - {{{rule}}}\n" for rule in rules))
    path.chmod(0o644)
    return {"policy": {"file": str(path)}}


ALL = "name: all, mode: enforce, severity: CRITICAL"
GRACE = f"{ALL}, grace: {{fixed: 14}}"


def first_day(dates, days=0):
    """So many days after the first that stands there."""
    first = min(since for _, since, _ in dates.records())
    return datetime.datetime.fromtimestamp(first + days * DAY, datetime.timezone.utc).strftime("%Y-%m-%d")


# ---- by hand ----

@pytest.fixture
def dates(scan):  # noqa: F811
    (scan.root / "state").mkdir(mode=0o755)
    return Dates(scan.root / "state")


def scanned(scan, *args):  # noqa: F811
    done = scan("--json", *args)
    assert done.returncode in (PASS, BLOCKED), done.stderr
    return done, json.loads(done.stdout)


def findings(result):
    return [f for image in result["images"] for f in image["findings"]]


def test_the_time_begins_when_a_fix_is_first_seen_and_ends(scan, dates):  # noqa: F811
    scan.configure(policy(scan.root, GRACE))
    image = scan.image("classic")
    done, result = scanned(scan, image)
    assert done.returncode == PASS, done.stdout
    critical = [f for f in findings(result) if f["severity"] == "CRITICAL"]
    fixed, unfixed = [f for f in critical if f["fixed"]], [f for f in critical if not f["fixed"]]
    assert fixed and {f["fate"] for f in critical} == {"grace"}
    assert {f["by"] for f in fixed} == {f"a fix was first seen here on {first_day(dates)}, 14 days of grace"}
    assert {f["until"][:10] for f in fixed} == {first_day(dates, 14)}
    assert {(f["by"], f["until"]) for f in unfixed} <= {("no fix yet, 14 days of grace from when there is one", None)}
    first = dates.records()
    assert first and all(abs(since - seen) <= 1 for _, since, seen in first)
    dates.age(13)
    assert scan(image).returncode == PASS
    dates.age(1)
    done, result = scanned(scan, image)
    assert done.returncode == BLOCKED
    assert {f["id"] for f in findings(result) if f["fate"] == "blocks"} == {f["id"] for f in fixed}
    assert [key for key, *_ in dates.records()] == [key for key, *_ in first]


def test_dates_are_put_down_whatever_rule_judges_and_not_where_no_rule_asks(scan, dates):  # noqa: F811
    image = scan.image("classic")
    scan.configure(policy(scan.root, ALL))
    assert scan("--as", "group/app", image).returncode == BLOCKED
    assert not dates.path.exists()
    scan.configure(policy(scan.root, "name: other, mode: enforce, match: {projects: [other/app]}, grace: {fixed: 14}", ALL))
    assert scan("--as", "group/app", image).returncode == BLOCKED
    assert dates.records()
    dates.age(14)
    assert scan("--as", "other/app", image).returncode == BLOCKED, "a fix exists for all"


@pytest.mark.parametrize("damage, words", [
    (lambda d: d.path.write_bytes(d.path.read_bytes()[:-1]), "dates: it is cut off"),
    (lambda d: d.path.write_bytes(b"x" * 4096), "dates: it is not of this format"),
    (lambda d: d.path.chmod(0o666), "dates: not a file that belongs to user"),
    (lambda d: (d.path.unlink(), d.path.symlink_to("/dev/zero")), "dates: "),
])
def test_what_cannot_be_read_gives_no_grace_and_is_said(scan, dates, damage, words):  # noqa: F811
    scan.configure(policy(scan.root, GRACE))
    image = scan.image("classic")
    assert scan(image).returncode == PASS
    damage(dates)
    done = scan(image)
    assert done.returncode == BLOCKED
    text = " ".join(done.stdout.split())
    assert f"since when there are fixes is not known of all: {words}" in text
    assert re.search(r"no grace \(grace.fixed\) for \d+ findings?: it is not known since when there is a fix", text)
    dates.path.unlink()
    assert scan(image).returncode == PASS


def test_doctor_says_what_is_kept_where_a_rule_asks_for_it(scan, dates):  # noqa: F811
    def fixes():
        argv = [scan.program, "--config", str(scan.config), "doctor", "--json"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        return [(line["level"], line["text"]) for line in json.loads(done.stdout)["checks"] if line["subject"] == "fixes"]

    scan.configure(policy(scan.root, ALL))
    assert fixes() == []
    scan.configure(policy(scan.root, GRACE))
    assert fixes() == [("ok", "none was seen here yet: the days of grace.fixed begin with the first inspection")]
    scan(scan.image("classic"))
    assert fixes() == [("ok", f"since when there is one is kept of {len(dates.records())}, since {first_day(dates)}")]
    dates.path.write_bytes(dates.path.read_bytes()[:-1])
    [(level, text)] = fixes()
    assert level == "fail" and text.endswith("dates: it is cut off, or holds too much")


# ---- in a fleet ----

class Fleet:
    """Two state directories are two hosts."""

    def __init__(self, scan, redis, secret):  # noqa: F811
        self.scan, self.redis = scan, redis
        self.section = {"redis": f"redis://127.0.0.1:{redis.port}", "redis_key_file": secret("fleet.key", KEY)}

    def __call__(self, host, kind="classic", **section):  # noqa: F811
        place = self.scan.root / f"state-{host}"
        place.mkdir(mode=0o755, exist_ok=True)
        self.scan.configure({**policy(self.scan.root, GRACE), "state_dir": str(place),
                             "defectdojo": {**self.section, **section}})
        return self.scan(self.scan.image(kind))

    def dates(self, host):
        return Dates(self.scan.root / f"state-{host}")


@pytest.fixture
def fleet(scan, make_redis, secret):  # noqa: F811
    return Fleet(scan, make_redis(), secret)


def test_what_one_host_has_seen_counts_on_all_of_them(fleet):
    assert fleet("a").returncode == PASS
    assert fleet("b").returncode == PASS
    assert [r[:2] for r in fleet.dates("a").records()] == [r[:2] for r in fleet.dates("b").records()]
    # a fix that is new to a host makes it tell all that it knows
    fleet.dates("a").age(20)
    fleet("a", "alpine")
    assert fleet("c").returncode == BLOCKED
    # and learn what others know
    assert fleet("b").returncode == PASS
    fleet("b", "alpine")
    assert fleet("b").returncode == BLOCKED


def test_a_redis_that_is_down_lost_all_or_lies_costs_no_date(fleet, secret):  # noqa: F811
    assert fleet("a").returncode == PASS
    first = fleet.dates("a").records()
    fleet.redis.ask("flushall")
    fleet("a", "alpine")
    fleet("b")
    both = {key: since for key, since, _ in fleet.dates("b").records()}
    assert all(both[key] == since for key, since, _ in first), "it was put in again"
    done = fleet("c", redis_key_file=secret("other.key", KEY[::-1]))
    assert done.returncode == PASS and "what this host alone knows" in done.stdout and "is not of our key" in done.stdout
    fleet.redis.close()
    done = fleet("d")
    assert done.returncode == PASS and "what this host alone knows" in done.stdout
    assert fleet.dates("d").records()


# ---- in jobs ----

@needs_root
def test_a_job_has_the_days_of_grace_and_blocks_when_they_are_over(inspected):  # noqa: F811
    inspected.ready("audit", policy(inspected.host.root, GRACE))
    kept = Dates(inspected.host.state)
    result = inspected.play("classic", id=1)
    assert result.state == "success", log(result)
    said, text = f"a fix was first seen here on {first_day(kept)}, 14 days of grace", " ".join(log(result).split())
    assert said in text and f"in grace until {first_day(kept, 14)}" in text
    assert said in archives(result)[0].read("scan_result/app.html").decode()
    assert kept.path.owner() == kept.path.parent.owner() == f"{inspected.host.prefix}courier"
    assert (kept.path.stat().st_mode & 0o777, kept.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    kept.age(13)
    assert inspected.play("classic", id=2).state == "success"
    kept.age(1)
    result = inspected.play("classic", id=3)
    assert result.exit_code == 90, log(result)
    assert "its grace, 14 days since a fix was first seen here, ended at" in " ".join(log(result).split())


@needs_root
@pytest.mark.parametrize("job", [{}, {"ref": "v1", "ref_type": "tag"}, {"ref": "feature", "target": "main"}])
def test_a_job_that_is_blocked_or_delivers_nothing_has_its_dates_put_down_too(inspected, job):  # noqa: F811
    inspected.ready("audit", policy(inspected.host.root, "name: never, mode: warn, match: {stages: [never]}, grace: {fixed: 14}",
                                    ALL))
    kept = Dates(inspected.host.state)
    assert inspected.play("classic", id=1, **job).exit_code == 90
    assert kept.records()
    kept.age(20)
    before = kept.records()
    policy(inspected.host.root, GRACE)
    assert inspected.play("classic", id=2, **job).exit_code == 90, "the time began with the job that was blocked"
    assert [(key, since) for key, since, _ in kept.records()] == [(key, since) for key, since, _ in before]


@needs_root
def test_what_could_not_be_put_down_has_no_grace(inspected):  # noqa: F811
    inspected.ready("audit", policy(inspected.host.root, GRACE))
    kept = Dates(inspected.host.state)
    kept.path.parent.mkdir(mode=0o700)
    small = ["mount", "-t", "tmpfs", "-o", "size=4k,mode=0700", "none", str(kept.path.parent)]
    subprocess.run(small, check=True)
    try:
        (kept.path.parent / "filler").write_bytes(b"x" * 4096)
        result = inspected.play("classic", id=1)
        assert result.exit_code == 90 and "No space left on device" in log(result), log(result)
        (kept.path.parent / "filler").unlink()
        assert inspected.play("classic", id=2).state == "success"
    finally:
        subprocess.run(["umount", str(kept.path.parent)], check=True)
