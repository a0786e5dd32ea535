#include "executor/host_ids.h"

#include <pwd.h>
#include <unistd.h>

#include "executor/host_kill.h"

#define SUBUID "/etc/subuid"

int
host_ids_load(const struct plan *p, struct host_ids *ret, struct err *e)
{
	if (host_kill_check_uid(p, e) < 0)
		return -1;
	ret->uid = (uid_t)p->uid;
	return subid_ranges(SUBUID, p->user, ret->uid, &ret->subs, e);
}

bool
host_ids_is_sub(const struct host_ids *ids, uid_t uid)
{
	return uid != 0 && uid != getuid() && uid != geteuid() && uid != ids->uid &&
	       subid_ranges_has(&ids->subs, uid) && !getpwuid(uid);
}

bool
host_ids_has(const struct host_ids *ids, uid_t uid)
{
	return uid == ids->uid || host_ids_is_sub(ids, uid);
}
