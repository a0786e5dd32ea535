#include "stages/fetcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "stages/baseline.h"
#include "stages/confine.h"
#include "stages/fetcher_ask.h"

#define NOT_ASKED "DefectDojo was not asked"

/* ---- what is handed over ---- */

static char *
print_kept(const struct inspection *i, const struct kept *k, const struct triage *t, struct baselines *l)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	const char *const first[] = { i->job->target_branch ? i->job->target_branch : "",
				      i->job->default_branch ? i->job->default_branch : "",
				      i->job->ref ? i->job->ref : "", NULL };
	struct err ignored = ERR_INIT;

	cJSON_AddItemToObject(j, "triage", t ? triage_to_json(t) : cJSON_CreateNull());
	(void)baselines_load(k, i->job->project_path ? i->job->project_path : "", first, l, &ignored);
	cJSON_AddItemToObject(j, "baselines", baselines_to_json(l));
	return json_print(j);
}

/* What `inspect ahead` of the same job has kept a moment ago is not asked for again. */
static char *
print_fresh(const struct inspection *i, const struct kept *k, const struct triage *kept)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO(triage) struct triage *asked = NULL;
	const struct triage *t = NULL;
	struct err e = ERR_INIT;

	if (i->asks_nobody)
		err_set(&e, ERR_FAILED, NOT_ASKED);
	else if (kept && triage_is_of_job(kept, i->job_began_s, clock_wall_s()))
		t = kept;
	else if (fetcher_ask_triage(i, k, clock_deadline(FETCHER_ASK_MS), &asked, &e) == 0)
		t = asked;
	cJSON_AddItemToObject(j, "triage", t ? triage_to_json(t) : cJSON_CreateNull());
	json_add_str(j, "fault", e.kind == ERR_NONE ? "" : e.text);
	return json_print(j);
}

/* Of branches that this host has not inspected, or not last. */
static char *
print_others(const struct inspection *i, const struct baselines *kept)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FETCHER_BRANCHES struct fetcher_branches b = { 0 };
	struct err e = ERR_INIT;

	/* half of what a branch has would make the other half new */
	if (!i->asks_nobody && fetcher_ask_branches(i, kept, clock_deadline(FETCHER_ASK_MS), &b, &e) < 0)
		fetcher_branches_free(&b);
	json_add_str(j, "fault", e.kind == ERR_NONE ? "" : e.text);
	json_add_strv(j, "outdated", &b.outdated);
	cJSON_AddItemToObject(j, "baselines", baselines_to_json(&b.baselines));
	return json_print(j);
}

/* Written whole, then told. */
static void
hand_over(int fd, int told_fd, const char *text)
{
	struct err ignored = ERR_INIT;

	if (strlen(text) > FETCHER_TEXT_MAX || fs_write_all(fd, text, strlen(text), &ignored) < 0 ||
	    fs_write_all(told_fd, "", 1, &ignored) < 0)
		_exit(1);
}

/* In the child; does not return. */
static void
child_main(const struct inspection *i, const struct kept *k, const struct fetcher *f, int told_fd,
	   pid_t parent, uid_t uid, gid_t gid)
{
	AUTO(triage) struct triage *t = NULL;
	struct baselines l = { 0 };
	struct err e = ERR_INIT;

	if (i->project_fd >= 0)
		close(i->project_fd);
	if (confine_beside(uid, gid, parent, &e) < 0)
		_exit(1);
	t = fetcher_kept_triage(i, k);
	{
		AUTO_FREE char *kept = print_kept(i, k, t, &l);

		hand_over(f->kept_fd, told_fd, kept);
	}
	{
		AUTO_FREE char *fresh = print_fresh(i, k, t);

		hand_over(f->fresh_fd, told_fd, fresh);
	}
	{
		AUTO_FREE char *others = print_others(i, &l);

		hand_over(f->others_fd, told_fd, others);
	}
	_exit(0);
}

/* ---- the process ---- */

static int
start(struct fetcher *f, const struct inspection *i, const struct kept *k, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FD int told = -1;
	pid_t parent = getpid();
	int ends[2];

	f->kept_fd = memfd_create("kept", MFD_CLOEXEC);
	f->fresh_fd = memfd_create("fresh", MFD_CLOEXEC);
	f->others_fd = memfd_create("others", MFD_CLOEXEC);
	if (f->kept_fd < 0 || f->fresh_fd < 0 || f->others_fd < 0)
		return err_errno(e, "memfd_create");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	f->told_fd = ends[0];
	told = ends[1];
	fflush(NULL);
	f->pid = confine_fork(false, e);
	if (f->pid < 0)
		return -1;
	if (f->pid == 0) {
		setpgid(0, 0);
		mem_close_at(&f->told_fd);
		child_main(i, k, f, told, parent, uid, gid);
	}
	return 0;
}

struct fetcher *
fetcher_start(const struct inspection *i, const struct kept *k, uid_t uid, gid_t gid)
{
	AUTO(fetcher) struct fetcher *f = mem_alloc(sizeof(*f));
	struct err e = ERR_INIT;

	*f = (struct fetcher){ .told_fd = -1,
			       .kept_fd = -1,
			       .fresh_fd = -1,
			       .others_fd = -1,
			       .deadline = clock_deadline(i->opt->defectdojo.wait) };
	if (start(f, i, k, uid, gid, &e) == 0)
		return take_ptr(f);
	f->pid = 0;
	log_line(i->log, LOG_WARN, "triage is not asked for: %s", e.text);
	return NULL;
}

void
fetcher_free(struct fetcher *f)
{
	if (!f)
		return;
	mem_close_at(&f->told_fd);
	mem_close_at(&f->kept_fd);
	mem_close_at(&f->fresh_fd);
	mem_close_at(&f->others_fd);
	if (f->pid > 0)
		proc_kill(f->pid);
	mem_free_at(&f);
}
