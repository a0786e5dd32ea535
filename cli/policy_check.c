/* `tidewaiter policy check [FILE]` */
#include <inttypes.h>
#include <stddef.h>

#include "base/clock.h"
#include "cli/policy.h"
#include "cli/policy_reach.h"

#define HOUR_S INT64_C(3600)
#define SOON_DEFAULT_MS (14 * POLICY_DAY_S * 1000)

struct check {
	int64_t soon_ms;
	const char *today;
};

#define AT(member) offsetof(struct check, member)
static const struct cli_option rows[] = {
	{ "soon", "TIME", OPTION_DURATION, AT(soon_ms), "tell of exceptions that expire within it (14d)",
	  NULL },
	{ "today", "DAY", OPTION_TEXT, AT(today), "as on that day, such as 2026-01-31", NULL },
};
const struct cli_options policy_check_options = { "policy check", rows, MEM_COUNT(rows), "[FILE]" };

struct counts {
	size_t n_faults, n_warnings;
};

static void say(struct counts *n, bool is_fault, const struct policy *p, size_t line, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

static void
say(struct counts *n, bool is_fault, const struct policy *p, size_t line, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL, *safe = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	safe = str_safe(text, 400);
	printf("%s:%zu: %s%s\n", p->name, line, is_fault ? "" : "warning: ", safe);
	n->n_faults += is_fault;
	n->n_warnings += !is_fault;
}

static void
check_rules(const struct policy *p, int64_t now_s, struct counts *n)
{
	for (size_t k = 0; k < p->rules.n; k++) {
		const struct policy_rule *r = &p->rules.v[k];
		AUTO_FREE char *by = policy_taken_by(p, k, now_s);

		if (by)
			say(n, true, p, r->line, "rule %s is never reached: %s %s all that it matches",
			    r->name, by, str_has_prefix(by, "rules ") ? "take" : "takes");
		if (r->grace.published > 0 && r->grace.published <= r->grace.fixed)
			say(n, false, p, r->line,
			    "rule %s: grace.published of %" PRId64
			    " days hardly matters beside grace.fixed of %" PRId64
			    ": a flaw is mostly published before there is a fix, and either is enough",
			    r->name, r->grace.published, r->grace.fixed);
	}
	if (p->rules.n == 0)
		say(n, false, p, 1, "there are no rules: the section gate of the settings judges everything");
}

static void
check_exceptions(const struct policy *p, const struct check *c, int64_t now_s, struct counts *n)
{
	for (size_t k = 0; k < p->exceptions.n; k++) {
		const struct policy_exception *x = &p->exceptions.v[k];

		switch (policy_exception_state(p, x, now_s)) {
		case EXCEPTION_EXPIRED:
			say(n, true, p, x->line, "the exception of %s expired on %s (%s)", x->id, x->expires,
			    x->owner);
			break;
		case EXCEPTION_TOO_LONG:
			say(n, true, p, x->line,
			    "the exception of %s does not count: it expires on %s, allowed are %" PRId64
			    " days (max_days)",
			    x->id, x->expires, p->max_days);
			break;
		case EXCEPTION_COUNTS:
			if (x->end_s - now_s <= c->soon_ms / 1000)
				say(n, false, p, x->line, "the exception of %s expires on %s (%s)", x->id,
				    x->expires, x->owner);
			break;
		}
	}
}

static void
check_break_glass(const struct policy *p, int64_t now_s, struct counts *n)
{
	for (size_t k = 0; k < p->break_glass.n; k++) {
		const struct policy_break_glass *b = &p->break_glass.v[k];
		char end[32];

		if (now_s < b->from_s + b->hours * HOUR_S)
			continue;
		clock_format_rfc3339(b->from_s + b->hours * HOUR_S, end);
		say(n, false, p, b->line, "the break-glass entry %s ended at %s", b->name, end);
	}
}

int
policy_check(const struct cli *cli, int argc, char **argv, struct err *e)
{
	struct check c = { .soon_ms = SOON_DEFAULT_MS };
	AUTO_POLICY_OPENED struct policy_opened o = { 0 };
	struct counts n = { 0 };
	int n_operands;
	int64_t now_s;

	if (options_parse(&policy_check_options, argc, argv, &c, &n_operands, e) < 0 ||
	    policy_read_day(c.today, &now_s, e) < 0)
		return -1;
	if (n_operands > 1)
		return err_set(e, ERR_USAGE, "policy check takes one file");
	if (policy_open(cli, n_operands ? argv[1] : NULL, &o, e) < 0)
		return -1;
	check_rules(o.policy, now_s, &n);
	check_exceptions(o.policy, &c, now_s, &n);
	check_break_glass(o.policy, now_s, &n);
	printf("%s: %s (%zu rule%s, %zu exception%s, %zu break-glass entr%s)\n", o.policy->name,
	       n.n_faults > 0	  ? "not ok"
	       : n.n_warnings > 0 ? "ok, with warnings"
				  : "ok",
	       o.policy->rules.n, o.policy->rules.n == 1 ? "" : "s", o.policy->exceptions.n,
	       o.policy->exceptions.n == 1 ? "" : "s", o.policy->break_glass.n,
	       o.policy->break_glass.n == 1 ? "y" : "ies");
	return n.n_faults > 0 ? CLI_BLOCKED : CLI_OK;
}
