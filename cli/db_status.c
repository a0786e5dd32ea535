#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/courier.h"
#include "cli/db.h"
#include "stages/trivy_db_store.h"

enum state { STATE_FRESH, STATE_OLD, STATE_DAMAGED, STATE_UNREADABLE, STATE_ABSENT };

static const char *const state_words[] = { [STATE_FRESH] = "fresh",
					   [STATE_OLD] = "old",
					   [STATE_DAMAGED] = "damaged",
					   [STATE_UNREADABLE] = "unreadable",
					   [STATE_ABSENT] = "absent" };

struct look {
	enum trivy_db_kind kind;
	const char *dir; /* as the setting says */
	int64_t max_age_ms;
	enum state state;
	struct err fault;
	char *real;   /* where it leads; NULL: nowhere */
	bool is_kept; /* by `tidewaiter db` */
	bool has_counts;
	struct trivy_db db;
	struct trivy_db_counts counts;
	struct strv versions; /* kept, newest first, the one in use too */
	struct strv busy;     /* those that scans hold */
};

static void
look_free(struct look *l)
{
	mem_free_at(&l->real);
	strv_free(&l->versions);
	strv_free(&l->busy);
}

/* ---- looking ---- */

static bool
is_busy(const struct trivy_db_store *s, const char *version)
{
	AUTO_FREE char *mark = mem_printf("%s/" TRIVY_DB_MARK, version);
	AUTO_FD int fd = openat(s->fd, mark, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static void
look_at_versions(struct look *l)
{
	AUTO(trivy_db_store) struct trivy_db_store *s = NULL;

	if (trivy_db_store_open(l->kind, l->dir, &s, NULL) < 0)
		return;
	l->is_kept = true;
	if (trivy_db_store_list(s, &l->versions, NULL) < 0)
		return;
	for (size_t k = 0; k < l->versions.n; k++)
		if (is_busy(s, l->versions.v[k]))
			strv_add(&l->busy, l->versions.v[k]);
}

static void
look_at_content(struct look *l, const struct trivy_db_dir *d, bool verifies)
{
	bool is_java = l->kind == TRIVY_DB_JAVA;

	if (l->db.is_ours && !verifies) {
		l->counts = l->db.counts;
		l->has_counts = !is_java;
		return;
	}
	if (trivy_db_verify(d, &l->counts, &l->fault) < 0)
		l->state = STATE_DAMAGED;
	else
		l->has_counts = !is_java;
}

static enum state
state_of_unopened(const struct err *e)
{
	switch (e->no) {
	case ENOENT:
		return STATE_ABSENT;
	case EACCES:
		return STATE_UNREADABLE;
	default:
		return STATE_DAMAGED;
	}
}

static void
look_at(struct look *l, bool verifies)
{
	AUTO_TRIVY_DB_DIR struct trivy_db_dir d = TRIVY_DB_DIR_INIT;

	look_at_versions(l);
	l->real = realpath(l->dir, NULL);
	if (trivy_db_open(l->kind, l->dir, &d, &l->fault) < 0) {
		l->state = state_of_unopened(&l->fault);
		return;
	}
	if (trivy_db_judge(&d, clock_wall_s(), l->max_age_ms, &l->db, &l->fault) < 0) {
		/* filled as far as known when the age alone is wrong */
		l->state = l->db.schema ? STATE_OLD : STATE_DAMAGED;
		if (l->state == STATE_DAMAGED)
			return;
	}
	look_at_content(l, &d, verifies);
}

/* ---- showing ---- */

static void
print_dates(const struct look *l)
{
	AUTO_FREE char *age = str_human_duration(l->db.age_ms);
	AUTO_FREE char *max = str_human_duration(l->max_age_ms);
	char made[32], next[32];

	clock_format_rfc3339(l->db.updated_s, made);
	clock_format_rfc3339(l->db.next_update_s, next);
	printf("    schema %jd, of %s, %s old", (intmax_t)l->db.schema, made, age);
	if (l->max_age_ms > 0)
		printf(" (at most %s)", max);
	printf(l->db.next_update_s ? ", next %s\n" : "\n", next);
}

static void
print_content(const struct look *l)
{
	AUTO_FREE char *size = str_human_size(l->db.size);

	printf("    %s", size);
	if (l->has_counts)
		printf(", %ju vulnerabilities, %ju advisories, %ju sources",
		       (uintmax_t)l->counts.vulnerabilities, (uintmax_t)l->counts.advisories,
		       (uintmax_t)l->counts.sources);
	putchar('\n');
}

static void
print_look(const struct look *l)
{
	AUTO_FREE char *dir = str_safe(l->dir, PATH_MAX);
	AUTO_FREE char *real = str_safe(l->real ? l->real : "", PATH_MAX);

	printf("%s: %s\n    %s%s%s%s\n", trivy_db_forms[l->kind].what, state_words[l->state], dir,
	       *real && !str_eq(dir, real) ? " -> " : "", *real && !str_eq(dir, real) ? real : "",
	       l->is_kept ? "" : " (not kept by `tidewaiter db`)");
	if (l->fault.kind != ERR_NONE) {
		AUTO_FREE char *fault = str_safe(l->fault.text, ERR_TEXT_MAX);

		printf("    %s\n", fault);
	}
	if (l->db.schema) {
		print_dates(l);
		print_content(l);
	}
	for (size_t k = 0; k < l->versions.n; k++)
		printf("    kept: %s%s\n", l->versions.v[k],
		       strv_has(&l->busy, l->versions.v[k]) ? ", used by a scan now" : "");
}

static void
add_date(cJSON *j, const char *name, int64_t s)
{
	char text[32];

	clock_format_rfc3339(s, text);
	json_add_str(j, name, s ? text : NULL);
}

static void
add_look(cJSON *all, const char *name, const struct look *l)
{
	cJSON *j = json_add_object(all, name);
	bool is_known = l->db.schema != 0;

	json_add_str(j, "state", state_words[l->state]);
	json_add_str(j, "fault", l->fault.kind == ERR_NONE ? NULL : l->fault.text);
	json_add_str(j, "path", l->dir);
	json_add_str(j, "leads_to", l->real);
	json_add_bool(j, "is_kept", l->is_kept);
	if (is_known) {
		json_add_int(j, "schema", l->db.schema);
		json_add_int(j, "age_s", l->db.age_ms / 1000);
		json_add_int(j, "bytes", (int64_t)l->db.size);
	}
	add_date(j, "updated_at", l->db.updated_s);
	add_date(j, "next_update", l->db.next_update_s);
	if (l->max_age_ms > 0)
		json_add_int(j, "max_age_s", l->max_age_ms / 1000);
	if (l->has_counts) {
		json_add_int(j, "vulnerabilities", (int64_t)l->counts.vulnerabilities);
		json_add_int(j, "advisories", (int64_t)l->counts.advisories);
		json_add_int(j, "sources", (int64_t)l->counts.sources);
	}
	json_add_strv(j, "versions", &l->versions);
	json_add_strv(j, "in_use_by_scans", &l->busy);
}

int
db_status(const struct settings *s, const struct db_arguments *a, struct err *e)
{
	struct look vulnerabilities = { .kind = TRIVY_DB_VULNERABILITIES,
					.dir = s->opt.trivy.db_dir,
					.max_age_ms = s->opt.trivy.db_max_age };
	struct look java = { .kind = TRIVY_DB_JAVA, .dir = s->opt.trivy.java_db_dir };
	bool is_good;

	if (courier_become(s, e) < 0)
		return -1;
	look_at(&vulnerabilities, a->verifies);
	look_at(&java, a->verifies);
	if (a->wants_json) {
		AUTO_JSON cJSON *j = cJSON_CreateObject();
		AUTO_FREE char *text = NULL;

		add_look(j, "vulnerabilities", &vulnerabilities);
		add_look(j, "java", &java);
		text = json_print_pretty(j);
		fputs(text, stdout);
	} else {
		print_look(&vulnerabilities);
		print_look(&java);
	}
	/* without a Java index images with Java archives are undecided, the others are not */
	is_good = vulnerabilities.state == STATE_FRESH && java.state != STATE_DAMAGED &&
		  java.state != STATE_UNREADABLE;
	look_free(&vulnerabilities);
	look_free(&java);
	return is_good ? CLI_OK : CLI_BLOCKED;
}
