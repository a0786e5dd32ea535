#include "stages/policy_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "stages/policy.h"
#include "stages/policy_feed.h"

void
policy_source_free(struct policy_source *s)
{
	mem_free_at(&s->text);
	mem_free_at(&s->name);
	mem_free_at(&s->origin);
	mem_free_at(&s->note);
	policy_feed_free(s->feed);
	*s = (struct policy_source){ 0 };
}

/* Who can write it decides what blocks. */
static int
check_owner(int fd, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, "stat");
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_SETTINGS, "it is no file");
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(e, ERR_SETTINGS, "it belongs to user %u, allowed is root", st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, ERR_SETTINGS, "others can write it (mode %03o), allowed is 644",
			       st.st_mode & 0777);
	return 0;
}

static int
load_file(const char *path, struct policy_source *s, struct err *e)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return err_errno(e, "open");
	if (check_owner(fd, e) < 0)
		return -1;
	return fs_read_fd_max(fd, POLICY_MAX, &s->text, &s->len, e);
}

void
policy_source_load(const struct options_policy *o, struct policy_source *ret)
{
	if (!policy_source_is_configured(o))
		return;
	ret->name = mem_strdup(o->file);
	ret->origin = mem_printf("file %s", o->file);
	ret->fetched_s = clock_wall_s();
	if (load_file(o->file, ret, &ret->fault) < 0)
		err_wrap(&ret->fault, "policy %s (policy.file)", o->file);
}
