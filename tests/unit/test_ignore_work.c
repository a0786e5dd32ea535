#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "stages/ignore_work.h"

#define PATH_LEN 200

struct fixture {
	char path[PATH_LEN + 1];
	struct finding findings[1000];
	struct report report;
	struct image image;
	struct inspection i;
	struct ignore_list l;
};

static void
fixture_make(struct fixture *f, size_t n_findings, const char *id)
{
	*f = (struct fixture){ 0 };
	memset(f->path, 'a', PATH_LEN);
	for (size_t k = 0; k < n_findings; k++)
		f->findings[k] = (struct finding){ .id = id, .path = f->path, .target = "Java" };
	f->report = (struct report){ .findings = f->findings, .n_findings = n_findings };
	f->image.report = &f->report;
	f->i.images = &f->image;
	f->i.n_images = 1;
}

static void
add(struct fixture *f, const char *id, size_t n_paths, size_t n_purls)
{
	AUTO_FREE char *glob = mem_alloc(PATH_LEN);
	struct policy_ignore *g;

	memset(glob, '*', PATH_LEN - 1);
	glob[PATH_LEN - 1] = '\0';
	f->l.v = mem_resize(f->l.v, f->l.n + 1, sizeof(*f->l.v));
	g = &f->l.v[f->l.n++];
	*g = (struct policy_ignore){ .id = mem_strdup(id) };
	for (size_t k = 0; k < n_paths; k++)
		strv_add(&g->paths, glob);
	for (size_t k = 0; k < n_purls; k++)
		strv_add(&g->purls, "pkg:npm/a");
}

static void
what_would_take_too_long_does_not_count_and_is_told(void **state)
{
	static const struct {
		size_t n_findings, n_paths, n_purls;
		const char *id;
		bool is_kept;
	} cases[] = {
		{ 20, 20, 100, "CVE-1", true },
		{ 1000, 1000, 0, "CVE-1", false },
		{ 1000, 0, 2000, "CVE-1", false },
		{ 1000, 1000, 2000, "CVE-2", true }, /* nothing of what was found has it */
	};

	(void)state;
	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		struct fixture f;

		fixture_make(&f, cases[k].n_findings, "CVE-1");
		add(&f, "CVE-1", 0, 0);
		add(&f, cases[k].id, cases[k].n_paths, cases[k].n_purls);
		ignore_list_bound(&f.l, &f.i);
		assert_int_equal(f.l.n, cases[k].is_kept ? 2 : 1);
		assert_int_equal(f.l.notes.n, cases[k].is_kept ? 0 : 1);
		assert_int_equal(f.l.v[0].paths.n, 0);
		ignore_list_free(&f.l);
	}
}

/* Many entries of one id, or many images, are as many paths of one. */
static void
the_sum_of_all_counts(void **state)
{
	struct fixture f;
	struct image images[64];

	(void)state;
	fixture_make(&f, 20, "CVE-1");
	for (int k = 0; k < 10; k++)
		add(&f, "CVE-1", 1, 0);
	ignore_list_bound(&f.l, &f.i);
	assert_int_equal(f.l.n, 10);
	add(&f, "CVE-1", 90, 0);
	ignore_list_bound(&f.l, &f.i);
	assert_int_equal(f.l.n, 0);
	ignore_list_free(&f.l);
	fixture_make(&f, 5, "CVE-1");
	for (size_t k = 0; k < MEM_COUNT(images); k++)
		images[k] = f.image;
	for (int k = 0; k < 20; k++)
		add(&f, "CVE-1", 1, 0);
	ignore_list_bound(&f.l, &f.i);
	assert_int_equal(f.l.n, 20);
	f.i.images = images;
	f.i.n_images = MEM_COUNT(images);
	ignore_list_bound(&f.l, &f.i);
	assert_int_equal(f.l.n, 0);
	ignore_list_free(&f.l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_would_take_too_long_does_not_count_and_is_told),
		cmocka_unit_test(the_sum_of_all_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
