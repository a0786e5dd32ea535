/* The second half of keep_text.h: what DefectDojo shows of a finding is brought up to date, its hash stays. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "stages/dojo_read.h"
#include "stages/keep_text_private.h"

static bool
is_behind(const struct entry *x, const struct now *now)
{
	char words[KEPT_KEY_SIZE];

	keep_text_words(&now->texts, words);
	return !str_eq(x->told_severity, now->texts.severity) || !str_eq(x->told_fixed, now->texts.fixed) ||
	       !str_eq(x->told_words, words);
}

static int
dojo_severity_of(const char *word)
{
	for (int k = 0; k < SEVERITY_COUNT; k++)
		if (str_eq(dojo_severity_word((enum severity)k), word))
			return k;
	return -1;
}

/* Of each severity one line, whatever number of times it was raised from it: the last time, and since when it had been below at first. */
static void
note_raised(struct dojo_raised *all, bool *is_there, const struct dojo_raised *r)
{
	struct dojo_raised *known = &all[r->from];
	int64_t since_s = r->since_s;

	if (is_there[r->from] && known->since_s < since_s)
		since_s = known->since_s;
	if (!is_there[r->from] || r->at_s >= known->at_s)
		*known = *r;
	known->since_s = since_s;
	is_there[r->from] = true;
}

/* The lines that tell of earlier severities stay, a few however often it went up and down. */
static void
add_raised_lines(struct buf *to, const char *description, const struct dojo_raised *new_one)
{
	struct dojo_raised all[SEVERITY_COUNT] = { { 0 } }, r;
	bool is_there[SEVERITY_COUNT] = { false };
	const char *line = description;

	while (line) {
		size_t len = strcspn(line, "\r\n");

		if (dojo_read_raised(line, len, &r))
			note_raised(all, is_there, &r);
		line = line[len] ? line + len + 1 : NULL;
	}
	if (new_one)
		note_raised(all, is_there, new_one);
	for (int k = 0; k < SEVERITY_COUNT; k++) {
		AUTO_FREE char *text = is_there[k] ? dojo_raised_line(&all[k]) : NULL;

		if (text)
			buf_printf(to, "\n%s", text);
	}
}

/* As DefectDojo's parser puts it together. raised: NULL: its severity did not rise. */
static char *
describe(const struct now *x, const struct dojo_finding *f, const struct dojo_raised *raised)
{
	AUTO_BUF struct buf b = BUF_INIT(1 << 20);

	buf_printf(&b, "%s\n**Target:** %s\n**Type:** %s\n**Fixed version:** %s\n\n%s\n", x->texts.title,
		   x->target, x->type, x->texts.fixed, x->texts.description);
	add_raised_lines(&b, f->description, raised);
	return buf_take(&b);
}

static bool
is_about(const struct now *x, const struct delivery *d, const struct dojo_finding *f)
{
	/* a package of a language stays where it was first seen, wherever it is now */
	return str_eq(f->vulnerability, x->id) && str_eq(f->component, x->package) &&
	       str_eq(f->version, x->version) &&
	       (f->has_loose_place || str_eq(f->place, *x->path ? x->path : x->target)) &&
	       str_eq(f->service, d->service ? d->service : "");
}

/* As it was sent, not as it was told: made anew, in a test or a server that is new. */
static bool
is_first(const struct entry *x, const struct dojo_finding *f, bool has_new)
{
	return has_new && str_eq(f->severity, dojo_severity_word(severity_of_word(x->first.severity))) &&
	       str_eq(f->mitigation, x->first.fixed);
}

/* What a person has set lower there may have been accepted so. */
static void
note_hand_set(struct entry *x, const struct dojo_finding *f)
{
	int there = dojo_severity_of(f->severity);

	for (int k = there + 1; k <= (int)severity_of_word(x->told_severity); k++)
		x->below_s[k] = 0;
}

/*
 * By the clock that acceptances have, if it is known: DefectDojo's, or that of the server before it; and no earlier than the last of
 * them, which was of what stood there until now.
 */
static bool
is_raised(const struct entry *x, const struct now *now, const struct dojo_finding *f, const struct dojo *dojo,
	  struct dojo_raised *ret)
{
	int from = dojo_severity_of(f->severity);
	enum severity to = severity_of_word(now->texts.severity);
	int64_t now_s = dojo_clock_s(dojo) + 1;

	if (from < 0 || from >= (int)to)
		return false;
	*ret = (struct dojo_raised){ .from = (enum severity)from,
				     .to = to,
				     .at_s = f->accepted_s > now_s ? f->accepted_s : now_s,
				     .since_s = x->below_s[to] == NEVER ? 0 : x->below_s[to] };
	return true;
}

/* Another entry may be about the same finding, and is to see it as it is now. */
static void
note_told(struct dojo_finding *f, const char *severity, const char *mitigation, const char *description)
{
	if (severity) {
		mem_free_at(&f->severity);
		f->severity = mem_strdup(severity);
	}
	if (mitigation) {
		mem_free_at(&f->mitigation);
		f->mitigation = mem_strdup(mitigation);
	}
	mem_free_at(&f->description);
	f->description = mem_strdup(description);
}

/* What a person has set there stays, unless it is what has changed here. 1: it was changed, 0: it was as it should be. */
static int
update(struct entry *x, const struct now *now, struct dojo_finding *f, bool has_new, struct dojo *dojo,
       int64_t deadline, struct err *e)
{
	bool is_new = is_first(x, f, has_new);
	enum severity severity = severity_of_word(now->texts.severity);
	bool has_severity = !str_eq(is_new ? x->first.severity : x->told_severity, now->texts.severity) &&
			    !str_eq(f->severity, dojo_severity_word(severity));
	bool has_fix = !str_eq(is_new ? x->first.fixed : x->told_fixed, now->texts.fixed) &&
		       !str_eq(f->mitigation, now->texts.fixed);
	AUTO_FREE char *description = NULL, *again = NULL;
	struct dojo_raised raised;
	bool rises;
	int64_t accepted_s;

	if (!is_new)
		note_hand_set(x, f);
	rises = has_severity && is_raised(x, now, f, dojo, &raised);
	description = describe(now, f, rises ? &raised : NULL);
	if (!has_severity && !has_fix && str_eq(description, f->description))
		return 0;
	if (dojo_update_finding(dojo, f->id, has_severity ? dojo_severity_word(severity) : NULL,
				has_fix ? now->texts.fixed : NULL, description, deadline, &accepted_s, e) < 0)
		return -1;
	note_told(f, has_severity ? dojo_severity_word(severity) : NULL, has_fix ? now->texts.fixed : NULL,
		  description);
	if (!rises || accepted_s <= raised.at_s)
		return 1;
	/* somebody has accepted meanwhile, with what was there before on the screen */
	raised.at_s = accepted_s;
	again = describe(now, f, &raised);
	note_told(f, NULL, NULL, again);
	return dojo_update_finding(dojo, f->id, NULL, NULL, again, deadline, &accepted_s, e) < 0 ? -1 : 1;
}

/* at_s: no later than it was told. */
static void
set_told(struct entry *x, const struct now *now, int64_t at_s)
{
	for (int k = (int)severity_of_word(now->texts.severity) + 1; k < SEVERITY_COUNT; k++)
		if (x->below_s[k] == NEVER)
			x->below_s[k] = at_s;
	mem_free_at(&x->told_severity);
	mem_free_at(&x->told_fixed);
	x->told_severity = mem_strdup(now->texts.severity);
	x->told_fixed = mem_strdup(now->texts.fixed);
	keep_text_words(&now->texts, x->told_words);
}

static bool
is_of_interest(const struct entry *x, const struct now *now, bool has_new)
{
	return is_behind(x, now) || (has_new && !keep_text_equal(&x->first, &now->texts));
}

/* A delivery that has arrived, and what DefectDojo is told of its findings. */
struct telling {
	struct keep_text *t;
	struct dojo *dojo;
	struct dojo_findings *there;
	bool has_new;
	int64_t deadline;
	size_t n_changed, n_failed;
	struct err first; /* of the faults */
	bool is_stopped;  /* nothing more would be answered now */
};

/* One finding that cannot be changed does not keep the others from it. */
static void
note_fault(struct telling *w, const struct err *why)
{
	if (w->n_failed++ == 0)
		w->first = *why;
	w->is_stopped = why->no == EHOSTDOWN || why->no == EACCES || clock_left_ms(w->deadline) == 0;
}

/* All that DefectDojo has of one finding of ours. */
static void
tell(struct telling *w, const struct now *now, struct entry *x)
{
	size_t n_found = 0, n_changed = 0, n_failed = w->n_failed;
	int64_t began_s = dojo_clock_s(w->dojo);

	for (size_t k = 0; k < w->there->n && !w->is_stopped; k++) {
		struct dojo_finding *f = &w->there->v[k];
		struct err why = ERR_INIT;
		int rc;

		if (!is_about(now, w->t->delivery, f))
			continue;
		n_found++;
		rc = update(x, now, f, w->has_new, w->dojo, w->deadline, &why);
		if (rc < 0)
			note_fault(w, &why);
		n_changed += rc > 0;
	}
	if (n_found > 0 && w->n_failed == n_failed)
		set_told(x, now, began_s);
	w->n_changed += n_changed > 0;
}

static int
tell_all(struct telling *w, struct err *e)
{
	struct keep_text *t = w->t;

	for (size_t k = 0; k < t->n_now && !w->is_stopped; k++) {
		struct entry *x = t->now[k].entry == SIZE_MAX ? NULL : &t->entries[t->now[k].entry];

		if (x && is_of_interest(x, &t->now[k], w->has_new))
			tell(w, &t->now[k], x);
	}
	if (w->n_failed == 0)
		return 0;
	if (e)
		*e = w->first;
	return w->n_failed == 1 ? -1 : err_wrap(e, "%zu of them, the first", w->n_failed);
}

int
keep_text_end(struct keep_text *t, struct dojo *dojo, int64_t test, bool has_new, int64_t deadline,
	      size_t *ret_n, struct err *e)
{
	AUTO_DOJO_FINDINGS struct dojo_findings l = { 0 };
	struct telling w = {
		.t = t, .dojo = dojo, .there = &l, .has_new = has_new, .deadline = deadline, .first = ERR_INIT
	};
	size_t n_behind = 0;
	int rc;

	*ret_n = 0;
	for (size_t k = 0; k < t->n_now; k++)
		n_behind += t->now[k].entry != SIZE_MAX &&
			    is_of_interest(&t->entries[t->now[k].entry], &t->now[k], has_new);
	if (n_behind == 0)
		return 0;
	if (dojo_read_findings(dojo, test, deadline, &l, e) < 0)
		return -1;
	rc = tell_all(&w, e);
	*ret_n = w.n_changed;
	/*
	 * What was told is put down, whatever came after it. Where another host has written meanwhile it is not: the next delivery looks
	 * at these findings once more.
	 */
	if (keep_text_write(t, deadline, rc < 0 ? NULL : e) < 0)
		return -1;
	return rc;
}
