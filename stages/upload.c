/*
 * Stage upload: what the report stage left in out_fd goes into the spool and, as far as defectdojo.wait allows, to
 * DefectDojo. Reads opt, job, out_fd, state_dir; fills nothing. Nothing that happens here changes a verdict.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "stages/baseline.h"
#include "stages/dojo_link.h"
#include "stages/fleet.h"
#include "stages/name_ends.h"
#include "stages/page_link.h"
#include "stages/pipeline.h"
#include "stages/spool.h"

#define PREFIX DELIVERY_PREFIX
#define DELIVERIES_MAX 16384
/* With less time left an older delivery is not begun: it would only be cut off. */
#define OLDER_MIN_MS 1000
#define NAME_COLUMNS 80

/* What this inspection delivers. */
struct parcel {
	size_t index; /* the n of "delivery-<n>" */
	char *id;
	char *name; /* for people */
	char *product;
	bool is_there; /* DefectDojo has it */
	bool is_dead;  /* given up: nobody sends it any more by himself */
};
struct parcels {
	struct parcel *v;
	size_t n;
};

static void
parcels_free(struct parcels *p)
{
	for (size_t i = 0; i < p->n; i++) {
		mem_free_at(&p->v[i].id);
		mem_free_at(&p->v[i].name);
		mem_free_at(&p->v[i].product);
	}
	mem_free_at(&p->v);
}
#define AUTO_PARCELS __attribute__((cleanup(parcels_free)))

static void
replace(char **text, const char *with)
{
	mem_free_at(text);
	*text = mem_strdup(with ? with : "");
}

/* ---- from out_fd into the spool ---- */

static int
list_deliveries(int out_fd, struct strv *ret, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(out_fd, e);
	struct dirent *entry;
	int rc = dir ? 0 : -1;

	while (dir && ret->n < DELIVERIES_MAX && (rc = fs_next(dir, &entry, e)) > 0) {
		const char *digits = entry->d_name + strlen(PREFIX);

		if (str_has_prefix(entry->d_name, PREFIX) && *digits &&
		    strspn(digits, "0123456789") == strlen(digits))
			strv_add(ret, entry->d_name);
	}
	strv_sort(ret);
	return rc < 0 ? err_wrap(e, "reports of this inspection") : 0;
}

/*
 * A template that needs nothing of the image is expanded here once more: the scanner's process has parsed hostile
 * bytes and may not choose the product of another project.
 */
static void
expand_trusted(const char *tmpl, const struct job_facts *job, char **text)
{
	AUTO_FREE char *value = NULL;
	struct err ignored = ERR_INIT;

	if (tmpl && job_facts_expand(job, tmpl, &value, &ignored) == 0)
		replace(text, value);
}

/* Where the product takes the image, so that the scanner has a say in it, that is none in whose it is. */
static bool
is_of_project(const struct inspection *i, const struct delivery *d)
{
	AUTO_NAME_ENDS struct name_ends ends = { 0 };

	return !name_ends_of(i->opt->defectdojo.product, i->job, &ends) || name_ends_are_of(&ends, d->product);
}

/* What /test_imports/ is asked for: never the upload of another job, nor that of the scan by hand a moment ago. */
static void
bind_build_id(const struct job_facts *job, struct delivery *d)
{
	AUTO_FREE char *prefix = mem_printf("%lld-", (long long)job->job_id);
	AUTO_FREE char *bound = NULL;
	uint32_t dice = 0;

	if (job->job_id <= 0) {
		if (getrandom(&dice, sizeof(dice), GRND_NONBLOCK) != (ssize_t)sizeof(dice))
			dice = (uint32_t)getpid();
		bound = mem_printf("%s-%08x", d->build_id, dice);
	} else if (!str_has_prefix(d->build_id, prefix)) {
		bound = mem_printf("%s%s", prefix, d->build_id);
	}
	if (bound)
		replace(&d->build_id, bound);
}

static void
set_trusted(const struct inspection *i, struct delivery *d)
{
	const struct options_defectdojo *o = &i->opt->defectdojo;

	expand_trusted(o->product_type, i->job, &d->product_type);
	expand_trusted(o->product, i->job, &d->product);
	expand_trusted(o->engagement, i->job, &d->engagement);
	expand_trusted(o->test, i->job, &d->test);
	expand_trusted(o->environment, i->job, &d->environment);
	if (!str_is_empty(i->job->ref)) {
		AUTO_FREE char *branch = job_facts_branch_tag(i->job);

		replace(&d->branch, branch);
	}
	if (!str_is_empty(i->job->sha))
		replace(&d->commit, i->job->sha);
	bind_build_id(i->job, d);
	replace(&d->server, o->url);
	replace(&d->token_file, o->token_file);
	replace(&d->project, i->job->project_path);
	d->keep_text = o->keep_text;
	d->timeout_ms = o->timeout;
	d->age_max_s = o->spool_age_max / 1000;
	d->active = o->active;
	d->verified = o->verified;
	d->created_s = clock_wall_s();
	delivery_fit(d);
}

/* Without these names DefectDojo has no place for it; a template was empty for this job. */
static const char *
missing_name(const struct delivery *d)
{
	if (str_is_empty(d->product))
		return "product";
	if (str_is_empty(d->engagement))
		return "engagement";
	return str_is_empty(d->test) ? "test" : NULL;
}

static bool
has_right_names(const struct inspection *i, const struct delivery *d)
{
	const char *missing = missing_name(d);

	if (missing)
		log_line(i->log, LOG_WARN,
			 "DefectDojo: a report was not taken: defectdojo.%s is empty for this job", missing);
	else if (!is_of_project(i, d))
		log_line(i->log, LOG_WARN,
			 "DefectDojo: a report was not taken: its product is none of this project's");
	else
		return true;
	return false;
}

/* What later jobs are compared with; without it they see more as new. */
static void
take_baseline(const struct inspection *i, size_t index, struct delivery *d, struct baseline *ret)
{
	struct err e = ERR_INIT;

	if (i->kept && baseline_take(i->kept, i, index, ret, &e) < 0) {
		log_line(i->log, LOG_WARN, "for comparing later jobs with this one: %s", e.text);
		mem_free_at(&ret->branch);
	}
	if (ret->n_refused > 0) {
		AUTO_FREE char *build_id =
			mem_printf("%s" BASELINE_BLOCKED "%lld", d->build_id, (long long)ret->good_s);

		replace(&d->build_id, build_id);
	}
}

static void
keep_baseline(const struct inspection *i, struct baseline *b, const char *build_id)
{
	struct err e = ERR_INIT;

	if (i->kept && baseline_keep(i->kept, i, b, build_id, &e) < 0)
		log_line(i->log, LOG_WARN, "for comparing later jobs with this one: %s", e.text);
}

static void
take_one(const struct inspection *i, struct spool *s, const struct spool_bounds *bounds,
	 const char *file_name, struct parcels *ps)
{
	AUTO_DELIVERY struct delivery d = { 0 };
	AUTO_DELIVERY_FILE struct delivery_file f = DELIVERY_FILE_INIT;
	AUTO_BASELINE struct baseline baseline = { 0 };
	AUTO_FREE char *warning = NULL;
	struct spool_usage usage;
	struct err e = ERR_INIT;
	struct parcel p = { .index = strtoul(file_name + strlen(PREFIX), NULL, 10) };

	if (delivery_open(i->out_fd, file_name, &d, &f, &e) < 0) {
		log_line(i->log, LOG_WARN, "DefectDojo: a report was not taken: %s", e.text);
		return;
	}
	set_trusted(i, &d);
	if (!has_right_names(i, &d))
		return;
	take_baseline(i, p.index, &d, &baseline);
	p.name = str_safe(d.test, NAME_COLUMNS);
	if (spool_take(s, &d, &f, bounds, &p.id, &usage, &e) < 0) {
		log_line(i->log, LOG_WARN, "DefectDojo: the report of %s is not delivered, now or later: %s",
			 p.name, e.text);
		mem_free_at(&p.name);
		return;
	}
	keep_baseline(i, &baseline, d.build_id);
	if (usage.n_superseded > 0)
		log_line(i->log, LOG_NOTE, "DefectDojo: %s replaces %zu older report%s that %s never sent",
			 p.name, usage.n_superseded, usage.n_superseded == 1 ? "" : "s",
			 usage.n_superseded == 1 ? "was" : "were");
	warning = spool_warning(s, &usage, bounds);
	if (warning)
		log_line(i->log, LOG_WARN, "%s", warning);
	p.product = mem_strdup(d.product);
	ps->v = mem_resize(ps->v, ps->n + 1, sizeof(*ps->v));
	ps->v[ps->n++] = p;
}

/* ---- from the spool to DefectDojo ---- */

struct courier {
	const struct inspection *i;
	struct spool *spool;
	struct dojo *dojo;
	struct spool_send_options options;
	int64_t deadline;
	bool is_stopped; /* trying more would end the same */
	char *stop_reason;
	size_t n_older_delivered;
};

static int
send_one(struct courier *c, const char *id, struct spool_result *r)
{
	struct err e = ERR_INIT;

	if (spool_send(c->spool, id, c->dojo, &c->options, c->deadline, r, &e) < 0) {
		log_line(c->i->log, LOG_WARN, "DefectDojo: %s", e.text);
		return -1;
	}
	if (r->is_server_wide && !c->is_stopped) {
		c->is_stopped = true;
		c->stop_reason = mem_strdup(r->answer.reason);
	}
	return 0;
}

/* By a project that wants its reports sent otherwise acceptances would end, or old ones be given up. */
static bool
is_sent_alike(const struct courier *c, const struct delivery *d)
{
	const struct spool_send_options *o = &c->options;

	return str_eq(d->project, c->i->job->project_path) ||
	       (d->keep_text == o->keep_text && d->timeout_ms == o->timeout_ms && d->age_max_s == o->age_max_s);
}

/* Older deliveries of other projects are ours to send where the same server is reached with the same token. */
static bool
is_ours(const struct courier *c, const char *id)
{
	const struct options_defectdojo *o = &c->i->opt->defectdojo;
	AUTO_DELIVERY struct delivery d = { 0 };
	AUTO_DELIVERY_FILE struct delivery_file f = DELIVERY_FILE_INIT;
	struct err ignored = ERR_INIT;

	if (delivery_open(c->spool->new_fd, id, &d, &f, &ignored) < 0)
		return false;
	return str_eq(d.token_file, o->token_file) && (str_eq(d.server, o->url) || str_is_empty(d.server)) &&
	       is_sent_alike(c, &d);
}

static bool
is_parcel(const struct parcels *ps, const char *id)
{
	for (size_t k = 0; k < ps->n; k++) {
		if (str_eq(ps->v[k].id, id))
			return true;
	}
	return false;
}

static void
send_older(struct courier *c, const struct strv *ids, const struct parcels *own)
{
	for (size_t k = 0; k < ids->n && !c->is_stopped; k++) {
		AUTO_SPOOL_RESULT struct spool_result r = { 0 };

		if (clock_left_ms(c->deadline) < OLDER_MIN_MS)
			return;
		if (is_parcel(own, ids->v[k]) || !is_ours(c, ids->v[k]) || send_one(c, ids->v[k], &r) < 0)
			continue;
		if (r.end == SPOOL_DELIVERED)
			c->n_older_delivered++;
	}
}

static void
link_page(const struct inspection *i, const struct parcel *p, int64_t test_id)
{
	struct err e = ERR_INIT;

	if (page_link_set(i->out_fd, p->index, i->opt->defectdojo.url, test_id, &e) < 0)
		log_line(i->log, LOG_WARN, "%s: its page does not link to DefectDojo's test: %s", p->name,
			 e.text);
}

static void
send_own(struct courier *c, struct parcel *p)
{
	AUTO_SPOOL_RESULT struct spool_result r = { 0 };
	AUTO_FREE char *text = NULL, *link = NULL;

	if (c->is_stopped) {
		log_line(c->i->log, LOG_WARN, "DefectDojo: %s waits in the spool: %s", p->name,
			 c->stop_reason);
		return;
	}
	if (send_one(c, p->id, &r) < 0)
		return;
	text = spool_describe(&r);
	if (r.end == SPOOL_DELIVERED)
		link = dojo_link_test(c->i->opt->defectdojo.url, r.answer.test_id);
	p->is_there = link != NULL;
	p->is_dead = r.end == SPOOL_DIED;
	if (p->is_there)
		link_page(c->i, p, r.answer.test_id);
	log_line(c->i->log, r.end == SPOOL_DELIVERED || r.is_gone ? LOG_NOTE : LOG_WARN,
		 "DefectDojo: %s %s%s%s", p->name, text, link ? ": " : "", link ? link : "");
	if (r.shortfall)
		log_line(c->i->log, LOG_WARN, "DefectDojo: %s: %s", p->name, r.shortfall);
}

static void
send_all(struct courier *c, struct parcels *own)
{
	AUTO_STRV struct strv all = { 0 };
	struct err e = ERR_INIT;

	for (size_t k = 0; k < own->n; k++) {
		AUTO_STRV struct strv ids = { 0 };

		if (spool_ids_of(c->spool, spool_key(own->v[k].id), &ids, &e) < 0)
			break;
		send_older(c, &ids, own);
		send_own(c, &own->v[k]);
	}
	if (e.kind == ERR_NONE && !c->is_stopped && spool_ids(c->spool, &all, &e) == 0)
		send_older(c, &all, own);
	if (e.kind != ERR_NONE)
		log_line(c->i->log, LOG_WARN, "DefectDojo: %s", e.text);
	if (c->n_older_delivered > 0)
		log_line(c->i->log, LOG_NOTE, "DefectDojo: %zu earlier report%s delivered from the spool",
			 c->n_older_delivered, c->n_older_delivered == 1 ? "" : "s");
}

static void
say_waiting(const struct inspection *i, const struct parcels *own, const char *why)
{
	for (size_t k = 0; k < own->n; k++)
		log_line(i->log, LOG_WARN,
			 "DefectDojo: %s waits in the spool, which changes nothing for this job: %s",
			 own->v[k].name, why);
}

static void
deliver(const struct inspection *i, struct spool *s, struct parcels *own)
{
	const struct options_defectdojo *o = &i->opt->defectdojo;
	AUTO(dojo) struct dojo *dojo = NULL;
	AUTO(fleet) struct fleet *fleet = fleet_new(i->opt, i->log);
	AUTO_FREE char *closed = NULL;
	char key[DELIVERY_KEY_SIZE];
	struct dojo_settings ds;
	struct spool_breaker breaker;
	struct courier c = { .i = i,
			     .spool = s,
			     .options = { .timeout_ms = o->timeout,
					  .age_max_s = o->spool_age_max / 1000,
					  .keep_text = o->keep_text,
					  .fleet = fleet,
					  .server = o->url,
					  .breaker = key },
			     .deadline = clock_deadline(o->wait) };
	struct err e = ERR_INIT;

	dojo_settings_of(o, &ds);
	dojo_settings_key(&ds, key);
	spool_breaker_look(s, key, &breaker);
	if (breaker.is_open) {
		closed = spool_breaker_describe(&breaker);
		say_waiting(i, own, closed);
		return;
	}
	if (dojo_new(&ds, &dojo, &e) < 0) {
		say_waiting(i, own, e.text);
		return;
	}
	if (str_has_prefix(o->url, "http://"))
		log_line(i->log, LOG_WARN,
			 "DefectDojo: %s is not encrypted, the token can be read on its way", o->url);
	c.dojo = dojo;
	send_all(&c, own);
	mem_free_at(&c.stop_reason);
}

/* Of what has no test yet that we know of, the product is where it is found in the end. */
static void
say_where(const struct inspection *i, const struct parcels *own)
{
	AUTO_STRV struct strv links = { 0 };

	for (size_t k = 0; k < own->n; k++) {
		AUTO_FREE char *link = dojo_link_product(i->opt->defectdojo.url, own->v[k].product);

		if (own->v[k].is_there || own->v[k].is_dead || !link || strv_has(&links, link))
			continue;
		strv_add(&links, link);
		log_line(i->log, LOG_NOTE, "DefectDojo: once delivered, it is in the product %s", link);
	}
}

static void
upload(const struct inspection *i)
{
	const struct options_defectdojo *o = &i->opt->defectdojo;
	struct spool_bounds bounds;
	AUTO(spool) struct spool *s = NULL;
	AUTO_PARCELS struct parcels own = { 0 };
	AUTO_STRV struct strv names = { 0 };
	struct err e = ERR_INIT;

	spool_bounds_of(o, &bounds);
	if (list_deliveries(i->out_fd, &names, &e) < 0) {
		log_line(i->log, LOG_WARN, "DefectDojo: %s", e.text);
		return;
	}
	if (spool_open(i->state_dir, &s, &e) < 0) {
		log_line(i->log, LOG_WARN, "DefectDojo: %zu report%s not delivered, now or later: %s",
			 names.n, names.n == 1 ? " is" : "s are", e.text);
		return;
	}
	if (names.n == DELIVERIES_MAX)
		log_line(i->log, LOG_WARN, "DefectDojo: of one inspection at most %d reports are delivered",
			 DELIVERIES_MAX);
	if (str_glob_any(&o->refs, i->job->ref ? i->job->ref : "")) {
		for (size_t k = 0; k < names.n; k++)
			take_one(i, s, &bounds, names.v[k], &own);
	}
	if (!str_is_empty(o->url)) {
		deliver(i, s, &own);
		say_where(i, &own);
	} else if (own.n > 0)
		log_line(i->log, LOG_NOTE, "no DefectDojo is configured: %zu report%s in the outbox %s/new",
			 own.n, own.n == 1 ? "" : "s", s->path);
}

/* A report that is not delivered is no reason to doubt the verdict: never -1. */
static int
run_upload(struct inspection *i, struct err *e)
{
	(void)e;
	upload(i);
	return 0;
}

const struct stage stage_upload = { .name = "upload", .place = STAGE_COURIER, .run = run_upload };
