"""What a job's log and page say of DefectDojo: where the findings are, also before they are there."""

import re

from inspected import archive, archives, inspected, log  # noqa: F401
from slot_host import host, needs_root  # noqa: F401
from test_triage_job import ready

pytestmark = needs_root
PAGE = "scan_result/app.html"


def test_log_and_page_link_to_the_test(inspected, dojo):  # noqa: F811
    ready(inspected, dojo)
    result = inspected.play("classic", id=1)
    link = re.search(re.escape(dojo.url) + r"/test/(\d+)", log(result))
    assert link, log(result)
    assert "/-/jobs/1/artifacts/browse/scan_result/" in log(result)
    page = archives(result)[0].read(PAGE).decode()
    assert f'href="{link.group()}">test {link.group(1)}</a>' in page
    assert "once delivered" not in page


def test_what_waits_in_the_spool_is_linked_to_by_its_product(inspected, dojo):  # noqa: F811
    ready(inspected, dojo, wait="1s")
    dojo.fault = "502@/api/v2/"
    result = inspected.play("classic", id=1)
    dojo.fault = None
    assert f"once delivered, it is in the product {dojo.url}/product?name_exact=group%2Fapp" in log(result), log(result)
    assert "/test/" not in log(result).replace(str(inspected.host.root), "")
    page = archives(result)[0].read(PAGE).decode()
    assert f'href="{dojo.url}/product?name_exact=group%2Fapp">group/app</a>, once delivered' in page
    assert f"{dojo.url}/test/" not in page


def test_each_page_links_to_the_test_of_its_own_image(inspected, dojo):  # noqa: F811
    """The first image is not delivered, so that images and deliveries are not numbered alike."""
    ready(inspected, dojo)
    result = inspected.play("two-images", id=1, project={"empty": archive("no-packages")}, more=["mv empty tar_images/a.tar"])
    files = archives(result)[0]
    linked = {}
    for name in files.names():
        if name.endswith(".html"):
            ids = re.findall(re.escape(dojo.url) + r"/test/(\d+)", files.read(name).decode())
            linked[name] = [dojo.test(int(n))["title"] for n in ids]
    assert linked == {"scan_result/a.html": [], "scan_result/app-app-1.0.html": ["group/app (app)"],
                      "scan_result/app-other-2.0.html": ["group/other"]}, log(result)
