#include "stages/fix_recorder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/proc.h"
#include "stages/confine.h"
#include "stages/fix_share.h"
#include "stages/policy_source.h"

#define LOCK_WAIT_MS 5000
#define SHARE_WAIT_MS 1500 /* each way */
/* Longer than the other side takes at worst, so that its own words come first. */
#define ANSWER_WAIT_MS 10000
#define FAULT_MAX 256

/* Keys follow. */
struct question {
	uint64_t n;
};

/* Dates follow, as many as there were keys; 0: not known. */
struct answer {
	uint32_t is_whole;
	char fault[FAULT_MAX]; /* where it is not */
};

/* ---- the process ---- */

static bool
is_sorted(const struct fix_key *keys, size_t n)
{
	for (size_t k = 1; k < n; k++)
		if (fix_key_compare(&keys[k - 1], &keys[k]) >= 0)
			return false;
	return true;
}

static int
see(const struct inspection *i, int dirfd, const struct fix_key *keys, size_t n, int64_t *since_s,
    struct err *e)
{
	AUTO(fleet) struct fleet *fleet = fleet_new(i->opt, i->log);
	AUTO_FIX_DATES struct fix_dates others = { 0 };
	struct fleet_place place;
	struct err fault = ERR_INIT;
	int64_t now_s = clock_wall_s();
	int rc;

	if (!fleet || fix_dates_has_all(dirfd, keys, n, now_s))
		return fix_dates_see(dirfd, NULL, keys, n, now_s, clock_deadline(LOCK_WAIT_MS), since_s, e);
	fleet_place_of_fixes(fleet, &place);
	(void)fix_share_read(&place, clock_deadline(SHARE_WAIT_MS), &others, &fault);
	rc = fix_dates_see(dirfd, &others, keys, n, now_s, clock_deadline(LOCK_WAIT_MS), since_s, e);
	if (fault.kind == ERR_NONE)
		(void)fix_share_write(&place, dirfd, &others, clock_deadline(SHARE_WAIT_MS), &fault);
	if (fault.kind != ERR_NONE)
		log_line(i->log, LOG_WARN, "since when there are fixes is what this host alone knows: %s",
			 fault.text);
	return rc;
}

void
fix_recorder_serve(int fd, const struct inspection *i, const struct kept *k)
{
	AUTO_FREE struct fix_key *keys = NULL;
	AUTO_FREE int64_t *since_s = NULL;
	struct err e = ERR_INIT;
	struct question q;
	struct answer a = { 0 };
	size_t n;

	/* it may ask for anything */
	if (!fs_receive_all(fd, &q, sizeof(q), CLOCK_DEADLINE_NEVER) || q.n > FIX_ASKED_MAX)
		return;
	n = (size_t)q.n;
	keys = mem_array(n + 1, sizeof(*keys));
	since_s = mem_array(n + 1, sizeof(*since_s));
	if (!fs_receive_all(fd, keys, n * sizeof(*keys), clock_deadline(ANSWER_WAIT_MS)) ||
	    !is_sorted(keys, n))
		return;
	if (k->fixes_fd < 0)
		err_set(&e, ERR_FAILED, "%s", k->fault.text);
	else
		a.is_whole = see(i, k->fixes_fd, keys, n, since_s, &e) == 0;
	snprintf(a.fault, sizeof(a.fault), "%.*s", FAULT_MAX - 1, e.text);
	if (fs_send_all(fd, &a, sizeof(a), clock_deadline(ANSWER_WAIT_MS)))
		(void)fs_send_all(fd, since_s, n * sizeof(*since_s), clock_deadline(ANSWER_WAIT_MS));
}

/* In the child; does not return. */
static void
child_main(const struct inspection *i, const struct kept *k, int fd, pid_t parent, uid_t uid, gid_t gid)
{
	struct err e = ERR_INIT;

	if (i->project_fd >= 0)
		close(i->project_fd);
	if (confine_beside(uid, gid, parent, &e) < 0)
		_exit(1);
	fix_recorder_serve(fd, i, k);
	_exit(0);
}

static int
start(struct fix_recorder *r, const struct inspection *i, const struct kept *k, uid_t uid, gid_t gid,
      struct err *e)
{
	AUTO_FD int theirs = -1;
	pid_t parent = getpid();
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return err_errno(e, "socketpair");
	r->fd = ends[0];
	theirs = ends[1];
	fflush(NULL);
	r->pid = confine_fork(false, e);
	if (r->pid < 0)
		return -1;
	if (r->pid == 0) {
		setpgid(0, 0);
		mem_close_at(&r->fd);
		child_main(i, k, theirs, parent, uid, gid);
	}
	return 0;
}

struct fix_recorder *
fix_recorder_start(const struct inspection *i, const struct kept *k, uid_t uid, gid_t gid)
{
	AUTO(fix_recorder) struct fix_recorder *r = NULL;
	struct err e = ERR_INIT;

	/* the section gate of the settings alone has no such rule */
	if (!policy_source_is_configured(&i->opt->policy))
		return NULL;
	r = mem_alloc(sizeof(*r));
	r->fd = -1;
	if (start(r, i, k, uid, gid, &e) == 0)
		return take_ptr(r);
	r->pid = 0;
	log_line(i->log, LOG_WARN, "since when there are fixes is not put down: %s", e.text);
	return NULL;
}

void
fix_recorder_free(struct fix_recorder *r)
{
	if (!r)
		return;
	mem_close_at(&r->fd);
	if (r->pid > 0)
		proc_kill(r->pid);
	mem_free_at(&r);
}

/* ---- the gate's side ---- */

void
fixes_free(struct fixes *f)
{
	for (size_t k = 0; k < f->n_images; k++)
		mem_free_at(&f->since_s[k]);
	mem_free_at(&f->since_s);
	f->n_images = 0;
}

/* What is asked: keys of all images, sorted, each once. */
struct asked {
	struct fix_keys *of; /* of each image */
	size_t n_images;
	struct fix_key *keys;
	int64_t *since_s;
	size_t n;
};

static void
asked_free(struct asked *a)
{
	for (size_t k = 0; k < a->n_images; k++)
		fix_keys_free(&a->of[k]);
	mem_free_at(&a->of);
	mem_free_at(&a->keys);
	mem_free_at(&a->since_s);
}
#define AUTO_ASKED __attribute__((cleanup(asked_free)))

static void
list_keys(const struct inspection *i, struct asked *ret)
{
	size_t max = 0, n = 0;

	ret->of = mem_array(i->n_images + 1, sizeof(*ret->of));
	ret->n_images = i->n_images;
	for (size_t k = 0; k < i->n_images; k++) {
		if (i->images[k].report)
			fix_keys_make(i->images[k].report, &ret->of[k]);
		max += FIX_KEYS * ret->of[k].n;
	}
	ret->keys = mem_array(max + 1, sizeof(*ret->keys));
	for (size_t k = 0; k < i->n_images; k++)
		for (size_t f = 0; f < ret->of[k].n; f++)
			for (size_t x = 0; x < FIX_KEYS; x++)
				if (!fix_key_is_none(&ret->of[k].of[f][x]))
					ret->keys[n++] = ret->of[k].of[f][x];
	qsort(ret->keys, n, sizeof(*ret->keys), fix_key_compare);
	for (size_t k = 0; k < n; k++)
		if (k == 0 || fix_key_compare(&ret->keys[k - 1], &ret->keys[k]) != 0)
			ret->keys[ret->n++] = ret->keys[k];
	ret->since_s = mem_array(ret->n + 1, sizeof(*ret->since_s));
}

static int
exchange(int fd, const struct asked *x, struct err *e)
{
	int64_t deadline = clock_deadline(ANSWER_WAIT_MS);
	const struct question q = { x->n };
	struct answer a;

	if (!fs_send_all(fd, &q, sizeof(q), deadline) ||
	    !fs_send_all(fd, x->keys, x->n * sizeof(*x->keys), deadline) ||
	    !fs_receive_all(fd, &a, sizeof(a), deadline) ||
	    !fs_receive_all(fd, x->since_s, x->n * sizeof(*x->since_s), deadline)) {
		memset(x->since_s, 0, x->n * sizeof(*x->since_s));
		return err_set(e, ERR_FAILED, "no answer in time");
	}
	if (a.is_whole)
		return 0;
	a.fault[FAULT_MAX - 1] = '\0';
	return err_set(e, ERR_FAILED, "%s", a.fault);
}

static int64_t
date_of(const void *arg, const struct fix_key *key)
{
	const struct asked *a = arg;
	const struct fix_key *at = bsearch(key, a->keys, a->n, sizeof(*key), fix_key_compare);

	return at ? a->since_s[at - a->keys] : 0;
}

int
fix_recorder_ask(const struct inspection *i, struct fixes *ret, struct err *e)
{
	AUTO_ASKED struct asked a = { 0 };
	int rc = 0;

	list_keys(i, &a);
	ret->since_s = mem_array(i->n_images + 1, sizeof(*ret->since_s));
	ret->n_images = i->n_images;
	for (size_t k = 0; k < i->n_images; k++)
		ret->since_s[k] = mem_array(a.of[k].n + 1, sizeof(**ret->since_s));
	if (a.n == 0)
		return 0;
	if (!i->fix_recorder)
		rc = err_set(e, ERR_FAILED, "there is no process that keeps it");
	else if (a.n > FIX_ASKED_MAX)
		rc = err_set(e, ERR_NO_SPACE, "more than %d fixes in one inspection", FIX_ASKED_MAX);
	else
		rc = exchange(i->fix_recorder->fd, &a, e);
	for (size_t k = 0; k < a.n_images; k++)
		for (size_t f = 0; f < a.of[k].n; f++)
			ret->since_s[k][f] = fix_keys_date(a.of[k].of[f], date_of, &a);
	return rc;
}
