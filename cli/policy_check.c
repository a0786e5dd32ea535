/* `tidewaiter policy check [FILE]` */
#include <ctype.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "cli/policy.h"
#include "cli/policy_reach.h"

#define FORMAT 1 /* of --json; docs/report.schema.json */
#define HOUR_S INT64_C(3600)
#define SOON_DEFAULT_MS (14 * POLICY_DAY_S * 1000)

struct check {
	int64_t soon_ms;
	const char *today;
	bool wants_json;
};

#define AT(member) offsetof(struct check, member)
static const struct cli_option rows[] = {
	{ "soon", "TIME", OPTION_DURATION, AT(soon_ms), "tell of exceptions that expire within it (14d)",
	  NULL },
	{ "today", "DAY", OPTION_TEXT, AT(today), "as on that day, such as 2026-01-31", NULL },
	{ "json", NULL, OPTION_FLAG, AT(wants_json), "one JSON object: docs/report.schema.json", NULL },
};
const struct cli_options policy_check_options = { "policy check", rows, MEM_COUNT(rows), "[FILE]" };

enum kind {
	NO_RULES,
	UNREACHED_RULE,
	NEEDLESS_GRACE,
	EXPIRED,
	TOO_LONG,
	EXPIRES_SOON,
	ID_SPELLING,
	BREAK_GLASS_ENDED,
};

static const struct {
	const char *word; /* in --json, for good */
	bool is_fault;
} kinds[] = {
	[NO_RULES] = { "no-rules", false },
	[UNREACHED_RULE] = { "unreached-rule", true },
	[NEEDLESS_GRACE] = { "needless-grace", false },
	[EXPIRED] = { "exception-expired", true },
	[TOO_LONG] = { "exception-too-long", true },
	[EXPIRES_SOON] = { "exception-expires-soon", false },
	[ID_SPELLING] = { "id-spelling", false },
	[BREAK_GLASS_ENDED] = { "break-glass-ended", false },
};

/* What was found, and of what. */
struct found {
	enum kind kind;
	size_t line;
	const char *name;	     /* of the rule or break-glass entry, or the id of the exception; NULL */
	const char *expires, *owner; /* of an exception; NULL */
};

struct findings {
	const struct policy *policy;
	cJSON *list; /* NULL: printed as they come */
	size_t n_faults, n_warnings;
};

static void say(struct findings *to, struct found what, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void
say(struct findings *to, struct found what, const char *fmt, ...)
{
	bool is_fault = kinds[what.kind].is_fault;
	AUTO_FREE char *text = NULL, *safe = NULL;
	cJSON *o;
	va_list ap;

	va_start(ap, fmt);
	text = mem_vprintf(fmt, ap);
	va_end(ap);
	safe = str_safe(text, 400);
	to->n_faults += is_fault;
	to->n_warnings += !is_fault;
	if (!to->list) {
		printf("%s:%zu: %s%s\n", to->policy->name, what.line, is_fault ? "" : "warning: ", safe);
		return;
	}
	o = cJSON_CreateObject();
	cJSON_AddItemToArray(to->list, o);
	json_add_str(o, "kind", kinds[what.kind].word);
	json_add_str(o, "level", is_fault ? "fault" : "warning");
	json_add_int(o, "line", (int64_t)what.line);
	json_add_safe_str(o, "name", what.name);
	json_add_safe_str(o, "expires", what.expires);
	json_add_safe_str(o, "owner", what.owner);
	json_add_str(o, "text", safe);
}

static void
check_rules(const struct policy *p, int64_t now_s, struct findings *to)
{
	for (size_t k = 0; k < p->rules.n; k++) {
		const struct policy_rule *r = &p->rules.v[k];
		AUTO_FREE char *by = policy_taken_by(p, k, now_s);

		if (by)
			say(to, (struct found){ UNREACHED_RULE, r->line, r->name, NULL, NULL },
			    "rule %s is never reached: %s %s all that it matches", r->name, by,
			    str_has_prefix(by, "rules ") ? "take" : "takes");
		if (r->grace.published > 0 && r->grace.published <= r->grace.fixed)
			say(to, (struct found){ NEEDLESS_GRACE, r->line, r->name, NULL, NULL },
			    "rule %s: grace.published of %" PRId64
			    " days hardly matters beside grace.fixed of %" PRId64
			    ": a flaw is mostly published before there is a fix, and either is enough",
			    r->name, r->grace.published, r->grace.fixed);
	}
	if (p->rules.n == 0)
		say(to, (struct found){ NO_RULES, 1, NULL, NULL, NULL },
		    "there are no rules: the section gate of the settings judges everything");
}

/* Ids are compared by the letter, and these kinds have one spelling: CVE-2024-1, GHSA-c2qf-rxjj-qqgw. Owned by the caller. */
static char *
usual_id(const char *id)
{
	char *usual = mem_strdup(id);
	size_t n = strncasecmp(id, "CVE-", 4) == 0 ? strlen(id) : strncasecmp(id, "GHSA-", 5) == 0 ? 5 : 0;

	for (size_t k = 0; n > 0 && usual[k]; k++)
		usual[k] = (char)(k < n ? toupper((unsigned char)usual[k]) : tolower((unsigned char)usual[k]));
	return usual;
}

static void
check_id(const struct policy_exception *x, const char *id, struct findings *to)
{
	AUTO_FREE char *usual = usual_id(id);

	if (!str_eq(id, usual))
		say(to, (struct found){ ID_SPELLING, x->line, x->id, x->expires, x->owner },
		    "the exception of %s excepts nothing by that id: Trivy writes %s", id, usual);
}

static void
check_exceptions(const struct policy *p, const struct check *c, int64_t now_s, struct findings *to)
{
	for (size_t k = 0; k < p->exceptions.n; k++) {
		const struct policy_exception *x = &p->exceptions.v[k];

		check_id(x, x->id, to);
		for (size_t n = 0; n < x->aliases.n; n++)
			check_id(x, x->aliases.v[n], to);
		switch (policy_exception_state(p, x, now_s)) {
		case EXCEPTION_EXPIRED:
			say(to, (struct found){ EXPIRED, x->line, x->id, x->expires, x->owner },
			    "the exception of %s expired on %s (%s)", x->id, x->expires, x->owner);
			break;
		case EXCEPTION_TOO_LONG:
			say(to, (struct found){ TOO_LONG, x->line, x->id, x->expires, x->owner },
			    "the exception of %s does not count: it expires on %s, allowed are %" PRId64
			    " days (max_days)",
			    x->id, x->expires, p->max_days);
			break;
		case EXCEPTION_COUNTS:
			if (x->end_s - now_s <= c->soon_ms / 1000)
				say(to, (struct found){ EXPIRES_SOON, x->line, x->id, x->expires, x->owner },
				    "the exception of %s expires on %s (%s)", x->id, x->expires, x->owner);
			break;
		}
	}
}

static void
check_break_glass(const struct policy *p, int64_t now_s, struct findings *to)
{
	for (size_t k = 0; k < p->break_glass.n; k++) {
		const struct policy_break_glass *b = &p->break_glass.v[k];
		char end[32];

		if (now_s < b->from_s + b->hours * HOUR_S)
			continue;
		clock_format_rfc3339(b->from_s + b->hours * HOUR_S, end);
		say(to, (struct found){ BREAK_GLASS_ENDED, b->line, b->name, NULL, NULL },
		    "the break-glass entry %s ended at %s", b->name, end);
	}
}

static void
print_sum(const struct findings *f)
{
	const struct policy *p = f->policy;

	printf("%s: %s (%zu rule%s, %zu exception%s, %zu break-glass entr%s)\n", p->name,
	       f->n_faults > 0	   ? "not ok"
	       : f->n_warnings > 0 ? "ok, with warnings"
				   : "ok",
	       p->rules.n, p->rules.n == 1 ? "" : "s", p->exceptions.n, p->exceptions.n == 1 ? "" : "s",
	       p->break_glass.n, p->break_glass.n == 1 ? "y" : "ies");
}

/* Takes over the list. */
static void
print_json(struct findings *f, const char *origin, int64_t now_s)
{
	const struct policy *p = f->policy;
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;

	json_add_int(j, "format", FORMAT);
	json_add_str(j, "version", TIDEWAITER_VERSION);
	json_add_safe_str(j, "policy", origin);
	json_add_time(j, "today", now_s);
	json_add_str(j, "result", f->n_faults > 0 ? "faults" : f->n_warnings > 0 ? "warnings" : "ok");
	json_add_int(j, "rules", (int64_t)p->rules.n);
	json_add_int(j, "exceptions", (int64_t)p->exceptions.n);
	json_add_int(j, "break_glass", (int64_t)p->break_glass.n);
	cJSON_AddItemToObject(j, "findings", take_ptr(f->list));
	text = json_print_pretty(j);
	fputs(text, stdout);
}

int
policy_check(const struct cli *cli, int argc, char **argv, struct err *e)
{
	struct check c = { .soon_ms = SOON_DEFAULT_MS };
	AUTO_POLICY_OPENED struct policy_opened o = { 0 };
	struct findings f = { 0 };
	int n_operands;
	int64_t now_s;

	if (options_parse(&policy_check_options, argc, argv, &c, &n_operands, e) < 0 ||
	    policy_read_day(c.today, &now_s, e) < 0)
		return -1;
	if (n_operands > 1)
		return err_set(e, ERR_USAGE, "policy check takes one file");
	if (policy_open(cli, n_operands ? argv[1] : NULL, &o, e) < 0)
		return -1;
	f.policy = o.policy;
	f.list = c.wants_json ? cJSON_CreateArray() : NULL;
	check_rules(o.policy, now_s, &f);
	check_exceptions(o.policy, &c, now_s, &f);
	check_break_glass(o.policy, now_s, &f);
	if (c.wants_json)
		print_json(&f, o.origin, now_s);
	else
		print_sum(&f);
	return f.n_faults > 0 ? CLI_BLOCKED : CLI_OK;
}
