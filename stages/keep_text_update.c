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

/* Of each severity the line of when it was raised last: what it says of an acceptance, an earlier one says, too. */
struct raised {
	const char *line; /* NULL: never */
	size_t len;
	int64_t at_s;
};

static void
note_raised(struct raised *last, const char *line, size_t len)
{
	enum severity from;
	int64_t at_s;

	if (dojo_read_raised(line, len, &from, &at_s) && (!last[from].line || at_s >= last[from].at_s))
		last[from] = (struct raised){ line, len, at_s };
}

/* The lines that tell of earlier severities stay, a few however often it went up and down. */
static void
add_raised_lines(struct buf *to, const char *description, const char *new_line)
{
	struct raised last[SEVERITY_COUNT] = { { 0 } };
	const char *line = description;

	while (line) {
		size_t len = strcspn(line, "\r\n");

		note_raised(last, line, len);
		line = line[len] ? line + len + 1 : NULL;
	}
	if (new_line)
		note_raised(last, new_line, strlen(new_line));
	for (int k = 0; k < SEVERITY_COUNT; k++) {
		if (!last[k].line)
			continue;
		buf_add_str(to, "\n");
		buf_add(to, last[k].line, last[k].len);
	}
}

/* As DefectDojo's parser puts it together. raised_s: when its severity rose, 0: it did not. */
static char *
describe(const struct now *x, const struct dojo_finding *f, int64_t raised_s)
{
	AUTO_BUF struct buf b = BUF_INIT(1 << 20);
	AUTO_FREE char *new_line = NULL;
	int before = dojo_severity_of(f->severity);

	buf_printf(&b, "%s\n**Target:** %s\n**Type:** %s\n**Fixed version:** %s\n\n%s\n", x->texts.title,
		   x->target, x->type, x->texts.fixed, x->texts.description);
	if (raised_s > 0 && before >= 0)
		new_line = dojo_raised_line((enum severity)before, keep_text_severity(x->texts.severity),
					    raised_s);
	add_raised_lines(&b, f->description, new_line);
	return buf_take(&b);
}

static bool
is_about(const struct now *x, const struct delivery *d, const struct dojo_finding *f)
{
	return str_eq(f->vulnerability, x->id) && str_eq(f->component, x->package) &&
	       str_eq(f->version, x->version) && str_eq(f->place, *x->path ? x->path : x->target) &&
	       str_eq(f->service, d->service ? d->service : "");
}

/* As it was sent, not as it was told: made anew, in a test or a server that is new. */
static bool
is_first(const struct entry *x, const struct dojo_finding *f, bool has_new)
{
	return has_new && str_eq(f->severity, dojo_severity_word(keep_text_severity(x->first.severity))) &&
	       str_eq(f->mitigation, x->first.fixed);
}

/* What a person has set there stays, unless it is what has changed here. 1: it was changed, 0: it was as it should be. */
static int
update(const struct entry *x, const struct now *now, const struct dojo_finding *f, bool has_new,
       struct dojo *dojo, int64_t deadline, struct err *e)
{
	bool is_new = is_first(x, f, has_new);
	enum severity severity = keep_text_severity(now->texts.severity);
	bool has_severity = !str_eq(is_new ? x->first.severity : x->told_severity, now->texts.severity) &&
			    !str_eq(f->severity, dojo_severity_word(severity));
	bool has_fix = !str_eq(is_new ? x->first.fixed : x->told_fixed, now->texts.fixed) &&
		       !str_eq(f->mitigation, now->texts.fixed);
	bool is_raised = has_severity && (int)severity > dojo_severity_of(f->severity);
	/* by the clock that acceptances have: one of this second may have been of what was there before */
	AUTO_FREE char *description = describe(now, f, is_raised ? dojo_clock_s(dojo) + 1 : 0);

	if (!has_severity && !has_fix && str_eq(description, f->description))
		return 0;
	return dojo_update_finding(dojo, f->id, has_severity ? dojo_severity_word(severity) : NULL,
				   has_fix ? now->texts.fixed : NULL, description, deadline, e) < 0
		       ? -1
		       : 1;
}

static void
set_told(struct entry *x, const struct now *now)
{
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
	const struct dojo_findings *there;
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
	w->is_stopped = why->no == EHOSTDOWN || clock_left_ms(w->deadline) == 0;
}

/* All that DefectDojo has of one finding of ours. */
static void
tell(struct telling *w, const struct now *now, struct entry *x)
{
	size_t n_found = 0, n_changed = 0, n_failed = w->n_failed;

	for (size_t k = 0; k < w->there->n && !w->is_stopped; k++) {
		const struct dojo_finding *f = &w->there->v[k];
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
		set_told(x, now);
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
