#include "stages/fetcher_ask.h"

#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "stages/dojo_baseline.h"
#include "stages/dojo_read.h"
#include "stages/gate.h"
#include "stages/name_ends.h"
#include "stages/policy_feed.h"
#include "stages/report_stage.h"
#include "stages/spool.h"

/* An answer that is too old for a verdict is still good for `policy explain`; one of a branch that is gone, for nothing. */
#define TRIAGE_UNUSED_S ((int64_t)30 * 24 * 3600)

/* ---- names, as deliveries have them ---- */

/* `member` of `d`, which is empty at the call; NULL where the template takes an image. */
static char *
name_for(const struct job_facts *job, const char *tmpl, struct delivery *d, char **member)
{
	struct err ignored = ERR_INIT;

	if (job_facts_expand(job, tmpl, member, &ignored) < 0)
		return NULL;
	delivery_fit(d);
	return take_ptr(*member);
}

static char *
product_for(const struct job_facts *job, const char *tmpl)
{
	AUTO_DELIVERY struct delivery d = { 0 };

	return name_for(job, tmpl, &d, &d.product);
}

static char *
engagement_for(const struct job_facts *job, const char *tmpl)
{
	AUTO_DELIVERY struct delivery d = { 0 };

	return name_for(job, tmpl, &d, &d.engagement);
}

static bool
names_branch(const char *tmpl)
{
	return strstr(tmpl, "{branch}") || strstr(tmpl, "{ref}");
}

/* ---- whose triage ---- */

struct question {
	struct dojo_question q;
	struct name_ends ends; /* where each image has its own product */
	char *product, *label, *branch;
};

static void
question_free(struct question *x)
{
	mem_free_at(&x->product);
	name_ends_free(&x->ends);
	mem_free_at(&x->label);
	mem_free_at(&x->branch);
}
#define AUTO_QUESTION __attribute__((cleanup(question_free)))

/* Else it would be the job that says, with the name of an image, whose triage it gets. */
static bool
names_project(const char *tmpl)
{
	return strstr(tmpl, "{project_path}") || strstr(tmpl, "{project_id}");
}

static bool
can_ask_for_products(const struct options_defectdojo *o, const struct name_ends *ends)
{
	return names_project(o->product) && (*ends->prefix || *ends->suffix);
}

static int
ask_for_products(const struct inspection *i, struct question *x, struct err *e)
{
	if (!can_ask_for_products(&i->opt->defectdojo, &x->ends))
		return err_set(e, ERR_SETTINGS,
			       "defectdojo.product depends on the image, and not on {project_path} or {project_id}");
	x->label = mem_printf("%s{image}%s", x->ends.prefix, x->ends.suffix);
	return 0;
}

static int
make_question(const struct inspection *i, struct question *x, struct err *e)
{
	const struct options_defectdojo *o = &i->opt->defectdojo;

	if (name_ends_of(o->product, i->job, &x->ends)) {
		if (ask_for_products(i, x, e) < 0)
			return -1;
	} else {
		x->product = product_for(i->job, o->product);
		if (!x->product)
			return err_set(e, ERR_SETTINGS, "defectdojo.product cannot be expanded");
		x->label = mem_strdup(x->product);
	}
	x->branch = report_branch(i->job);
	x->q = (struct dojo_question){ .product = x->product,
				       .prefix = x->ends.prefix,
				       .suffix = x->ends.suffix,
				       .label = x->label,
				       .branch = x->branch,
				       .has_branches = names_branch(o->product) ||
						       names_branch(o->engagement) || names_branch(o->test) };
	return 0;
}

/* ---- triage ---- */

static char *
file_name(const struct inspection *i, const char *label)
{
	char key[KEPT_KEY_SIZE];

	kept_key((const char *const[]){ i->opt->defectdojo.url, label }, 2, key);
	return mem_printf("%s.json", key);
}

/* A server that answers no delivery answers no question. */
static int
check_breaker(const struct inspection *i, const struct dojo_settings *s, struct err *e)
{
	AUTO(spool) struct spool *spool = NULL;
	AUTO_FREE char *text = NULL;
	struct spool_breaker b = { 0 };
	struct err ignored = ERR_INIT;
	char key[DELIVERY_KEY_SIZE];

	if (!i->state_dir || spool_open(i->state_dir, &spool, &ignored) < 0)
		return 0;
	dojo_settings_key(s, key);
	spool_breaker_look(spool, key, &b);
	if (!b.is_open)
		return 0;
	text = spool_breaker_describe(&b);
	return err_set(e, ERR_FAILED, "%s", text);
}

static int
connect_dojo(const struct inspection *i, struct dojo **ret, struct err *e)
{
	struct dojo_settings s;

	dojo_settings_of(&i->opt->defectdojo, &s);
	return check_breaker(i, &s, e) < 0 ? -1 : dojo_new(&s, ret, e);
}

int
fetcher_ask_triage(const struct inspection *i, const struct kept *k, int64_t deadline, struct triage **ret,
		   struct err *e)
{
	const struct options_defectdojo *o = &i->opt->defectdojo;
	AUTO_QUESTION struct question x = { 0 };
	AUTO_FREE char *name = NULL, *text = NULL;
	AUTO(dojo) struct dojo *dojo = NULL;
	AUTO(triage) struct triage *t = NULL;
	struct err ignored = ERR_INIT;

	*ret = NULL;
	if (str_is_empty(o->url) || !o->triage)
		return 0;
	if (make_question(i, &x, e) < 0 || connect_dojo(i, &dojo, e) < 0 ||
	    dojo_read_triage(dojo, &x.q, deadline, &t, e) < 0)
		return -1;
	name = file_name(i, x.label);
	text = triage_print(t);
	/* without it the next inspection knows less, this one does not */
	if (k->triage_fd >= 0) {
		(void)fs_publish(k->triage_fd, name, text, strlen(text), 0600, 0, &ignored);
		kept_tidy(k->triage_fd, o->triage_max_age / 1000 + TRIAGE_UNUSED_S);
	}
	*ret = take_ptr(t);
	return 0;
}

struct triage *
fetcher_kept_triage(const struct inspection *i, const struct kept *k)
{
	AUTO_QUESTION struct question x = { 0 };
	AUTO(triage) struct triage *t = NULL;
	AUTO_FREE char *name = NULL, *text = NULL;
	struct err ignored = ERR_INIT;
	size_t len;

	if (str_is_empty(i->opt->defectdojo.url) || k->triage_fd < 0 || make_question(i, &x, &ignored) < 0)
		return NULL;
	name = file_name(i, x.label);
	if (fs_read_max(k->triage_fd, name, TRIAGE_MAX, &text, &len, &ignored) < 0 ||
	    triage_parse(text, len, &t, &ignored) < 0 || !str_eq(t->product, x.label))
		return NULL;
	return take_ptr(t);
}

/* ---- branches ---- */

static bool
has_branch(const struct baselines *l, const char *branch)
{
	for (size_t k = 0; k < l->n; k++)
		if (str_eq(l->v[k].branch, branch))
			return true;
	return false;
}

/* A branch as deliveries of its jobs are named. */
struct branch {
	char *product, *engagement, *name;
	struct name_ends product_ends, engagement_ends; /* where each image has its own */
};

static void
branch_free(struct branch *b)
{
	mem_free_at(&b->product);
	mem_free_at(&b->engagement);
	mem_free_at(&b->name);
	name_ends_free(&b->product_ends);
	name_ends_free(&b->engagement_ends);
}
#define AUTO_BRANCH __attribute__((cleanup(branch_free)))

static bool
names_image(const char *tmpl)
{
	return strstr(tmpl, "{image}") || strstr(tmpl, "{archive}");
}

/* False: what DefectDojo has cannot be told by branch, or not by image, since none of the names there takes it. */
static bool
name_branch(const struct inspection *i, const char *branch, struct branch *ret)
{
	const struct options_defectdojo *o = &i->opt->defectdojo;
	AUTO_FREE char *ref = mem_strdup(branch);
	struct job_facts job = *i->job;

	job.ref = ref;
	job.is_tag = false;
	if (!names_image(o->product) && !names_image(o->engagement) && !names_image(o->service))
		return false;
	if (!name_ends_of(o->product, &job, &ret->product_ends))
		ret->product = product_for(&job, o->product);
	else if (!can_ask_for_products(o, &ret->product_ends))
		return false;
	if (!name_ends_of(o->engagement, &job, &ret->engagement_ends))
		ret->engagement = engagement_for(&job, o->engagement);
	ret->name = report_branch(&job);
	return (ret->product || ret->product_ends.prefix) &&
	       (ret->engagement || ret->engagement_ends.prefix) && str_eq(ret->name, branch);
}

/* Another host may have inspected the branch since; a DefectDojo that has nothing of it contradicts nobody. */
static bool
are_last(const struct baselines *kept, const char *branch, const struct strv *builds)
{
	for (size_t k = 0; k < kept->n; k++)
		if (str_eq(kept->v[k].branch, branch) && !strv_has(builds, kept->v[k].build_id))
			return builds->n == 0;
	return true;
}

static int
ask_branch(const struct inspection *i, const char *branch, const struct baselines *kept, struct dojo *dojo,
	   int64_t deadline, struct fetcher_branches *ret, struct err *e)
{
	AUTO_BRANCH struct branch b = { 0 };
	AUTO_STRV struct strv builds = { 0 };
	const char *own = baseline_branch(i->job);
	bool is_own = own && str_eq(own, branch);
	struct dojo_branch asked;

	if (!name_branch(i, branch, &b))
		return 0;
	asked = (struct dojo_branch){ .product = b.product,
				      .product_ends = &b.product_ends,
				      .engagement = b.engagement,
				      .engagement_ends = &b.engagement_ends,
				      .branch = b.name,
				      .project = i->job->project_path,
				      .is_own = is_own };
	if (has_branch(kept, branch)) {
		if (dojo_read_builds(dojo, &asked, deadline, &builds, e) < 0)
			return -1;
		if (!are_last(kept, branch, &builds))
			strv_add(&ret->outdated, branch);
		else if (!is_own)
			return 0;
	}
	if (dojo_read_baselines(dojo, &asked, deadline, &ret->baselines, e) < 0)
		return -1;
	/* what its own job finds and nobody has seen is taken for what was there already: of images that were never delivered alone */
	return is_own ? dojo_read_delivered(dojo, &asked, deadline, &ret->baselines, e) : 0;
}

/* Which no rule of a policy that cannot be had names. */
static void
list_branches(const struct inspection *i, struct strv *ret)
{
	AUTO(policy) struct policy *p = NULL;
	struct policy_context c;
	struct err ignored = ERR_INIT;

	if (!i->policy_source)
		return;
	policy_feed_wait(i->policy_source);
	if (gate_load_policy(i->opt, i->policy_source, &p, &ignored) < 0)
		return;
	gate_context(i->job, &c);
	policy_other_branches(p, &c, ret);
}

void
fetcher_branches_free(struct fetcher_branches *b)
{
	baselines_free(&b->baselines);
	strv_free(&b->outdated);
}

int
fetcher_ask_branches(const struct inspection *i, const struct baselines *kept, int64_t deadline,
		     struct fetcher_branches *ret, struct err *e)
{
	AUTO_STRV struct strv branches = { 0 };
	AUTO(dojo) struct dojo *dojo = NULL;

	if (str_is_empty(i->opt->defectdojo.url))
		return 0;
	list_branches(i, &branches);
	for (size_t k = 0; k < branches.n && k < FETCHER_BRANCHES_MAX; k++)
		if ((!dojo && connect_dojo(i, &dojo, e) < 0) ||
		    ask_branch(i, branches.v[k], kept, dojo, deadline, ret, e) < 0)
			return -1;
	return 0;
}
