/* A thread reads what comes next while what came before is used: inflating on one CPU, hashing on another. */
#include <pthread.h>
#include <string.h>

#include "stages/source_private.h"

#define CHUNK (256 * 1024)
#define CHUNKS 8

struct chunk {
	size_t len;
	unsigned char p[CHUNK];
};

struct ahead {
	struct source base;
	struct source *inner; /* the thread's alone while it runs */
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t is_changed;
	unsigned first, n_full; /* of the ring */
	bool is_done;		/* nothing comes behind what is in the ring */
	bool is_unwanted;
	int rc; /* of inner, at the end */
	struct err fault;
	size_t pos; /* in the first chunk; the reader's */
	struct chunk ring[CHUNKS];
};

/* The thread: NULL when nobody wants more. */
static struct chunk *
wait_for_room(struct ahead *a)
{
	struct chunk *c = NULL;

	pthread_mutex_lock(&a->lock);
	while (a->n_full == CHUNKS && !a->is_unwanted)
		pthread_cond_wait(&a->is_changed, &a->lock);
	if (!a->is_unwanted)
		c = &a->ring[(a->first + a->n_full) % CHUNKS];
	pthread_mutex_unlock(&a->lock);
	return c;
}

static void *
run_ahead(void *arg)
{
	struct ahead *a = arg;
	struct chunk *c;
	int rc = 0;

	while (rc == 0 && (c = wait_for_room(a))) {
		struct err e = ERR_INIT;

		c->len = 0;
		rc = source_read(a->inner, c->p, CHUNK, &c->len, &e);
		pthread_mutex_lock(&a->lock);
		if (rc == 0 && c->len)
			a->n_full++;
		a->rc = rc;
		if (rc < 0)
			a->fault = e;
		if (rc < 0 || c->len < CHUNK) {
			a->is_done = true;
			rc = -1;
		}
		pthread_cond_signal(&a->is_changed);
		pthread_mutex_unlock(&a->lock);
	}
	return NULL;
}

/* The first full chunk; NULL at the end. */
static const struct chunk *
wait_for_chunk(struct ahead *a)
{
	const struct chunk *c = NULL;

	pthread_mutex_lock(&a->lock);
	while (!a->n_full && !a->is_done)
		pthread_cond_wait(&a->is_changed, &a->lock);
	if (a->n_full)
		c = &a->ring[a->first];
	pthread_mutex_unlock(&a->lock);
	return c;
}

static void
give_back_chunk(struct ahead *a)
{
	pthread_mutex_lock(&a->lock);
	a->first = (a->first + 1) % CHUNKS;
	a->n_full--;
	a->pos = 0;
	pthread_cond_signal(&a->is_changed);
	pthread_mutex_unlock(&a->lock);
}

static int
ahead_take(struct source *s, void *p, uint64_t n, uint64_t *ret_n, struct err *e)
{
	struct ahead *a = (struct ahead *)s;
	uint64_t done = 0;

	while (done < n) {
		const struct chunk *c = wait_for_chunk(a);
		size_t part;

		if (!c)
			break;
		part = n - done < c->len - a->pos ? (size_t)(n - done) : c->len - a->pos;
		if (p)
			memcpy((char *)p + done, c->p + a->pos, part);
		a->pos += part;
		done += part;
		if (a->pos == c->len)
			give_back_chunk(a);
	}
	if (done < n && a->rc < 0) {
		if (e)
			*e = a->fault;
		return -1;
	}
	*ret_n = done;
	return 0;
}

static int
ahead_read(struct source *s, void *p, size_t n, size_t *ret_n, struct err *e)
{
	uint64_t got = 0;

	if (ahead_take(s, p, n, &got, e) < 0)
		return -1;
	*ret_n = (size_t)got;
	return 0;
}

static int
ahead_skip(struct source *s, uint64_t n, uint64_t *ret_n, struct err *e)
{
	return ahead_take(s, NULL, n, ret_n, e);
}

static void
ahead_free(struct source *s)
{
	struct ahead *a = (struct ahead *)s;

	pthread_mutex_lock(&a->lock);
	a->is_unwanted = true;
	pthread_cond_signal(&a->is_changed);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->is_changed);
	pthread_mutex_destroy(&a->lock);
	source_free(a->inner);
	mem_free_at(&a);
}

static const struct source_ops ahead_ops = { ahead_read, ahead_skip, ahead_free };

struct source *
source_new_ahead(struct source *inner)
{
	struct ahead *a = mem_alloc(sizeof(*a));

	a->base.ops = &ahead_ops;
	a->inner = inner;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->is_changed, NULL);
	if (pthread_create(&a->thread, NULL, run_ahead, a) == 0)
		return &a->base;
	pthread_cond_destroy(&a->is_changed);
	pthread_mutex_destroy(&a->lock);
	mem_free_at(&a);
	return inner;
}
