"""An image may have several names, all of the job's own choice: it is judged by each of them, and the strictest verdict counts."""

import json

import pytest
from test_triage import BLOCKED, PASSED, Host, images, tools  # noqa: F401

POLICY = """version: 1
rules:
  - {name: prod, mode: enforce, match: {images: ["prod/**"]}}
  - {name: rest, mode: audit}
"""
MILD_FIRST = """version: 1
rules:
  - {name: scratch, mode: audit, match: {images: ["scratch"]}}
  - {name: rest, mode: enforce}
"""
PROD, SCRATCH = "registry.example.com/prod/app:1", "scratch:1"


@pytest.fixture
def host(root, program, settings, tools, dojo):  # noqa: F811
    return Host(root, program, settings, tools, dojo)


def judge(host, archive, policy=POLICY):
    archive.write(host.archive)
    host.configure(policy=policy)
    done = host.scan(upload=False)
    image, = json.loads(done.stdout)["images"]
    return done.returncode, image


def docker_twice(names):
    archive = images.classic(images.app())
    entry = json.loads(archive.members[-1].blob.data)[0]
    return images.Archive(archive.members[:-1] + [images.Member("manifest.json", images.as_json([{**entry, "RepoTags": [n]} for n in names]))])


def both_layouts(docker, containerd):
    archive = images.docker25(images.app(tags=[docker]))
    archive.edit_json("index.json", lambda j: j["manifests"][0].update(annotations={"io.containerd.image.name": containerd}))
    return archive


def oci(annotate):
    layout = images.Layout()
    layout.manifests = annotate(layout, layout.image(images.app()))
    return layout.archive()


def annotated(descriptor, **names):
    keys = {"containerd": "io.containerd.image.name", "ref": "org.opencontainers.image.ref.name"}
    return {**descriptor, "annotations": {keys[k]: v for k, v in names.items()}}


ARCHIVES = {
    "docker save of two": lambda a, b: images.classic(images.app(tags=[a, b])),
    "docker, two entries": lambda a, b: docker_twice([a, b]),
    "OCI, named twice": lambda a, b: oci(lambda layout, d: [images.named(d, a), images.named(d, b)]),
    "OCI, an index and its manifest": lambda a, b: oci(lambda layout, d: [images.named(layout.index([d]), a), images.named(d, b)]),
    "OCI, below a named index": lambda a, b: oci(lambda layout, d: [images.named(layout.index([images.named(d, a)]), b)]),
    "both layouts": lambda a, b: both_layouts(a, b),
    "OCI, both annotations": lambda a, b: oci(lambda layout, d: [annotated(d, containerd=a, ref=b)]),
}


@pytest.mark.parametrize("names", [(PROD, SCRATCH), (SCRATCH, PROD)])
@pytest.mark.parametrize("how", ARCHIVES)
def test_a_second_name_takes_an_image_out_of_no_rule(host, how, names):
    for policy in (POLICY, MILD_FIRST):
        code, image = judge(host, ARCHIVES[how](*names), policy)
        assert code == BLOCKED and image["rule"] == ("prod" if policy == POLICY else "rest"), image["tags"]


def test_one_name_is_judged_by_its_rule(host):
    """The counterpart, so that the test above can fail; and a bare tag is no name of its own."""
    assert judge(host, images.classic(images.app(tags=[SCRATCH])))[1]["rule"] == "rest"
    assert judge(host, images.classic(images.app(tags=[SCRATCH])), MILD_FIRST)[1]["rule"] == "scratch"
    assert judge(host, oci(lambda layout, d: [annotated(d, containerd=SCRATCH, ref="1")]), MILD_FIRST)[1]["rule"] == "scratch"
    assert judge(host, images.classic(images.app(tags=[SCRATCH, "docker.io/library/scratch:2"])), MILD_FIRST)[1]["rule"] == "scratch"
    # Docker 25 and newer say the same in both layouts
    _, image = judge(host, images.docker25(images.app(tags=[SCRATCH])), MILD_FIRST)
    assert image["rule"] == "scratch" and image["tags"] == [SCRATCH]
    assert judge(host, both_layouts(SCRATCH, "docker.io/library/scratch:1"), MILD_FIRST)[1]["tags"] == [SCRATCH]


@pytest.mark.parametrize("ref", ["@sha256:", "scratch:1@sha256:", "1@sha256:"])
def test_a_digest_behind_a_name_is_no_further_name(host, ref):
    digest = "a" * 64
    archive = oci(lambda layout, d: [annotated(d, containerd=f"docker.io/library/scratch@sha256:{digest}", ref=ref + digest)])
    assert judge(host, archive, MILD_FIRST)[1]["rule"] == "scratch"


def test_a_rule_that_is_announced_for_a_second_name_is_announced(host):
    policy = "version: 1\nrules:\n  - {name: soon, mode: enforce, enforce_from: 2099-01-01, match: {images: [\"prod/**\"]}}\n  - {name: all, mode: audit}\n"
    judge(host, images.classic(images.app(tags=[SCRATCH, PROD])), policy)
    assert "2099-01-01" in host.done.stdout
    judge(host, images.classic(images.app(tags=[SCRATCH])), policy)
    assert "2099-01-01" not in host.done.stdout


def test_an_exception_of_an_image_is_one_of_all_that_it_is_called(host):
    entries = "".join(f"  - {{id: {cve}, image: {{}}, expires: 2026-12-20, reason: r, owner: o, ticket: t}}\n"
                      for cve in ("CVE-2023-38545", "CVE-2022-1292", "CVE-2019-10744", "CVE-2021-44906", "CVE-2023-23914"))
    policy = "version: 1\nmax_days: 365\nrules:\n  - {name: all, mode: enforce}\nexceptions:\n"
    for names, image, code in (([SCRATCH], "scratch", PASSED), ([SCRATCH, "scratch:2"], "scratch", PASSED), ([SCRATCH], '"scratch:1"', PASSED),
                               ([SCRATCH, "scratch:2"], '"scratch:1"', PASSED), ([SCRATCH, PROD], "scratch", BLOCKED),
                               ([PROD, SCRATCH], "scratch", BLOCKED), ([PROD, SCRATCH], '"**"', PASSED)):
        assert judge(host, images.classic(images.app(tags=names)), policy + entries.replace("{}", image))[0] == code, (names, image)
