"""Images that live only in a container engine: real Docker and real Podman, which the job loads images into."""

import contextlib
import os
import subprocess
import time

import pytest
from inspected import inspected, is_root, log, text  # noqa: F401
from listening import Listener
from slot_host import host  # noqa: F401

import engines  # noqa: E402; beside the images that inspected.py made known

pytestmark = pytest.mark.skipif(not is_root(), reason="engines need root")

TAG = "registry.example.org/group/app:1.0"


@contextlib.contextmanager
def docker(place):
    with engines.dockerd(place) as address:
        yield address.removeprefix("unix://"), {"DOCKER_HOST": address}


@contextlib.contextmanager
def podman(place):
    args, env = engines.storage(place)
    sock = place / "podman.sock"
    service = subprocess.Popen(["podman", *map(str, args), "system", "service", "--time=0", f"unix://{sock}"],
                               env={"PATH": engines.PATH, **env}, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not sock.exists():
            assert service.poll() is None and time.monotonic() < deadline, "podman's service does not start"
            time.sleep(0.1)
        yield str(sock), {"DOCKER_HOST": f"unix://{sock}"}
    finally:
        service.terminate()
        service.wait(30)


@pytest.fixture(params=[docker, podman], ids=["docker", "podman"])
def engine(request, host):  # noqa: F811
    place = host.root / "engine"  # a job has a /tmp of its own
    place.mkdir(mode=0o755)
    with request.param(place) as (sock, env):
        os.chmod(sock, 0o666)
        yield sock, env


def ready(inspected, sock, **images):
    return inspected.ready(over={"images": {"from_engine": True, "engine_sockets": ["/nonexistent/docker.sock", sock], **images}})


def play(inspected, engine, kind, script, **job):
    lines = [f"export DOCKER_HOST={engine[1]['DOCKER_HOST']} HOME=$PWD", *script]
    return inspected.play(kind, script=lines, **job)


def test_image_that_the_job_loaded_into_an_engine_is_inspected(inspected, engine):
    ready(inspected, engine[0])
    result = play(inspected, engine, "classic", ["docker load -i image && rm image"])
    assert result.exit_code == 90, log(result)
    assert TAG in text(result) and f"is taken from the engine at {engine[0]}" in text(result)

    again = play(inspected, engine, "clean", ["rm image"], id=1001)
    assert again.state == "success", log(again)
    assert TAG not in text(again) and "left no image archive" in text(again)


def test_new_name_for_an_image_that_was_there_is_inspected(inspected, engine):
    ready(inspected, engine[0], engine_names=["moved:*", "localhost/moved:*", "docker.io/library/moved:*"])
    first = play(inspected, engine, "classic", ["docker load -i image && rm image"])
    assert first.state == "success" and "left no image archive" in text(first), log(first)
    result = play(inspected, engine, "classic", [f"docker tag {TAG} moved:2"], id=1001)
    assert result.exit_code == 90 and "moved:2" in text(result), log(result)


def test_image_that_the_job_left_as_an_archive_too_is_inspected_once(inspected, engine):
    ready(inspected, engine[0])
    result = play(inspected, engine, "classic", ["docker load -i image", "mkdir tar_images", f"docker save -o tar_images/app.tar {TAG}",
                                                 "chmod 644 tar_images/app.tar"])
    assert result.exit_code == 90, log(result)
    assert "taken from the engine" not in text(result)


def test_an_archive_of_another_name_takes_no_image_of_an_engine_out_of_its_rule(inspected, engine):
    policy = inspected.host.root / "policy.yml"
    policy.write_text("version: 1\nrules:\n  - {name: prod, mode: enforce, match: {images: [\"group/**\"]}}\n  - {name: rest, mode: audit}\n")
    policy.chmod(0o644)
    inspected.ready(over={"images": {"from_engine": True, "engine_sockets": [engine[0]]}, "policy": {"file": str(policy)}})
    result = play(inspected, engine, "classic", ["docker load -i image", "rm image", f"docker tag {TAG} scratch:1", "mkdir tar_images",
                                                 "docker save -o tar_images/scratch.tar scratch:1", "chmod 644 tar_images/scratch.tar"])
    assert result.exit_code == 90 and "rule prod" in text(result), log(result)
    assert "taken from the engine" not in text(result)


class Late:
    """An engine that nobody has asked before the job: it answers that it has no images."""

    def __init__(self, path):
        self.path = path
        self.server = None

    def start(self):
        self.server = Listener(self.serve, self.path)

    @staticmethod
    def serve(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")

    def close(self):
        if self.server:
            self.server.close()


def test_engine_that_appears_during_the_job_is_undecided(inspected):
    late = Late(inspected.host.root / "late.sock")
    ready(inspected, str(late.path))
    try:
        result = inspected.play("clean", script=["rm image"],
                                on_stage=lambda name, _: late.start() if name == "build_script" else None)
    finally:
        late.close()
    assert (result.state, result.failure_reason) == ("failed", "runner_system_failure"), log(result)
    assert "it was not there before the job" in " ".join(log(result).split())
