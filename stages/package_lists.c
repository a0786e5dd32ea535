#include "stages/package_lists.h"

#include <string.h>

#include "base/mem.h"

const char *const package_lists[] = {
	"var/lib/dpkg/status",
	"lib/apk/db/installed",
	"usr/lib/apk/db/installed",
	"usr/lib/sysimage/rpm/Packages",
	"usr/lib/sysimage/rpm/Packages.db",
	"usr/lib/sysimage/rpm/rpmdb.sqlite",
	"usr/share/rpm/rpmdb.sqlite",
	"var/lib/rpm/Packages",
	"var/lib/rpm/Packages.db",
	"var/lib/rpm/rpmdb.sqlite",
	"var/lib/rpmmanifest/container-manifest-2",
	"aarch64-bottlerocket-linux-gnu/sys-root/usr/share/bottlerocket/application-inventory.json",
	"x86_64-bottlerocket-linux-gnu/sys-root/usr/share/bottlerocket/application-inventory.json",
	NULL,
};

const char *const package_os_files[] = {
	"etc/os-release",	  "usr/lib/os-release",	    "etc/alpine-release",
	"etc/debian_version",	  "etc/lsb-release",	    "etc/system-release",
	"etc/redhat-release",	  "etc/centos-release",	    "etc/almalinux-release",
	"etc/rocky-release",	  "etc/oracle-release",	    "etc/fedora-release",
	"usr/lib/system-release", "usr/lib/fedora-release", NULL,
};

const char *const package_os_files_alone[] = { "etc/debian_version", "etc/lsb-release", "etc/alpine-release",
					       NULL };

static const char *
last_slash(const char *path, size_t len)
{
	return memrchr(path, '/', len);
}

static bool
is_one_of(const char *path, const char *const *of)
{
	for (; *of; of++)
		if (!strcmp(path, *of))
			return true;
	return false;
}

bool
package_list_is(const char *path)
{
	static const char dir[] = PACKAGE_LIST_DIR "/";
	size_t n = sizeof(dir) - 1;

	return is_one_of(path, package_lists) || (!strncmp(path, dir, n) && path[n] && !strchr(path + n, '/'));
}

bool
package_list_is_above(const char *path)
{
	size_t len = strlen(path);

	if (!strcmp(path, PACKAGE_LIST_DIR) ||
	    (!strncmp(path, PACKAGE_LIST_DIR, len) && PACKAGE_LIST_DIR[len] == '/'))
		return true;
	for (const char *const *l = package_lists; *l; l++)
		if (!strncmp(path, *l, len) && (*l)[len] == '/')
			return true;
	return false;
}

bool
package_list_may_be(const char *path)
{
	static const char dir[] = "status.d";
	const char *slash = last_slash(path, strlen(path)), *above;
	const char *base = slash ? slash + 1 : path;

	for (const char *const *l = package_lists; *l; l++)
		if (!strcmp(base, last_slash(*l, strlen(*l)) + 1))
			return true;
	if (!slash)
		return false;
	above = last_slash(path, (size_t)(slash - path));
	above = above ? above + 1 : path;
	return (size_t)(slash - above) == sizeof(dir) - 1 && !memcmp(above, dir, sizeof(dir) - 1);
}

bool
package_os_file_is(const char *path)
{
	return is_one_of(path, package_os_files);
}
