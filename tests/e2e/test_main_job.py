"""The main job, whole: a docker_build job on a runner is scanned by Trivy and its findings reach DefectDojo."""

import json
import os
import pathlib
import subprocess
import threading
import time

import pytest
from defectdojo import DefectDojo
from inspected import images, inspected, log, tool  # noqa: F401
from slot_host import host, needs_root  # noqa: F401

import engines  # beside images; inspected put their directory into the path
import plain

pytestmark = needs_root

TOKEN = "0123456789abcdef0123456789abcdef01234567"
JOB_TOKEN = "glcbt-64_00000000000000001000"


def with_dojo(inspected, dojo, mode="audit", **more):  # noqa: F811
    """A host whose courier knows the server."""
    secret = inspected.host.root / "token"
    secret.touch(mode=0o600)
    secret.write_text(dojo.token + "\n")
    return inspected.ready(mode, over={"defectdojo": {"url": dojo.url, "token_file": str(secret), "product_type": "CI",
                                                      "wait": "60s"}, **more})


def spooled(inspected):  # noqa: F811
    place = inspected.host.state / "spool"
    return sorted(p.name for kind in ("new", "dead") for p in (place / kind).iterdir())


def test_findings_of_a_job_reach_defectdojo_under_trusted_names(inspected):  # noqa: F811
    with DefectDojo() as dojo:
        with_dojo(inspected, dojo)
        result = inspected.play("classic", variables={"CI_PROJECT_PATH": "victim/app", "CI_COMMIT_SHA": "f" * 40})
        assert result.state == "success", log(result)
        assert log(result).count("is not encrypted") == 1, "plain http works, with a warning"
        [upload] = dojo.uploads
        form = {name: values[0] for name, values in upload.form.items()}
        assert (upload.method, upload.path, upload.status) == ("POST", "/api/v2/reimport-scan/", 201)
        assert form["product_name"] == "group/app" and form["engagement_name"] == "main"
        assert form["service"] == form["test_title"] == "group/app"
        assert form["deduplication_execution_mode"] == "sync" and form["auto_create_context"] == "true"
        assert form["commit_hash"] != "f" * 40 and form["branch_tag"] == "main" and form["build_id"]
        report = json.loads(next(iter(upload.files.values()))[1])
        assert len(report["Results"]) and not dojo.errors
        assert len(dojo.findings("group/app")) == sum(len(r.get("Vulnerabilities", [])) for r in report["Results"])
        assert spooled(inspected) == []


def test_the_same_image_under_another_tag_leaves_every_finding_as_it_was(inspected):  # noqa: F811
    with DefectDojo() as dojo:
        with_dojo(inspected, dojo)
        assert inspected.play("classic", id=1).state == "success"
        tagged = images.classic(images.app(tags=["registry.example.org/group/app:2.0"]))
        path = inspected.host.root / "tagged"
        tagged.write(path)
        result = inspected.play("classic", id=2, project={"image": path.read_bytes()})
        assert result.state == "success", log(result)
        assert [u.status for u in dojo.uploads] == [201, 201]
        stats = dojo.imports[-1]
        assert len(dojo.findings("group/app")) == len({f["id"] for f in dojo.findings("group/app")})
        assert all(not f["is_mitigated"] for f in dojo.findings("group/app")), stats


def test_a_dead_defectdojo_changes_nothing_and_loses_nothing(inspected):  # noqa: F811
    with DefectDojo() as dojo:
        with_dojo(inspected, dojo, "enforce")
        dojo.down()
        result = inspected.play("clean", artifacts=["tar_images/*.tar"])
        assert result.state == "success", log(result)
        assert spooled(inspected) != []
        dojo.up()
        done = inspected.host.tidewaiter("spool", "flush", "--now")
        assert done.returncode == 0, done.stderr
        dojo.wait_for(lambda: len(dojo.uploads) == 1)
        assert spooled(inspected) == []


def watch(uids, found, stop):
    """Every command line and every environment that a job or the scanner could read, while the job runs."""
    del uids
    while not stop.is_set():
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            for name in ("cmdline", "environ"):
                try:
                    found.setdefault(name, set()).add((entry, pathlib.Path("/proc", entry, name).read_bytes()))
                except OSError:
                    continue
        time.sleep(0.005)


def files_with(root, secret):
    done = subprocess.run(["grep", "-rlaF", secret, str(root)], capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_no_secret_is_in_a_command_line_a_log_a_report_or_a_file_of_others(inspected):  # noqa: F811
    with DefectDojo(token=TOKEN) as dojo:
        with_dojo(inspected, dojo, "enforce")
        seen, stop = {}, threading.Event()
        watcher = threading.Thread(target=watch, args=(inspected.uids(), seen, stop))
        watcher.start()
        try:
            result = inspected.play("classic", artifacts=["tar_images/*.tar"], artifacts_when="always")
        finally:
            stop.set()
            watcher.join()
        assert dojo.uploads and dojo.uploads[0].status == 201
        secrets = (TOKEN, JOB_TOKEN)
        for secret in secrets:
            # the runner's own stage script gives its uploader the job token: `gitlab-runner artifacts-uploader --url … --token …`
            lines = [text for _, text in seen["cmdline"] if secret.encode() in text and b"\0--token\0" not in text]
            assert not lines, lines
            assert secret not in log(result)
            for artifact in result.artifacts:
                for name in artifact.names():
                    assert secret.encode() not in artifact.read(name)
        assert not [text for _, text in seen["environ"] if TOKEN.encode() in text]
        # the token's own file and nothing else; nothing of the job is left that could hold the job's
        assert files_with(inspected.host.root, TOKEN) == [str(inspected.host.root / "token")]


@pytest.fixture(scope="session")
def real_images(tmp_path_factory):
    cache = os.environ.get("TIDEWAITER_ENGINES")
    return engines.make_all(cache or tmp_path_factory.mktemp("engines"))


@pytest.mark.parametrize("name", engines.NAMES)
def test_each_image_of_a_real_tool_has_the_findings_of_plain_trivy(inspected, real_images, name, tmp_path):  # noqa: F811
    inspected.ready()
    path = real_images[name]
    parts = plain.take_apart(path)
    done = inspected.host.tidewaiter("scan", "--json", str(path))
    found = json.loads(done.stdout)["images"]
    assert sorted(image["config_digest"] for image in found) == sorted(parts)
    assert len(found) == (2 if "two-images" in name or "two-dir" in name else 1)
    for number, image in enumerate(found):
        source = path if name in engines.TRIVY_READS else plain.write_layout(parts[image["config_digest"]],
                                                                            tmp_path / f"layout{number}")
        report = plain.report(tool("trivy"), inspected.host.root / "trivy-db", source, tmp_path / f"plain{number}")
        expected = sorted(finding[:3] for finding in plain.findings(report))
        assert sorted((f["id"], f["package"], f["installed"]) for f in image["findings"]) == expected
    assert any(image["findings"] for image in found)


def test_an_image_of_docker_save_goes_through_a_job(inspected, real_images):  # noqa: F811
    inspected.ready("warn")
    name = next(n for n in engines.NAMES if n.startswith("docker"))
    result = inspected.play("classic", project={"image": real_images[name].read_bytes()},
                            artifacts=["tar_images/*.tar"])
    assert result.state == "success", log(result)
    assert "CRITICAL" in log(result)
