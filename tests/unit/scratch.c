#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

struct scratch
scratch_new(void)
{
	struct scratch s = { .path = "/tmp/tidewaiter-test.XXXXXX" };

	assert_non_null(mkdtemp(s.path));
	s.fd = fs_open_dir(AT_FDCWD, s.path, NULL);
	assert_true(s.fd >= 0);
	return s;
}

void
scratch_remove(struct scratch *s)
{
	struct err e = ERR_INIT;

	close(s->fd);
	if (fs_remove_tree(AT_FDCWD, s->path, &e) < 0)
		fail_msg("%s", e.text);
}

void
scratch_write(const struct scratch *s, const char *name, const char *text)
{
	assert_int_equal(fs_publish(s->fd, name, text, strlen(text), 0600, 0, NULL), 0);
}

int
scratch_set_up(void **state)
{
	struct scratch *s = mem_alloc(sizeof(*s));

	*s = scratch_new();
	*state = s;
	return 0;
}

int
scratch_tear_down(void **state)
{
	struct scratch *s = *state;

	scratch_remove(s);
	mem_free_at(&s);
	return 0;
}
