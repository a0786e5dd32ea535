#include "stages/early_keeper.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "stages/early_result.h"

struct early_keeper {
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock; /* of what follows; held for a few system calls that do not wait */
	bool is_over;
	int fds[EARLY_KNOWN_MAX];
	size_t n;
};

static void
let_go(struct early_keeper *k, size_t at)
{
	(void)fcntl(k->fds[at], F_SETLEASE, F_UNLCK);
	k->fds[at] = k->fds[--k->n];
}

/* SIGIO says that one is wanted; several that come together are one signal. */
static void *
keep(void *arg)
{
	struct early_keeper *k = arg;
	bool is_over = false;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	while (!is_over) {
		(void)sigwaitinfo(&set, NULL);
		pthread_mutex_lock(&k->lock);
		for (size_t i = k->n; i > 0; i--)
			if (!early_lease_holds(k->fds[i - 1]))
				let_go(k, i - 1);
		is_over = k->is_over;
		pthread_mutex_unlock(&k->lock);
	}
	return NULL;
}

int
early_keeper_start(struct early_keeper **ret, struct err *e)
{
	AUTO(early_keeper) struct early_keeper *k = mem_alloc(sizeof(*k));
	sigset_t set;

	pthread_mutex_init(&k->lock, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_errno(e, "signals");
	if (pthread_create(&k->thread, NULL, keep, k) != 0)
		return err_set(e, ERR_FAILED, "a thread cannot be started");
	k->has_thread = true;
	*ret = take_ptr(k);
	return 0;
}

void
early_keeper_free(struct early_keeper *k)
{
	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->is_over = true;
	pthread_mutex_unlock(&k->lock);
	if (k->has_thread) {
		pthread_kill(k->thread, SIGIO);
		pthread_join(k->thread, NULL);
	}
	while (k->n > 0)
		let_go(k, k->n - 1);
	pthread_mutex_destroy(&k->lock);
	mem_free_at(&k);
}

bool
early_keeper_take(struct early_keeper *k, int fd)
{
	bool is_taken = false;

	/* known to the thread before anybody can want it */
	pthread_mutex_lock(&k->lock);
	if (k->n < EARLY_KNOWN_MAX && early_lease_take(fd)) {
		k->fds[k->n++] = fd;
		is_taken = true;
	}
	pthread_mutex_unlock(&k->lock);
	return is_taken;
}

void
early_keeper_drop(struct early_keeper *k, int fd)
{
	pthread_mutex_lock(&k->lock);
	for (size_t i = 0; i < k->n; i++)
		if (k->fds[i] == fd) {
			let_go(k, i);
			break;
		}
	pthread_mutex_unlock(&k->lock);
}
