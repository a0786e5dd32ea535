"""A branch that is compared with itself (new_only of a rule for its own jobs), on hosts of a fleet that share a DefectDojo and nothing else."""

import shutil
import subprocess
import time

import pytest
from test_triage import ADDED, BLOCKED, PASSED, UNDECIDED, Host, blocking, images, move, openssl_alone, own, tools  # noqa: F401

NONSENSE = own() + "nonsense: 1\n"
GRACE = own() + "    grace: {published: 3650}\n"


@pytest.fixture
def host(root, program, settings, tools, dojo):  # noqa: F811
    return Host(root, program, settings, tools, dojo)


def settle(host, *names):
    """The branch with openssl alone, known on these hosts; then the image with what is new."""
    for name in names:
        move(host, name, own())
        openssl_alone(host)
        host.scan()
        assert host.scan().returncode == PASSED
    host.image()
    time.sleep(1.1)  # what is let pass is told from what came later by the second


@pytest.mark.parametrize("there", ["a", "ab"])
@pytest.mark.parametrize("how", ["blocked", "undecided", "blocked, undecided", "grace", "accepted"])
def test_what_was_not_let_pass_for_good_blocks_on_every_host(host, dojo, there, how):
    settle(host, *there)
    move(host, "a", GRACE if how == "grace" else own())
    if "blocked" in how or how == "accepted":
        assert blocking(host.scan()) == ADDED
    if how == "accepted":
        dojo.accept([f["id"] for f in host.findings().values()])
    if how in ("grace", "accepted"):
        assert host.scan().returncode == PASSED
    if "undecided" in how:
        move(host, "a", NONSENSE)
        assert host.scan().returncode == UNDECIDED
    for acceptance in dojo.acceptances:
        dojo.expire(acceptance["id"])
    # b, where it was never there, and nobody who judged said what was there: nothing is known, so all of it is new
    is_new_to_b = there == "a" and how == "undecided"
    for name in "ba":
        move(host, name, own())
        done = host.scan(upload=False)
        assert blocking(done) >= ADDED, (name, done.stdout)
        assert is_new_to_b or blocking(done) == ADDED, (name, done.stdout)


def test_what_another_host_has_seen_go_is_new_again(host):
    move(host, "b", own())
    assert [host.scan().returncode for _ in range(2)] == [BLOCKED, PASSED]
    move(host, "a", own())
    openssl_alone(host)
    assert host.scan().returncode == PASSED
    host.image()
    for _ in range(2):
        move(host, "b", own())
        assert blocking(host.scan()) == ADDED


def test_a_server_that_did_not_answer_one_job_has_not_forgotten(host, dojo):
    settle(host, "a", "b")
    dojo.fault = "502@/api/v2/products"
    assert blocking(host.scan()) == ADDED
    dojo.fault = None
    for name in "abc":
        move(host, name, own())
        subprocess.run([host.program, "--config", host.config, "spool", "flush"], capture_output=True, timeout=60)
        done = host.scan(upload=False)
        assert blocking(done) >= ADDED and (name == "c" or blocking(done) == ADDED), (name, done.stdout + done.stderr)
    openssl_alone(host)
    move(host, "a", own())
    assert host.scan().returncode == PASSED


@pytest.mark.parametrize("how", ["undecided", "unanswered"])
def test_a_first_inspection_that_nobody_judged_is_not_the_first(host, dojo, how):
    openssl_alone(host)
    move(host, "a", NONSENSE if how == "undecided" else own())
    dojo.fault = "502@/api/v2/products" if how == "unanswered" else None
    assert host.scan().returncode == (UNDECIDED if how == "undecided" else BLOCKED)
    dojo.fault = None
    move(host, "a", own())
    assert [host.scan().returncode for _ in range(2)][-1] == PASSED
    move(host, "c", own())
    assert host.scan().returncode == PASSED


def test_a_baseline_that_cannot_be_kept_lets_nothing_pass(host):
    settle(host, "a", "b")
    move(host, "a", own())
    shutil.rmtree(host.state / "baselines")
    (host.state / "baselines").write_text("x")
    assert host.scan().returncode == BLOCKED
    move(host, "b", own())
    assert blocking(host.scan(upload=False)) == ADDED
