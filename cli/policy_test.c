/* `tidewaiter policy test DIR`: cases as data files, so that a policy can have tests of its own. */
#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "base/fs.h"
#include "cli/policy.h"
#include "cli/policy_case.h"

#define CASES_MAX 10000

struct arguments {
	const char *policy;
};

static const struct cli_option rows[] = {
	{ "policy", "FILE", OPTION_TEXT, offsetof(struct arguments, policy),
	  "this policy instead of that of the settings", NULL },
};
const struct cli_options policy_test_options = { "policy test", rows, MEM_COUNT(rows), "DIR" };

static int
list_cases(int dirfd, const char *dir, struct strv *ret, struct err *e)
{
	AUTO_DIR DIR *d = fs_list(dirfd, e);
	struct dirent *entry;
	int rc = -1;

	while (d && (rc = fs_next(d, &entry, e)) > 0) {
		if (entry->d_name[0] == '.' ||
		    (!str_has_suffix(entry->d_name, ".yml") && !str_has_suffix(entry->d_name, ".yaml")))
			continue;
		if (ret->n == CASES_MAX)
			return err_set(e, ERR_USAGE, "%s: more than %d cases", dir, CASES_MAX);
		strv_add(ret, entry->d_name);
	}
	if (rc < 0)
		return err_wrap(e, "%s", dir);
	if (ret->n == 0)
		return err_set(e, ERR_USAGE, "%s: no case in it, allowed are files *.yml", dir);
	strv_sort(ret);
	return 0;
}

/* 1 when the case holds, 0 when it does not. */
static int
run_case(int dirfd, const char *dir, const char *file, const struct policy *p, struct err *e)
{
	AUTO_FREE char *name = mem_printf("%s/%s", dir, file), *text = NULL;
	AUTO(policy_case) struct policy_case *c = NULL;
	AUTO(report) struct report *r = NULL;
	AUTO_STRV struct strv differences = { 0 };
	size_t len;

	if (fs_read_max(dirfd, file, POLICY_CASE_MAX, &text, &len, e) < 0 ||
	    policy_case_read(name, text, len, &c, e) < 0)
		return -1;
	if (policy_read_report(dirfd, c->report, &r, e) < 0) {
		e->kind = ERR_USAGE;
		return err_wrap(e, "%s: report", name);
	}
	r->is_release_unknown = c->is_release_unknown;
	policy_case_run(c, p, r, &differences);
	printf("%s  %s\n", differences.n == 0 ? "ok  " : "FAIL", file);
	for (size_t k = 0; k < differences.n; k++) {
		AUTO_FREE char *safe = str_safe(differences.v[k], 1000);

		printf("      %s\n", safe);
	}
	return differences.n == 0;
}

int
policy_test(const struct cli *cli, int argc, char **argv, struct err *e)
{
	struct arguments a = { 0 };
	AUTO_POLICY_OPENED struct policy_opened o = { 0 };
	AUTO_STRV struct strv files = { 0 };
	AUTO_FD int dirfd = -1;
	size_t n_ok = 0;
	int n;

	if (options_parse(&policy_test_options, argc, argv, &a, &n, e) < 0)
		return -1;
	if (n != 1)
		return err_set(e, ERR_USAGE, "policy test needs one directory with cases");
	if (policy_open(cli, a.policy, &o, e) < 0)
		return -1;
	dirfd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0) {
		err_errno(e, "%s", argv[1]);
		e->kind = ERR_USAGE;
		return -1;
	}
	if (list_cases(dirfd, argv[1], &files, e) < 0)
		return -1;
	for (size_t k = 0; k < files.n; k++) {
		int rc = run_case(dirfd, argv[1], files.v[k], o.policy, e);

		if (rc < 0)
			return -1;
		n_ok += (size_t)rc;
	}
	printf("%zu of %zu %s\n", n_ok, files.n, files.n == 1 ? "case holds" : "cases hold");
	return n_ok == files.n ? CLI_OK : CLI_BLOCKED;
}
