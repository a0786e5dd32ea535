#include "cli/report_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define REPORT_FILE_MAX ((uint64_t)1 << 30) /* bytes */

static bool
is_report(const char *name)
{
	return name[0] != '.' && (str_has_suffix(name, ".json") || str_has_suffix(name, ".html"));
}

static int
write_copy(int from, uint64_t size, int to_dir, const char *name, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FD int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (to < 0)
		return err_errno(e, "%s", name);
	if (fs_copy(from, 0, to, size, e) < 0)
		return err_wrap(e, "%s", name);
	if (fchmod(to, 0644) < 0 || (uid != (uid_t)-1 && fchown(to, uid, gid) < 0))
		return err_errno(e, "%s", name);
	return 0;
}

/* From the scanner's directory into ours, byte for byte. */
static int
copy_file(int from_dir, int to_dir, const char *name, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FD int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (from < 0 || fstat(from, &st) < 0)
		return err_errno(e, "%s", name);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > REPORT_FILE_MAX)
		return err_set(e, ERR_FAILED, "%s: no regular file of at most 1 GiB", name);
	/* a link that stands there is not followed but replaced */
	if (unlinkat(to_dir, name, 0) < 0 && errno != ENOENT)
		return err_errno(e, "%s", name);
	if (write_copy(from, (uint64_t)st.st_size, to_dir, name, uid, gid, e) < 0) {
		unlinkat(to_dir, name, 0); /* half a report is none */
		return -1;
	}
	return 0;
}

int
report_files_copy(int from_dir, int to_dir, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(from_dir, e);
	struct dirent *entry;
	int rc = -1;

	while (dir && (rc = fs_next(dir, &entry, e)) > 0)
		if (is_report(entry->d_name) && copy_file(from_dir, to_dir, entry->d_name, uid, gid, e) < 0)
			return -1;
	return rc < 0 ? err_wrap(e, "reports") : 0;
}
