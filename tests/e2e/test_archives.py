"""Image archives as real tools leave them, and hostile ones made by script, through the unpacker.

Every docker-archive of one image gives the image, layers and packages that expected.json says; every other
kind is called not supported yet; every hostile archive is refused by the rule that it breaks, and nothing
half-made stays behind.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "fixtures"))

import images  # noqa: E402

SHARED = pathlib.Path(os.environ.get("TIDEWAITER_SHARED", SOURCE.parent / "shared"))
ARCHIVES = SHARED / "images" / "archives"
EXPECTED = json.loads((SHARED / "images" / "expected.json").read_text())["archives"]


def is_docker_archive_of_one(entry):
    return ("docker-archive" in entry["format"] and len(entry["images"]) == 1
            and entry["form"] in ("tar", "tar, gzip")
            and all(kind in ("none", "gzip") for kind in entry["images"][0]["layer_compression"]))


READ = sorted(name for name, entry in EXPECTED.items() if is_docker_archive_of_one(entry))
NO_IMAGE = {"docker20-export.tar": "no image: ", "buildx029-rootfs.tar": "no image: ",
            "docker28-containerd-content-missing.tar": "missing config: "}
OTHER = sorted(set(EXPECTED) - set(READ) - set(NO_IMAGE))


@pytest.fixture(scope="module")
def unpack(build_dir):
    """unpack(FILE, DIR, *options) → what unpack_tool prints."""
    tool = build_dir / "tests" / "unit" / "unpack_tool"
    if not tool.is_file():
        pytest.fail(f"{tool} is not built")

    def run(file, work, *options):
        done = subprocess.run([tool, *options, file, work], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def trivy():
    """Prints the packages of a layout: a real Trivy with a database that knows nothing of use here."""
    program = subprocess.run([SOURCE / "scripts" / "trivy"], capture_output=True, text=True, check=True).stdout.strip()
    database = subprocess.run([SOURCE / "scripts" / "trivy-db"], capture_output=True, text=True, check=True).stdout.strip()
    return program, database


def full_version(package):
    epoch, release = package.get("Epoch"), package.get("Release")
    return (f"{epoch}:" if epoch else "") + package.get("Version", "") + (f"-{release}" if release else "")


def packages(trivy, layout, tmp_path):
    program, database = trivy
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "db").symlink_to(pathlib.Path(database) / "db")
    done = subprocess.run(
        [program, "image", "--quiet", "--input", layout, "--format", "json", "--list-all-pkgs", "--scanners", "vuln",
         "--skip-db-update", "--skip-java-db-update", "--offline-scan", "--skip-version-check",
         "--cache-dir", cache, "--cache-backend", "memory"],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    found = [[package["Name"], full_version(package)]
             for result in report.get("Results") or [] for package in result.get("Packages") or []]
    return report, sorted(found)


def test_there_is_something_to_read():
    assert len(READ) == 36
    assert len(OTHER) == 65


@pytest.mark.parametrize("name", READ)
def test_a_docker_archive_gives_the_image_and_its_layers(name, unpack, tmp_path):
    got = unpack(ARCHIVES / name, tmp_path)
    expected = EXPECTED[name]["images"][0]
    assert [archive["fault"] for archive in got["archives"]] == [""]
    assert len(got["images"]) == 1
    image = got["images"][0]
    assert image["config_digest"] == expected["config_digest"]
    assert [layer["diff_id"] for layer in image["layers"]] == expected["diff_ids"]
    assert image["tags"] == (expected["tags"] or [])
    assert f"{image['os']}/{image['architecture']}" == expected["platform"]
    for digest in [expected["config_digest"], *expected["diff_ids"]]:
        blob = pathlib.Path(image["layout"]) / "blobs" / "sha256" / digest.removeprefix("sha256:")
        assert images.Blob(path=blob).digest == digest


@pytest.mark.parametrize("name", READ)
def test_trivy_finds_the_packages_in_the_layout(name, unpack, trivy, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    image = unpack(ARCHIVES / name, work)["images"][0]
    report, found = packages(trivy, image["layout"], tmp_path)
    expected = EXPECTED[name]["trivy"]
    assert found == sorted(expected["packages"])
    assert report["Metadata"]["ImageID"] == expected["image_id"]
    assert report["Metadata"].get("DiffIDs", []) == EXPECTED[name]["images"][0]["diff_ids"]


@pytest.mark.parametrize("name", OTHER)
def test_every_other_kind_is_not_supported_yet(name, unpack, tmp_path):
    got = unpack(ARCHIVES / name, tmp_path)
    assert got["images"] == []
    assert got["archives"][0]["kind"] == "unsupported"
    assert got["archives"][0]["fault"].startswith("not supported yet: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(NO_IMAGE))
def test_what_holds_no_image_is_refused(name, unpack, tmp_path):
    got = unpack(ARCHIVES / name, tmp_path)
    assert got["archives"][0]["kind"] == "refused"
    assert got["archives"][0]["fault"].startswith(NO_IMAGE[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", sorted(name for name, kind in images.KINDS.items() if kind.refusal))
def test_a_hostile_archive_is_refused_by_its_rule(kind, unpack, tmp_path):
    file, work = tmp_path / "x.tar", tmp_path / "work"
    work.mkdir()
    images.KINDS[kind].write(file)
    got = unpack(file, work)
    assert got["images"] == []
    assert images.KINDS[kind].refusal in got["archives"][0]["fault"]
    assert "\n" not in got["archives"][0]["fault"]
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("kind", sorted(name for name, kind in images.KINDS.items() if not kind.refusal))
def test_an_honest_archive_by_script_is_read(kind, unpack, tmp_path):
    file, work = tmp_path / "x.tar", tmp_path / "work"
    work.mkdir()
    images.KINDS[kind].write(file)
    got = unpack(file, work)
    assert [archive["fault"] for archive in got["archives"]] == [""]
    assert len(got["images"]) == 1


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_layout_is_the_same_on_any_number_of_threads(threads, unpack, tmp_path):
    image = images.image_of(*({f"file{n}": images.filler(300_000 * (n % 4 + 1), n)} for n in range(20)))
    file, work = tmp_path / "x.tar", tmp_path / "work"
    work.mkdir()
    images.classic(image).write(file)
    got = unpack(file, work, "--threads", str(threads))["images"][0]
    assert [layer["diff_id"] for layer in got["layers"]] == [blob.digest for blob in image.layers]
    assert [layer["size"] for layer in got["layers"]] == [blob.size for blob in image.layers]


def test_a_full_disk_leaves_nothing_behind(build_dir, unpack, tmp_path):
    """A work directory too small for the layers: refused before they are written, by what the headers announce;
    where the size is not announced (gzip), when the disk is full."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    image = images.image_of({"file": images.filler(6_000_000, 1)})
    for archive, name in ((images.classic(image), "x.tar"), (images.gzip_layers(image), "y.tar"),
                          (images.outer_gzip(images.classic(image)), "z.tar.gz")):
        file, work = tmp_path / name, tmp_path / f"work-{name}"
        work.mkdir()
        archive.write(file)
        script = ('mount -t tmpfs -o size=4m tmpfs "$3" && "$1" "$2" "$3" && echo left: && ls -A "$3"')
        done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh",
                               build_dir / "tests" / "unit" / "unpack_tool", file, work],
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        said, left = done.stdout.split("left:\n")
        got = json.loads(said)
        assert got["archives"][0]["kind"] == "no space", got
        assert left == ""


def test_memory_stays_small_whatever_the_size(build_dir, tmp_path):
    file, work = tmp_path / "big.tar.gz", tmp_path / "work"
    work.mkdir()
    images.big(file, 150_000_000, 4, gzipped=True)
    done = subprocess.run(["/usr/bin/env", "python3", "-c",
                           "import os, resource, subprocess, sys\n"
                           "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
                           "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)",
                           build_dir / "tests" / "unit" / "unpack_tool", file, work],
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    if "fsanitize" in (build_dir / "CMakeCache.txt").read_text():
        pytest.skip("a sanitizer's shadow memory counts as ours")
    assert int(done.stdout) < 64 * 1024
