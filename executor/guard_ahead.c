#include "executor/guard_ahead.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

static bool
is_wanted(const struct guard *g)
{
	const struct options_defectdojo *o = &g->plan->opt.defectdojo;

	return g->kind == GUARD_LAST_STEP && g->plan->is_matching && !g->state->job_failed && o->triage &&
	       !str_is_empty(o->url) && g->plan->opt.gate.mode != GATE_OFF;
}

void
guard_ahead_start(const struct guard *g, struct guard_ahead *x)
{
	AUTO_FREE char *tmpdir = mem_strdup(g->c->tmpdir), *path = NULL;
	AUTO_STRV struct strv env = { 0 };
	struct proc_spec spec = PROC_SPEC_INIT;
	char name[] = "tidewaiter", inspect_word[] = "inspect", verb[] = "ahead", option[] = "--tmpdir";
	char *argv[] = { name, inspect_word, verb, option, tmpdir, NULL };

	*x = (struct guard_ahead){ .proc = { .pid = -1, .pidfd = -1 } };
	if (!is_wanted(g) || !(path = guard_find_tidewaiter(NULL)))
		return;
	guard_inspect_env(&env);
	spec.path = path;
	spec.argv = argv;
	spec.envp = env.v;
	spec.dies_with_parent = true;
	x->is_running = proc_start(&spec, &x->proc, NULL) == 0;
}

void
guard_ahead_stop(struct guard_ahead *x)
{
	struct proc_result how;

	if (!x->is_running)
		return;
	x->is_running = false;
	/* whoever waited for the script may have reaped it, so it goes by the descriptor; the wait may find nobody */
	(void)syscall(SYS_pidfd_send_signal, x->proc.pidfd, SIGKILL, NULL, 0U);
	(void)!proc_wait(&x->proc, false, CLOCK_DEADLINE_NEVER, &how, NULL);
	proc_close(&x->proc);
}
