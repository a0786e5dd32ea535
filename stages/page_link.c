#include "stages/page_link.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/dojo_link.h"
#include "stages/render_html.h"

/* No text of a stranger has this: there "<" is "&lt;". */
#define ENTRY_BEGIN "<dt>DefectDojo</dt><dd>"
#define ENTRY_END "</dd>\n"
#define ENTRY_MAX 8192
#define URL_MAX 1000
#define NAME_LEN_MAX 300
#define FILE_NAME_MAX 256

static void
add_link(struct buf *out, const char *url, const char *text)
{
	buf_add_str(out, "<a rel=\"noopener noreferrer\" target=\"_blank\" href=\"");
	render_html_add(out, url, URL_MAX);
	buf_add_str(out, "\">");
	render_html_add(out, text, NAME_LEN_MAX);
	buf_add_str(out, "</a>");
}

static void
add_test(struct buf *out, const char *link, int64_t id)
{
	AUTO_FREE char *text = mem_printf("test %" PRId64, id);

	add_link(out, link, text);
}

/* Blanks up to what a link to any test needs; a browser does not show them. */
static void
add_room(struct buf *out, const char *dojo_url, size_t used)
{
	AUTO_FREE char *longest = dojo_link_test(dojo_url, INT64_MAX);
	AUTO_BUF struct buf test = BUF_INIT(ENTRY_MAX);

	add_test(&test, longest, INT64_MAX);
	while (used++ < test.len)
		buf_add_char(out, ' ');
}

void
page_link_add(struct buf *out, const char *dojo_url, const char *product)
{
	AUTO_FREE char *link = dojo_link_product(dojo_url, product);
	size_t begin;

	if (!link)
		return;
	buf_add_str(out, ENTRY_BEGIN);
	begin = out->len;
	buf_add_str(out, "product ");
	add_link(out, link, product);
	buf_add_str(out, ", once delivered");
	add_room(out, dojo_url, out->len - begin);
	buf_add_str(out, ENTRY_END);
}

static void
name_note(size_t n, char ret[static 32])
{
	snprintf(ret, 32, PAGE_LINK_PREFIX "%zu", n);
}

int
page_link_note(int out_fd, size_t n, const char *page, struct err *e)
{
	char name[32];

	name_note(n, name);
	return fs_publish(out_fd, name, page, strlen(page), 0600, 0, e);
}

static int
open_page(int out_fd, size_t n, struct err *e)
{
	AUTO_FREE char *page = NULL;
	char note[32];
	size_t len = 0;
	int fd;

	name_note(n, note);
	if (fs_read_max(out_fd, note, FILE_NAME_MAX, &page, &len, e) < 0)
		return -1;
	if (strlen(page) != len || strchr(page, '/'))
		return err_set(e, ERR_FAILED, "%s names no page", note);
	fd = openat(out_fd, page, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? err_errno(e, "%s", page) : fd;
}

/* What is between begin and end of the entry; NULL: there is none. */
static char *
find_entry(char *text, size_t len, size_t *ret_len)
{
	char *begin = memmem(text, len, ENTRY_BEGIN, strlen(ENTRY_BEGIN)), *end;

	if (!begin)
		return NULL;
	begin += strlen(ENTRY_BEGIN);
	end = memmem(begin, len - (size_t)(begin - text), ENTRY_END, strlen(ENTRY_END));
	*ret_len = end ? (size_t)(end - begin) : 0;
	return end ? begin : NULL;
}

static void
replace_entry(char *text, size_t len, const char *link, int64_t test_id)
{
	AUTO_BUF struct buf entry = BUF_INIT(ENTRY_MAX);
	size_t room = 0;
	char *at = find_entry(text, len, &room);

	add_test(&entry, link, test_id);
	if (!at || entry.is_full || entry.len > room)
		return;
	memcpy(at, entry.data, entry.len);
	memset(at + entry.len, ' ', room - entry.len);
}

int
page_link_set(int out_fd, size_t n, const char *dojo_url, int64_t test_id, struct err *e)
{
	AUTO_FREE char *link = dojo_link_test(dojo_url, test_id);
	AUTO_FD int fd = -1;
	struct stat st;
	void *text;

	if (!link)
		return 0;
	fd = open_page(out_fd, n, e);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return err_errno(e, "page");
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > RENDER_HTML_MAX)
		return err_set(e, ERR_FAILED, "page: no file that was written as one");
	text = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (text == MAP_FAILED)
		return err_errno(e, "page");
	replace_entry(text, (size_t)st.st_size, link, test_id);
	munmap(text, (size_t)st.st_size);
	return 0;
}
