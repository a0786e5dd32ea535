"""tidewaiter setup: users, ranges, directories; what it says and what it leaves alone."""

import grp
import os
import pathlib
import pwd
import stat
import subprocess

import pytest

from slot_host import host, needs_root  # noqa: F401

pytestmark = needs_root


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def ranges(file, users):
    found = {}
    for line in pathlib.Path(file).read_text().splitlines():
        name, first, count = line.split(":")
        if name in users:
            found[name] = (int(first), int(count))
    return found


def test_users_are_made_with_ranges_of_their_own(host):
    host.configure(slots=3)
    said = host.setup()
    slots = [f"{host.prefix}{n}" for n in range(3)]
    assert host.users() == sorted([*slots, f"{host.prefix}scan", f"{host.prefix}courier"])
    for name in slots:
        user = pwd.getpwnam(name)
        assert user.pw_uid != 0 and user.pw_gid != 0
        assert user.pw_shell.endswith(("nologin", "false"))
        assert grp.getgrgid(user.pw_gid).gr_name == name
        assert user.pw_dir == str(host.state / "slots" / name.removeprefix(host.prefix) / "home")
        assert f"made user {name}" in said
    for file in ("/etc/subuid", "/etc/subgid"):
        found = ranges(file, slots)
        assert sorted(found) == sorted(slots)
        assert all(count == 65536 for _, count in found.values())
        firsts = sorted(first for first, _ in found.values())
        assert all(later - earlier >= 65536 for earlier, later in zip(firsts, firsts[1:]))


def test_numbers_are_not_those_that_images_use(host):
    host.configure(slots=3)
    host.setup()
    assert all(600 <= pwd.getpwnam(name).pw_uid <= 899 for name in host.users())


def test_two_at_once_give_no_number_twice(host):
    calls = []
    for prefix in ("a-", "b-"):
        own = host.prefix + prefix
        path = host.write_settings({"scan_user": f"{own}scan", "courier_user": f"{own}courier",
                                    "state_dir": str(host.root / prefix), "cache_dir": str(host.root / f"{prefix}cache"),
                                    "job": {"user_prefix": own, "slots": 8},
                                    "trivy": {"db_dir": str(host.root / "trivy-db")}})
        calls.append(subprocess.Popen([host.program("tidewaiter"), "--config", str(path), "setup"],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    for call in calls:
        assert call.communicate(timeout=120)[1] == "" and call.returncode == 0
    for file in ("/etc/subuid", "/etc/subgid"):
        firsts = sorted(first for first, _ in ranges(file, host.users()).values())
        assert len(firsts) == 16 and all(later - earlier >= 65536 for earlier, later in zip(firsts, firsts[1:]))


def test_a_range_that_is_anothers_too_is_refused_by_name(host):
    host.configure(slots=2)
    host.setup()
    first, count = ranges("/etc/subuid", [f"{host.prefix}0"])[f"{host.prefix}0"]
    subprocess.run(["usermod", "--add-subuids", f"{first + 5}-{first + count}", f"{host.prefix}scan"], check=True)
    done = host.tidewaiter("setup")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "/etc/subuid" in done.stderr and f"{host.prefix}0" in done.stderr


def test_directories_have_owners_and_modes(host):
    host.configure()
    host.setup()
    courier = pwd.getpwnam(f"{host.prefix}courier")
    for path in (host.state, host.state / "slots", host.root / "job-builds", host.root / "job-cache"):
        assert path.stat().st_uid == 0 and mode_of(path) == 0o711, path
    spool = host.state / "spool"
    assert spool.stat().st_uid == courier.pw_uid and mode_of(spool) == 0o700
    # what brings the database makes its place: `tidewaiter db` a link
    assert not (host.root / "trivy-db").exists()


def test_a_second_time_there_is_nothing_to_do(host):
    host.configure()
    host.setup()
    said = host.setup()
    assert said.splitlines() == [f"nothing to do: users and directories are as {host.settings} asks for"]


def test_dry_run_says_the_same_and_does_nothing(host):
    host.configure()
    dry = host.setup("--dry-run")
    assert host.users() == [] and not host.state.exists()
    done = host.setup()
    assert dry.splitlines() == [f"would have {line}" for line in done.splitlines()]


def test_more_slots_make_only_the_users_that_are_missing(host):
    host.configure(slots=1)
    host.setup()
    first = pwd.getpwnam(f"{host.prefix}0").pw_uid
    host.configure(slots=2)
    said = host.setup()
    assert f"made user {host.prefix}1" in said and f"made user {host.prefix}0" not in said
    assert pwd.getpwnam(f"{host.prefix}0").pw_uid == first


def test_what_was_changed_by_hand_is_mended(host):
    host.configure()
    host.setup()
    spool = host.state / "spool"
    spool.chmod(0o755)
    os.chown(spool, 0, 0)
    subprocess.run(["usermod", "--home", "/nonexistent", f"{host.prefix}0"], check=True, capture_output=True)
    said = host.setup()
    assert str(spool) in said and "/nonexistent" in said
    assert mode_of(spool) == 0o700
    assert spool.stat().st_uid == pwd.getpwnam(f"{host.prefix}courier").pw_uid
    assert pwd.getpwnam(f"{host.prefix}0").pw_dir == str(host.state / "slots" / "0" / "home")


def test_a_directory_that_others_can_write_is_not_taken(host):
    host.configure()
    host.state.mkdir()
    host.state.chmod(0o777)
    done = host.tidewaiter("setup")
    assert done.returncode == 2
    assert str(host.state) in done.stderr and "0777" in done.stderr
    assert mode_of(host.state) == 0o777


def test_a_file_in_place_of_a_directory_is_an_error(host):
    host.configure()
    host.state.write_text("")
    done = host.tidewaiter("setup")
    assert done.returncode == 3
    assert str(host.state) in done.stderr


def test_a_slot_user_that_is_root_is_refused(host):
    host.configure()
    subprocess.run(["useradd", "--system", "--non-unique", "--uid", "0", "--gid", "0", "--no-create-home",
                    f"{host.prefix}0"], check=True, capture_output=True)
    try:
        done = host.tidewaiter("setup")
        assert done.returncode == 2
        assert f"{host.prefix}0" in done.stderr and "root" in done.stderr
    finally:
        # userdel asks about root's processes; they are not this user's.
        subprocess.run(["userdel", "--force", f"{host.prefix}0"], check=False, capture_output=True)


def test_two_slots_with_one_number_are_refused(host):
    host.configure(slots=1)
    host.setup()
    uid = pwd.getpwnam(f"{host.prefix}0").pw_uid
    subprocess.run(["useradd", "--system", "--non-unique", "--uid", str(uid), "--no-create-home", f"{host.prefix}1"],
                   check=True, capture_output=True)
    host.configure(slots=2)
    done = host.tidewaiter("setup")
    assert done.returncode == 2
    assert f"{host.prefix}0" in done.stderr and f"{host.prefix}1" in done.stderr


def test_the_token_is_given_to_the_couriers_group(host):
    token = host.root / "token"
    token.write_text("hunter2\n")
    token.chmod(0o644)
    host.configure(over={"defectdojo": {"token_file": str(token)}})
    said = host.setup()
    assert mode_of(token) == 0o640 and token.stat().st_uid == 0
    assert token.stat().st_gid == pwd.getpwnam(f"{host.prefix}courier").pw_gid
    assert str(token) in said and "hunter2" not in said


def test_no_link_chooses_what_is_given_to_the_courier(host):
    victim, token = host.root / "victim", host.root / "token"
    victim.write_text("hunter2\n")
    victim.chmod(0o600)
    token.symlink_to(victim)
    host.configure(over={"defectdojo": {"token_file": str(token)}})
    done = host.tidewaiter("setup")
    assert done.returncode == 2 and f"{token} is a symbolic link; name the file that it leads to" in done.stderr
    assert (mode_of(victim), victim.stat().st_gid) == (0o600, 0)


def test_docker_among_the_groups_is_said(host):
    try:
        grp.getgrnam("docker")
    except KeyError:
        pytest.skip("there is no group docker here")
    host.configure(over={"job": {"groups": ["docker"]}})
    assert "root on this host" in host.setup()


def test_as_an_ordinary_user_it_refuses(host):
    host.configure()
    host.settings.chmod(0o644)
    done = subprocess.run([host.program("tidewaiter"), "setup", "--config", str(host.settings)], user=65534, group=65534,
                          extra_groups=[], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "root" in done.stderr
    assert host.users() == []


def test_an_unknown_argument_is_refused(host):
    host.configure()
    done = host.tidewaiter("setup", "--force")
    assert done.returncode == 2 and "--force" in done.stderr
    assert host.users() == []


@needs_root
def test_who_forgets_sudo_is_told_so_and_no_database_is_called_damaged(host):  # noqa: F811
    host.configure(1, {"trivy": {"db_dir": ""}})
    assert host.tidewaiter("setup").returncode == 0

    def as_nobody(*args):
        return subprocess.run([host.program("tidewaiter"), "--config", str(host.settings), *args], user=65534,
                              group=65534, extra_groups=[], capture_output=True, text=True, timeout=60, check=False)

    done = as_nobody("spool", "list")
    assert done.returncode == 3 and "Permission denied" in done.stderr and "say it as root" in done.stderr
    done = as_nobody("db", "status")
    assert done.returncode == 1 and "unreadable" in done.stdout and "damaged" not in done.stdout
