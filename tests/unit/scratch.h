/* A directory of a test's own below /tmp, gone when the test ends. For cmocka: a failure fails the test. */
#pragma once

struct scratch {
	char path[64];
	int fd;
};
struct scratch scratch_new(void);
void scratch_remove(struct scratch *s); /* with all that is in it */
#define AUTO_SCRATCH __attribute__((cleanup(scratch_remove)))

/* A file with that text, mode 0600; replaced where there is one. */
void scratch_write(const struct scratch *s, const char *name, const char *text);

/* cmocka_unit_test_setup_teardown() for tests whose state is a struct scratch. */
int scratch_set_up(void **state);
int scratch_tear_down(void **state);
