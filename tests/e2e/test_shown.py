"""What a job's log and page say of DefectDojo: where the findings are, also before they are there."""

from inspected import archives, inspected, log  # noqa: F401
from slot_host import host, needs_root  # noqa: F401
from test_triage_job import ready

pytestmark = needs_root
PAGE = "scan_result/app.html"


def test_the_log_links_to_the_test_and_the_page_to_the_product(inspected, dojo):  # noqa: F811
    ready(inspected, dojo)
    result = inspected.play("classic", id=1)
    assert f": {dojo.url}/test/" in log(result), log(result)
    assert "/-/jobs/1/artifacts/browse/scan_result/" in log(result)
    page = archives(result)[0].read(PAGE).decode()
    assert f'href="{dojo.url}/product?name_exact=group%2Fapp"' in page


def test_what_waits_in_the_spool_is_linked_to_by_its_product(inspected, dojo):  # noqa: F811
    ready(inspected, dojo, wait="1s")
    dojo.fault = "502@/api/v2/"
    result = inspected.play("classic", id=1)
    dojo.fault = None
    assert f"once delivered, it is in the product {dojo.url}/product?name_exact=group%2Fapp" in log(result), log(result)
    assert "/test/" not in log(result).replace(str(inspected.host.root), "")
