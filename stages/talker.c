#include "stages/talker.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "stages/confine.h"
#include "stages/engine.h"

/* In the child; does not return. */
static void
talk(const struct inspection *i, int fd, pid_t parent)
{
	const struct options_images *o = &i->opt->images;
	struct err e = ERR_INIT;

	if (i->project_fd >= 0)
		close(i->project_fd);
	if (confine_beside((uid_t)-1, (gid_t)-1, parent, &e) == 0)
		engine_serve(fd, &o->engine_sockets, o->engine_timeout);
	_exit(0);
}

int
talker_start(const struct inspection *i, struct talker *ret, struct err *e)
{
	AUTO_FD int ours = -1;
	AUTO_FD int its = -1;
	pid_t parent = getpid();
	int ends[2];

	if (!i->engines)
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_errno(e, "socketpair");
	ours = ends[0];
	its = ends[1];
	fflush(NULL);
	ret->pid = fork();
	if (ret->pid < 0)
		return err_errno(e, "fork");
	if (ret->pid == 0) {
		close(ours);
		talk(i, its, parent);
	}
	ret->fd = take_fd(ours);
	return 0;
}

void
talker_end(struct talker *t)
{
	if (t->pid <= 0)
		return;
	mem_close_at(&t->fd);
	/* it may be in the midst of an image that nobody waits for any more */
	proc_kill(t->pid);
	t->pid = 0;
}
