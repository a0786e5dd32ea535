#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "stages/policy.h"
#include "stages/purl.h"
#include "stages/version_range.h"

#define RULES_MAX 1000
#define EXCEPTIONS_MAX 20000
#define BREAK_GLASS_MAX 1000
#define DAYS_MAX 3650
#define HOURS_MAX 72
#define NAME_MAX_LEN 64
#define SHOWN_MAX 80

const char *const ignore_file_words[] = { "trivyignore", "openvex", NULL };
static const char *const flag_words[] = { "any", "true", "false", NULL };
static const char *const scope_words[] = { "branch", "product", NULL };
static const char *const raised_words[] = { "ask", "keep", NULL };
static const char *const misconfiguration_words[] = { "off",  "UNKNOWN",  "LOW", "MEDIUM",
						      "HIGH", "CRITICAL", NULL };

/* ---- what texts must be ---- */

static bool
is_of(const char *text, const char *more)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

	for (; *text; text++)
		if (!strchr(letters, *text) && !strchr(more, *text))
			return false;
	return true;
}

static bool
is_name(const char *text)
{
	return *text && strlen(text) <= NAME_MAX_LEN && is_of(text, "._-");
}

static bool
is_id(const char *text)
{
	return *text && strlen(text) <= NAME_MAX_LEN && is_of(text, "._-:/");
}

bool
policy_parse_date(const char *text, int64_t *ret_s)
{
	AUTO_FREE char *full = mem_printf("%sT00:00:00Z", text);

	return strlen(text) == strlen("2026-01-02") && clock_parse_rfc3339(full, ret_s, NULL) == 0;
}

void
policy_format_date(int64_t s, char out[16])
{
	char full[32];

	clock_format_rfc3339(s, full);
	snprintf(out, 16, "%.10s", full);
}

static bool
is_date(const char *text)
{
	int64_t s;

	return policy_parse_date(text, &s);
}

static bool
is_time(const char *text)
{
	int64_t s;

	return clock_parse_rfc3339(text, &s, NULL) == 0;
}

static bool
is_purl(const char *text)
{
	return purl_is(text) && conf_is_plain_text(text) && !strpbrk(text, " *[");
}

static const struct conf_rule rule_name = { is_name, "a name of letters, digits and ._-, 64 at most", NULL };
static const struct conf_rule rule_id = { is_id,
					  "the whole id of a vulnerability, such as CVE-2024-1234, no glob",
					  NULL };
static const struct conf_rule rule_date = { is_date, "a date such as 2026-03-31", NULL };
static const struct conf_rule rule_time = { is_time, "a time such as 2026-03-31T08:00:00Z", NULL };
static const struct conf_rule rule_range = { version_is_range,
					     "a range of versions such as \"<3.0.15\" or \">=1.2,<2\"", NULL };
static const struct conf_rule rule_purl = {
	is_purl, "a package URL such as pkg:deb/debian/openssl or pkg:npm/lodash@4.17.20", NULL
};

/* ---- tables ---- */

#define AT(member) offsetof(struct policy_match, member)
static const struct conf_field match_fields[] = {
	{ "projects", CONF_LIST, AT(projects), "[]", .help = "Globs on the project's path",
	  .rule = &conf_rule_glob, .needs = "" },
	{ "branches", CONF_LIST, AT(branches), "[]", .help = "Globs on branch or tag",
	  .rule = &conf_rule_glob, .needs = "" },
	{ "images", CONF_LIST, AT(images), "[]", .help = "Globs on the image's name", .rule = &conf_rule_glob,
	  .needs = "" },
	{ "stages", CONF_LIST, AT(stages), "[]", .help = "Globs on the job's stage", .rule = &conf_rule_glob,
	  .needs = "" },
	{ "jobs", CONF_LIST, AT(jobs), "[]", .help = "Globs on the job's name", .rule = &conf_rule_glob,
	  .needs = "" },
	{ "protected", CONF_ENUM, AT(is_protected), "any", .choices = flag_words, .help = "A protected ref" },
	{ "tag", CONF_ENUM, AT(is_tag), "any", .choices = flag_words, .help = "A tag" },
};
#undef AT
static const struct conf_group match_group = { "what a rule matches", match_fields, MEM_COUNT(match_fields),
					       .size = sizeof(struct policy_match) };

#define AT(member) offsetof(struct policy_grace, member)
static const struct conf_field grace_fields[] = {
	{ "published", CONF_INT, AT(published), "0", .min = 0, .max = DAYS_MAX,
	  .help = "Days since the flaw was published" },
	{ "fixed", CONF_INT, AT(fixed), "0", .min = 0, .max = DAYS_MAX, .help = "Days since there is a fix" },
};
#undef AT
static const struct conf_group grace_group = { "a time of grace", grace_fields, MEM_COUNT(grace_fields),
					       .size = sizeof(struct policy_grace) };

#define AT(member) offsetof(struct policy_accept, member)
static const struct conf_field accept_fields[] = {
	{ "scope", CONF_ENUM, AT(scope), "branch", .choices = scope_words, .help = "Where triage counts" },
	{ "raised_severity", CONF_ENUM, AT(raised_severity), "ask", .choices = raised_words,
	  .help = "What was accepted at a lower severity" },
};
#undef AT
static const struct conf_group accept_group = { "what of triage is accepted", accept_fields,
						MEM_COUNT(accept_fields),
						.size = sizeof(struct policy_accept) };

#define AT(member) offsetof(struct policy_rule, member)
static const struct conf_field rule_fields[] = {
	{ "name", CONF_STRING, AT(name), "", .help = "What messages call it", .rule = &rule_name },
	/* without off: whether a job is inspected is the settings' to say */
	{ "mode", CONF_ENUM, AT(mode), "audit", .choices = gate_mode_words + GATE_AUDIT,
	  .help = "What it does" },
	{ "severity", CONF_ENUM, AT(severity), "CRITICAL", .choices = severity_words,
	  .help = "This and worse block" },
	{ "fixable_only", CONF_BOOL, AT(fixable_only), "false", .help = "Only what can be fixed blocks" },
	{ "new_only", CONF_STRING, AT(new_only), "off",
	  .help = "Only what another branch does not have blocks", .rule = &conf_rule_text },
	{ "on_no_packages", CONF_ENUM, AT(on_no_packages), "warn", .choices = reaction_words,
	  .help = "No package" },
	{ "on_unknown_os", CONF_ENUM, AT(on_unknown_os), "warn", .choices = reaction_words,
	  .help = "No known OS" },
	{ "on_eol_os", CONF_ENUM, AT(on_eol_os), "warn", .choices = reaction_words, .help = "OS past its end" },
	{ "on_hidden_packages", CONF_ENUM, AT(on_hidden_packages), "fail", .choices = reaction_words,
	  .help = "A package list that Trivy does not see" },
	{ "secrets", CONF_ENUM, AT(secrets), "pass", .choices = reaction_words,
	  .help = "Secrets in the image" },
	{ "misconfigurations", CONF_ENUM, AT(misconfigurations), "off", .choices = misconfiguration_words,
	  .help = "Misconfigurations of this severity and worse block" },
	{ "ignore_files", CONF_LIST, AT(ignore_files), "[]", .choices = ignore_file_words,
	  .help = "Committed files that count" },
	{ "enforce_from", CONF_STRING, AT(enforce_from), "", .help = "Announced before this date",
	  .rule = &rule_date },
};
static const struct conf_child rule_children[] = {
	{ "match", &match_group, AT(match), 0 },
	{ "grace", &grace_group, AT(grace), 0 },
	{ "accept", &accept_group, AT(accept), 0 },
};
static const char *const rule_needed[] = { "name", "mode", NULL };
static const struct conf_group rule_group = { "a rule",
					      rule_fields,
					      MEM_COUNT(rule_fields),
					      rule_needed,
					      rule_children,
					      MEM_COUNT(rule_children),
					      sizeof(struct policy_rule),
					      AT(line) };
#undef AT

#define AT(member) offsetof(struct policy_exception, member)
static const struct conf_field exception_fields[] = {
	{ "id", CONF_STRING, AT(id), "", .help = "Which flaw", .rule = &rule_id },
	{ "aliases", CONF_LIST, AT(aliases), "[]", .help = "Its other ids", .rule = &rule_id },
	{ "package", CONF_STRING, AT(package), "", .help = "Exact name", .rule = &conf_rule_text },
	{ "versions", CONF_STRING, AT(versions), "", .help = "Range of installed versions",
	  .rule = &rule_range },
	{ "purl", CONF_STRING, AT(purl), "", .help = "Package URL", .rule = &rule_purl },
	{ "image", CONF_STRING, AT(image), "", .help = "Glob on the image's name", .rule = &conf_rule_text },
	{ "project", CONF_STRING, AT(project), "", .help = "Glob on the project's path",
	  .rule = &conf_rule_text },
	{ "expires", CONF_STRING, AT(expires), "", .help = "The last day it counts", .rule = &rule_date },
	{ "reason", CONF_STRING, AT(reason), "", .help = "Why", .rule = &conf_rule_text },
	{ "owner", CONF_STRING, AT(owner), "", .help = "Who answers for it", .rule = &conf_rule_text },
	{ "ticket", CONF_STRING, AT(ticket), "", .help = "Where it is tracked", .rule = &conf_rule_text },
};
static const char *const exception_needed[] = { "id", "expires", "reason", "owner", NULL };
static const struct conf_group exception_group = { "an exception",
						   exception_fields,
						   MEM_COUNT(exception_fields),
						   exception_needed,
						   .size = sizeof(struct policy_exception),
						   .line_offset = AT(line) };
#undef AT

#define AT(member) offsetof(struct policy_break_glass, member)
static const struct conf_field break_glass_fields[] = {
	{ "name", CONF_STRING, AT(name), "", .help = "What TIDEWAITER_WAIVER says", .rule = &rule_name },
	{ "project", CONF_STRING, AT(project), "", .help = "The project's path, exactly",
	  .rule = &conf_rule_text },
	{ "ref", CONF_STRING, AT(ref), "", .help = "Branch or tag, exactly", .rule = &conf_rule_text },
	{ "from", CONF_STRING, AT(from), "", .help = "When it begins", .rule = &rule_time },
	{ "hours", CONF_INT, AT(hours), "1", .min = 1, .max = HOURS_MAX, .help = "How long it lasts" },
	{ "who", CONF_STRING, AT(who), "", .help = "Who answers for it", .rule = &conf_rule_text },
	{ "reason", CONF_STRING, AT(reason), "", .help = "Why", .rule = &conf_rule_text },
};
static const char *const break_glass_needed[] = { "name",  "project", "ref",	"from",
						  "hours", "who",     "reason", NULL };
static const struct conf_group break_glass_group = { "a break-glass entry",
						     break_glass_fields,
						     MEM_COUNT(break_glass_fields),
						     break_glass_needed,
						     .size = sizeof(struct policy_break_glass),
						     .line_offset = AT(line) };
#undef AT

#define AT(member) offsetof(struct policy, member)
static const struct conf_field policy_fields[] = {
	{ "version", CONF_INT, AT(version), "1", .min = 1, .max = 1, .help = "Of this format" },
	{ "max_days", CONF_INT, AT(max_days), "180", .min = 1, .max = DAYS_MAX,
	  .help = "Longest an exception may run" },
	{ "contact", CONF_STRING, AT(contact), "", .help = "Who may except findings", .rule = &conf_rule_text },
};
static const struct conf_child policy_children[] = {
	{ "rules", &rule_group, AT(rules), RULES_MAX },
	{ "exceptions", &exception_group, AT(exceptions), EXCEPTIONS_MAX },
	{ "break_glass", &break_glass_group, AT(break_glass), BREAK_GLASS_MAX },
};
static const char *const policy_needed[] = { "version", NULL };
static const struct conf_group policy_group = { "a policy",
						.fields = policy_fields,
						.n_fields = MEM_COUNT(policy_fields),
						.needed = policy_needed,
						.children = policy_children,
						.n_children = MEM_COUNT(policy_children),
						.size = sizeof(struct policy) };
#undef AT

_Static_assert(sizeof(struct policy_rules) == sizeof(struct conf_items) &&
		       offsetof(struct policy_rules, n) == offsetof(struct conf_items, n),
	       "lists of a policy are struct conf_items");

/* ---- what shows only when an entry is read ---- */

static int
refuse(const struct policy *p, size_t line, const char *key, const char *found, const char *allowed,
       struct err *e)
{
	AUTO_FREE char *safe = str_safe(found, SHOWN_MAX);

	return err_set(e, ERR_SETTINGS, "%s:%zu: %s: \"%s\" is not possible, allowed is %s", p->name, line,
		       key, safe, allowed);
}

static int
finish_rule(struct policy *p, size_t k, struct err *e)
{
	struct policy_rule *r = &p->rules.v[k];

	r->mode += GATE_AUDIT;
	if (*r->enforce_from)
		(void)policy_parse_date(r->enforce_from, &r->enforce_from_s);
	for (size_t i = 0; i < k; i++)
		if (str_eq(p->rules.v[i].name, r->name)) {
			AUTO_FREE char *key = mem_printf("rules[%zu].name", k + 1);
			AUTO_FREE char *allowed =
				mem_printf("a name of its own: line %zu has this one", p->rules.v[i].line);

			return refuse(p, r->line, key, r->name, allowed, e);
		}
	return 0;
}

static int
finish_exception(struct policy *p, size_t k, struct err *e)
{
	struct policy_exception *x = &p->exceptions.v[k];
	AUTO_FREE char *path = mem_printf("exceptions[%zu].versions", k + 1);

	(void)policy_parse_date(x->expires, &x->end_s);
	x->end_s += POLICY_DAY_S;
	if (*x->versions && !*x->package && !*x->purl)
		return refuse(p, conf_line_of(&p->places, path), path, x->versions,
			      "a range with package or purl beside it, which say what it is a version of", e);
	return 0;
}

static int
finish_break_glass(struct policy *p, size_t k, struct err *e)
{
	struct policy_break_glass *b = &p->break_glass.v[k];

	(void)clock_parse_rfc3339(b->from, &b->from_s, NULL);
	for (size_t i = 0; i < k; i++)
		if (str_eq(p->break_glass.v[i].name, b->name)) {
			AUTO_FREE char *key = mem_printf("break_glass[%zu].name", k + 1);
			AUTO_FREE char *allowed = mem_printf("a name of its own: line %zu has this one",
							     p->break_glass.v[i].line);

			return refuse(p, b->line, key, b->name, allowed, e);
		}
	return 0;
}

static int
finish(struct policy *p, struct err *e)
{
	for (size_t k = 0; k < p->rules.n; k++)
		if (finish_rule(p, k, e) < 0)
			return -1;
	for (size_t k = 0; k < p->exceptions.n; k++)
		if (finish_exception(p, k, e) < 0)
			return -1;
	for (size_t k = 0; k < p->break_glass.n; k++)
		if (finish_break_glass(p, k, e) < 0)
			return -1;
	return 0;
}

/* ---- the whole ---- */

/* What judges where no rule does. */
static void
set_otherwise(struct policy *p, const struct options *o)
{
	struct policy_rule *r = &p->otherwise;
	struct options fallback = { 0 };

	conf_tree_set_defaults(&rule_group, r);
	if (!o)
		conf_set_defaults(&options_schema, &fallback);
	const struct options_gate *g = o ? &o->gate : &fallback.gate;

	r->mode = g->mode;
	r->severity = g->severity;
	r->fixable_only = g->fixable_only;
	r->on_no_packages = g->on_no_packages;
	r->on_unknown_os = g->on_unknown_os;
	r->on_eol_os = g->on_eol_os;
	r->on_hidden_packages = o ? o->images.on_hidden_packages : fallback.images.on_hidden_packages;
	if (!o)
		options_free(&fallback);
}

int
policy_parse(const char *name, const char *text, size_t len, const struct options *o, struct policy **ret,
	     struct err *e)
{
	AUTO(policy) struct policy *p = mem_alloc(sizeof(*p));

	p->name = mem_strdup(name);
	if (conf_tree_read(&policy_group, name, text, len, p, &p->places, e) < 0 || finish(p, e) < 0)
		return -1;
	set_otherwise(p, o);
	*ret = take_ptr(p);
	return 0;
}

void
policy_from_options(const struct options *o, struct policy **ret)
{
	struct policy *p = mem_alloc(sizeof(*p));

	p->name = mem_strdup("");
	conf_tree_set_defaults(&policy_group, p);
	set_otherwise(p, o);
	*ret = p;
}

void
policy_free(struct policy *p)
{
	if (!p)
		return;
	conf_tree_free(&policy_group, p);
	conf_tree_free(&rule_group, &p->otherwise);
	conf_places_free(&p->places);
	mem_free_at(&p->name);
	mem_free_at(&p);
}
