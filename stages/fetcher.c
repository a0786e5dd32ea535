#include "stages/fetcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "stages/baseline.h"
#include "stages/confine.h"
#include "stages/dojo_baseline.h"
#include "stages/dojo_read.h"
#include "stages/spool.h"

/* ---- what is asked for ---- */

struct values {
	const struct job_facts *job;
	char scratch[JOB_FACTS_SCRATCH];
};

static const char *
value_of(const char *name, void *arg)
{
	struct values *v = arg;

	return job_facts_value(v->job, name, v->scratch);
}

/* NULL where the template asks for what is known of an image alone. */
static char *
product_of(const struct inspection *i)
{
	struct values v = { .job = i->job };
	struct delivery d = { 0 };
	struct err ignored = ERR_INIT;

	if (str_expand(i->opt->defectdojo.product, value_of, &v, &d.product, &ignored) < 0)
		return NULL;
	delivery_fit(&d);
	return take_ptr(d.product);
}

static bool
names_branch(const char *tmpl)
{
	return strstr(tmpl, "{branch}") || strstr(tmpl, "{ref}");
}

static bool
has_branches(const struct options_defectdojo *o)
{
	return names_branch(o->product) || names_branch(o->engagement) || names_branch(o->test);
}

static char *
fitted_branch(const struct inspection *i)
{
	struct delivery d = { .branch = mem_strdup(i->job->ref ? i->job->ref : "") };

	delivery_fit(&d);
	return take_ptr(d.branch);
}

static char *
file_name(const struct inspection *i, const char *product)
{
	char key[KEPT_KEY_SIZE];

	kept_key((const char *const[]){ i->opt->defectdojo.url, product }, 2, key);
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

int
fetcher_ask(const struct inspection *i, const struct kept *k, int64_t deadline, struct triage **ret,
	    struct err *e)
{
	const struct options_defectdojo *o = &i->opt->defectdojo;
	AUTO_FREE char *product = product_of(i), *branch = fitted_branch(i), *name = NULL, *text = NULL;
	AUTO(dojo) struct dojo *dojo = NULL;
	AUTO(triage) struct triage *t = NULL;
	struct err ignored = ERR_INIT;
	struct dojo_settings s;

	*ret = NULL;
	if (str_is_empty(o->url) || !o->triage)
		return 0;
	if (!product)
		return err_set(e, ERR_SETTINGS,
			       "defectdojo.product depends on the image: its triage is not known before that");
	dojo_settings_of(o, &s);
	if (check_breaker(i, &s, e) < 0 || dojo_new(&s, &dojo, e) < 0 ||
	    dojo_read_triage(dojo, product, branch, has_branches(o), deadline, &t, e) < 0)
		return -1;
	name = file_name(i, product);
	text = triage_print(t);
	/* without it the next inspection knows less, this one does not */
	if (k->triage_fd >= 0)
		(void)fs_publish(k->triage_fd, name, text, strlen(text), 0600, 0, &ignored);
	*ret = take_ptr(t);
	return 0;
}

/* ---- what is handed over ---- */

static cJSON *
kept_triage(const struct inspection *i, const struct kept *k)
{
	AUTO_FREE char *product = str_is_empty(i->opt->defectdojo.url) ? NULL : product_of(i), *name = NULL;
	AUTO(triage) struct triage *t = NULL;
	AUTO_FREE char *text = NULL;
	struct err ignored = ERR_INIT;
	size_t len;

	if (!product || k->triage_fd < 0)
		return cJSON_CreateNull();
	name = file_name(i, product);
	if (fs_read_max(k->triage_fd, name, TRIAGE_MAX, &text, &len, &ignored) < 0 ||
	    triage_parse(text, len, &t, &ignored) < 0 || !str_eq(t->product, product))
		return cJSON_CreateNull();
	return triage_to_json(t);
}

static char *
print_kept(const struct inspection *i, const struct kept *k, struct baselines *l)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	const char *const first[] = { i->job->target_branch ? i->job->target_branch : "",
				      i->job->default_branch ? i->job->default_branch : "",
				      i->job->ref ? i->job->ref : "", NULL };
	struct err ignored = ERR_INIT;

	cJSON_AddItemToObject(j, "triage", kept_triage(i, k));
	(void)baselines_load(k, i->job->project_path ? i->job->project_path : "", first, l, &ignored);
	cJSON_AddItemToObject(j, "baselines", baselines_to_json(l));
	return json_print(j);
}

static char *
print_fresh(const struct inspection *i, const struct kept *k)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO(triage) struct triage *t = NULL;
	struct err e = ERR_INIT;

	(void)fetcher_ask(i, k, clock_deadline(FETCHER_ASK_MS), &t, &e);
	cJSON_AddItemToObject(j, "triage", t ? triage_to_json(t) : cJSON_CreateNull());
	json_add_str(j, "fault", e.kind == ERR_NONE ? "" : e.text);
	return json_print(j);
}

static bool
has_branch(const struct baselines *l, const char *branch)
{
	for (size_t k = 0; k < l->n; k++)
		if (str_eq(l->v[k].branch, branch))
			return true;
	return false;
}

/* A branch as deliveries of its jobs are named; NULL where that takes an image. */
static char *
expand_for(const struct inspection *i, const char *tmpl, const char *branch, char **(*of)(struct delivery *d))
{
	AUTO_FREE char *ref = mem_strdup(branch);
	struct job_facts job = *i->job;
	struct values v = { .job = &job };
	AUTO_DELIVERY struct delivery d = { 0 };
	struct err ignored = ERR_INIT;

	job.ref = ref;
	if (str_expand(tmpl, value_of, &v, of(&d), &ignored) < 0)
		return NULL;
	delivery_fit(&d);
	return take_ptr(*of(&d));
}

static char **
product_in(struct delivery *d)
{
	return &d->product;
}

static char **
engagement_in(struct delivery *d)
{
	return &d->engagement;
}

static char **
branch_in(struct delivery *d)
{
	return &d->branch;
}

/* A service that is no image's name says nothing of images. */
static int
ask_branch(const struct inspection *i, const char *branch, struct dojo *dojo, struct baselines *ret,
	   struct err *e)
{
	const struct options_defectdojo *o = &i->opt->defectdojo;
	AUTO_FREE char *product = expand_for(i, o->product, branch, product_in);
	AUTO_FREE char *engagement = expand_for(i, o->engagement, branch, engagement_in);
	AUTO_FREE char *fitted = expand_for(i, "{branch}", branch, branch_in);
	const struct dojo_branch b = {
		.product = product, .engagement = engagement, .branch = fitted, .project = i->job->project_path
	};

	if (!product || !engagement || !fitted || !str_eq(fitted, branch) || !str_eq(o->service, "{image}"))
		return 0;
	return dojo_read_baselines(dojo, &b, clock_deadline(FETCHER_ASK_MS), ret, e);
}

static int
ask_branches(const struct inspection *i, const struct baselines *kept, struct baselines *ret, struct err *e)
{
	const char *const branches[] = { i->job->target_branch, i->job->default_branch };
	AUTO(dojo) struct dojo *dojo = NULL;
	struct dojo_settings s;

	dojo_settings_of(&i->opt->defectdojo, &s);
	for (size_t k = 0; k < MEM_COUNT(branches); k++) {
		if (str_is_empty(branches[k]) || has_branch(kept, branches[k]) || has_branch(ret, branches[k]))
			continue;
		if ((!dojo && (check_breaker(i, &s, e) < 0 || dojo_new(&s, &dojo, e) < 0)) ||
		    ask_branch(i, branches[k], dojo, ret, e) < 0)
			return -1;
	}
	return 0;
}

/* Of branches that this host has not inspected. */
static char *
print_others(const struct inspection *i, const struct baselines *kept)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	struct baselines l = { 0 };
	struct err e = ERR_INIT;
	bool is_known = str_is_empty(i->opt->defectdojo.url) || ask_branches(i, kept, &l, &e) == 0;

	json_add_str(j, "fault", is_known ? "" : e.text);
	/* half of what a branch has would make the other half new */
	cJSON_AddItemToObject(j, "baselines", is_known ? baselines_to_json(&l) : cJSON_CreateArray());
	baselines_free(&l);
	return json_print(j);
}

/* Written whole, then told. */
static void
hand_over(int fd, int told_fd, const char *text)
{
	struct err ignored = ERR_INIT;

	if (strlen(text) > FETCHER_TEXT_MAX || fs_write_all(fd, text, strlen(text), &ignored) < 0 ||
	    fs_write_all(told_fd, "", 1, &ignored) < 0)
		_exit(1);
}

/* In the child; does not return. */
static void
child_main(const struct inspection *i, const struct kept *k, const struct fetcher *f, int told_fd,
	   int alive_fd, uid_t uid, gid_t gid)
{
	struct pollfd pfd = { .fd = alive_fd, .events = POLLIN };
	struct baselines l = { 0 };
	struct err e = ERR_INIT;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (i->project_fd >= 0)
		close(i->project_fd);
	if ((uid != (uid_t)-1 && confine_become(uid, gid, &e) < 0) || confine_finish(&e) < 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || poll(&pfd, 1, 0) != 0)
		_exit(1);
	{
		AUTO_FREE char *kept = print_kept(i, k, &l);

		hand_over(f->kept_fd, told_fd, kept);
	}
	{
		AUTO_FREE char *fresh = print_fresh(i, k);

		hand_over(f->fresh_fd, told_fd, fresh);
	}
	{
		AUTO_FREE char *others = print_others(i, &l);

		hand_over(f->others_fd, told_fd, others);
	}
	_exit(0);
}

/* ---- the process ---- */

static int
start(struct fetcher *f, const struct inspection *i, const struct kept *k, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FD int told = -1;
	AUTO_FD int alive = -1;
	int ends[2];

	f->kept_fd = memfd_create("kept", MFD_CLOEXEC);
	f->fresh_fd = memfd_create("fresh", MFD_CLOEXEC);
	f->others_fd = memfd_create("others", MFD_CLOEXEC);
	if (f->kept_fd < 0 || f->fresh_fd < 0 || f->others_fd < 0)
		return err_errno(e, "memfd_create");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	f->told_fd = ends[0];
	told = ends[1];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	alive = ends[0];
	f->alive_fd = ends[1];
	fflush(NULL);
	f->pid = confine_fork(false, e);
	if (f->pid < 0)
		return -1;
	if (f->pid == 0) {
		setpgid(0, 0);
		mem_close_at(&f->alive_fd);
		mem_close_at(&f->told_fd);
		child_main(i, k, f, told, alive, uid, gid);
	}
	return 0;
}

struct fetcher *
fetcher_start(const struct inspection *i, const struct kept *k, uid_t uid, gid_t gid)
{
	AUTO(fetcher) struct fetcher *f = mem_alloc(sizeof(*f));
	struct err e = ERR_INIT;

	*f = (struct fetcher){ .told_fd = -1,
			       .kept_fd = -1,
			       .fresh_fd = -1,
			       .others_fd = -1,
			       .alive_fd = -1,
			       .deadline = clock_deadline(i->opt->defectdojo.wait) };
	if (start(f, i, k, uid, gid, &e) == 0)
		return take_ptr(f);
	f->pid = 0;
	log_line(i->log, LOG_WARN, "triage is not asked for: %s", e.text);
	return NULL;
}

void
fetcher_free(struct fetcher *f)
{
	if (!f)
		return;
	mem_close_at(&f->told_fd);
	mem_close_at(&f->kept_fd);
	mem_close_at(&f->fresh_fd);
	mem_close_at(&f->others_fd);
	mem_close_at(&f->alive_fd);
	if (f->pid > 0)
		proc_kill(f->pid);
	mem_free_at(&f);
}
