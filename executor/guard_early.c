#include "executor/guard_early.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

static bool
is_wanted(const struct guard *g)
{
	const struct options_images *o = &g->plan->opt.images;

	return o->early && o->store_max > 0 && g->plan->is_matching && guard_is_step(g) &&
	       !g->state->job_failed;
}

static bool
start(const struct guard *g, struct guard_early *x, int its, char *path)
{
	AUTO_FREE char *tmpdir = mem_strdup(g->c->tmpdir);
	AUTO_STRV struct strv env = { 0 };
	struct proc_spec spec = PROC_SPEC_INIT;
	char name[] = "tidewaiter", inspect_word[] = "inspect", verb[] = "early", option[] = "--tmpdir";
	char fd_option[] = "--early-fd", fd[16];
	char *argv[] = { name, inspect_word, verb, option, tmpdir, fd_option, fd, NULL };

	snprintf(fd, sizeof(fd), "%d", its);
	guard_inspect_env(&env);
	spec.path = path;
	spec.argv = argv;
	spec.envp = env.v;
	spec.pass_fds = &its;
	spec.n_pass_fds = 1;
	spec.dies_with_parent = true;
	return proc_start(&spec, &x->proc, NULL) == 0;
}

void
guard_early_start(const struct guard *g, struct guard_early *x)
{
	AUTO_FREE char *path = NULL;
	AUTO_FD int ours = -1;
	AUTO_FD int its = -1;
	int ends[2];

	*x = (struct guard_early){ .plan = g->plan, .proc = { .pid = -1, .pidfd = -1 }, .fd = -1 };
	if (!is_wanted(g) || !(path = guard_find_tidewaiter(NULL)) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return;
	ours = ends[0];
	its = ends[1];
	x->is_running = start(g, x, its, path);
	if (x->is_running)
		x->fd = take_fd(ours);
}

void
guard_early_stop(void *arg)
{
	struct guard_early *x = arg;
	struct proc_result how;

	if (!x->is_running)
		return;
	x->is_running = false;
	/* that nothing more comes from us says that the step is over, which a signal to our group does not */
	(void)shutdown(x->fd, SHUT_WR);
	/* whoever waits for the script reaps what ends meanwhile, so it goes by the descriptor; the wait may find nobody */
	(void)syscall(SYS_pidfd_send_signal, x->proc.pidfd, SIGTERM, NULL, 0U);
	(void)!proc_wait(&x->proc, false, clock_deadline(GUARD_EARLY_STOP_MS), &how, NULL);
	proc_close(&x->proc);
}

/* The name that cli/workspace.h gives it; `inspect run` may have taken it away. */
static void
remove_work(const struct plan *p)
{
	AUTO_FREE char *parent = mem_printf("%s/work", p->cache_dir);
	AUTO_FREE char *name = NULL;
	AUTO_FD int fd = fs_open_dir(AT_FDCWD, parent, NULL);
	uint64_t start;

	if (fd < 0 || proc_start_time(getpid(), &start, NULL) < 0)
		return;
	name = mem_printf("%d-%ju", (int)getpid(), (uintmax_t)start);
	/* what cannot be removed goes with the next inspection of this host */
	(void)!fs_remove_tree(fd, name, NULL);
}

void
guard_early_free(struct guard_early *x)
{
	guard_early_stop(x);
	if (x->fd >= 0)
		remove_work(x->plan);
	mem_close_at(&x->fd);
}
