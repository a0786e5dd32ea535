"""The red team's archives (tests/fixtures/redteam.py) through `tidewaiter scan`, many at a time.

A hostile one is refused by the rule that it breaks, one whose packages Trivy cannot see is blocked for that, one that only looks
like it is read. And each limit of images.max_*: what just fits is read, what is one more is refused.
"""

import json
import pathlib
import shutil
import subprocess

import pytest
from inspected import images, redteam

BATCH = 50          # images.max_images is 64
BLOCKED = 1
NAMES = sorted(images.KINDS)
HOSTILE = [name for name in NAMES if images.KINDS[name].refusal]
HIDDEN = [name for name in NAMES if images.KINDS[name].hidden]
HONEST = [name for name in NAMES if not images.KINDS[name].refusal and not images.KINDS[name].hidden]


def batches(names):
    return [names[at:at + BATCH] for at in range(0, len(names), BATCH)]


@pytest.fixture
def scan(root, program, settings, tools):
    """scan(kinds) → exit code, and per kind its archive and its images as `scan --json` has them."""
    config = settings({"scan_user": "nobody", "courier_user": "daemon", "images": {"max_images": 64},
                       "trivy": {"path": str(tools / "trivy"), "db_dir": str(tools / "db")}})

    def run(kinds):
        files = []
        for kind in kinds:
            files.append(root / f"{kind}.tar")
            images.KINDS[kind].write(files[-1])
        done = subprocess.run([program("tidewaiter"), "--config", config, "scan", "--json", *files], capture_output=True,
                              text=True, timeout=110, check=False, stdin=subprocess.DEVNULL)
        got = json.loads(done.stdout)
        work = root / "var-cache" / "work"
        assert not work.exists() or not list(work.iterdir())
        found = {pathlib.Path(archive["name"]).stem: (archive, []) for archive in got["archives"]}
        for image in got["images"]:
            found[pathlib.Path(image["archive"]).stem][1].append(image)
        assert sorted(found) == sorted(kinds)
        return done.returncode, found

    return run


def test_there_are_enough_of_them():
    assert len(HOSTILE) + len(HIDDEN) >= 150
    assert len(HONEST) >= 60
    assert all(images.KINDS[name].says for name in NAMES)


@pytest.mark.parametrize("kinds", batches(HOSTILE), ids=lambda kinds: f"{kinds[0]}...{kinds[-1]}")
def test_hostile_archives_are_refused_each_by_its_rule(kinds, scan):
    code, found = scan(kinds)
    assert code == BLOCKED
    wrong = {kind: (images.KINDS[kind].refusal, archive["fault"]) for kind, (archive, images_of) in found.items()
             if images_of or not archive["fault"] or archive["fault"]["kind"] != "refused"
             or images.KINDS[kind].refusal not in archive["fault"]["text"] or "\n" in archive["fault"]["text"]}
    assert wrong == {}


@pytest.mark.parametrize("kinds", batches(HIDDEN), ids=lambda kinds: f"{kinds[0]}...{kinds[-1]}")
def test_packages_that_trivy_does_not_see_block(kinds, scan):
    code, found = scan(kinds)
    assert code == BLOCKED
    wrong = {kind: (images.KINDS[kind].hidden, archive["fault"], images_of) for kind, (archive, images_of) in found.items()
             if archive["fault"] or [image["verdict"] for image in images_of] != ["block"]
             or not any(reason.startswith("hidden packages: ") and images.KINDS[kind].hidden in reason
                        for reason in images_of[0]["reasons"])}
    assert wrong == {}


@pytest.mark.parametrize("kinds", batches(HONEST), ids=lambda kinds: f"{kinds[0]}...{kinds[-1]}")
def test_honest_archives_are_read(kinds, scan):
    _, found = scan(kinds)
    wrong = {kind: (archive["fault"], [image["reasons"] for image in images_of]) for kind, (archive, images_of) in found.items()
             if archive["fault"] or len(images_of) != images.KINDS[kind].n_images
             or any(image["fault"] or any("hidden" in reason for reason in image["reasons"]) for image in images_of)}
    assert wrong == {}


# ---- limits ----

def with_pax_of(size):
    key = b"comment="
    record = b"%d " % size + key + b"a" * (size - len(b"%d " % size) - len(key) - 1) + b"\n"
    return redteam.before_layer(images.Member("PaxHeaders/x", record, kind=b"x"), images.Member("x", b""))


def with_layer_of(size):
    """A layer's tar of that many bytes."""
    content = images.Member("x", bytes(size - 3 * images.BLOCK)).chunks()
    return images.classic(images.Image([("RUN x", images.Blob(b"".join(content) + bytes(2 * images.BLOCK)))]))


def with_depth(depth):
    """A config nested so deep."""
    value = images.app().config_value()
    inner = []
    for _ in range(depth - 2):
        inner = [inner]
    value["x"] = inner
    return redteam.with_config(images.as_json(value).data)


def with_config_of(size):
    data = images.as_json(images.app().config_value()).data
    return redteam.with_config(data + b" " * (size - len(data)))


def nested_indexes(depth):
    layout = images.Layout()
    descriptor = layout.image(images.app())
    for _ in range(depth):
        descriptor = layout.index([descriptor])
    layout.manifests = [descriptor]
    return layout.archive()


def with_manifests(count):
    layout = images.layout_of(images.app())
    layout.manifests += [{"mediaType": images.Layout.OCI + "manifest.v1+json", "digest": f"sha256:{n:064x}", "size": 2}
                         for n in range(count - 1)]
    return layout.archive()


def with_images(count):
    layout = images.Layout()
    layout.manifests = [layout.image(images.image_of({"x": b"%d" % n})) for n in range(count)]
    return layout.archive()


def with_layers(count):
    return images.classic(images.image_of(*({"x": b"%d" % n} for n in range(count))))


def with_entries(count):
    archive = images.classic(images.clean())
    archive.members[:0] = [images.Member(f"x{n}", b"") for n in range(count - len(archive.members))]
    return archive


def with_name_of(length):
    return redteam.before_layer(images.pax({"path": "n" * length}), images.Member("x", b""))


class Padded:
    """An archive with zeros behind it up to a size."""

    def __init__(self, archive, size):
        self.data = archive.bytes()
        self.size = size

    def write(self, path):
        path.write_bytes(self.data + bytes(self.size - len(self.data)))


def packed(megabytes):
    """A gzip layer of so many MiB of zeros: a thousandth of that packed; the first 16 MiB are free."""
    tar = images.header("x", megabytes << 20) + bytes(megabytes << 20) + bytes(2 * images.BLOCK)
    return images.gzip_layers(images.Image([("RUN x", images.Blob(tar))]))


LIMITS = {
    "max_size": ("1MiB", lambda more: Padded(images.classic(images.app()), (1 << 20) + more), "size: "),
    "max_ratio": (100, lambda more: packed(8 + 24 * more), "ratio: "),
    "max_layers": (3, lambda more: with_layers(3 + more), "layers"),
    "max_entries": (16, lambda more: with_entries(16 + more), "entries: more than the 16"),
    "max_images": (2, lambda more: with_images(2 + more), "images: "),
    "max_layer_size": ("1MiB", lambda more: with_layer_of((1 << 20) + more * images.BLOCK), "size: the layer has more"),
    "max_name": ("300B", lambda more: with_name_of(300 + more), "name: "),
    "max_pax": ("1KiB", lambda more: with_pax_of(1024 + more), "header: "),
    "max_json": ("4KiB", lambda more: with_config_of(4096 + more), "at most 4096 are allowed"),
    "max_json_depth": (9, lambda more: with_depth(9 + more), "nested too deeply"),
    "max_index_depth": (2, lambda more: nested_indexes(2 + more), "indexes within indexes"),
    "max_manifests": (5, lambda more: with_manifests(5 + more), "more than"),
    "max_link_chain": (3, lambda more: redteam.linked(images.layer_name, chain=3 + more), "link: "),
}


@pytest.fixture(scope="module")
def unpack(build_dir):
    """unpack(archive, "setting: value") → what unpack_tool prints of it."""
    tool_path = build_dir / "tests" / "unit" / "unpack_tool"

    def run(archive, setting, tmp_path):
        file, work = tmp_path / "x.tar", tmp_path / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        archive.write(file)
        done = subprocess.run([tool_path, "--set", setting, file, work], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_a_limit_is_what_its_setting_says(name, unpack, tmp_path):
    value, make, words = LIMITS[name]
    fits, more = (unpack(make(more), f"{name}: {value}", tmp_path) for more in (0, 1))
    assert [archive["fault"] for archive in fits["archives"]] == [""]
    assert fits["images"]
    assert more["images"] == []
    assert more["archives"][0]["kind"] == "refused"
    assert words in more["archives"][0]["fault"]


# ---- what they are refused for is real ----

@pytest.mark.parametrize("kind", ["dpkg-status-is-a-link", "dpkg-status-is-a-hard-link", "var-is-a-link", "written-through-a-link",
                                  "apk-list-is-a-link", "list-whose-name-climbs", "debian-version-is-a-link"])
def test_plain_trivy_sees_no_package_in_what_is_hidden(kind, tools, tmp_path):
    images.KINDS[kind].write(tmp_path / "x.tar")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "db").symlink_to(tools / "db")
    done = subprocess.run([tools / "trivy", "image", "--quiet", "--input", "x.tar", "--format", "json", "--list-all-pkgs",
                           "--scanners", "vuln", "--skip-db-update", "--skip-java-db-update", "--offline-scan",
                           "--skip-version-check", "--cache-dir", "cache", "--cache-backend", "memory"],
                          capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout).get("Results") or []
    assert [package["Name"] for result in results for package in result.get("Packages") or []] == []
