#include "executor/guard_early.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

static bool
is_wanted(const struct guard *g)
{
	const struct options_images *o = &g->plan->opt.images;

	return o->early && o->store_max > 0 && g->plan->is_matching && guard_is_step(g) &&
	       !g->state->job_failed;
}

void
guard_early_start(const struct guard *g, struct guard_early *x)
{
	AUTO_FREE char *path = NULL;
	AUTO_FREE char *tmpdir = NULL;
	AUTO_STRV struct strv env = { 0 };
	struct proc_spec spec = PROC_SPEC_INIT;
	char name[] = "tidewaiter", inspect_word[] = "inspect", verb[] = "early", option[] = "--tmpdir";
	char *argv[] = { name, inspect_word, verb, option, NULL, NULL };

	*x = (struct guard_early){ .proc = { .pid = -1, .pidfd = -1 } };
	if (!is_wanted(g) || !(path = guard_find_tidewaiter(NULL)))
		return;
	argv[4] = tmpdir = mem_strdup(g->c->tmpdir);
	guard_inspect_env(&env);
	spec.path = path;
	spec.argv = argv;
	spec.envp = env.v;
	spec.dies_with_parent = true;
	x->is_running = proc_start(&spec, &x->proc, NULL) == 0;
}

void
guard_early_stop(void *arg)
{
	struct guard_early *x = arg;
	struct proc_result how;

	if (!x->is_running)
		return;
	x->is_running = false;
	/* whoever waits for the script reaps what ends meanwhile, so it goes by the descriptor; the wait may find nobody */
	(void)syscall(SYS_pidfd_send_signal, x->proc.pidfd, SIGTERM, NULL, 0U);
	(void)!proc_wait(&x->proc, false, clock_deadline(GUARD_EARLY_STOP_MS), &how, NULL);
	proc_close(&x->proc);
}
