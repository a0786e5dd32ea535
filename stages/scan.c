#include "stages/scan.h"

#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stages/trivy.h"
#include "stages/trivy_db.h"
#include "stages/trivy_slots.h"

#define WORKERS_MAX 16
/* Somebody's scans are in the way; a runner with that many has a job timeout shorter than this. */
#define SLOT_WAIT_MAX_MS (60 * 60 * 1000)

/* One pass over the images by several threads. */
struct work {
	struct inspection *i;
	const struct trivy *trivy;
	int slots_fd;
	pthread_mutex_t lock;
	size_t next; /* image */
};

int
scan_check_report(const struct report *r, const struct image *m, const char *trivy_path, struct err *e)
{
	if (*r->trivy_version) {
		if (trivy_check_version(r->trivy_version, e) < 0)
			return -1;
	} else {
		AUTO_FREE char *version = NULL;

		if (trivy_ask_version(trivy_path, &version, e) < 0 || trivy_check_version(version, e) < 0)
			return -1;
	}
	if (!str_eq(r->image_id, m->config_digest)) {
		AUTO_FREE char *found = str_safe(*r->image_id ? r->image_id : "no image", 80);

		return err_set(e, ERR_FAILED, "Trivy's report is about %s, expected %s", found,
			       m->config_digest);
	}
	return 0;
}

static int
scan_image(const struct work *w, struct image *m, struct err *e)
{
	const struct options_trivy *opt = &w->i->opt->trivy;
	AUTO_BUF struct buf json = BUF_INIT((size_t)opt->report_max);
	AUTO(report) struct report *r = NULL;
	AUTO_FD int slot = -1;

	if (w->slots_fd >= 0) {
		slot = trivy_slots_take(w->slots_fd, opt->parallel, clock_deadline(SLOT_WAIT_MAX_MS),
					w->i->log, e);
		if (slot < 0)
			return -1;
	}
	if (trivy_scan(w->trivy, m->layout, &json, e) < 0)
		return -1;
	mem_close_at(&slot);
	slot = -1;
	if (report_parse(buf_str(&json), json.len, json.max, &r, e) < 0)
		return err_wrap(e, "Trivy's report");
	if (scan_check_report(r, m, opt->path, e) < 0)
		return -1;
	report_rename(r, m->label, &m->tags);
	m->report = take_ptr(r);
	return 0;
}

static bool
is_to_scan(const struct image *m)
{
	return m->fault.kind == ERR_NONE && !m->report;
}

/* What goes wrong here is of the host's making: "refused" is for what a job left, and blocks. */
static void
set_fault(struct image *m, const struct err *e)
{
	m->fault = *e;
	if (m->fault.kind == ERR_REFUSED || m->fault.kind == ERR_UNSUPPORTED)
		m->fault.kind = ERR_FAILED;
}

static void *
work_on_images(void *arg)
{
	struct work *w = arg;

	for (;;) {
		struct err e = ERR_INIT;
		struct image *m;

		pthread_mutex_lock(&w->lock);
		while (w->next < w->i->n_images && !is_to_scan(&w->i->images[w->next]))
			w->next++;
		m = w->next < w->i->n_images ? &w->i->images[w->next++] : NULL;
		pthread_mutex_unlock(&w->lock);
		if (!m)
			return NULL;
		if (scan_image(w, m, &e) < 0)
			set_fault(m, &e);
	}
}

static void
scan_images(struct inspection *i, const struct trivy *t, size_t n_to_scan)
{
	struct err e = ERR_INIT;
	AUTO_FD int slots = trivy_slots_open(i->cache_dir, &e);
	struct work w = { .i = i, .trivy = t, .slots_fd = slots, .lock = PTHREAD_MUTEX_INITIALIZER };
	pthread_t threads[WORKERS_MAX] = { 0 };
	size_t n_workers = n_to_scan, n_threads = 0;

	/* The bound protects the host's memory, not the verdict: without the locks each job keeps to it by itself. */
	if (slots < 0)
		log_line(i->log, LOG_WARN, "trivy.parallel counts for this job alone: %s", e.text);
	if (n_workers > (size_t)i->opt->trivy.parallel)
		n_workers = (size_t)i->opt->trivy.parallel;
	if (n_workers > WORKERS_MAX)
		n_workers = WORKERS_MAX;
	for (; n_threads + 1 < n_workers; n_threads++) {
		if (pthread_create(&threads[n_threads], NULL, work_on_images, &w) != 0)
			break;
	}
	work_on_images(&w);
	for (size_t k = 0; k < n_threads; k++)
		pthread_join(threads[k], NULL);
	pthread_mutex_destroy(&w.lock);
}

/* What is wrong for all images alike: each of them is undecided. */
static void
fail_all(struct inspection *i, const struct err *e)
{
	for (size_t k = 0; k < i->n_images; k++) {
		if (is_to_scan(&i->images[k]))
			set_fault(&i->images[k], e);
	}
}

static int
prepare(struct inspection *i, struct trivy **ret, struct err *e)
{
	const struct options_trivy *opt = &i->opt->trivy;
	struct trivy_db db = { 0 };
	int rc;

	rc = trivy_db_check(opt->db_dir, clock_wall_s(), opt->db_max_age, &db, e);
	i->db_updated_s = db.updated_s;
	if (rc < 0 || (!str_is_empty(opt->java_db_dir) && trivy_java_db_check(opt->java_db_dir, e) < 0))
		return -1;
	return trivy_open(opt, i->work_fd, i->work_dir, ret, e);
}

static int
scan_run(struct inspection *i, struct err *e)
{
	AUTO(trivy) struct trivy *t = NULL;
	struct err fault = ERR_INIT;
	size_t n_to_scan = 0;

	(void)e;
	for (size_t k = 0; k < i->n_images; k++)
		n_to_scan += is_to_scan(&i->images[k]);
	if (n_to_scan == 0)
		return 0;
	if (prepare(i, &t, &fault) < 0) {
		fail_all(i, &fault);
		return 0;
	}
	scan_images(i, t, n_to_scan);
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
