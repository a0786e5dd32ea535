#include "stages/render_policy.h"

#include <stdio.h>

#include "stages/explain.h"
#include "stages/policy_source.h"
#include "stages/render_log.h"

#define SHOWN_MAX 200  /* columns of what others wrote */
#define NAMED_MAX 3    /* findings of one excuse */
#define NAMES_MAX 4096 /* bytes */

bool
render_has_policy(const struct inspection *i)
{
	return i->policy && *i->policy->name;
}

char *
render_policy_rule(const struct inspection *i, const struct image *m)
{
	AUTO_FREE char *origin = NULL;

	if (!render_has_policy(i) || !m->decision)
		return NULL;
	origin = str_safe(i->policy_source && i->policy_source->origin ? i->policy_source->origin
								       : i->policy->name,
			  SHOWN_MAX);
	if (!m->decision->rule || m->decision->rule == &i->policy->otherwise)
		return mem_printf("the section gate of the settings, since no rule of %s matches", origin);
	return mem_printf("rule %s of %s", m->decision->rule->name, origin);
}

static const char *
word_of(enum fate fate)
{
	switch (fate) {
	case FATE_BELOW:
	case FATE_BLOCKS:
		return NULL;
	case FATE_IGNORED:
		return "ignored";
	case FATE_EXCEPTED:
		return "excepted";
	case FATE_ACCEPTED:
		return "accepted";
	case FATE_KNOWN:
		return "known";
	case FATE_GRACE:
		return "in grace";
	case FATE_WAIVED:
		return "waived";
	}
	return NULL;
}

/* Until when, as people write it: the last day that it counts; a waiver has hours. "" where no end is known. */
static void
format_until(enum fate fate, int64_t until_s, char out[48])
{
	char date[32];

	*out = '\0';
	if (until_s <= 0)
		return;
	if (fate == FATE_WAIVED || until_s % POLICY_DAY_S != 0) {
		render_time(until_s, date);
		snprintf(out, 48, " until %s", date);
		return;
	}
	policy_format_date(until_s - 1, date);
	snprintf(out, 48, " until %s", date);
}

char *
render_policy_excuse(const struct finding_fate *f)
{
	const char *word = word_of(f->fate);
	char until[48];

	if (!word)
		return NULL;
	format_until(f->fate, f->until_s, until);
	return mem_printf("%s%s: %s", word, until, f->by);
}

static bool
is_same_excuse(const struct finding_fate *a, const struct finding_fate *b)
{
	return a->fate == b->fate && a->until_s == b->until_s && str_eq(a->by, b->by);
}

/* Findings that one thing excuses. */
struct excuse {
	const struct finding_fate *fate;
	struct buf names;
	size_t n;
};

static void
add_to_excuse(struct excuse *x, const struct finding *f)
{
	AUTO_FREE char *id = str_safe(f->id, 40), *package = str_safe(f->package, 60);
	AUTO_FREE char *installed = str_safe(f->installed, 40);

	if (++x->n <= NAMED_MAX)
		buf_printf(&x->names, "%s%s in %s%s%s", x->n > 1 ? ", " : "", id, package,
			   *installed ? " " : "", installed);
}

static void
add_line(struct excuse *x, struct strv *ret)
{
	AUTO_FREE char *excuse = render_policy_excuse(x->fate);
	AUTO_FREE char *more = x->n > NAMED_MAX ? mem_printf(" and %zu more", x->n - NAMED_MAX) : NULL;

	strv_addf(ret, "%s%s: %s", buf_str(&x->names), more ? more : "", excuse);
	buf_free(&x->names);
}

void
render_policy_excused(const struct image *m, size_t max, struct strv *ret)
{
	AUTO_FREE size_t *order = NULL;
	AUTO_FREE struct excuse *all = mem_array(max + 1, sizeof(*all));
	size_t n_findings = 0, n = 0, n_more = 0;

	if (!m->decision || !m->decision->fates || !m->report)
		return;
	order = explain_sorted(m, false, &n_findings);
	for (size_t k = 0; k < n_findings; k++) {
		const struct finding_fate *fate = &m->decision->fates[order[k]];
		size_t x = 0;

		if (!word_of(fate->fate))
			continue;
		while (x < n && !is_same_excuse(all[x].fate, fate))
			x++;
		if (x == n && n == max) {
			n_more++;
			continue;
		}
		if (x == n)
			all[n++] = (struct excuse){ .fate = fate, .names = BUF_INIT(NAMES_MAX) };
		add_to_excuse(&all[x], &m->report->findings[order[k]]);
	}
	for (size_t x = 0; x < n; x++)
		add_line(&all[x], ret);
	if (n_more > 0)
		strv_addf(ret, "and %zu more that %s excused", n_more, n_more == 1 ? "is" : "are");
}

/* What the findings of one fate come to. */
struct sum {
	size_t n;
	int64_t first_s; /* the first end, 0 none is known */
	bool has_others; /* that end later, or never */
};

static void
add_fates(const struct decision *d, struct sum sums[FATE_COUNT])
{
	for (size_t k = 0; d && d->fates && k < d->n_findings; k++) {
		struct sum *s = &sums[d->fates[k].fate];
		int64_t until_s = d->fates[k].until_s;

		s->has_others = s->has_others || (s->n > 0 && until_s != s->first_s);
		if (s->n++ == 0 || s->first_s == 0 || (until_s > 0 && until_s < s->first_s))
			s->first_s = until_s;
	}
}

static char *
describe_sums(const struct image *images, size_t n)
{
	struct sum sums[FATE_COUNT] = { 0 };
	AUTO_BUF struct buf out = BUF_INIT(1024);

	for (size_t k = 0; k < n; k++)
		add_fates(images[k].decision, sums);
	for (int f = 0; f < FATE_COUNT; f++) {
		const char *word = word_of((enum fate)f);
		char until[48];

		if (!word || sums[f].n == 0)
			continue;
		format_until((enum fate)f, sums[f].first_s, until);
		buf_printf(&out, "%s%zu %s%s%s", out.len > 0 ? ", " : "Excused: ", sums[f].n, word,
			   *until && sums[f].has_others ? ", the first" : "", until);
	}
	return out.len > 0 ? mem_printf("%s.", buf_str(&out)) : NULL;
}

char *
render_policy_sums(const struct inspection *i)
{
	return describe_sums(i->images, i->n_images);
}

char *
render_policy_sums_of(const struct image *m)
{
	return describe_sums(m, 1);
}

char *
render_policy_contact(const struct inspection *i)
{
	AUTO_FREE char *contact = NULL;

	if (!render_has_policy(i))
		return NULL;
	contact = str_safe(i->policy->contact, SHOWN_MAX);
	if (!*contact)
		return mem_strdup("what cannot be fixed now can be excepted by those who write the policy");
	return mem_printf("what cannot be fixed now can be excepted: ask %s", contact);
}
