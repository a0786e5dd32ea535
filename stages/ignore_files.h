/*
 * What a project says of findings in files that Trivy knows: .trivyignore and .trivyignore.yaml
 * (https://trivy.dev/docs/latest/configuration/filtering/), OpenVEX 0.2 (https://github.com/openvex/spec). Whether any of it counts is
 * a rule's to say (policy.h, ignore_files).
 *
 * Read strictly, and never for more than is surely meant: an entry that is not understood, that names no package where it has to, or
 * that a later statement takes back does not count and is told in `notes`; a file that is malformed does not count at all.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "stages/policy.h"

#define IGNORE_FILE_MAX (1024 * 1024) /* bytes of one file */
#define IGNORE_ENTRIES_MAX 10000      /* of all */
#define IGNORE_PATHS_MAX 50000

/* OpenVEX says that a flaw is one, or is looked into, from then on. */
struct ignore_withdrawal {
	char *id;
	int64_t said_s; /* 0: not known */
};

struct ignore_list {
	struct policy_ignore *v;
	size_t n;
	struct ignore_withdrawal *withdrawn;
	size_t n_withdrawn;
	size_t n_paths, n_statements; /* that were read */
	struct strv notes;	      /* lines for people, safe to print */
};

void ignore_list_free(struct ignore_list *l); /* what it owns */
void ignore_entry_free(struct policy_ignore *g);
#define AUTO_IGNORE_LIST __attribute__((cleanup(ignore_list_free)))

/* What kind of file has this name? False: none of these. Names are those of a commit's tree, "/" between their parts. */
bool ignore_file_kind(const char *name, enum ignore_file *ret);

/* Adds what stands in it. ERR_REFUSED: it is malformed, nothing was added. */
int ignore_file_read(const char *name, const char *text, size_t len, struct ignore_list *l, struct err *e);
