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
	atomic_size_t next;	    /* of order */
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

static const char *
blob_name(const char *diff_id)
{
	return strchr(diff_id, ':') + 1;
}

/* --- digests --- */

#define N_ALGOS 2

/* The digests of some bytes that are wanted, by enum hash_algo. */
struct sums {
	struct hash *hash[N_ALGOS];
	char text[N_ALGOS][HASH_DIGEST_MAX]; /* "" for what was not wanted */
};

static void
sums_free(struct sums *s)
{
	for (size_t i = 0; i < N_ALGOS; i++)
		hash_free(s->hash[i]);
}

static enum hash_algo
algo_of(const char *digest)
{
	return str_has_prefix(digest, "sha512:") ? HASH_SHA512 : HASH_SHA256;
}

static void
sums_want(struct sums *s, const char *digest)
{
	enum hash_algo algo = algo_of(digest);

	if (*digest && !s->hash[algo])
		s->hash[algo] = hash_new(algo);
}

static void
sums_update(void *arg, const void *p, size_t n)
{
	struct sums *s = arg;

	for (size_t i = 0; i < N_ALGOS; i++)
		if (s->hash[i])
			hash_update(s->hash[i], p, n);
}

static void
sums_finish(struct sums *s)
{
	for (size_t i = 0; i < N_ALGOS; i++)
		if (s->hash[i])
			hash_digest(s->hash[i], s->text[i]);
}

static const char *
sum_like(const struct sums *s, const char *digest)
{
	return s->text[algo_of(digest)];
}

static int
forged(const struct layer_job *j, const char *digest, const char *said_by, const char *expected, struct err *e)
{
	return err_set(e, ERR_REFUSED, "forged layer: %s is not what %s says it is (%s, expected %s)",
		       j->what, said_by, digest, expected);
}

/* What names and descriptors claim of a layer. */
struct claims {
	char by_name[HASH_DIGEST_MAX], by_alias[HASH_DIGEST_MAX]; /* "" where a name is no digest */
	const char *by_descriptor;
};

static void
read_claims(const struct layer_job *j, struct claims *c)
{
	*c = (struct claims){ .by_descriptor = j->stored_digest ? j->stored_digest : "" };
	if (!docker_claimed_digest(j->from->name, c->by_name))
		c->by_name[0] = '\0';
	if (!docker_claimed_digest(j->named_as, c->by_alias))
		c->by_alias[0] = '\0';
}

/* A name that is a digest must be true: of the bytes as stored, or, but for blobs, of the plain ones. */
static int
check_name(const struct layer_job *j, const char *name, const char *claimed, const struct sums *stored,
	   struct err *e)
{
	if (!*claimed || !strcmp(claimed, sum_like(stored, claimed)) ||
	    (!docker_is_blob(name) && !strcmp(claimed, j->diff_id)))
		return 0;
	return forged(j, sum_like(stored, claimed), "its name", claimed, e);
}

static int
check_digests(const struct layer_job *j, const struct claims *c, const struct sums *plain,
	      const struct sums *stored, struct err *e)
{
	const char *descriptor = c->by_descriptor;

	if (strcmp(sum_like(plain, j->diff_id), j->diff_id) != 0)
		return forged(j, sum_like(plain, j->diff_id), "the image's config", j->diff_id, e);
	if (*descriptor && strcmp(sum_like(stored, descriptor), descriptor) != 0)
		return forged(j, sum_like(stored, descriptor), "its descriptor", descriptor, e);
	if (check_name(j, j->from->name, c->by_name, stored, e) < 0)
		return -1;
	return check_name(j, j->named_as, c->by_alias, stored, e);
}

/* --- one layer --- */

/* Bytes from src to the file (-1: none), hashed. */
static int
copy_plain(struct store *s, struct layer_job *j, struct source *src, int to, struct sums *sums, struct err *e)
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
		sums_update(sums, chunk, got);
		if (j->see)
			j->see(j->see_arg, chunk, got);
		if (to >= 0 && fs_write_all(to, chunk, got, e) < 0)
			return -1;
		size += got;
		if (size > s->limits->layer_max)
			return err_set(e, ERR_REFUSED,
				       "size: the layer has more than the %llu bytes that are allowed (images.max_layer_size)",
				       (unsigned long long)s->limits->layer_max);
		if (atomic_fetch_add(&s->total, got) + got > s->limits->size_max)
			return err_set(e, ERR_REFUSED,
				       "size: the layers have more than the %llu bytes that are allowed (images.max_size)",
				       (unsigned long long)s->limits->size_max);
	} while (got == CHUNK);
	j->size = size;
	return 0;
}

/* `kept`: its own file, -1 where it has none. */
static struct source *
open_layer(struct store *s, const struct layer_job *j, enum archive_kind kind, int kept, struct sums *stored)
{
	const struct source_limits limits = { s->limits->size_max, s->limits->ratio_max,
					      s->limits->window_max };
	const struct source_tap tap = { sums_update, stored };
	const struct entry *from = j->from;
	struct source *src = source_new_file(kept < 0 ? from->place.fd : kept,
					     kept < 0 ? from->place.offset : 0, from->size);

	if (kind == ARCHIVE_TAR)
		return src;
	src = source_new_compressed(kind, src, &limits, &tap);
	/* With no other layer to begin, a CPU would be idle. */
	return s->limits->threads > 1 && atomic_load(&s->next) >= s->n ? source_new_ahead(src) : src;
}

/* Only the user of the scanner can have put it there, so one of its processes was not what it should be. */
static int
check_known(const struct store *s, const struct layer_job *j, uint64_t kept_size, struct err *e)
{
	if (!j->is_known || kept_size == j->size)
		return 0;
	layer_cache_drop(s->limits->cache, j->diff_id);
	return err_set(e, ERR_FAILED,
		       "%s: what this host kept of an earlier image has %llu bytes, the layer has %llu; it is dropped, "
		       "the next inspection unpacks it anew",
		       j->what, (unsigned long long)kept_size, (unsigned long long)j->size);
}

static int
copy_layer(struct store *s, struct layer_job *j, enum archive_kind kind, int kept, int to, struct err *e)
{
	AUTO(source) struct source *src = NULL;
	struct sums plain = { 0 }, stored = { 0 };
	uint64_t kept_size = j->size;
	bool is_plain = kind == ARCHIVE_TAR;
	struct claims claims;
	int rc;

	read_claims(j, &claims);
	sums_want(&plain, j->diff_id);
	sums_want(is_plain ? &plain : &stored, claims.by_descriptor);
	sums_want(is_plain ? &plain : &stored, claims.by_name);
	sums_want(is_plain ? &plain : &stored, claims.by_alias);
	src = open_layer(s, j, kind, kept, &stored);
	rc = copy_plain(s, j, src, to, &plain, e);
	if (rc < 0) {
		AUTO_FREE char *why = e ? mem_strdup(e->text) : NULL;

		/* The rule stays in front. */
		if (e && e->kind == ERR_REFUSED)
			err_set(e, ERR_REFUSED, "%s: in %s", why, j->what);
		else
			err_wrap(e, "%s", j->what);
	} else {
		sums_finish(&plain);
		sums_finish(&stored);
		rc = check_digests(j, &claims, &plain, is_plain ? &plain : &stored, e);
		if (rc == 0)
			rc = check_known(s, j, kept_size, e);
	}
	/* A thread that reads ahead feeds the sums. */
	source_free(take_ptr(src));
	sums_free(&plain);
	sums_free(&stored);
	return rc;
}

static bool
needs_sha512(const struct layer_job *j)
{
	struct claims c;

	read_claims(j, &c);
	return algo_of(j->diff_id) == HASH_SHA512 || algo_of(c.by_descriptor) == HASH_SHA512 ||
	       algo_of(c.by_name) == HASH_SHA512 || algo_of(c.by_alias) == HASH_SHA512;
}

/* A plain tar that got a file of its own when its bytes passed, hashed by SHA-256. */
static int
check_kept(struct store *s, struct layer_job *j, struct err *e)
{
	struct sums sums = { 0 };
	struct claims claims;
	AUTO_FD int kept = -1;

	if (!j->see && !needs_sha512(j)) {
		uint64_t kept_size = j->size;

		read_claims(j, &claims);
		snprintf(sums.text[HASH_SHA256], HASH_DIGEST_MAX, "%s", j->from->place.digest);
		j->size = j->from->size;
		return check_digests(j, &claims, &sums, &sums, e) < 0 ? -1 : check_known(s, j, kept_size, e);
	}
	kept = openat(s->keep_fd, j->from->place.work_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (kept < 0)
		return err_errno(e, "open %s", j->from->place.work_name);
	return copy_layer(s, j, ARCHIVE_TAR, kept, -1, e);
}

static int
publish(struct store *s, const struct layer_job *j, int from_fd, const char *name, struct err *e)
{
	const char *blob = blob_name(j->diff_id);

	if (renameat(from_fd, name, s->blobs_fd, blob) < 0)
		return err_errno(e, "rename");
	layer_cache_put(s->limits->cache, j->diff_id, s->blobs_fd, blob);
	return 0;
}

static int
store_layer(struct store *s, struct layer_job *j, enum archive_kind kind, size_t at, struct err *e)
{
	AUTO_FD int to = -1;
	char part[32];

	snprintf(part, sizeof(part), "part-%zu", at);
	to = openat(s->blobs_fd, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (to < 0)
		return err_errno(e, "open %s", part);
	if (copy_layer(s, j, kind, -1, to, e) < 0)
		return -1;
	return publish(s, j, s->blobs_fd, part, e);
}

static int
run_job(struct store *s, size_t at, struct err *e)
{
	struct layer_job *j = &s->jobs[at];
	const char *own = j->from->place.work_name;
	enum archive_kind kind = ARCHIVE_OTHER;

	if (archive_entry_kind(j->from, &kind, e) < 0)
		return -1;
	if (kind != ARCHIVE_TAR && !archive_kind_is_compressed(kind))
		return err_set(e, ERR_REFUSED, "type: %s is neither a tar nor compressed", j->what);
	if (own) {
		if (check_kept(s, j, e) < 0)
			return -1;
		return j->is_known ? 0 : publish(s, j, s->keep_fd, own, e);
	}
	return j->is_known ? copy_layer(s, j, kind, -1, -1, e) : store_layer(s, j, kind, at, e);
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

size_t
layer_store_known(struct layer_job *jobs, size_t n, int blobs_fd, const struct layer_limits *limits)
{
	size_t n_known = 0;

	for (size_t i = 0; i < n; i++) {
		struct layer_job *j = &jobs[i];

		for (size_t k = 0; k < i && !j->is_known; k++)
			if (jobs[k].is_known && !strcmp(jobs[k].diff_id, j->diff_id)) {
				j->is_known = true;
				j->size = jobs[k].size;
			}
		if (!j->is_known)
			j->is_known = layer_cache_take(limits->cache, j->diff_id, blobs_fd,
						       blob_name(j->diff_id), &j->size);
		n_known += j->is_known;
	}
	return n_known;
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
