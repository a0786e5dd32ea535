#include "stages/render_policy.h"

#include "stages/explain.h"
#include "stages/policy_source.h"

#define SHOWN_MAX 200 /* columns of what others wrote */

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

char *
render_policy_excuse(const struct finding_fate *f)
{
	const char *word = word_of(f->fate);
	char date[16] = "";
	int64_t last_s = f->until_s - 1;

	if (!word)
		return NULL;
	/* the last day that it counts, as people write it */
	if (f->until_s > 0)
		policy_format_date(last_s, date);
	return mem_printf("%s%s%s: %s", word, *date ? " until " : "", date, f->by);
}

void
render_policy_excused(const struct image *m, size_t max, struct strv *ret)
{
	AUTO_FREE size_t *order = NULL;
	size_t n_all = 0, n = 0;

	if (!m->decision)
		return;
	order = m->report ? explain_sorted(m, false, &n_all) : NULL;
	for (size_t k = 0; m->decision->fates && k < n_all; k++) {
		const struct finding *f = &m->report->findings[order[k]];
		AUTO_FREE char *excuse = render_policy_excuse(&m->decision->fates[order[k]]);
		AUTO_FREE char *id = str_safe(f->id, 40), *package = str_safe(f->package, 60);
		AUTO_FREE char *installed = str_safe(f->installed, 40);

		if (excuse && ++n <= max)
			strv_addf(ret, "%s in %s %s: %s", id, package, installed, excuse);
	}
	if (n > max)
		strv_addf(ret, "and %zu more that %s excused", n - max, n - max == 1 ? "is" : "are");
	for (size_t k = 0; k < m->decision->notes.n; k++)
		strv_add(ret, m->decision->notes.v[k]);
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
