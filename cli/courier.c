#include "cli/courier.h"

#include <grp.h>
#include <unistd.h>

#include "cli/workspace.h"

int
courier_become(const struct settings *s, struct err *e)
{
	struct pipeline_users u;

	if (workspace_users(s->scan_user, s->courier_user, &u, e) < 0)
		return -1;
	if (!u.is_separated)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(u.courier_gid, u.courier_gid, u.courier_gid) < 0 ||
	    setresuid(u.courier_uid, u.courier_uid, u.courier_uid) < 0)
		return err_errno(e, "cannot become user %s", s->courier_user);
	return 0;
}
