/*
 * What `tidewaiter doctor` found: one line a subject, with what to do about it. The checks stand in doctor_host.c (what
 * is on this host), doctor_scan.c (Trivy and its database), doctor_policy.c, doctor_dojo.c (spool, DefectDojo, clock),
 * doctor_files.c (what the settings name for talking to others) and doctor_fleet.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"
#include "executor/settings.h"

enum finding_level { LEVEL_OK, LEVEL_WARN, LEVEL_FAIL };

struct checkup_line {
	enum finding_level level;
	char *subject, *text;
	char *fix; /* NULL with LEVEL_OK */
};

struct checkup {
	struct checkup_line *v;
	size_t n;
};

void checkup_free(struct checkup *c); /* what it owns */
#define AUTO_CHECKUP __attribute__((cleanup(checkup_free)))

void checkup_ok(struct checkup *c, const char *subject, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* `fix` says what to do, in one line. */
void checkup_warn(struct checkup *c, const char *subject, const char *fix, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void checkup_fail(struct checkup *c, const char *subject, const char *fix, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

void doctor_host(struct checkup *c, const struct settings *s);
void doctor_scan(struct checkup *c, const struct settings *s);
void doctor_policy(struct checkup *c, const struct settings *s);
/* In a child that is the courier. `project`: whose names are probed, NULL: none was given. */
void doctor_dojo(struct checkup *c, const struct settings *s, const char *project);
/* What hosts share. By the courier: doctor_dojo() asks for it in its child. */
void doctor_fleet(struct checkup *c, const struct settings *s);
/* Files that the settings name. By the courier, too. */
void doctor_files(struct checkup *c, const struct settings *s);
