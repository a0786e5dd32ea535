#include "tests/unit/host_place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "executor/cgroup.h"
#include "executor/host.h"
#include "tests/unit/memfd.h"

#define UID_BASE 2000000000 /* nobody's; the test's pid is added: several can run at once */
#define SLOT 3
#define TEXT_MAX 65536 /* bytes */

uid_t
place_job_uid(void)
{
	return UID_BASE + (uid_t)getpid();
}

static struct place *
make_place(void)
{
	struct place *p = mem_alloc(sizeof(*p));
	struct plan *plan = &p->plan;

	snprintf(p->dir, sizeof(p->dir), "/tmp/test-host-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	assert_int_equal(chmod(p->dir, 0711), 0);
	plan->slot = SLOT;
	plan->uid = (int64_t)geteuid();
	plan->gid = (int64_t)getegid();
	plan->user = mem_strdup("");
	plan->settings_path = mem_strdup("/etc/tidewaiter/tidewaiter.yml");
	plan->slot_dir = mem_printf("%s/state/slots/%d", p->dir, SLOT);
	plan->builds_dir = mem_printf("%s/builds/%d", p->dir, SLOT);
	plan->job_cache_dir = mem_printf("%s/cache/%d", p->dir, SLOT);
	plan->cgroup = mem_strdup("");
	plan->facts.project_id = 42;
	plan->job.path = mem_strdup("/usr/local/bin:/usr/bin:/bin");
	plan->job.runner_path = mem_strdup("/bin/true");
	plan->job.lang = mem_strdup("C.UTF-8");
	return p;
}

int
place_setup(void **state)
{
	*state = make_place();
	return 0;
}

int
place_setup_separated(void **state)
{
	struct place *p = make_place();
	struct plan *plan = &p->plan;

	plan->is_separated = true;
	plan->uid = place_job_uid();
	plan->gid = place_job_uid();
	strv_addf(&plan->group_ids, "%u", place_job_uid() + 1);
	mem_free_at(&plan->user);
	plan->user = mem_printf("tidewaiter-unit-%d", (int)getpid());
	plan->job.private_tmp = true;
	if (geteuid() == 0) {
		mem_free_at(&plan->cgroup);
		assert_int_equal(cgroup_path(p->dir, SLOT, &plan->cgroup, NULL), 0);
	}
	*state = p;
	return 0;
}

int
place_teardown(void **state)
{
	struct place *p = *state;
	struct plan *plan = &p->plan;

	if (!plan->is_separated || geteuid() == 0)
		assert_int_equal(env_host.destroy(plan, NULL), 0);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
	strv_free(&plan->group_ids);
	mem_free_at(&plan->user);
	mem_free_at(&plan->settings_path);
	mem_free_at(&plan->facts.project_path);
	mem_free_at(&plan->slot_dir);
	mem_free_at(&plan->builds_dir);
	mem_free_at(&plan->job_cache_dir);
	mem_free_at(&plan->cgroup);
	mem_free_at(&plan->job.path);
	mem_free_at(&plan->job.runner_path);
	mem_free_at(&plan->job.lang);
	strv_free(&plan->job.env_set);
	strv_free(&plan->job.env_pass);
	free(p);
	return 0;
}

void
place_prepare(const struct plan *p)
{
	struct err e = ERR_INIT;

	if (p->is_separated && geteuid() != 0)
		skip();
	if (env_host.prepare(p, &e) < 0)
		fail_msg("prepare: %s", e.text);
}

int
place_script(const char *text, size_t len)
{
	int fd = memfd_of("script", text, len);

	assert_true(fd >= 0);
	return fd;
}

int
place_run(const struct plan *p, const char *text)
{
	AUTO_FD int script = place_script(text, strlen(text));
	struct env_stage stage = { .name = "build_script", .script_fd = script, .serve_fd = -1 };
	struct env_result result = { 0 };
	struct err e = ERR_INIT;

	if (env_host.run(p, &stage, &result, &e) < 0)
		fail_msg("run: %s", e.text);
	return result.code;
}

bool
place_has(const char *dir, const char *name)
{
	AUTO_FREE char *path = mem_printf("%s/%s", dir, name);

	return access(path, F_OK) == 0;
}

void
place_wait_for(const char *dir, const char *name)
{
	int64_t deadline = clock_deadline(PLACE_WAIT_MS);

	while (!place_has(dir, name)) {
		if (clock_left_ms(deadline) == 0)
			fail_msg("%s/%s did not appear", dir, name);
		usleep(1000);
	}
}

char *
place_read(const char *dir, const char *name)
{
	AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
	char *text = NULL;
	size_t len;

	assert_int_equal(fs_read_max(AT_FDCWD, path, TEXT_MAX, &text, &len, NULL), 0);
	return text;
}

int64_t
place_read_number(const char *dir, const char *name)
{
	AUTO_FREE char *text = place_read(dir, name);
	int64_t n;

	text[strcspn(text, "\n")] = '\0';
	assert_int_equal(str_parse_int(text, 0, INT64_MAX, &n, NULL), 0);
	return n;
}
