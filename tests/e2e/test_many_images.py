"""Archives with several images and platforms, and layouts that are directories, the whole way: verdicts, reports,
DefectDojo, artifacts, withholding, and what a job changes after the inspection."""

import json
import os
import pathlib
import subprocess

import pytest
from defectdojo import DefectDojo
from inspected import REPORT, archives, images, inspected, log, text  # noqa: F401
from slot_host import host, needs_root  # noqa: F401

IS_ROOT = os.geteuid() == 0
PASS, BLOCKED = 0, 1

TWO = {"tar_images/all.tar": "two-images", "tar_images/multi.tar": "oci-platforms"}
LABELS = {
    "registry.example.org/group/app:1.0": ("all-app-1.0", "linux/amd64", "block"),
    "registry.example.org/group/other:2.0": ("all-other-2.0", "linux/amd64", "pass"),
    "registry.example.org/group/app:1.0 (linux/amd64)": ("multi-linux-amd64", "linux/amd64", "block"),
    "registry.example.org/group/app:1.0 (linux/arm64)": ("multi-linux-arm64", "linux/arm64", "pass"),
}


@pytest.fixture
def scan(root, program, settings, tools):
    """scan(*args, **sections of the settings) → the finished process."""
    def run(*args, **over):
        base = {"scan_user": "nobody", "courier_user": "daemon",
                "trivy": {"path": str(tools / "trivy"), "db_dir": str(tools / "db")}, **over}
        return subprocess.run([program("tidewaiter"), "--config", str(settings(base)), "scan", *map(str, args)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    return run


@pytest.fixture
def files(root):
    made = []
    for name, kind in TWO.items():
        path = root / pathlib.Path(name).name
        images.KINDS[kind].write(path)
        made.append(path)
    return made


def test_each_image_has_its_own_verdict_name_and_report(scan, files, root):
    done = scan("--json", "--report-dir", root / "reports", *files)
    assert done.returncode == BLOCKED, done.stderr
    found = {image["name"]: image for image in json.loads(done.stdout)["images"]}
    assert {name: (image["report"], image["platform"], image["verdict"]) for name, image in found.items()} == LABELS
    assert {image["archive"] for image in found.values()} == {str(path) for path in files}
    assert found["registry.example.org/group/app:1.0"]["manifest_digest"] is None
    assert found["registry.example.org/group/app:1.0 (linux/arm64)"]["manifest_digest"].startswith("sha256:")
    for report, _, _ in LABELS.values():
        assert (root / "reports" / f"{report}.html").is_file()
        assert json.loads((root / "reports" / f"{report}.json").read_text())["SchemaVersion"] == 2


def test_a_forged_image_refuses_all_of_its_archive(scan, root):
    archive = images.two_images()
    name = images.classic(images.clean()).members[-1].blob.data
    layer = json.loads(name)[0]["Layers"][1]
    at = archive.find(layer)
    archive.members[at] = images.Member(layer, archive.members[at].blob.data.replace(b"lodash", b"lodasx"))
    archive.write(root / "all.tar")
    done = scan("--json", root / "all.tar")
    said = json.loads(done.stdout)
    assert done.returncode == BLOCKED and said["images"] == []
    assert said["archives"][0]["fault"]["text"].startswith("forged layer: layer 2 of 2")


def test_defectdojo_gets_each_image_under_a_name_of_its_own(scan, files, root):
    with DefectDojo() as dojo:
        token = root / "token"
        token.write_text(dojo.token + "\n")
        token.chmod(0o600)
        spool = root / "state" / "spool"
        spool.mkdir(mode=0o700, parents=True)
        (root / "state").chmod(0o711)
        if IS_ROOT:
            subprocess.run(["chown", "daemon:", spool, token], check=True)
        done = scan("--upload", "--as", "group/app", "--branch", "main", *files, defectdojo={
            "url": dojo.url, "token_file": str(token), "product_type": "CI", "wait": "30s"})
        assert done.returncode == BLOCKED, done.stdout + done.stderr
        titles = [upload.form["test_title"][0] for upload in dojo.uploads]
        assert sorted(titles) == ["group/app (all, linux/amd64)", "group/app (multi, linux/amd64)",
                                  "group/app (multi, linux/arm64)", "group/other"]
        assert sorted(upload.form["service"][0] for upload in dojo.uploads) == sorted(titles)
        assert {upload.form["version"][0] for upload in dojo.uploads} == {"1.0", "2.0"}
        assert len({upload.form["build_id"][0] for upload in dojo.uploads}) == 4


# ---- directories in a job ----

def layout_files(layout, place="tar_images/oci"):
    """A layout's files as a job's project holds them, to be moved into place by its script."""
    return {f"{place}/{name}": blob.data for name, blob in layout.files().items()}


def play(inspected, layout, more=(), **job):  # noqa: F811
    return inspected.play(script=["ls tar_images/oci", *more], project=layout_files(layout),
                          artifacts=["tar_images/"], **job)


@needs_root
def test_a_layout_that_is_a_directory_is_inspected_and_stored(inspected):  # noqa: F811
    result = play(inspected.ready(), images.layout_of(images.clean()))
    assert result.state == "success", log(result)
    [artifact] = archives(result)
    assert {"tar_images/oci/index.json", "tar_images/oci/oci-layout", "scan_result/oci.json"} <= set(artifact.names())


@needs_root
def test_files_that_only_the_job_can_read_are_inspected_too(inspected):  # noqa: F811
    result = play(inspected.ready(), images.layout_of(images.app()), more=["chmod -R go= tar_images"])
    assert result.exit_code == 90 and "CVE-" in log(result), log(result)


@needs_root
def test_a_blocked_directory_is_withheld_as_a_whole(inspected):  # noqa: F811
    result = play(inspected.ready(), images.layout_of(images.app()), artifacts_when="always")
    assert result.exit_code == 90, log(result)
    [artifact] = archives(result)
    assert not [name for name in artifact.names() if name.startswith("tar_images/oci")], artifact.names()
    assert "tar_images/oci is withheld" in log(result)


CHANGES = {
    "a file more": "echo x >tar_images/oci/blobs/sha256/more",
    "a file less": "rm tar_images/oci/oci-layout",
    "a blob in place": "f=$(ls tar_images/oci/blobs/sha256/* | head -1); cp -p $f x; printf x | dd of=$f conv=notrunc 2>/dev/null; "
                       "touch -r x $f",
    "another index": "sed s/sha256/sha256/ tar_images/oci/index.json >x; mv x tar_images/oci/index.json",
    "a link in it": "mv tar_images/oci/index.json x; ln -s ../../x tar_images/oci/index.json",
}


@needs_root
@pytest.mark.parametrize("how", CHANGES)
def test_a_directory_changed_after_the_inspection_fails_the_job(how, inspected):  # noqa: F811
    result = play(inspected.ready(), images.layout_of(images.clean()), after_script=[CHANGES[how]])
    assert result.state == "failed" and "it is not what was inspected" in log(result), log(result)
    assert not [name for artifact in archives(result) for name in artifact.names() if name.startswith("tar_images/oci")]


@needs_root
def test_a_directory_that_holds_no_image_is_ignored_outside_tar_images(inspected):  # noqa: F811
    layout = images.with_chart(images.Layout())
    result = inspected.ready(over={"inject": {"on_no_image": "warn"}}).play(
        script=["true"], project=layout_files(layout, "charts/oci"), artifacts=["charts/"])
    assert result.state == "success", log(result)
    assert "charts/oci is ignored: no image" in log(result)
