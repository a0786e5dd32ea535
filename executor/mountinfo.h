/* /proc/self/mountinfo (proc(5)), line by line. */
#pragma once

#include <stdbool.h>

#define MOUNTINFO_MAX (16 * 1024 * 1024) /* bytes of the whole file */

struct mountinfo {
	const char *root;  /* of the mount within its filesystem */
	const char *point; /* where it is mounted */
	const char *type;  /* "cgroup2" … */
};

/* Cuts the line up in place; the result points into it. false: no such line. */
bool mountinfo_parse(char *line, struct mountinfo *ret);
