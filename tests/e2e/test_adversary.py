"""Jobs that try to get an image past the inspection while the runner's own stages run, in which their code runs, too."""

import subprocess

import pytest
from inspected import archive, archives, inspected, log, text  # noqa: F401
from slot_host import host  # noqa: F401

PUT_BACK = r"""
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void put_back(void)
{
	unsetenv("LD_PRELOAD");
	if (access("copy", F_OK) == 0 && access("ready", F_OK) == 0)
		(void)!system("mkdir -p tar_images; cp copy tar_images/app.tar");
}
"""


@pytest.fixture
def library(tmp_path):
    """What each program that a stage script starts loads: it puts the image back."""
    (tmp_path / "late.c").write_text(PUT_BACK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "late.so", "late.c"], cwd=tmp_path, check=True, stdin=subprocess.DEVNULL)
    return (tmp_path / "late.so").read_bytes()


def play(inspected, library, kind, more=(), **job):
    """With a library that every program of a stage script loads."""
    inspected.ready()
    project = inspected.host.root / "job-builds/0/group/app"
    return inspected.play(kind, variables={"LD_PRELOAD": f"{project}/late.so"}, project={"late.so": library},
                          script=["mkdir tar_images; cp image copy; mv image tar_images/app.tar; touch notes", "touch ready",
                                  *more], **job)


def test_blocked_image_that_a_library_puts_back_is_not_uploaded(library, inspected):
    result = play(inspected, library, "classic", artifacts=["tar_images/*.tar", "notes"], artifacts_when="always")
    assert result.exit_code == 90, log(result)
    [artifact] = archives(result)
    assert "notes" in artifact.names() and "tar_images/app.tar" not in artifact.names()


@pytest.mark.parametrize("how", [
    {"artifacts": ["tar_images/*.tar", "notes"], "artifacts_when": "always"},
    {"cache": [{"key": "k", "paths": ["tar_images/"], "policy": "push", "when": "always"}]},
])
def test_image_put_back_while_the_script_itself_stores_it_is_said_and_taken_away(how, library, inspected):
    """A job that failed by itself uploads with the script's own gitlab-runner: a limit, but no silent one."""
    result = play(inspected, library, "clean", more=["exit 7"], **how)
    assert (result.state, result.exit_code) == ("failed", 7), log(result)
    assert "tar_images/app.tar was put back while this stage ran, and may have been stored" in log(result)
