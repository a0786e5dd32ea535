#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/courier.h"
#include "cli/db.h"
#include "cli/workspace.h"
#include "stages/trivy_db_import.h"
#include "stages/trivy_db_store.h"
#include "stages/trivy_fetch.h"

/* Whoever holds the lock downloads at most from all mirrors of both kinds; this is for a lock that nobody gives back. */
#define LOCK_WAIT_MS (2 * 60 * 60 * 1000)

int
db_make_stores(const struct settings *s, struct err *e)
{
	struct pipeline_users u;

	if (workspace_users(s->scan_user, s->courier_user, &u, e) < 0)
		return -1;
	for (int k = 0; k < TRIVY_DB_KINDS; k++) {
		const char *link = db_link_of(s, (enum trivy_db_kind)k);

		if (trivy_db_store_check((enum trivy_db_kind)k, link, NULL) == 0 &&
		    trivy_db_store_make((enum trivy_db_kind)k, link,
					u.is_separated ? u.courier_uid : (uid_t)-1, u.scan_gid, e) < 0)
			return -1;
	}
	return 0;
}

/* ---- what update and import share ---- */

struct change {
	const struct cli *cli;
	const struct settings *s;
	enum trivy_db_kind kind;
	bool is_forced;
	struct trivy_db_store *store;
};

static const char *
what_of(const struct change *c)
{
	return trivy_db_forms[c->kind].what;
}

/* Two kinds in one directory would remove each other's versions. */
static int
check_apart(const struct settings *s, struct err *e)
{
	const char *a = s->opt.trivy.db_dir, *b = s->opt.trivy.java_db_dir;
	size_t n = (size_t)(strrchr(a, '/') - a);

	if (strncmp(a, b, n + 1) != 0 || strchr(b + n + 1, '/'))
		return 0;
	return err_set(e, ERR_SETTINGS,
		       "%s: trivy.db_dir and trivy.java_db_dir must lie in directories of their own", s->path);
}

/* *ret_is_done: somebody else has brought a new one while we waited. */
static int
begin(struct change *c, bool *ret_is_done, struct err *e)
{
	AUTO_FREE char *before = NULL;
	AUTO_FREE char *after = NULL;

	*ret_is_done = false;
	if (trivy_db_store_open(c->kind, db_link_of(c->s, c->kind), &c->store, e) < 0)
		return -1;
	before = trivy_db_store_current(c->store);
	if (trivy_db_store_lock(c->store, clock_deadline(0), e) == 0)
		return 0;
	if (e->kind != ERR_TIMEOUT)
		return -1;
	err_clear(e);
	log_line(&c->cli->log, LOG_NOTE, "%s: another update is under way, waiting for it", what_of(c));
	if (trivy_db_store_lock(c->store, clock_deadline(LOCK_WAIT_MS), e) < 0)
		return err_wrap(e, "%s", what_of(c));
	after = trivy_db_store_current(c->store);
	*ret_is_done = !str_eq(before, after);
	if (*ret_is_done)
		printf("%s: another update did it: %s\n", what_of(c), after);
	return 0;
}

static void
say_published(const struct change *c, const struct trivy_db_new *n)
{
	AUTO_FREE char *size = str_human_size(n->db.size);
	char date[32];

	clock_format_rfc3339(n->db.updated_s, date);
	if (!n->name)
		printf("%s: %s holds the one in use, of %s\n", what_of(c), n->from, date);
	else if (c->kind == TRIVY_DB_JAVA)
		printf("%s: %s in use, of %s, %s, from %s\n", what_of(c), n->name, date, size, n->from);
	else
		printf("%s: %s in use, of %s, %s, %ju advisories, from %s\n", what_of(c), n->name, date, size,
		       (uintmax_t)n->counts.advisories, n->from);
}

/* The new one is in use: what cannot be removed costs room and is tried again. */
static void
prune(const struct change *c)
{
	struct err e = ERR_INIT;
	size_t n_busy = 0;

	if (trivy_db_store_prune(c->store, &n_busy, &e) < 0)
		log_line(&c->cli->log, LOG_WARN, "old versions: %s", e.text);
	if (n_busy > 0)
		log_line(&c->cli->log, LOG_NOTE, "%s: %zu older in use by scans, removed by the next update",
			 what_of(c), n_busy);
}

static int
publish(const struct change *c, const char *stage, int from_fd, const char *from, struct err *e)
{
	struct trivy_db_new n = { .from = from, .fd = from_fd, .stage = stage, .is_forced = c->is_forced };
	int rc = trivy_db_store_publish(c->store, &n, e);

	if (rc == 0) {
		say_published(c, &n);
		prune(c);
	}
	mem_free_at(&n.name);
	return rc;
}

/* A new stage for one try; removed whatever becomes of it. */
static int
in_stage(const struct change *c,
	 int (*bring)(const struct change *c, const char *stage, int fd, void *arg, struct err *e), void *arg,
	 struct err *e)
{
	AUTO_FREE char *stage = NULL;
	AUTO_FD int fd = -1;
	struct err left = ERR_INIT;
	int rc;

	if (trivy_db_store_stage(c->store, &stage, e) < 0)
		return -1;
	fd = fs_open_dir(c->store->fd, stage, e);
	rc = fd < 0 ? -1 : bring(c, stage, fd, arg, e);
	if (fs_remove_tree(c->store->fd, stage, &left) < 0)
		log_line(&c->cli->log, LOG_WARN, "%s", left.text);
	return rc;
}

/* ---- update ---- */

static int
bring_fetched(const struct change *c, const char *stage, int fd, void *arg, struct err *e)
{
	const char *repository = arg;
	AUTO_FREE char *path = mem_printf("%s/%s", c->store->path, stage);
	AUTO_FD int got = -1;

	log_line(&c->cli->log, LOG_NOTE, "%s: fetching %s", what_of(c), repository);
	if (trivy_fetch(&c->s->opt.trivy, c->kind, repository, fd, path, NULL, &got, e) < 0)
		return err_wrap(e, "%s: %s", what_of(c), repository);
	return publish(c, stage, got, repository, e);
}

static int
update_from_any(const struct change *c, const struct strv *repositories, struct err *e)
{
	for (size_t k = 0; k < repositories->n; k++) {
		err_clear(e);
		if (in_stage(c, bring_fetched, repositories->v[k], e) == 0)
			return 0;
		if (k + 1 < repositories->n)
			log_line(&c->cli->log, LOG_WARN, "%s", e->text);
	}
	return err_wrap(e, "not updated, the one in use stays");
}

static int
update_kind(const struct cli *cli, const struct settings *s, enum trivy_db_kind kind, bool is_forced,
	    struct err *e)
{
	const struct options_trivy *t = &s->opt.trivy;
	const struct strv *repositories =
		kind == TRIVY_DB_JAVA ? &t->java_db_repositories : &t->db_repositories;
	struct change c = { .cli = cli, .s = s, .kind = kind, .is_forced = is_forced };
	AUTO(trivy_db_store) struct trivy_db_store *store = NULL;
	bool is_done;
	int rc;

	if (repositories->n == 0) {
		printf("%s: not updated, %s is empty\n", trivy_db_forms[kind].what,
		       kind == TRIVY_DB_JAVA ? "trivy.java_db_repositories" : "trivy.db_repositories");
		return 0;
	}
	rc = begin(&c, &is_done, e);
	store = c.store;
	return rc < 0 || is_done ? rc : update_from_any(&c, repositories, e);
}

int
db_update(const struct cli *cli, const struct settings *s, const struct db_arguments *a, struct err *e)
{
	bool has_failed = false;

	if (check_apart(s, e) < 0 || db_make_stores(s, e) < 0 || courier_become(s, e) < 0)
		return -1;
	for (int k = 0; k < TRIVY_DB_KINDS; k++) {
		struct err one = ERR_INIT;

		if (a->only >= 0 && a->only != k)
			continue;
		if (update_kind(cli, s, (enum trivy_db_kind)k, a->is_forced, &one) == 0)
			continue;
		/* one of the two is better than none; the first fault decides the exit code */
		if (has_failed)
			log_line(&cli->log, LOG_ERROR, "%s", one.text);
		else
			*e = one;
		has_failed = true;
	}
	return has_failed ? -1 : CLI_OK;
}

/* ---- import ---- */

static int
bring_imported(const struct change *c, const char *stage, int fd, void *arg, struct err *e)
{
	const struct trivy_db_import *i = arg;
	AUTO_FD int to = -1;

	if (mkdirat(fd, "unpacked", 0700) < 0)
		return err_errno(e, "%s/unpacked", stage);
	to = fs_open_dir(fd, "unpacked", e);
	if (to < 0 || trivy_db_import_copy(i, to, e) < 0)
		return -1;
	return publish(c, stage, to, trivy_db_import_name(i), e);
}

int
db_import(const struct cli *cli, const struct settings *s, const struct db_arguments *a, struct err *e)
{
	AUTO(trivy_db_import) struct trivy_db_import *i = NULL;
	AUTO(trivy_db_store) struct trivy_db_store *store = NULL;
	struct change c = { .cli = cli, .s = s, .is_forced = a->is_forced };
	bool is_done;
	int rc;

	/* the file may be root's alone; what is in it is looked at by the courier */
	if (check_apart(s, e) < 0 || trivy_db_import_open(a->file, &i, e) < 0 || db_make_stores(s, e) < 0 ||
	    courier_become(s, e) < 0 || trivy_db_import_look(i, &c.kind, e) < 0)
		return -1;
	rc = begin(&c, &is_done, e);
	store = c.store;
	/* whatever another update brought: this file was asked for */
	if (rc < 0 || in_stage(&c, bring_imported, i, e) < 0)
		return err_wrap(e, "not imported, what is in use stays");
	return CLI_OK;
}
