#include "stages/layer_store.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/str.h"
#include "stages/archive_file.h"
#include "stages/docker_manifest.h"

#define CHUNK (256 * 1024) /* stays in the cache of a core between reading, hashing and writing */
#define THREADS_MAX 16

struct store {
	struct layer_job *jobs;
	size_t *order; /* of jobs, the longest first */
	size_t n;
	int blobs_fd, keep_fd;
	const struct layer_limits *limits;
	atomic_size_t next;
	atomic_uint_fast64_t total; /* plain bytes so far */
	atomic_bool has_fault;
	pthread_mutex_t lock; /* of what follows */
	size_t fault_at;      /* job */
	struct err fault;
};

unsigned
layer_threads(int64_t setting)
{
	cpu_set_t set;
	int n = 1;

	if (setting > 0)
		return setting < THREADS_MAX ? (unsigned)setting : THREADS_MAX;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	return n < 1 ? 1 : n < THREADS_MAX ? (unsigned)n : THREADS_MAX;
}

static int
forged(const struct layer_job *j, const char *digest, const char *said_by, const char *expected, struct err *e)
{
	return err_set(e, ERR_REFUSED, "forged layer: %s is not what %s says it is (%s, expected %s)",
		       j->what, said_by, digest, expected);
}

/* A name that is a digest must be true: of the bytes as stored, or, but for blobs, of the plain ones. */
static int
check_name(const struct layer_job *j, const char *name, const char *stored, struct err *e)
{
	char claimed[72];

	if (!docker_claimed_digest(name, claimed) || !strcmp(claimed, stored) ||
	    (!docker_is_blob(name) && !strcmp(claimed, j->diff_id)))
		return 0;
	return forged(j, stored, "its name", claimed, e);
}

static int
check_digests(const struct layer_job *j, const char *plain, const char *stored, struct err *e)
{
	if (strcmp(plain, j->diff_id) != 0)
		return forged(j, plain, "the image's config", j->diff_id, e);
	if (check_name(j, j->from->name, stored, e) < 0)
		return -1;
	return check_name(j, j->named_as, stored, e);
}

/* Bytes from src to the file, hashed. */
static int
copy_plain(struct store *s, struct source *src, int to, struct hash *hash, uint64_t *ret_size, struct err *e)
{
	AUTO_FREE unsigned char *chunk = aligned_alloc(4096, CHUNK);
	uint64_t size = 0;
	size_t got = 0;

	if (!chunk)
		return err_set(e, ERR_FAILED, "out of memory");
	do {
		if (atomic_load(&s->has_fault))
			return err_set(e, ERR_FAILED, "another layer was refused");
		if (source_read(src, chunk, CHUNK, &got, e) < 0)
			return -1;
		hash_update(hash, chunk, got);
		if (fs_write_all(to, chunk, got, e) < 0)
			return -1;
		size += got;
		if (atomic_fetch_add(&s->total, got) + got > s->limits->size_max) {
			AUTO_FREE char *max = str_format_size((int64_t)s->limits->size_max);

			return err_set(e, ERR_REFUSED,
				       "size: the layers have more than the %s that are allowed (images.max_size)",
				       max);
		}
	} while (got == CHUNK);
	*ret_size = size;
	return 0;
}

static int
copy_layer(struct store *s, struct layer_job *j, enum archive_kind kind, int to, struct err *e)
{
	AUTO(hash) struct hash *plain = hash_new(HASH_SHA256);
	AUTO(hash) struct hash *tap = NULL;
	AUTO(source) struct source *src = NULL;
	const struct entry *from = j->from;
	char plain_digest[HASH_DIGEST_MAX], stored_digest[HASH_DIGEST_MAX];

	if (kind == ARCHIVE_GZIP) {
		const struct source_limits limits = { s->limits->size_max, s->limits->ratio_max };

		tap = hash_new(HASH_SHA256);
		src = source_new_gzip(from->place.fd, from->place.offset, from->size, &limits, tap);
	} else {
		src = source_new_file(from->place.fd, from->place.offset, from->size);
	}
	if (copy_plain(s, src, to, plain, &j->size, e) < 0) {
		AUTO_FREE char *why = mem_strdup(e->text);

		/* The rule stays in front. */
		return e->kind == ERR_REFUSED ? err_set(e, ERR_REFUSED, "%s: in %s", why, j->what)
					      : err_wrap(e, "%s", j->what);
	}
	hash_digest(plain, plain_digest);
	if (tap)
		hash_digest(tap, stored_digest);
	return check_digests(j, plain_digest, tap ? stored_digest : plain_digest, e);
}

static int
run_job(struct store *s, size_t at, struct err *e)
{
	struct layer_job *j = &s->jobs[at];
	enum archive_kind kind = ARCHIVE_OTHER;
	AUTO_FD int to = -1;
	char part[32];

	if (archive_entry_kind(j->from, &kind, e) < 0)
		return -1;
	if (kind == ARCHIVE_OTHER)
		return err_set(e, ERR_REFUSED, "type: %s is neither a tar nor compressed", j->what);
	if (kind != ARCHIVE_TAR && kind != ARCHIVE_GZIP)
		return err_set(e, ERR_UNSUPPORTED, "not supported yet: layers compressed with %s: %s",
			       archive_kind_word(kind), j->what);
	if (j->from->place.work_name) {
		if (check_digests(j, j->from->place.digest, j->from->place.digest, e) < 0)
			return -1;
		j->size = j->from->size;
		if (renameat(s->keep_fd, j->from->place.work_name, s->blobs_fd, j->diff_id + 7) < 0)
			return err_errno(e, "rename");
		return 0;
	}
	snprintf(part, sizeof(part), "part-%zu", at);
	to = openat(s->blobs_fd, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (to < 0)
		return err_errno(e, "open %s", part);
	if (copy_layer(s, j, kind, to, e) < 0)
		return -1;
	if (renameat(s->blobs_fd, part, s->blobs_fd, j->diff_id + 7) < 0)
		return err_errno(e, "rename");
	return 0;
}

static void *
work(void *arg)
{
	struct store *s = arg;
	struct err e = ERR_INIT;
	size_t at;

	while (!atomic_load(&s->has_fault) && (at = atomic_fetch_add(&s->next, 1)) < s->n) {
		if (run_job(s, s->order[at], &e) == 0)
			continue;
		pthread_mutex_lock(&s->lock);
		/* Of several the first by their order is told, but what stopped only for another is no fault. */
		if (!atomic_load(&s->has_fault) || (e.kind != ERR_FAILED && s->order[at] < s->fault_at)) {
			s->fault = e;
			s->fault_at = s->order[at];
		}
		atomic_store(&s->has_fault, true);
		pthread_mutex_unlock(&s->lock);
		break;
	}
	return NULL;
}

struct length {
	uint64_t size;
	size_t at;
};

static int
compare_lengths(const void *a, const void *b)
{
	const struct length *x = a, *y = b;

	if (x->size != y->size)
		return x->size < y->size ? 1 : -1;
	return x->at < y->at ? -1 : x->at > y->at;
}

static size_t *
longest_first(const struct layer_job *jobs, size_t n)
{
	AUTO_FREE struct length *lengths = mem_array(n + 1, sizeof(*lengths));
	size_t *order = mem_array(n + 1, sizeof(*order));

	for (size_t i = 0; i < n; i++)
		lengths[i] = (struct length){ jobs[i].from->size, i };
	qsort(lengths, n, sizeof(*lengths), compare_lengths);
	for (size_t i = 0; i < n; i++)
		order[i] = lengths[i].at;
	return order;
}

int
layer_store(struct layer_job *jobs, size_t n, int blobs_fd, int keep_fd, const struct layer_limits *limits,
	    struct err *e)
{
	AUTO_FREE size_t *order = longest_first(jobs, n);
	struct store s = { .jobs = jobs,
			   .order = order,
			   .n = n,
			   .blobs_fd = blobs_fd,
			   .keep_fd = keep_fd,
			   .limits = limits,
			   .lock = PTHREAD_MUTEX_INITIALIZER };
	pthread_t threads[THREADS_MAX];
	unsigned n_threads = 0;

	/* This thread works too; where no further one can be had it works alone. */
	while (n_threads + 1 < limits->threads && n_threads + 1 < n && n_threads < THREADS_MAX &&
	       pthread_create(&threads[n_threads], NULL, work, &s) == 0)
		n_threads++;
	work(&s);
	for (unsigned i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	pthread_mutex_destroy(&s.lock);
	if (!atomic_load(&s.has_fault))
		return 0;
	if (e)
		*e = s.fault;
	return -1;
}
