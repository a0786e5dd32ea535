#include "cli/job_options.h"

#include <fcntl.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "stages/commit_files.h"

#define SHA_LEN 40

int
job_options_open(const struct job_options *o, int *ret_objects_fd, struct err *e)
{
	const char *place = o->repository ? o->repository : ".";
	AUTO_FD int dir = -1;
	int fd;

	if (o->repository && !o->commit)
		return err_set(e, ERR_USAGE, "--repository needs --commit, the commit whose files count");
	if (!o->commit) {
		*ret_objects_fd = 0;
		return 0;
	}
	if (strlen(o->commit) != SHA_LEN || !str_is_hex(o->commit, SHA_LEN))
		return err_set(e, ERR_USAGE,
			       "--commit: allowed are the 40 hexadecimal digits of a commit (git rev-parse HEAD)");
	dir = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = dir < 0 ? err_errno(e, "open") : commit_files_open(dir, e);
	if (fd < 0) {
		AUTO_FREE char *safe = str_safe(place, 200);

		err_wrap(e, "%s is no clone with a directory .git (--repository)", safe);
		e->kind = ERR_USAGE;
		return -1;
	}
	*ret_objects_fd = fd;
	return 0;
}

static char *
copy(const char *s)
{
	return mem_strdup(s ? s : "");
}

void
job_options_facts(const struct job_options *o, const char *severity, const char *mode, struct job_facts *ret)
{
	*ret = (struct job_facts){
		.project_path = copy(o->project),
		.name = copy(o->job),
		.stage = copy(o->stage),
		.ref = copy(o->branch),
		.is_tag = o->is_tag,
		.is_protected = o->is_protected,
		.sha = copy(o->commit),
		.server_url = copy(NULL),
		.project_url = copy(NULL),
		.default_branch = copy(o->default_branch),
		.target_branch = copy(o->target_branch),
		.wants_severity = copy(severity),
		.wants_mode = copy(mode),
		.wants_waiver = copy(o->waiver),
	};
}
