#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/str.h"
#include "executor/host.h"
#include "executor/phase.h"
#include "executor/plan.h"
#include "stages/policy_source.h"

#define NAME_SHOWN_MAX 200 /* characters of what the job's author wrote */

/* image: and services: mean nothing to a job on the host. 1: the job fails for it. */
static int
tell_image(const struct phase_context *c, const struct plan *p)
{
	AUTO_FREE char *image = str_safe(p->image, NAME_SHOWN_MAX);
	AUTO_FREE char *services = mem_printf("%lld of its services", (long long)p->n_services);
	bool is_fatal = p->job.on_image == ON_IMAGE_FAIL;
	const char *what = str_is_empty(image) ? services : image;

	if (str_is_empty(image) && p->n_services == 0)
		return 0;
	log_line(&c->log, is_fatal ? LOG_ERROR : LOG_WARN, "this runner runs jobs on the host: %s%s%s%s %s",
		 str_is_empty(image) ? "" : "image ", what,
		 !str_is_empty(image) && p->n_services > 0 ? " and " : "",
		 !str_is_empty(image) && p->n_services > 0 ? services : "",
		 is_fatal ? "cannot be had here (job.on_image: fail); give the job another runner's tag"
			  : "will be ignored");
	return is_fatal;
}

static void
tell_separation(const struct phase_context *c, const struct plan *p)
{
	if (!p->is_separated)
		log_line(&c->log, LOG_WARN,
			 "jobs are not separated: this runner is not root's, so they run as its own user");
	if (strv_has(&p->job.groups, "docker"))
		log_line(&c->log, LOG_WARN,
			 "job.groups names docker: whoever may talk to Docker is root on this host by another name");
}

static char *
inspection_words(const struct plan *p)
{
	if (!p->is_matching)
		return mem_strdup("this job's images are not inspected");
	if (policy_source_is_configured(&p->opt.policy))
		return mem_strdup(
			"this job's images are inspected when its script has succeeded (as the policy says)");
	return mem_printf("this job's images are inspected when its script has succeeded (mode %s, from %s)",
			  gate_mode_words[p->opt.gate.mode], severity_words[p->opt.gate.severity]);
}

static void
print_banner(const struct phase_context *c, const struct plan *p)
{
	AUTO_FREE char *inspection = inspection_words(p);

	printf("%sTidewaiter " TIDEWAITER_VERSION "%s, slot %lld%s%s: %s\n", log_colour(&c->log, LOG_BOLD),
	       log_colour(&c->log, LOG_RESET), (long long)p->slot, p->is_separated ? ", user " : "", p->user,
	       inspection);
	fflush(stdout);
}

static int
prepare_run(struct phase_context *c, struct phase_result *ret, struct err *e)
{
	AUTO(plan) struct plan *p = NULL;

	if (plan_read(c->tmpdir_fd, &p, e) < 0 ||
	    plan_settle_project_dir(c->tmpdir_fd, p, getenv("CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR"), e) < 0)
		return -1;
	print_banner(c, p);
	tell_separation(c, p);
	if (tell_image(c, p)) {
		*ret = (struct phase_result){ .end = PHASE_JOB_FAILED, .job_code = 1 };
		return 0;
	}
	if (env_host.prepare(p, e) < 0)
		return -1;
	ret->end = PHASE_OK;
	return 0;
}

const struct phase phase_prepare = {
	.name = "prepare",
	.usage = "",
	.summary = "Makes the job's directories and checks that its tools are there.",
	.details =
		"Reads   the plan that config left in $TMPDIR, at most 16 MiB.\n"
		"Makes   the slot's directories: project, cache, home, and /tmp, /var/tmp and /dev/shm of its own.\n"
		"Prints  a line for the job log: slot, user, whether images are inspected.\n"
		"Fails   where bash, git or gitlab-runner are not there for the job's user; the job itself fails\n"
		"        with 1 where it asks for image: or services: and job.on_image is fail.\n",
	.is_in_job_log = true,
	.run = prepare_run,
};
