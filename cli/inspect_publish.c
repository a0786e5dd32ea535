/* The reports of an inspection: kept in the runner's TMPDIR, and written into the project directory just before they are uploaded. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/report_files.h"

#define REPORTS_DIR "tidewaiter-reports" /* in TMPDIR: the reports as we wrote them, out of the job's reach */

/* The reports of this inspection, and none of one before it. */
int
inspect_keep_reports(const struct inspect *x, int out_fd, struct err *e)
{
	AUTO_FD int fd = -1;

	if (fs_remove_tree(x->tmp_fd, REPORTS_DIR, e) < 0)
		return -1;
	if (mkdirat(x->tmp_fd, REPORTS_DIR, 0700) < 0)
		return err_errno(e, REPORTS_DIR);
	fd = fs_open_dir(x->tmp_fd, REPORTS_DIR, e);
	return fd < 0 ? -1 : report_files_copy(out_fd, fd, (uid_t)-1, (gid_t)-1, e);
}

/* report.dir below the project, made anew down to its last part: nothing of the job stays in it. */
static int
make_report_dir(const struct inspect *x, struct err *e)
{
	AUTO_FREE char *path = mem_strdup(x->plan->opt.report.dir);
	AUTO_FD int at = fcntl(x->project_fd, F_DUPFD_CLOEXEC, 3);
	uid_t uid = x->plan->is_separated ? (uid_t)x->plan->uid : (uid_t)-1;
	gid_t gid = x->plan->is_separated ? (gid_t)x->plan->gid : (gid_t)-1;
	char *save = NULL;

	if (fs_remove_beneath(x->project_fd, path, e) < 0)
		return -1;
	for (char *part = strtok_r(path, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		int next;

		if (mkdirat(at, part, 0755) < 0 && errno != EEXIST)
			return err_errno(e, "%s", part);
		next = fs_open_beneath(at, part, O_RDONLY | O_DIRECTORY, 0, e);
		if (next < 0)
			return -1;
		close(at);
		at = next;
		if (fchown(at, uid, gid) < 0)
			return err_errno(e, "%s", part);
	}
	return take_fd(at);
}

int
inspect_publish(struct inspect *x, struct err *e)
{
	uid_t uid = x->plan->is_separated ? (uid_t)x->plan->uid : (uid_t)-1;
	gid_t gid = x->plan->is_separated ? (gid_t)x->plan->gid : (gid_t)-1;
	AUTO_FD int from = openat(x->tmp_fd, REPORTS_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_FD int to = -1;

	if (x->project_fd < 0 || (from < 0 && errno == ENOENT))
		return CLI_OK;
	if (from < 0)
		return err_errno(e, REPORTS_DIR);
	to = make_report_dir(x, e);
	if (to < 0 || report_files_copy(from, to, uid, gid, e) < 0)
		return err_wrap(e, "%s/%s", x->plan->project_dir, x->plan->opt.report.dir);
	return CLI_OK;
}
