#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/page_link.h"
#include "tests/unit/scratch.h"

#define DOJO "https://dojo.example.com"
#define HEAD "<p>&lt;dt&gt;DefectDojo&lt;/dt&gt;</p>\n"
#define TAIL "<dt>DefectDojo</dt><dd>another</dd>\n<p>the end</p>\n"

static char *
text_of(const struct scratch *p, const char *name)
{
	char *text = NULL;
	size_t len = 0;

	assert_int_equal(fs_read_max(p->fd, name, 65536, &text, &len, NULL), 0);
	assert_int_equal(strlen(text), len);
	return text;
}

/* A page of delivery 3 that names the product; returns its text. */
static char *
make_page(const struct scratch *p, const char *url, const char *product)
{
	AUTO_BUF struct buf page = BUF_INIT(65536);

	buf_add_str(&page, HEAD);
	page_link_add(&page, url, product);
	buf_add_str(&page, TAIL);
	scratch_write(p, "app.html", buf_str(&page));
	assert_int_equal(page_link_note(p->fd, 3, "app.html", NULL), 0);
	return buf_take(&page);
}

static void
test_a_page_names_the_product_then_the_test(void **state)
{
	struct scratch *p = *state;
	AUTO_FREE char *before = make_page(p, DOJO "/api/v2/", "a & b");
	AUTO_FREE char *after = NULL;

	assert_non_null(strstr(before, "product <a rel=\"noopener noreferrer\" target=\"_blank\" href=\"" DOJO
				       "/product?name_exact=a%20%26%20b\">a &amp; b</a>, once delivered"));
	assert_int_equal(page_link_set(p->fd, 3, DOJO, 1234567, NULL), 0);
	after = text_of(p, "app.html");
	assert_non_null(strstr(after,
			       HEAD "<dt>DefectDojo</dt><dd><a rel=\"noopener noreferrer\" "
				    "target=\"_blank\" href=\"" DOJO "/test/1234567\">test 1234567</a> "));
	assert_null(strstr(after, "product"));
	assert_null(strstr(after, "once delivered"));
	/* nothing else moved */
	assert_int_equal(strlen(after), strlen(before));
	assert_true(str_has_suffix(after, "</dd>\n" TAIL));
}

static void
test_there_is_room_for_every_test(void **state)
{
	struct scratch *p = *state;
	AUTO_FREE char *before = make_page(p, "http://d", "x");
	AUTO_FREE char *after = NULL;

	assert_non_null(before);
	assert_int_equal(page_link_set(p->fd, 3, "http://d", INT64_MAX, NULL), 0);
	after = text_of(p, "app.html");
	assert_non_null(
		strstr(after,
		       "href=\"http://d/test/9223372036854775807\">test 9223372036854775807</a></dd>\n" TAIL));
}

/* What would not fit is not written over what follows. */
static void
test_what_does_not_fit_changes_nothing(void **state)
{
	struct scratch *p = *state;
	AUTO_FREE char *before = make_page(p, "http://d", "x");
	AUTO_FREE char *after = NULL;

	assert_int_equal(page_link_set(p->fd, 3, "http://a-much-longer-name.example.com/below/some/path",
				       INT64_MAX, NULL),
			 0);
	after = text_of(p, "app.html");
	assert_string_equal(after, before);
}

static void
test_pages_without_an_entry_stay(void **state)
{
	static const char *const pages[] = { "<p>nothing was to be delivered</p>\n",
					     "<dt>DefectDojo</dt><dd>cut off" };
	struct scratch *p = *state;

	assert_int_equal(page_link_note(p->fd, 0, "app.html", NULL), 0);
	for (size_t k = 0; k < MEM_COUNT(pages); k++) {
		AUTO_FREE char *after = NULL;

		scratch_write(p, "app.html", pages[k]);
		assert_int_equal(page_link_set(p->fd, 0, DOJO, 17, NULL), 0);
		after = text_of(p, "app.html");
		assert_string_equal(after, pages[k]);
	}
}

/* Where there is no DefectDojo, or none that can be linked to, there is no entry. */
static void
test_no_address_no_entry(void **state)
{
	AUTO_BUF struct buf page = BUF_INIT(65536);

	(void)state;
	page_link_add(&page, NULL, "app");
	page_link_add(&page, "", "app");
	page_link_add(&page, "file:///etc", "app");
	page_link_add(&page, DOJO, "");
	assert_string_equal(buf_str(&page), "");
}

/* The scanner wrote down which page it is, and may have been taken over. */
static void
test_a_note_leads_nowhere_else(void **state)
{
	static const char *const notes[] = { "../outside.html", "/etc/passwd",	"link.html",
					     "pipe.html",	"no-such.html", "" };
	struct scratch *p = *state;
	AUTO_FREE char *page = make_page(p, DOJO, "app");
	AUTO_FREE char *after = NULL;

	scratch_write(p, "target", page);
	assert_int_equal(symlinkat("target", p->fd, "link.html"), 0);
	assert_int_equal(mkfifoat(p->fd, "pipe.html", 0600), 0);
	for (size_t k = 0; k < MEM_COUNT(notes); k++) {
		struct err e = ERR_INIT;

		scratch_write(p, "page-3", notes[k]);
		assert_int_equal(page_link_set(p->fd, 3, DOJO, 17, &e), -1);
		assert_true(e.kind != ERR_NONE);
	}
	after = text_of(p, "target");
	assert_string_equal(after, page);
	assert_int_equal(page_link_set(p->fd, 4, DOJO, 17, NULL), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_page_names_the_product_then_the_test, scratch_set_up,
						scratch_tear_down),
		cmocka_unit_test_setup_teardown(test_there_is_room_for_every_test, scratch_set_up,
						scratch_tear_down),
		cmocka_unit_test_setup_teardown(test_what_does_not_fit_changes_nothing, scratch_set_up,
						scratch_tear_down),
		cmocka_unit_test_setup_teardown(test_pages_without_an_entry_stay, scratch_set_up,
						scratch_tear_down),
		cmocka_unit_test(test_no_address_no_entry),
		cmocka_unit_test_setup_teardown(test_a_note_leads_nowhere_else, scratch_set_up,
						scratch_tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
