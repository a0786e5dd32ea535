#include "stages/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "base/fs.h"

static const struct {
	const char *name, *without;
	size_t at;
	bool is_scanners;
} dirs[] = {
	{ "inspections", "inspections of this host do not wait for each other",
	  offsetof(struct shared, inspections_fd), false },
	{ "trivy-slots", "trivy.parallel counts for this job alone", offsetof(struct shared, slots_fd), true },
	{ "results", "results are not kept", offsetof(struct shared, results_fd), true },
	{ "layers", "layers are not kept", offsetof(struct shared, layers_fd), true },
};

struct shared *
shared_open(const char *cache_dir, uid_t uid, gid_t gid, const struct log *log)
{
	struct shared *s = mem_alloc(sizeof(*s));
	AUTO_FD int parent = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int no = errno;

	for (size_t k = 0; k < MEM_COUNT(dirs); k++) {
		int *fd = (int *)(void *)((char *)s + dirs[k].at);
		struct err e = ERR_INIT;

		errno = no;
		if (parent < 0)
			*fd = err_errno(&e, "it");
		else if (dirs[k].is_scanners)
			*fd = fs_make_dir_of(parent, dirs[k].name, uid, gid, &e);
		else
			*fd = fs_make_dir_of(parent, dirs[k].name, (uid_t)-1, (gid_t)-1, &e);
		if (*fd < 0)
			log_line(log, LOG_WARN, "%s: %s: %s", dirs[k].without, cache_dir, e.text);
	}
	return s;
}

void
shared_free(struct shared *s)
{
	if (!s)
		return;
	for (size_t k = 0; k < MEM_COUNT(dirs); k++)
		mem_close_at((int *)(void *)((char *)s + dirs[k].at));
	mem_free_at(&s);
}
