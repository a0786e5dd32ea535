/* The policy: is it there, who wrote it last, is it read? Asked of the repository anew, by the courier. */
#include "base/clock.h"
#include "base/str.h"
#include "cli/doctor.h"
#include "cli/policy.h"
#include "stages/policy_git.h"

static void
check_text(struct checkup *c, const struct settings *s, const struct policy_source *source)
{
	AUTO(policy) struct policy *p = NULL;
	struct err e = ERR_INIT;
	AUTO_FREE char *origin = str_safe(source->origin, ERR_TEXT_MAX / 2);
	AUTO_FREE char *note = source->note ? str_safe(source->note, ERR_TEXT_MAX / 2) : NULL;

	if (policy_parse(source->name, source->text, source->len, &s->opt, &p, &e) < 0)
		checkup_fail(c, "policy", "mend it; tidewaiter policy check reads it", "%s", e.text);
	else if (note)
		checkup_warn(c, "policy",
			     "mend what it says; tidewaiter policy fetch asks again. Until then older rules judge",
			     "%s", note);
	else
		checkup_ok(c, "policy", "%s: %zu rule%s, %zu exception%s", origin, p->rules.n,
			   p->rules.n == 1 ? "" : "s", p->exceptions.n, p->exceptions.n == 1 ? "" : "s");
}

void
doctor_policy(struct checkup *c, const struct settings *s)
{
	AUTO_POLICY_SOURCE struct policy_source source = { 0 };
	const char *url = s->opt.policy.url;
	struct err e = ERR_INIT;

	if (!policy_source_is_configured(&s->opt.policy)) {
		checkup_ok(c, "policy", "none is configured: the section gate of the settings decides");
		return;
	}
	if (str_has_prefix(url, "http://"))
		checkup_warn(c, "policy", "use https:// or ssh://",
			     "%s is not encrypted: whoever stands between can write the rules", url);
	if (policy_load_configured(s, POLICY_GIT_NOW, &source, &e) < 0)
		checkup_fail(c, "policy", "mend what it says; until then every verdict is undecided", "%s",
			     e.text);
	else
		check_text(c, s, &source);
}
