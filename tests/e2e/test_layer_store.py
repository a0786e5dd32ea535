"""Layers that inspections of one host keep for each other."""

import hashlib
import json
import subprocess

import pytest
from test_many import as_root, script
from test_scan_stage import archive, place  # noqa: F401


@pytest.fixture
def scan(program, settings, place):
    """scan(FILE, trivy=path, **images section) → exit code and the JSON report; results are not kept."""
    def run(file, trivy=None, **images):
        path = settings({"scan_user": "nobody", "courier_user": "daemon", **({"images": images} if images else {}),
                         "trivy": {"path": str(trivy or place.trivy), "db_dir": str(place.db), "results_max": 0}})
        done = subprocess.run([program("tidewaiter"), "--config", str(path), "scan", "--json", str(file)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)
    return run


@pytest.fixture
def kept(root):
    """What the store holds: file name → its status; each file is what its name says."""
    def look():
        found = {}
        for path in (root / "var-cache" / "layers").glob("now/*"):
            assert path.name == "sha256-" + hashlib.sha256(path.read_bytes()).hexdigest()
            found[path.name] = path.stat()
        return found
    return look


def test_known_layers_give_the_same_verdict(scan, archive, kept):
    first = scan(archive("docker25", "first"))
    layers = kept()
    assert layers and all(status.st_mode & 0o777 == 0o400 for status in layers.values())
    second = scan(archive("docker25", "second"))
    assert first[0] == second[0] == 1
    assert [image["counts"] for image in first[1]["images"]] == [image["counts"] for image in second[1]["images"]]
    assert {name: status.st_ino for name, status in kept().items()} == {name: status.st_ino for name, status in layers.items()}


def test_without_room_none_is_kept(scan, archive, kept):
    assert scan(archive("clean", "one"), store_max=0)[0] == 0
    assert kept() == {}


@as_root
def test_trivy_cannot_change_a_layer_that_others_use(scan, archive, kept, root):
    spy = script(root / "spy", """
for a in "$@"; do case $a in /*archive-*) layout=$a;; --input=*) layout=${a#--input=};; esac; done
seen="$(echo $layout/blobs/sha256/* | /usr/bin/wc -w) blobs"
for blob in $layout/blobs/sha256/*; do
	/bin/chmod u+w $blob 2>/dev/null && seen="$seen chmod"
	/usr/bin/truncate -s 0 $blob 2>/dev/null && seen="$seen truncate"
	(echo x >$layout/new) 2>/dev/null && seen="$seen new"
done
echo "FATAL saw: $seen." >&2
exit 1
""")
    code, result = scan(archive("clean", "one"), spy)
    text = result["images"][0]["fault"]["text"]
    assert code == 3
    assert "blobs." in text and "saw: 1 blobs" not in text, text
    assert kept()
