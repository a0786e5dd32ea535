"""Image archives as real tools leave them, and others made by script, through the unpacker.

Every archive of expected.json gives the images, layers and packages that it says, or is refused with the reason; Trivy
finds in each image what plain Trivy finds in it; nothing half-made stays behind. What is hostile: test_redteam.py.
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
import plain  # noqa: E402

SHARED = pathlib.Path(os.environ.get("TIDEWAITER_SHARED", SOURCE.parent / "shared"))
ARCHIVES = SHARED / "images" / "archives"
EXPECTED = json.loads((SHARED / "images" / "expected.json").read_text())["archives"]

REFUSED = {"docker20-export.tar": "no image: ", "buildx029-rootfs.tar": "no image: ",
           "buildkit034-cache-dir": "no image: ", "skopeo122-index-only.tar": "no image: ",
           "docker28-containerd-content-missing.tar": "missing config: "}
READ = sorted(set(EXPECTED) - set(REFUSED))


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
def trivy(tmp_path_factory):
    """A real Trivy and the small database of the tests, which knows flaws of what is in the images."""
    program = subprocess.run([SOURCE / "scripts" / "trivy"], capture_output=True, text=True, check=True).stdout.strip()
    database = tmp_path_factory.mktemp("database")  # of its own: whoever makes the shared one anew takes it away for a moment
    subprocess.run([SOURCE / "scripts" / "trivy-db", database], capture_output=True, check=True)
    return program, database


def test_every_archive_is_read_or_refused():
    assert len(EXPECTED) == 104
    assert len(READ) == 99
    assert all(EXPECTED[name]["number_of_images"] > 0 for name in READ)
    assert all(EXPECTED[name]["number_of_images"] == 0 for name in REFUSED)


@pytest.mark.parametrize("name", READ)
def test_an_archive_gives_its_images_and_their_layers(name, unpack, tmp_path):
    got = unpack(ARCHIVES / name, tmp_path)
    assert [archive["fault"] for archive in got["archives"]] == [""]
    expected = {image["config_digest"]: image for image in EXPECTED[name]["images"]}
    assert sorted(image["config_digest"] for image in got["images"]) == sorted(expected)
    for image in got["images"]:
        wanted = expected[image["config_digest"]]
        assert [layer["diff_id"] for layer in image["layers"]] == wanted["diff_ids"]
        assert image["tags"] == (wanted["tags"] or [])
        assert image["platform"] == wanted["platform"]
        assert image["manifest_digest"] == (wanted.get("manifest_digest") or "")
        for digest in [image["config_digest"], *wanted["diff_ids"]]:
            blob = pathlib.Path(image["layout"]) / "blobs" / "sha256" / digest.removeprefix("sha256:")
            assert images.Blob(path=blob).digest == digest
    for key in ("layout", "report_name", "label"):
        assert len({image[key] for image in got["images"]}) == len(got["images"])


@pytest.mark.parametrize("name", READ)
def test_trivy_finds_in_each_image_what_plain_trivy_finds(name, unpack, trivy, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    said = EXPECTED[name]["trivy"]
    parts = plain.take_apart(ARCHIVES / name)
    for number, image in enumerate(unpack(ARCHIVES / name, work)["images"]):
        ours = plain.report(*trivy, image["layout"], tmp_path / f"ours{number}")
        if said["reads"] and said["image_id"] == image["config_digest"]:
            theirs = plain.report(*trivy, ARCHIVES / name, tmp_path / f"theirs{number}")
            assert plain.packages(ours) == sorted(said["packages"])
        else:
            layout = plain.write_layout(parts[image["config_digest"]], tmp_path / f"plain{number}")
            theirs = plain.report(*trivy, layout, tmp_path / f"theirs{number}")
        assert ours["Metadata"]["ImageID"] == theirs["Metadata"]["ImageID"] == image["config_digest"]
        assert ours["Metadata"].get("DiffIDs", []) == [layer["diff_id"] for layer in image["layers"]]
        assert plain.findings(ours) == plain.findings(theirs)
        assert plain.findings(ours) or ["openssl", "3.0.1-1"] not in plain.packages(ours)
        assert plain.packages(ours) == plain.packages(theirs)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_holds_no_image_is_refused(name, unpack, tmp_path):
    got = unpack(ARCHIVES / name, tmp_path)
    assert got["images"] == []
    assert got["archives"][0]["kind"] == "refused"
    assert got["archives"][0]["fault"].startswith(REFUSED[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options, found", [
    ((), ["linux/amd64", "linux/arm64"]), (("--platform", "linux"), ["linux/amd64", "linux/arm64"]),
    (("--platform", "all"), ["linux/amd64", "linux/arm64", "windows/amd64"]), (("--platform", "linux/arm64"), ["linux/arm64"])])
def test_of_several_platforms_those_are_looked_at_that_are_asked_for(options, found, unpack, tmp_path):
    file, work = tmp_path / "x.tar", tmp_path / "work"
    work.mkdir()
    images.KINDS["oci-windows-beside"].write(file)
    got = unpack(file, work, *options)
    assert [archive["fault"] for archive in got["archives"]] == [""]
    assert sorted(image["platform"] for image in got["images"]) == found


def test_an_archive_with_no_platform_that_is_asked_for_is_undecided(unpack, tmp_path):
    file, work = tmp_path / "x.tar", tmp_path / "work"
    work.mkdir()
    images.KINDS["oci-platforms"].write(file)
    got = unpack(file, work, "--platform", "linux/s390x")
    assert got["images"] == [] and got["archives"][0]["kind"] == "unsupported"
    assert got["archives"][0]["fault"].startswith("platform: none of the 2 images")


def test_two_names_in_an_index_are_one_image(unpack, tmp_path):
    layout = images.layout_of(images.app())
    layout.manifests.append({**layout.manifests[0], "annotations": {"io.containerd.image.name": "docker.io/group/app:2.0"}})
    file, work = tmp_path / "x.tar", tmp_path / "work"
    work.mkdir()
    layout.archive().write(file)
    image, = unpack(file, work)["images"]
    assert image["tags"] == ["registry.example.org/group/app:1.0", "docker.io/group/app:2.0"]
    assert image["report_name"] == "x"


def test_one_image_in_two_compressions_is_one_and_both_are_verified(unpack, tmp_path):
    """An engine may take either; the second one's layer lies about its bytes."""
    def plain_layers(layout, image):
        def change(manifest):
            manifest["layers"] = [layout.add(blob, "layer.v1.tar") for blob in image.layers]
        return layout.image(image, change)
    layout = images.layout_of(images.app())
    layout.manifests.append(plain_layers(layout, images.app()))
    for number, forge in enumerate((False, True)):
        file, work = tmp_path / f"{number}.tar", tmp_path / f"work{number}"
        work.mkdir()
        if forge:
            name = "blobs/sha256/" + images.app().layers[2].hex
            layout.blobs[name] = images.Blob(layout.blobs[name].data.replace(b"node", b"evil"))
        layout.archive().write(file)
        got = unpack(file, work)
        assert len(got["images"]) == (0 if forge else 1), got
        assert got["archives"][0]["fault"].startswith("forged layer: " if forge else "")


@pytest.mark.parametrize("kind", ["oci-platforms", "oci-sha512", "oci-windows"])
def test_a_directory_is_read_as_the_tar_of_it(kind, unpack, tmp_path):
    layout = {"oci-platforms": lambda: images.platforms("amd64", "arm64"),
              "oci-sha512": lambda: images.layout_of(images.app(), algorithm="sha512"),
              "oci-windows": lambda: images.platforms("amd64", system="windows")}[kind]()
    for place in ("oci", "work", "work-dir"):
        (tmp_path / place).mkdir()
    layout.write(tmp_path / "oci")
    images.KINDS[kind].write(tmp_path / "oci.tar")
    from_tar, from_dir = unpack(tmp_path / "oci.tar", tmp_path / "work"), unpack(tmp_path / "oci", tmp_path / "work-dir")
    assert from_dir["archives"][0]["fault"] == ""
    assert [image["config_digest"] for image in from_dir["images"]] == [image["config_digest"] for image in from_tar["images"]]
    assert [image["report_name"] for image in from_dir["images"]] == [image["report_name"] for image in from_tar["images"]]


@pytest.mark.parametrize("kind, config, layers", [("oci-sha512", "sha512", "sha256"), ("sha512-diff-ids", "sha256", "sha512"),
                                                  ("oci-all-sha512", "sha512", "sha512")])
def test_trivy_reads_what_is_named_by_sha512(kind, config, layers, unpack, trivy, tmp_path):
    file, work = tmp_path / "x.tar", tmp_path / "work"
    work.mkdir()
    images.KINDS[kind].write(file)
    images.KINDS["classic"].write(tmp_path / "classic.tar")
    image, = unpack(file, work)["images"]
    assert image["config_digest"].startswith(config + ":")
    assert {layer["diff_id"].split(":")[0] for layer in image["layers"]} == {layers}
    ours = plain.report(*trivy, image["layout"], tmp_path / "ours")
    assert ours["Metadata"]["ImageID"] == image["scanned_digest"]
    assert ours["Metadata"]["DiffIDs"] == [layer["scanned_digest"] for layer in image["layers"]]
    assert plain.findings(ours) == plain.findings(plain.report(*trivy, tmp_path / "classic.tar", tmp_path / "theirs")) != []


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
