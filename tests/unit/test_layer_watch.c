#include "stages/layer_watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "stages/layer_hidden.h"
#include "tests/unit/archive_builder.h"

#define GNU "ustar  \0"
#define LAYERS_MAX 6

/* --- layers in words: "f PATH", "d PATH", "s PATH TARGET", "h PATH TARGET", "o PATH" (a FIFO), one per line --- */

static void
add_line(struct buf *tar, const char *line)
{
	char kind = 0, path[300] = "", to[300] = "";

	assert_true(sscanf(line, "%c %299s %299s", &kind, path, to) >= 2);
	switch (kind) {
	case 'f':
		build_text(tar, path, "Package: openssl\n");
		return;
	case 'd':
		build_link(tar, '5', path, NULL);
		return;
	case 's':
		build_link(tar, '2', path, to);
		return;
	case 'h':
		build_link(tar, '1', path, to);
		return;
	case 'o':
		build_link(tar, '6', path, NULL);
		return;
	default:
		fail_msg("no such line: %s", line);
	}
}

static void
feed(struct layer_watch *w, const struct buf *tar, size_t step)
{
	for (size_t at = 0; at < tar->len; at += step)
		layer_watch_feed(w, tar->data + at, tar->len - at < step ? tar->len - at : step);
}

static struct layer_watch *
watch_of(const struct buf *tar)
{
	struct layer_watch *w = layer_watch_new(NULL);

	feed(w, tar, 4096);
	return w;
}

static struct layer_watch *
watch_of_lines(const char *lines)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);

	for (const char *p = lines; *p; p += strspn(p, "\n")) {
		AUTO_FREE char *line = mem_strndup(p, strcspn(p, "\n"));

		add_line(&tar, line);
		p += strlen(line);
	}
	build_end(&tar);
	return watch_of(&tar);
}

static void
find(struct strv *ret, struct layer_watch **w, size_t n)
{
	const struct layer_facts *facts[LAYERS_MAX] = { NULL };

	for (size_t i = 0; i < n; i++)
		facts[i] = layer_watch_facts(w[i]);
	layer_hidden_find(facts, n, ret);
	for (size_t i = 0; i < n; i++)
		layer_watch_free(w[i]);
}

/* Each string is a layer. */
static void
found_in(struct strv *ret, const char *const *layers)
{
	struct layer_watch *w[LAYERS_MAX];
	size_t n = 0;

	for (; layers[n]; n++)
		w[n] = watch_of_lines(layers[n]);
	find(ret, w, n);
}

#define LAYERS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void
expect_hidden_(const char *const *layers, const char *words, int line)
{
	AUTO_STRV struct strv found = { 0 };
	AUTO_FREE char *all = NULL;

	found_in(&found, layers);
	all = strv_join(&found, "\n");
	if (!found.n || !strstr(all, words))
		fail_msg("line %d: expected \"%s\", got \"%s\"", line, words, found.n ? all : "");
}
#define expect_hidden(words, ...) expect_hidden_(LAYERS(__VA_ARGS__), words, __LINE__)

static void
expect_open_(const char *const *layers, int line)
{
	AUTO_STRV struct strv found = { 0 };

	found_in(&found, layers);
	if (found.n)
		fail_msg("line %d: %s", line, found.v[0]);
}
#define expect_open(...) expect_open_(LAYERS(__VA_ARGS__), __LINE__)

/* --- lists by name --- */

static void
lists_that_are_files_are_open(void **state)
{
	(void)state;
	expect_open("f var/lib/dpkg/status");
	expect_open("f ./var/lib/dpkg/status");
	expect_open("f /var/lib/dpkg/status");
	expect_open("f var/lib/dpkg/status.d/tzdata\nf var/lib/dpkg/status.d/tzdata.md5sums");
	expect_open("f lib/apk/db/installed", "f usr/lib/apk/db/installed");
	expect_open("d var/lib/dpkg\nf usr/share/doc/status\ns var/lib/dpkg/other ../x");
}

static void
a_list_that_is_a_symbolic_link_is_hidden(void **state)
{
	(void)state;
	expect_hidden("var/lib/dpkg/status is behind a link",
		      "f opt/list\ns var/lib/dpkg/status ../../../opt/list");
	expect_hidden("lib/apk/db/installed", "s lib/apk/db/installed /opt/list");
	expect_hidden("var/lib/rpm/rpmdb.sqlite", "s var/lib/rpm/rpmdb.sqlite /opt/list");
	expect_hidden("usr/share/rpm/rpmdb.sqlite", "s usr/share/rpm/rpmdb.sqlite x");
	expect_hidden("var/lib/rpmmanifest/container-manifest-2",
		      "s var/lib/rpmmanifest/container-manifest-2 x");
	expect_hidden("layer 2 of 3", "f etc/x", "s var/lib/dpkg/status x", "f etc/y");
}

static void
a_list_that_is_a_hard_link_or_no_file_is_hidden(void **state)
{
	(void)state;
	expect_hidden("a hard link", "f opt/list\nh var/lib/dpkg/status opt/list");
	expect_hidden("a hard link", "h usr/lib/apk/db/installed x");
	expect_hidden("a hard link", "h var/lib/dpkg/status.d/openssl x");
	expect_hidden("neither a file nor a link", "o var/lib/rpm/Packages");
	expect_open("f var/lib/dpkg/status\nh var/lib/dpkg/status-old var/lib/dpkg/status");
	expect_open("d var/lib/dpkg/status");
}

static void
a_directory_above_a_list_that_is_a_link_hides_it(void **state)
{
	(void)state;
	expect_hidden("var/lib/dpkg -> ../../opt/x", "f opt/x/status\ns var/lib/dpkg ../../opt/x");
	expect_hidden("var -> opt/var", "s var opt/var\nf opt/var/lib/dpkg/status");
	expect_hidden("lib -> x", "s lib x\ns x y\nf y/apk/db/installed");
	expect_hidden("var/lib/rpm -> /opt/rpm", "s var/lib/rpm /opt/rpm", "f opt/rpm/Packages.db");
	expect_hidden("var/lib/dpkg/status.d", "s var/lib/dpkg/status.d /opt/x\nf opt/x/tzdata");
	expect_hidden("var/lib/dpkg", "s var/lib/dpkg /opt/x\nf opt/x/status.d/tzdata");
	expect_hidden("var/lib/dpkg", "s var/lib/dpkg /opt/x", "h opt/x/status opt/y");
}

static void
a_link_in_circles_hides(void **state)
{
	(void)state;
	expect_hidden("var/lib/dpkg/status", "s var/lib/dpkg dpkg2\ns var/lib/dpkg2 dpkg");
	expect_hidden("lib/apk/db/installed", "s lib lib");
}

static void
links_to_a_list_that_is_seen_are_honest(void **state)
{
	(void)state;
	expect_open("s var/lib/rpm ../../usr/lib/sysimage/rpm\nf usr/lib/sysimage/rpm/rpmdb.sqlite");
	expect_open("f usr/lib/sysimage/rpm/rpmdb.sqlite", "s var/lib/rpm ../../usr/lib/sysimage/rpm");
	expect_open("s var/lib/rpm ../../usr/share/rpm\ns usr/lib/sysimage/rpm ../../share/rpm\n"
		    "f usr/share/rpm/rpmdb.sqlite");
	expect_open("s lib usr/lib\nf usr/lib/apk/db/installed");
	expect_open("s usr/lib /lib\nf lib/apk/db/installed");
	expect_open("s lib usr/lib\nf usr/lib/apk/db/installed", "f lib/apk/db/installed");
	expect_hidden("hard link", "s lib usr/lib\nf x\nh usr/lib/apk/db/installed x");
}

static void
links_that_lead_to_no_list_are_honest(void **state)
{
	(void)state;
	expect_open("s lib /nix/store/abc-env/lib\nf nix/store/abc-env/lib/libc.so");
	expect_open("s var/lib/rpm ../../usr/lib/sysimage/rpm");
	expect_open("s usr/bin/X11 .\ns bin usr/bin\ns lib usr/lib\nf var/lib/dpkg/status");
	expect_open("s x ../../../..\nf usr/share/status\nf opt/Packages");
}

/* --- what later layers do --- */

static void
a_later_layer_decides(void **state)
{
	(void)state;
	expect_open("s var/lib/dpkg/status x", "f var/lib/dpkg/status");
	expect_hidden("behind a link", "f var/lib/dpkg/status", "s var/lib/dpkg/status x");
	expect_open("s var/lib/dpkg /opt/x\nf opt/x/status", "d var/lib/dpkg\nf var/lib/dpkg/status");
	expect_hidden("var -> new", "f var/lib/dpkg/status", "s var new\nf new/lib/dpkg/status");
}

static void
whiteouts_take_away_what_is_below(void **state)
{
	(void)state;
	expect_open("s var/lib/dpkg/status x", "f var/lib/dpkg/.wh.status");
	expect_open("s var/lib/dpkg /opt/x\nf opt/x/status", "f var/lib/.wh.dpkg");
	expect_open("s var/lib/dpkg /opt/x\nf opt/x/status", "f opt/.wh.x");
	expect_open("s var/lib/dpkg /opt/x\nf opt/x/status", "f opt/x/.wh..wh..opq");
	expect_open("s var/lib/dpkg/status x", "f .wh..wh..opq\nf etc/y");
	expect_hidden("behind a link", "f var/lib/dpkg/.wh.status", "s var/lib/dpkg/status x");
	expect_hidden("behind a link", "f var/lib/dpkg/.wh..wh..opq\ns var/lib/dpkg/status x");
	expect_hidden("behind a link", "s var/lib/dpkg/status x", "f opt/.wh.dpkg");
}

/* --- what is written through a link --- */

static void
a_list_that_is_written_through_a_link_is_hidden(void **state)
{
	(void)state;
	expect_hidden("written through a link: as x/status", "s x var/lib/dpkg\nf x/status");
	expect_hidden("as x/lib/dpkg/status", "s x /var\nf x/lib/dpkg/status");
	expect_hidden("as x/var/lib/dpkg/status", "s x .\nf x/var/lib/dpkg/status");
	expect_hidden("as a/status", "s a b/dpkg\ns b var/lib\nf a/status");
	expect_hidden("as x/status.d/openssl", "s x var/lib/dpkg\nf x/status.d/openssl");
	expect_hidden("as x/installed", "s x usr/lib/apk/db\nh x/installed y");
	/* An engine that unpacks one layer upon the other follows the links of those below. */
	expect_hidden("as x/status", "s x var/lib/dpkg", "f x/status");
	expect_open("f x/status\ns x var/lib/dpkg");
	expect_open("s x var/lib\nf x/status");
	expect_open("s x opt\nf x/status");
}

static void
a_list_where_a_link_leads_is_hidden_however_it_gets_there(void **state)
{
	(void)state;
	expect_hidden("y/status", "s var/lib/dpkg /opt/x\ns y opt/x\nf y/status");
}

static void
a_name_that_climbs_is_hidden(void **state)
{
	(void)state;
	/* containerd takes it for the top; Trivy for no list. */
	expect_hidden("readers take differently", "f ../var/lib/dpkg/status");
	expect_hidden("readers take differently", "f x/../../var/lib/dpkg/status");
	expect_open("f x/../var/lib/dpkg/status");
	expect_open("f /../var/lib/dpkg/status");
}

static void
a_list_that_stands_twice_in_a_layer_is_in_doubt(void **state)
{
	(void)state;
	expect_hidden("stands twice in layer 1 of 1", "f lib/apk/db/installed\nf lib/apk/db/installed");
	expect_hidden("stands twice", "f lib/apk/db/installed\nf ./lib//apk/db/installed");
	expect_open("f lib/apk/db/installed", "f lib/apk/db/installed");
}

static void
an_os_release_behind_a_link_hides_a_list_that_is_seen(void **state)
{
	(void)state;
	expect_hidden("etc/os-release, which says what distribution it is",
		      "f var/lib/dpkg/status\ns etc/os-release ../opt/x");
	expect_hidden("looks up no package", "f lib/apk/db/installed\nf x\nh etc/alpine-release x");
	expect_open("f var/lib/dpkg/status\ns etc/os-release ../usr/lib/os-release\nf usr/lib/os-release");
	expect_open("f var/lib/dpkg/status\nf etc/debian_version\ns etc/os-release ../opt/x");
	/* Trivy knows Debian by this alone. */
	expect_hidden("etc/debian_version, which",
		      "f var/lib/dpkg/status\nf usr/lib/os-release\ns etc/debian_version x");
	expect_open("f var/lib/rpm/Packages\nf etc/os-release\ns etc/system-release ../opt/x");
	expect_open("f var/lib/rpm/Packages\ns etc/redhat-release fedora-release\nf usr/lib/fedora-release\n"
		    "s etc/fedora-release ../usr/lib/fedora-release");
	expect_open("s etc/os-release /nix/store/x-os-release");
	expect_open("f var/lib/dpkg/status");
}

static void
few_lines_are_said_of_many(void **state)
{
	AUTO_STRV struct strv found = { 0 };
	(void)state;

	found_in(&found,
		 LAYERS("s var/lib/dpkg/status x\ns lib/apk/db/installed x\ns usr/lib/apk/db/installed x\n"
			"s var/lib/rpm/Packages x\ns var/lib/rpm/Packages.db x\ns var/lib/rpm/rpmdb.sqlite x\n"
			"s usr/share/rpm/rpmdb.sqlite x"));
	assert_int_equal(found.n, 6);
	assert_string_equal(found.v[5], "… and more of this kind");
}

/* --- headers --- */

static void
expect_tar_(const struct buf *tar, const char *words, int line)
{
	struct layer_watch *w[1] = { watch_of(tar) };
	AUTO_STRV struct strv found = { 0 };
	AUTO_FREE char *all = NULL;

	find(&found, w, 1);
	all = strv_join(&found, "\n");
	if (words ? !strstr(found.n ? all : "", words) : found.n != 0)
		fail_msg("line %d: expected \"%s\", got \"%s\"", line, words ? words : "", found.n ? all : "");
}
#define expect_tar(tar, words) expect_tar_(tar, words, __LINE__)

static void
pax(struct buf *tar, char type, const char *key, const char *value)
{
	AUTO_BUF struct buf records = BUF_INIT(BUILD_MAX);

	build_pax_record(&records, key, value);
	build_pax(tar, type, &records);
}

static void
names_of_pax_and_gnu_are_followed(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	const struct build_header longlink = { .name = "././@LongLink", .type = 'L', .magic = GNU };
	(void)state;

	pax(&tar, 'x', "path", "var/lib/dpkg/status");
	build_link(&tar, '2', "x", "y");
	build_end(&tar);
	expect_tar(&tar, "var/lib/dpkg/status is behind a link");
	buf_reset(&tar);
	pax(&tar, 'x', "linkpath", "opt/somewhere");
	build_link(&tar, '2', "var/lib/dpkg", "nowhere");
	build_text(&tar, "var/lib/opt/somewhere/status", "x");
	build_end(&tar);
	expect_tar(&tar, "var/lib/dpkg -> opt/somewhere");
	buf_reset(&tar);
	build_entry(&tar, &longlink, "lib/apk/db/installed", 21);
	build_link(&tar, '1', "x", "y");
	build_end(&tar);
	expect_tar(&tar, "lib/apk/db/installed is a hard link");
}

static void
names_that_readers_take_differently_are_in_doubt(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	const struct build_header longname = { .name = "././@LongLink", .type = 'L', .magic = GNU };
	const struct build_header prefixed = { .name = "status", .magic = GNU, .prefix = "var/lib/dpkg" };
	const struct build_header times = { .name = "usr/x", .magic = GNU, .prefix = "14750123456" };
	(void)state;

	build_entry(&tar, &longname, "opt/x", 6);
	pax(&tar, 'x', "path", "var/lib/dpkg/status");
	build_text(&tar, "x", "y");
	build_end(&tar);
	expect_tar(&tar, "readers take differently");
	buf_reset(&tar);
	build_entry(&tar, &prefixed, "x", 1);
	build_end(&tar);
	expect_tar(&tar, "readers take differently");
	buf_reset(&tar);
	build_entry(&tar, &times, "x", 1);
	build_end(&tar);
	expect_tar(&tar, NULL);
	buf_reset(&tar);
	pax(&tar, 'x', "path", "opt/x");
	pax(&tar, 'x', "path", "var/lib/dpkg/status");
	build_text(&tar, "x", "y");
	build_end(&tar);
	expect_tar(&tar, "readers take differently");
	buf_reset(&tar);
	pax(&tar, 'g', "path", "var/lib/dpkg/status");
	build_text(&tar, "x", "y");
	build_end(&tar);
	expect_tar(&tar, "a global PAX header");
	buf_reset(&tar);
	pax(&tar, 'g', "comment", "a commit");
	build_text(&tar, "x", "y");
	build_end(&tar);
	expect_tar(&tar, NULL);
}

static void
a_sparse_list_is_in_doubt_and_other_sparse_files_are_passed_over(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_BUF struct buf records = BUF_INIT(BUILD_MAX);
	const struct build_header old = { .name = "var/log/lastlog", .type = 'S', .magic = GNU };
	static char map[512];
	(void)state;

	build_pax_record(&records, "GNU.sparse.major", "1");
	build_pax_record(&records, "GNU.sparse.minor", "0");
	build_pax_record(&records, "GNU.sparse.name", "var/lib/dpkg/status");
	build_pax(&tar, 'x', &records);
	build_text(&tar, "GNUSparseFile.0/x", "0\n");
	build_end(&tar);
	expect_tar(&tar, "readers take differently");
	buf_reset(&tar);
	build_entry(&tar, &old, "1234", 4);
	build_link(&tar, '2', "var/lib/dpkg/status", "x");
	build_end(&tar);
	expect_tar(&tar, "behind a link");
	/* With a further block of its map, which is not counted in its size. */
	buf_reset(&tar);
	build_entry(&tar, &old, "", 0);
	tar.data[482] = 1;
	snprintf(tar.data + 148, 8, "%06o", (unsigned)(strtol(tar.data + 148, NULL, 8) + 1));
	tar.data[155] = ' ';
	buf_add(&tar, map, sizeof(map));
	build_link(&tar, '2', "var/lib/dpkg/status", "x");
	build_end(&tar);
	expect_tar(&tar, "behind a link");
}

static void
sizes_that_differ_are_in_doubt_and_pax_counts(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	const struct build_header h = { .name = "var/lib/dpkg/status", .size_field = "00000000000" };
	(void)state;

	pax(&tar, 'x', "size", "5");
	build_entry(&tar, &h, "12345", 5);
	build_link(&tar, '2', "lib/apk/db/installed", "x");
	build_end(&tar);
	expect_tar(&tar, "readers take differently");
	expect_tar(&tar, "lib/apk/db/installed is behind a link");
}

static void
what_no_reader_can_read_is_a_doubt(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	const struct build_header bad = { .name = "x", .checksum_off = 1 };
	const struct build_header negative = { .name = "x",
					       .size_field =
						       "\377\377\377\377\377\377\377\377\377\377\376\0" };
	const struct build_header odd = { .name = "x", .size_field = "00000000zz0" };
	const struct build_header text = { .name = "x", .type = 'x', .size_field = "77777777777" };
	static char zeros[512];
	(void)state;

	build_text(&tar, "a", "b");
	build_header(&tar, &bad);
	expect_tar(&tar,
		   "layer 1 of 1 cannot be looked through for hidden package lists: entry 2: its checksum is wrong");
	buf_reset(&tar);
	build_header(&tar, &negative);
	expect_tar(&tar, "its size is no number");
	buf_reset(&tar);
	build_header(&tar, &odd);
	expect_tar(&tar, "its size is no number");
	buf_reset(&tar);
	build_header(&tar, &text);
	expect_tar(&tar, "longer than 1 MiB");
	buf_reset(&tar);
	buf_add(&tar, zeros, sizeof(zeros));
	build_text(&tar, "a", "b");
	expect_tar(&tar, "a lone block of zeros");
	buf_reset(&tar);
	pax(&tar, 'x', "path", "x");
	tar.data[512] = 'x';
	build_text(&tar, "a", "b");
	expect_tar(&tar, "its PAX header is malformed");
}

static void
attributes_that_redirect_an_overlay_are_a_doubt(void **state)
{
	static const struct {
		const char *key, *words;
	} cases[] = {
		{ "SCHILY.xattr.trusted.overlay.redirect", "attribute of overlay file systems" },
		{ "SCHILY.xattr.user.overlay.redirect", "attribute of overlay file systems" },
		{ "SCHILY.xattr.trusted.overlay.metacopy", "attribute of overlay file systems" },
		{ "SCHILY.xattr.trusted.overlay.opaque", NULL },
		{ "SCHILY.xattr.security.capability", NULL },
		{ "SCHILY.xattr.user.overlay", NULL },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);

		pax(&tar, 'x', cases[i].key, "/opt/x");
		build_link(&tar, '5', "var/lib/dpkg", NULL);
		build_end(&tar);
		expect_tar(&tar, cases[i].words);
	}
}

static void
a_tar_that_is_cut_is_a_doubt_but_for_its_end(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	(void)state;

	expect_tar(&tar, NULL);
	build_text(&tar, "a", "12345");
	expect_tar(&tar, NULL);
	tar.len = 512 + 5;
	expect_tar(&tar, NULL);
	tar.len = 512 + 4;
	expect_tar(&tar, "it ends within that");
	tar.len = 511;
	expect_tar(&tar, "it ends within that");
}

static void
what_stands_behind_the_end_is_not_read(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	(void)state;

	build_end(&tar);
	build_link(&tar, '2', "var/lib/dpkg/status", "x");
	expect_tar(&tar, NULL);
}

static void
it_is_the_same_in_pieces_of_any_size(void **state)
{
	static const size_t steps[] = { 1, 7, 511, 512, 513, 100000 };
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	(void)state;

	build_text(&tar, "a", "12345");
	pax(&tar, 'x', "path", "var/lib/dpkg");
	build_link(&tar, '2', "x", "../../opt/x");
	build_text(&tar, "opt/x/status", "p");
	build_text(&tar, "opt/.wh.y", "");
	build_end(&tar);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		AUTO(layer_watch) struct layer_watch *w = layer_watch_new(NULL);
		const struct layer_facts *f;

		feed(w, &tar, steps[i]);
		f = layer_watch_facts(w);
		assert_null(f->doubt);
		assert_int_equal(f->n, 3);
		assert_string_equal(f->text + f->v[0].path, "var/lib/dpkg");
		assert_string_equal(f->text + f->v[0].link, "../../opt/x");
		assert_int_equal(f->v[1].kind, FACT_FILE);
		assert_int_equal(f->v[2].kind, FACT_GONE);
		assert_string_equal(f->text + f->v[2].path, "opt/y");
	}
}

static void
what_is_kept_is_bounded_for_one_and_for_all(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	atomic_size_t left = 10000;
	struct layer_watch *w[2];
	AUTO_STRV struct strv found = { 0 };
	(void)state;

	for (int i = 0; i < 50; i++)
		build_link(&tar, '2', "some/link", "somewhere");
	build_end(&tar);
	w[0] = layer_watch_new(&left);
	w[1] = layer_watch_new(&left);
	feed(w[0], &tar, 4096);
	assert_null(layer_watch_facts(w[0])->doubt);
	assert_true(left < 10000);
	for (int i = 0; i < 10; i++)
		feed(w[1], &tar, 4096);
	assert_null(layer_watch_facts(w[1])->doubt); /* behind the end */
	layer_watch_free(w[1]);
	w[1] = layer_watch_new(&left);
	tar.len -= BUILD_END;
	for (int i = 0; i < 10; i++)
		feed(w[1], &tar, 4096);
	find(&found, w, 2);
	assert_int_equal(found.n, 1);
	assert_non_null(strstr(found.v[0], "more links and whiteouts than can be kept"));
}

static void
entangled_links_end_in_a_refusal_not_in_hours(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	struct layer_watch *w[1];
	AUTO_STRV struct strv found = { 0 };
	(void)state;

	/* Each way to a file of that name goes through forty links with long targets. */
	for (int i = 0; i < 30; i++) {
		AUTO_FREE char *name = mem_printf("l%d", i);
		AUTO_FREE char *to =
			mem_printf("./././././././././././././././././././././././././l%d", i + 1);

		build_link(&tar, '2', name, to);
	}
	for (int i = 0; i < 20000; i++) {
		AUTO_FREE char *name = mem_printf("l0/%d/status", i);

		build_text(&tar, name, "");
	}
	build_end(&tar);
	w[0] = watch_of(&tar);
	find(&found, w, 1);
	assert_true(found.n <= 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_that_are_files_are_open),
		cmocka_unit_test(a_list_that_is_a_symbolic_link_is_hidden),
		cmocka_unit_test(a_list_that_is_a_hard_link_or_no_file_is_hidden),
		cmocka_unit_test(a_directory_above_a_list_that_is_a_link_hides_it),
		cmocka_unit_test(a_link_in_circles_hides),
		cmocka_unit_test(links_to_a_list_that_is_seen_are_honest),
		cmocka_unit_test(links_that_lead_to_no_list_are_honest),
		cmocka_unit_test(a_later_layer_decides),
		cmocka_unit_test(whiteouts_take_away_what_is_below),
		cmocka_unit_test(a_list_that_is_written_through_a_link_is_hidden),
		cmocka_unit_test(a_list_where_a_link_leads_is_hidden_however_it_gets_there),
		cmocka_unit_test(a_name_that_climbs_is_hidden),
		cmocka_unit_test(a_list_that_stands_twice_in_a_layer_is_in_doubt),
		cmocka_unit_test(an_os_release_behind_a_link_hides_a_list_that_is_seen),
		cmocka_unit_test(few_lines_are_said_of_many),
		cmocka_unit_test(names_of_pax_and_gnu_are_followed),
		cmocka_unit_test(names_that_readers_take_differently_are_in_doubt),
		cmocka_unit_test(a_sparse_list_is_in_doubt_and_other_sparse_files_are_passed_over),
		cmocka_unit_test(sizes_that_differ_are_in_doubt_and_pax_counts),
		cmocka_unit_test(what_no_reader_can_read_is_a_doubt),
		cmocka_unit_test(attributes_that_redirect_an_overlay_are_a_doubt),
		cmocka_unit_test(a_tar_that_is_cut_is_a_doubt_but_for_its_end),
		cmocka_unit_test(what_stands_behind_the_end_is_not_read),
		cmocka_unit_test(it_is_the_same_in_pieces_of_any_size),
		cmocka_unit_test(what_is_kept_is_bounded_for_one_and_for_all),
		cmocka_unit_test(entangled_links_end_in_a_refusal_not_in_hours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
