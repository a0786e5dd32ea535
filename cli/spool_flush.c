#include "cli/spool_flush.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"

#define NAME_COLUMNS 100
#define YOUNG_S 2 /* what a job needs beyond defectdojo.wait */

/* Where the deliveries of a project go, as the settings say today. */
struct target {
	char *project;
	struct settings *settings;
	struct dojo *dojo; /* NULL: none, or it could not be made */
	char *stop_reason; /* trying more would end the same; NULL: go on */
	int64_t stop_s;	   /* wall clock until when; 0: not known */
	char breaker[DELIVERY_KEY_SIZE];
};

struct flushing {
	const struct cli *cli;
	const struct settings *settings;
	struct spool *spool;
	const struct flush *flush;
	struct target *targets;
	size_t n_targets;
	struct flush_pass *pass;
};

static void
targets_free(struct flushing *f)
{
	for (size_t i = 0; i < f->n_targets; i++) {
		struct target *t = &f->targets[i];

		mem_free_at(&t->project);
		mem_free_at(&t->stop_reason);
		if (t->settings)
			settings_free(t->settings);
		if (t->dojo)
			dojo_free(t->dojo);
	}
	mem_free_at(&f->targets);
}

static const struct options_defectdojo *
options_of(const struct target *t)
{
	return &t->settings->opt.defectdojo;
}

static int
make_target(const struct flushing *f, const char *project, struct target *ret, struct err *e)
{
	struct dojo_settings ds;
	struct spool_breaker b = { 0 };
	const struct options_defectdojo *o;
	struct err why = ERR_INIT;

	if (settings_parse(f->settings->path, f->flush->settings_text, f->flush->settings_len, &ret->settings,
			   e) < 0)
		return -1;
	if (*project)
		(void)settings_apply_project(ret->settings, project);
	o = options_of(ret);
	dojo_settings_of(o, &ds);
	dojo_settings_key(&ds, ret->breaker);
	if (!f->flush->is_forced)
		spool_breaker_look(f->spool, ret->breaker, &b);
	if (b.is_open) {
		ret->stop_reason = spool_breaker_describe(&b);
		ret->stop_s = b.until_s;
	} else if (str_is_empty(o->url))
		ret->stop_reason = mem_strdup("no defectdojo.url is set");
	else if (dojo_new(&ds, &ret->dojo, &why) < 0)
		ret->stop_reason = mem_strdup(why.text);
	return 0;
}

/* A server that is down is down for every project that goes there. */
static void
inherit_stop(const struct flushing *f, struct target *t)
{
	for (size_t i = 0; i < f->n_targets && !t->stop_reason; i++) {
		const struct target *o = &f->targets[i];

		if (o != t && o->stop_reason && o->dojo && str_eq(o->breaker, t->breaker)) {
			t->stop_reason = mem_strdup(o->stop_reason);
			t->stop_s = o->stop_s;
		}
	}
}

static int
target_of(struct flushing *f, const char *project, struct target **ret, struct err *e)
{
	for (size_t i = 0; i < f->n_targets; i++) {
		if (str_eq(f->targets[i].project, project)) {
			*ret = &f->targets[i];
			inherit_stop(f, *ret);
			return 0;
		}
	}
	f->targets = mem_resize(f->targets, f->n_targets + 1, sizeof(*f->targets));
	f->targets[f->n_targets] = (struct target){ .project = mem_strdup(project) };
	*ret = &f->targets[f->n_targets++];
	if (make_target(f, project, *ret, e) < 0)
		return -1;
	inherit_stop(f, *ret);
	return 0;
}

static bool
is_wanted(const struct flush *f, const struct target *t)
{
	const char *url = options_of(t)->url;
	size_t len;

	if (!f->server)
		return true;
	len = strlen(f->server);
	while (len > 0 && f->server[len - 1] == '/')
		len--;
	return strncmp(url, f->server, len) == 0 && strspn(url + len, "/") == strlen(url + len);
}

static void
note_next(struct flushing *f, int64_t next_s)
{
	if (next_s > 0 && (f->pass->next_s == 0 || next_s < f->pass->next_s))
		f->pass->next_s = next_s;
}

static void
note_result(struct flushing *f, struct target *t, const char *id, const struct delivery *d,
	    const struct spool_result *r)
{
	AUTO_FREE char *text = spool_describe(r);
	AUTO_FREE char *name = str_safe(d->test ? d->test : "?", NAME_COLUMNS);

	if (r->is_server_wide && !t->stop_reason) {
		t->stop_reason = mem_strdup(r->answer.reason);
		t->stop_s = r->next_s;
	}
	if (r->is_open && (f->pass->open_s == 0 || r->next_s < f->pass->open_s))
		f->pass->open_s = r->next_s;
	note_next(f, r->next_s);
	if (r->end == SPOOL_SKIPPED)
		return;
	printf("%s  %s  %s\n", id, name, text);
	if (r->shortfall)
		printf("%s  %s  %s\n", id, name, r->shortfall);
	f->pass->n_delivered += r->end == SPOOL_DELIVERED;
	f->pass->n_dead += r->end == SPOOL_DIED;
}

/* A stop that no answer of the server was the reason for. */
static void
note_stop(struct flushing *f, const struct target *t)
{
	note_next(f, t->stop_s);
	if (t->stop_s == 0 && !f->pass->stop)
		f->pass->stop = mem_strdup(t->stop_reason);
}

/* Its job is at it, unless it died: then it is ours in a moment. */
static bool
is_young(struct flushing *f, const struct target *t, const struct delivery *d)
{
	int64_t ours_s = d->created_s + options_of(t)->wait / 1000 + YOUNG_S, now = clock_wall_s();

	if (!f->flush->leaves_young || d->created_s > now || ours_s <= now)
		return false;
	note_next(f, ours_s);
	return true;
}

static int
send_item(struct flushing *f, const char *id, struct err *e)
{
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	AUTO_DELIVERY struct delivery d = { 0 };
	AUTO_DELIVERY_FILE struct delivery_file file = DELIVERY_FILE_INIT;
	struct spool_send_options o = { .is_forced = f->flush->is_forced };
	int64_t deadline = f->flush->deadline;
	struct target *t = NULL;
	struct err why = ERR_INIT;
	bool is_broken;

	/* One that cannot be read has no project, and needs no server; spool_send() sees to it. */
	(void)!delivery_open(f->spool->new_fd, id, &d, &file, &why);
	is_broken = why.kind == ERR_REFUSED || why.kind == ERR_UNSUPPORTED;
	if (why.no == ENOENT)
		return 0;
	if (target_of(f, d.project ? d.project : "", &t, e) < 0)
		return -1;
	if (!is_wanted(f->flush, t) || is_young(f, t, &d))
		return 0;
	if (t->stop_reason && !is_broken) {
		note_stop(f, t);
		return 0;
	}
	o.timeout_ms = options_of(t)->timeout;
	o.age_max_s = options_of(t)->spool_age_max / 1000;
	o.breaker = t->breaker;
	o.keep_text = options_of(t)->keep_text;
	o.fleet = f->flush->fleet;
	o.server = options_of(t)->url;
	if (clock_deadline(o.timeout_ms) < deadline)
		deadline = clock_deadline(o.timeout_ms);
	err_clear(&why);
	if (spool_send(f->spool, id, t->dojo, &o, deadline, &r, &why) < 0)
		log_line(&f->cli->log, LOG_WARN, "%s", why.text);
	else
		note_result(f, t, id, &d, &r);
	return 0;
}

static bool
is_of_part(const struct flush *f, const char *id)
{
	unsigned n = 0;

	for (const char *p = spool_key(id); *p; p++)
		n = n * 31 + (unsigned char)*p;
	return f->n_parts == 0 || n % f->n_parts == f->part;
}

static int
run_pass(struct flushing *f, struct err *e)
{
	AUTO_STRV struct strv ids = { 0 };

	f->pass->open_s = f->pass->next_s = 0;
	mem_free_at(&f->pass->stop);
	if (spool_ids(f->spool, &ids, e) < 0)
		return -1;
	for (size_t i = 0; i < ids.n; i++) {
		if (clock_left_ms(f->flush->deadline) == 0)
			return 0;
		if (is_of_part(f->flush, ids.v[i]) && send_item(f, ids.v[i], e) < 0)
			return -1;
	}
	return 0;
}

int
spool_flush_pass(const struct cli *cli, const struct settings *s, struct spool *spool,
		 const struct flush *flush, struct flush_pass *ret, struct err *e)
{
	struct flushing f = { .cli = cli, .settings = s, .spool = spool, .flush = flush, .pass = ret };
	int rc = run_pass(&f, e);

	targets_free(&f);
	return rc;
}

void
spool_flush_warn(const struct cli *cli, const struct settings *s, const struct spool *spool)
{
	AUTO_FREE char *warning = NULL;
	struct spool_bounds bounds;
	struct spool_usage u;

	spool_bounds_of(&s->opt.defectdojo, &bounds);
	if (spool_usage(spool, &u, NULL) == 0)
		warning = spool_warning(spool, &u, &bounds);
	if (warning)
		log_line(&cli->log, LOG_WARN, "%s", warning);
}

/* Until an open fate is worth another question; false when that is after the deadline. */
static bool
wait_for_open(const struct flushing *f)
{
	int64_t wait_ms = (f->pass->open_s - clock_wall_s()) * 1000;

	if (f->pass->open_s == 0 || wait_ms >= clock_left_ms(f->flush->deadline))
		return false;
	poll(NULL, 0, clock_poll_timeout(clock_deadline(wait_ms > 0 ? wait_ms : 1)));
	return true;
}

/* Once for each server, however many projects have reports for it. */
static void
say_stops(const struct flushing *f)
{
	AUTO_STRV struct strv said = { 0 };

	for (size_t i = 0; i < f->n_targets; i++) {
		const struct target *t = &f->targets[i];
		AUTO_FREE char *name = str_safe(t->project, NAME_COLUMNS);
		const char *where = str_is_empty(options_of(t)->url) ? name : options_of(t)->url;
		AUTO_FREE char *line = t->stop_reason ? mem_printf("%s: %s", where, t->stop_reason) : NULL;

		if (!line || !is_wanted(f->flush, t) || strv_has(&said, line))
			continue;
		strv_add(&said, line);
		log_line(&f->cli->log, LOG_WARN, "%s", line);
	}
}

int
spool_flush(const struct cli *cli, const struct settings *s, struct spool *spool, const struct flush *flush,
	    struct err *e)
{
	struct flush_pass pass = { 0 };
	struct flushing f = { .cli = cli, .settings = s, .spool = spool, .flush = flush, .pass = &pass };
	AUTO_STRV struct strv ids = { 0 };
	int rc;

	do
		rc = run_pass(&f, e);
	while (rc == 0 && wait_for_open(&f));
	if (rc == 0)
		say_stops(&f);
	targets_free(&f);
	mem_free_at(&pass.stop);
	if (rc < 0 || spool_ids(spool, &ids, e) < 0)
		return -1;
	spool_flush_warn(cli, s, spool);
	printf("%zu delivered, %zu given up, %zu waiting\n", pass.n_delivered, pass.n_dead, ids.n);
	return ids.n == 0 && pass.n_dead == 0 ? CLI_OK : CLI_UNDECIDED;
}
