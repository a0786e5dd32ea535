/*
 * The policy: is it there, who wrote it last, is it read? Asked of the repository anew, by the courier. Where it asks since when there
 * are fixes: what of that is kept.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "cli/doctor.h"
#include "cli/policy.h"
#include "stages/fix_dates.h"
#include "stages/policy_git.h"

static void
say_fixes(struct checkup *c, const struct fix_dates *d)
{
	int64_t first_s = 0;
	char date[16];

	for (size_t k = 0; k < d->n; k++)
		if (first_s == 0 || d->v[k].since_s < first_s)
			first_s = d->v[k].since_s;
	policy_format_date(first_s, date);
	if (d->n == 0)
		checkup_ok(c, "fixes",
			   "none was seen here yet: the days of grace.fixed begin with the first inspection");
	else if (d->n == FIX_DATES_MAX)
		checkup_warn(c, "fixes",
			     "remove fixes/dates below state_dir, and all days of grace.fixed begin anew",
			     "no more than %d are kept: new ones have no grace (grace.fixed)", FIX_DATES_MAX);
	else
		checkup_ok(c, "fixes", "since when there is one is kept of %zu, since %s", d->n, date);
}

static void
check_fixes(struct checkup *c, const struct settings *s)
{
	AUTO_FREE char *path = mem_printf("%s/fixes", s->state_dir);
	AUTO_FIX_DATES struct fix_dates d = { 0 };
	struct err e = ERR_INIT;
	AUTO_FD int dir = fs_open_dir(AT_FDCWD, path, &e);

	if ((dir < 0 && e.no != ENOENT) || (dir >= 0 && fix_dates_read(dir, &d, &e) < 0))
		checkup_fail(c, "fixes",
			     "put the file back from a backup, or remove it, and all days of grace.fixed begin anew",
			     "there is no grace (grace.fixed): %s: %s", path, e.text);
	else
		say_fixes(c, &d);
}

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
	if (p && policy_asks_fixes(p))
		check_fixes(c, s);
}

void
doctor_policy(struct checkup *c, const struct settings *s)
{
	AUTO_POLICY_SOURCE struct policy_source source = { 0 };
	struct err e = ERR_INIT;

	if (!policy_source_is_configured(&s->opt.policy)) {
		checkup_ok(c, "policy", "none is configured: the section gate of the settings decides");
		return;
	}
	if (policy_load_configured(s, POLICY_GIT_NOW, &source, &e) < 0)
		checkup_fail(c, "policy", "mend what it says; until then every verdict is undecided", "%s",
			     e.text);
	else
		check_text(c, s, &source);
}
