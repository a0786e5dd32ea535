/* Between the inspection and the stores: archives that changed since, that came since, or that did not pass. */
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/inspect_record.h"

#define WITHHOLD_ROUNDS 16 /* each looks at as many files as discover does */

/* What is there now, images told from other files. */
static int
look_again(struct inspect *x, struct inspection *i, struct err *e)
{
	AUTO(workspace) struct workspace *w = NULL;
	struct log silent = x->log;
	int rc;

	if (workspace_make(x->plan->cache_dir, &w, e) < 0)
		return -1;
	inspect_fill(x, w, i);
	silent.level = LOG_ERROR;
	i->log = &silent;
	rc = pipeline_classify(i, &x->users, e);
	i->log = &x->log;
	i->work_fd = i->out_fd = -1;
	i->work_dir = NULL;
	return rc;
}

/* Only names and identities, no look inside: for the ordinary case in which nothing is new. */
static int
look_quickly(struct inspect *x, struct inspection *i, struct err *e)
{
	struct log silent = x->log;
	int rc;

	inspect_fill(x, NULL, i);
	silent.level = LOG_ERROR;
	i->log = &silent;
	rc = stage_discover.run(i, e);
	i->log = &x->log;
	return rc;
}

static const char *
difference(const struct inspect_record *r, const struct archive *a)
{
	const struct inspect_record_file *f = inspect_record_find(r, a->name);

	if (!f)
		return "was not there when the images were inspected";
	if (a->fd < 0)
		return f->is_unfit ? NULL : "cannot be opened any more";
	return inspect_record_compare(f, a);
}

static bool
is_any_different(const struct inspect_record *r, const struct inspection *i)
{
	for (size_t k = 0; k < i->n_archives; k++)
		if (difference(r, &i->archives[k]))
			return true;
	return false;
}

static int
verify_found(const struct inspect *x, const struct inspect_record *r, const struct inspection *i)
{
	bool is_changed = false;

	for (size_t k = 0; k < i->n_archives; k++) {
		const struct archive *a = &i->archives[k];
		const char *what = a->is_ignored ? NULL : difference(r, a);
		AUTO_FREE char *name = str_safe(a->name, 200);

		if (!what)
			continue;
		/* only where it fails the job is it an error */
		log_line(&x->log, r && r->mode == GATE_ENFORCE ? LOG_ERROR : LOG_WARN,
			 "%s %s: it is not what was inspected", name, what);
		is_changed = true;
	}
	return is_changed ? CLI_BLOCKED : CLI_OK;
}

int
inspect_verify(struct inspect *x, struct err *e)
{
	AUTO(inspect_record) struct inspect_record *r = NULL;
	struct inspection i = { 0 };
	int rc = CLI_OK;

	if (x->project_fd < 0)
		return CLI_OK;
	if (inspect_record_read(x->tmp_fd, &r, e) < 0)
		return -1;
	if (look_quickly(x, &i, e) < 0) {
		rc = -1;
	} else if (is_any_different(r, &i)) {
		inspection_free(&i);
		rc = look_again(x, &i, e) < 0 ? -1 : verify_found(x, r, &i);
	}
	inspection_free(&i);
	return rc;
}

/* Blocked, undecided, changed or never seen: out. */
static bool
is_withheld(const struct inspect_record *r, const struct archive *a)
{
	const struct inspect_record_file *f = inspect_record_find(r, a->name);

	if (a->is_ignored)
		return false;
	return !f || f->is_unfit || difference(r, a) != NULL;
}

static int
withhold_found(struct inspect *x, const struct inspect_record *r, const struct inspection *i,
	       bool *ret_has_some, bool *ret_is_all, struct err *e)
{
	*ret_is_all = true;
	for (size_t k = 0; k < i->n_archives; k++) {
		const struct archive *a = &i->archives[k];
		AUTO_FREE char *name = str_safe(a->name, 200);

		if (!is_withheld(r, a))
			continue;
		if (fs_remove_beneath(x->project_fd, a->name, e) < 0)
			return err_wrap(e, "withhold %s", name);
		/* discover passed a bound here: there is more behind it */
		*ret_is_all = *ret_is_all && a->fault.kind != ERR_NO_SPACE;
		if (ret_has_some) {
			*ret_has_some = true;
			log_line(&x->log, LOG_ERROR,
				 "%s was put back while this stage ran, and may have been stored", name);
			continue;
		}
		log_line(&x->log, LOG_WARN, "%s is withheld: %s", name,
			 inspect_record_find(r, a->name)
				 ? "it did not pass the inspection"
				 : "it was not inspected, since the job failed or made it later");
	}
	return 0;
}

/* ret_has_some: NULL where there may be some; otherwise they have been taken out before. */
static int
withhold(struct inspect *x, bool *ret_has_some, struct err *e)
{
	AUTO(inspect_record) struct inspect_record *r = NULL;
	bool is_all = false;
	int rc = 0;

	if (x->project_fd < 0)
		return 0;
	if (inspect_record_read(x->tmp_fd, &r, e) < 0)
		return -1;
	/* with a policy it is only known here whether anything is enforced */
	if ((r ? r->mode : inspect_mode_unread(x)) != GATE_ENFORCE)
		return 0;
	for (int n = 0; rc == 0 && !is_all; n++) {
		struct inspection i = { 0 };

		if (n == WITHHOLD_ROUNDS)
			return err_set(e, ERR_NO_SPACE, "more files that may be images than can be withheld");
		rc = look_again(x, &i, e) < 0 ? -1 : withhold_found(x, r, &i, ret_has_some, &is_all, e);
		inspection_free(&i);
	}
	return rc;
}

int
inspect_withhold(struct inspect *x, struct err *e)
{
	return withhold(x, NULL, e) < 0 ? -1 : CLI_OK;
}

int
inspect_withheld(struct inspect *x, struct err *e)
{
	bool has_some = false;

	if (withhold(x, &has_some, e) < 0)
		return -1;
	return has_some ? CLI_BLOCKED : CLI_OK;
}
