#include "stages/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stages/identity.h"
#include "stages/outside.h"
#include "stages/queue.h"
#include "stages/result_key.h"
#include "stages/result_remote.h"
#include "stages/shared.h"
#include "stages/trivy.h"
#include "stages/trivy_db.h"
#include "stages/trivy_server.h"

#define WORKERS_MAX 16
/* Somebody's scans are in the way; a runner with that many has a job timeout shorter than this. */
#define SLOT_WAIT_MAX_MS (60 * 60 * 1000)

enum task_state { TASK_WAITS, TASK_RUNS, TASK_DONE };

/* One image. It refers to nothing in the inspection, whose arrays move while archives are added. */
struct task {
	size_t archive;
	char *layout;
	char config_digest[HASH_DIGEST_MAX];
	enum task_state state;
	bool is_withdrawn;
	int stop_fd;	       /* eventfd: readable, and its Trivy is killed */
	struct report *report; /* when done, or fault */
	struct err fault;
};

struct scan {
	const struct options_trivy *opt;
	const struct log *log;
	const struct shared *shared; /* NULL: nothing is shared */
	int work_fd;
	const char *work_dir;

	/* What all scans need, made by the first of them under `preparing`. */
	pthread_mutex_t preparing;
	bool is_prepared;
	struct err prepare_fault;
	struct trivy *trivy;
	const struct outside *outside; /* NULL: nothing is asked of the network */
	struct result_cache results;
	struct result_remote remote;
	struct result_source source;
	struct strv releases; /* that the database knows; empty: nobody asked */

	/* The rest under `lock`; `changed` tells of new tasks and of finished ones. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct task **tasks;
	size_t n_tasks;
	pthread_t threads[WORKERS_MAX];
	size_t n_threads, n_idle;
	bool is_closing;
};

int
scan_check_report(const struct report *r, const char *config_digest, const char *trivy_path, struct err *e)
{
	if (*r->trivy_version) {
		if (trivy_check_version(r->trivy_version, e) < 0)
			return -1;
	} else {
		AUTO_FREE char *version = NULL;

		if (trivy_ask_version(trivy_path, &version, e) < 0 || trivy_check_version(version, e) < 0)
			return -1;
	}
	if (!str_eq(r->image_id, config_digest)) {
		AUTO_FREE char *found = str_safe(*r->image_id ? r->image_id : "no image", 80);

		return err_set(e, ERR_FAILED, "Trivy's report is about %s, expected %s", found, config_digest);
	}
	return 0;
}

/* ---- what all scans need ---- */

static bool
has_results(const struct scan *s)
{
	return (s->results.dir_fd >= 0 && s->results.size_max > 0) || s->remote.fd >= 0;
}

/* Without a Java index Trivy refuses those images alone that need one. */
static int
open_java_db(const struct options_trivy *opt, struct trivy_db_dir *ret, struct trivy_db *ret_db, struct err *e)
{
	if (str_is_empty(opt->java_db_dir))
		return 0;
	if (trivy_db_open(TRIVY_DB_JAVA, opt->java_db_dir, ret, e) < 0) {
		if (e->no != ENOENT)
			return -1;
		err_clear(e);
		return 0;
	}
	return trivy_db_judge(ret, clock_wall_s(), 0, ret_db, e);
}

/* The databases are opened once: what is judged here is what every scan reads, and what the report says. */
static int
open_db(struct scan *s, struct trivy_db_dir *ret, struct result_source *source, struct err *e)
{
	const struct options_trivy *opt = s->opt;
	struct err ignored = ERR_INIT;

	if (s->outside && s->outside->port)
		return trivy_server_ask(s->outside->port, s->outside->token, clock_wall_s(), opt->db_max_age,
					&source->db, source->server, e);
	if (trivy_db_open(TRIVY_DB_VULNERABILITIES, opt->db_dir, ret, e) < 0 ||
	    trivy_db_judge(ret, clock_wall_s(), opt->db_max_age, &source->db, e) < 0)
		return -1;
	/* where that is damaged Trivy says so, or nobody needs it */
	if (trivy_db_list_releases(ret, &s->releases, &ignored) < 0)
		strv_free(&s->releases);
	return 0;
}

static int
prepare(struct scan *s, struct err *e)
{
	const struct options_trivy *opt = s->opt;
	AUTO_TRIVY_DB_DIR struct trivy_db_dir dir = TRIVY_DB_DIR_INIT;
	AUTO_TRIVY_DB_DIR struct trivy_db_dir java_dir = TRIVY_DB_DIR_INIT;
	struct result_source *source = &s->source;

	if (open_db(s, &dir, source, e) < 0 || open_java_db(opt, &java_dir, &source->java, e) < 0 ||
	    trivy_open(opt, s->work_fd, s->work_dir, &s->trivy, e) < 0)
		return -1;
	if (dir.fd >= 0 ? trivy_take_db(s->trivy, &dir, e) < 0
			: trivy_use_server(s->trivy, s->outside->port, s->outside->token, e) < 0)
		return -1;
	if (java_dir.fd >= 0 && trivy_take_db(s->trivy, &java_dir, e) < 0)
		return -1;
	return has_results(s) ? result_source_of_program(&s->results, s->trivy->fd, source, e) : 0;
}

static int
prepare_once(struct scan *s, struct err *e)
{
	int rc;

	pthread_mutex_lock(&s->preparing);
	if (!s->is_prepared)
		prepare(s, &s->prepare_fault);
	s->is_prepared = true;
	rc = s->prepare_fault.kind == ERR_NONE ? 0 : -1;
	if (rc < 0)
		*e = s->prepare_fault;
	pthread_mutex_unlock(&s->preparing);
	return rc;
}

/* ---- one scan ---- */

static int
parse_report(const struct scan *s, const struct task *t, const struct buf *json, struct report **ret,
	     struct err *e)
{
	AUTO(report) struct report *r = NULL;

	if (report_parse(buf_str(json), json->len, json->max, &r, e) < 0)
		return err_wrap(e, "Trivy's report");
	if (scan_check_report(r, t->config_digest, s->opt->path, e) < 0)
		return -1;
	r->is_release_unknown = identity_is_release_unknown(r, &s->releases);
	*ret = take_ptr(r);
	return 0;
}

static int
ask_trivy(const struct scan *s, const struct task *t, struct buf *ret_json, struct err *e)
{
	AUTO(queue_ticket) struct queue_ticket *ticket = NULL;
	const struct queue_wait wait = { .n = s->opt->parallel,
					 .deadline = clock_deadline(SLOT_WAIT_MAX_MS),
					 .stop_fd = t->stop_fd >= 0 ? &t->stop_fd : NULL };

	if (s->shared && s->shared->slots_fd >= 0 && queue_take(s->shared->slots_fd, &wait, &ticket, e) < 0)
		return err_wrap(e, "queue of scans (trivy.parallel)");
	return trivy_scan(s->trivy, t->layout, &t->stop_fd, ret_json, e);
}

/* On this host, else on another. A report that we would not take from Trivy is no better for its age. */
static bool
find_result(struct scan *s, const struct task *t, const char *key, struct buf *json, struct report **ret)
{
	struct err e = ERR_INIT;

	if (result_cache_get(&s->results, key, json)) {
		if (parse_report(s, t, json, ret, &e) == 0)
			return true;
		result_cache_drop(&s->results, key);
		buf_reset(json);
	}
	if (!result_remote_get(&s->remote, key, json) || parse_report(s, t, json, ret, &e) < 0)
		return false;
	result_cache_put(&s->results, key, buf_str(json), json->len);
	return true;
}

static int
scan_image(struct scan *s, const struct task *t, struct report **ret, struct err *e)
{
	AUTO_BUF struct buf json = BUF_INIT((size_t)s->opt->report_max);
	char key[RESULT_KEY_LEN + 1];

	if (prepare_once(s, e) < 0)
		return -1;
	if (!has_results(s))
		return ask_trivy(s, t, &json, e) < 0 ? -1 : parse_report(s, t, &json, ret, e);
	result_key(s->trivy, &s->source, clock_wall_s(), t->config_digest, key);
	if (find_result(s, t, key, &json, ret))
		return 0;
	buf_reset(&json);
	if (ask_trivy(s, t, &json, e) < 0 || parse_report(s, t, &json, ret, e) < 0)
		return -1;
	result_cache_put(&s->results, key, buf_str(&json), json.len);
	result_remote_put(&s->remote, key, buf_str(&json), json.len);
	return 0;
}

/* What goes wrong here is of the host's making: "refused" is for what a job left, and blocks. */
static void
as_fault_of_host(struct err *e)
{
	if (e->kind == ERR_REFUSED || e->kind == ERR_UNSUPPORTED)
		e->kind = ERR_FAILED;
}

/* ---- tasks and workers; all of these under the lock ---- */

static struct task *
next_waiting(const struct scan *s)
{
	for (size_t k = 0; k < s->n_tasks; k++)
		if (s->tasks[k]->state == TASK_WAITS)
			return s->tasks[k];
	return NULL;
}

static struct task *
find_task(const struct scan *s, const char *layout, const char *config_digest)
{
	for (size_t k = 0; k < s->n_tasks; k++) {
		struct task *t = s->tasks[k];

		if (!t->is_withdrawn && str_eq(t->layout, layout) && str_eq(t->config_digest, config_digest))
			return t;
	}
	return NULL;
}

static void
withdraw(struct task *t)
{
	t->is_withdrawn = true;
	if (t->state == TASK_WAITS)
		t->state = TASK_DONE;
	if (t->stop_fd >= 0 && eventfd_write(t->stop_fd, 1) < 0)
		t->fault.no = errno; /* it cannot overflow; then the scan ends by its own time */
}

static void *
work(void *arg)
{
	struct scan *s = arg;
	struct task *t;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct report *report = NULL;
		struct err e = ERR_INIT;

		s->n_idle++;
		while (!(t = next_waiting(s)) && !s->is_closing)
			pthread_cond_wait(&s->changed, &s->lock);
		s->n_idle--;
		if (!t)
			break;
		t->state = TASK_RUNS;
		pthread_mutex_unlock(&s->lock);
		if (scan_image(s, t, &report, &e) < 0)
			as_fault_of_host(&e);
		pthread_mutex_lock(&s->lock);
		t->report = report;
		t->fault = e;
		t->state = TASK_DONE;
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* One worker more where all are busy and more are allowed. */
static void
add_worker(struct scan *s)
{
	size_t max = s->opt->parallel < WORKERS_MAX ? (size_t)s->opt->parallel : WORKERS_MAX;
	size_t n_waiting = 0;

	for (size_t k = 0; k < s->n_tasks; k++)
		n_waiting += s->tasks[k]->state == TASK_WAITS;
	if (n_waiting > s->n_idle && s->n_threads < max &&
	    pthread_create(&s->threads[s->n_threads], NULL, work, s) == 0)
		s->n_threads++;
}

static struct task *
add_task(struct scan *s, size_t archive, const char *layout, const char *config_digest)
{
	struct task *t = mem_alloc(sizeof(*t));

	t->archive = archive;
	t->layout = mem_strdup(layout);
	snprintf(t->config_digest, sizeof(t->config_digest), "%s", config_digest);
	t->stop_fd = eventfd(0, EFD_CLOEXEC);
	s->tasks = mem_resize(s->tasks, s->n_tasks + 1, sizeof(struct task *));
	s->tasks[s->n_tasks++] = t;
	add_worker(s);
	pthread_cond_broadcast(&s->changed);
	return t;
}

static void
wait_for_done(struct scan *s, const struct task *t)
{
	while (t->state != TASK_DONE)
		pthread_cond_wait(&s->changed, &s->lock);
}

/* ---- for the stages before ---- */

void
scan_open(struct inspection *i)
{
	struct scan *s = mem_alloc(sizeof(*s));

	s->opt = &i->opt->trivy;
	s->log = i->log;
	s->shared = i->shared;
	s->work_fd = i->work_fd;
	s->work_dir = i->work_dir;
	s->results.dir_fd = i->shared ? i->shared->results_fd : -1;
	s->results.size_max = s->opt->results_max;
	s->outside = i->outside;
	result_remote_init(&s->remote, i->outside ? fcntl(i->outside->results_fd, F_DUPFD_CLOEXEC, 3) : -1);
	pthread_mutex_init(&s->preparing, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	i->scan = s;
}

static void
task_free(struct task *t)
{
	free(t->layout);
	mem_close_at(&t->stop_fd);
	report_free(t->report);
	free(t);
}

void
scan_free(struct scan *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	for (size_t k = 0; k < s->n_tasks; k++)
		if (s->tasks[k]->state != TASK_DONE)
			withdraw(s->tasks[k]);
	s->is_closing = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	for (size_t k = 0; k < s->n_threads; k++)
		pthread_join(s->threads[k], NULL);
	for (size_t k = 0; k < s->n_tasks; k++)
		task_free(s->tasks[k]);
	free(s->tasks);
	trivy_free(s->trivy);
	strv_free(&s->releases);
	result_remote_close(&s->remote);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->preparing);
	free(s);
}

void
scan_start(struct inspection *i, size_t archive, const char *layout, const char *config_digest)
{
	struct scan *s = i->scan;

	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	if (!find_task(s, layout, config_digest))
		add_task(s, archive, layout, config_digest);
	pthread_mutex_unlock(&s->lock);
}

void
scan_withdraw(struct inspection *i, size_t archive)
{
	struct scan *s = i->scan;

	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	for (size_t k = 0; k < s->n_tasks; k++)
		if (s->tasks[k]->archive == archive)
			withdraw(s->tasks[k]);
	for (size_t k = 0; k < s->n_tasks; k++)
		if (s->tasks[k]->archive == archive)
			wait_for_done(s, s->tasks[k]);
	pthread_mutex_unlock(&s->lock);
}

/* ---- the stage ---- */

static bool
is_to_scan(const struct image *m)
{
	return m->fault.kind == ERR_NONE && !m->report;
}

/* What was begun for an image is waited for, what nobody has begun is begun, the rest is of no use. */
static void
finish(struct inspection *i, struct scan *s)
{
	struct task **of = mem_array(i->n_images + 1, sizeof(struct task *));

	pthread_mutex_lock(&s->lock);
	for (size_t k = 0; k < i->n_images; k++) {
		const struct image *m = &i->images[k];

		if (!is_to_scan(m))
			continue;
		of[k] = find_task(s, m->layout, m->scanned_digest);
		if (!of[k])
			of[k] = add_task(s, m->archive, m->layout, m->scanned_digest);
	}
	/* no thread could be had: this one is a worker, too */
	if (s->n_threads == 0) {
		s->is_closing = true;
		pthread_mutex_unlock(&s->lock);
		work(s);
		pthread_mutex_lock(&s->lock);
	}
	for (size_t k = 0; k < i->n_images; k++) {
		struct image *m = &i->images[k];

		if (!of[k])
			continue;
		wait_for_done(s, of[k]);
		m->report = take_ptr(of[k]->report);
		m->fault = of[k]->fault;
		if (m->report)
			report_rename(m->report, m->label, &m->tags);
		else if (m->fault.kind == ERR_NONE)
			err_set(&m->fault, ERR_FAILED, "its scan was stopped");
	}
	pthread_mutex_unlock(&s->lock);
	free(of);
}

static int
scan_run(struct inspection *i, struct err *e)
{
	(void)e;
	if (!i->scan)
		scan_open(i);
	finish(i, i->scan);
	/* a scan that nobody claimed may still be at it */
	pthread_mutex_lock(&i->scan->preparing);
	i->db_updated_s = i->scan->source.db.updated_s;
	pthread_mutex_unlock(&i->scan->preparing);
	scan_free(take_ptr(i->scan));
	for (size_t k = 0; k < i->n_images && !i->trivy_version; k++) {
		const struct report *r = i->images[k].report;

		if (r && *r->trivy_version)
			i->trivy_version = str_safe(r->trivy_version, 60);
	}
	return 0;
}

const struct stage stage_scan = {
	.name = "scan",
	.place = STAGE_SCANNER,
	.run = scan_run,
};
