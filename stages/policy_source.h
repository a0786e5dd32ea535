/*
 * Where a policy comes from: bytes, fetched before the scanner starts by whoever may (root or the courier), read by the scanner.
 * One that is configured and cannot be had leaves every verdict undecided; never does the section gate judge instead.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "stages/options.h"

struct policy_source {
	char *text; /* NULL: none is configured, or none was ever had */
	size_t len;
	char *name;		  /* for messages with a line: "/etc/tidewaiter/policy.yml" */
	char *origin;		  /* for people: "file /etc/tidewaiter/policy.yml" */
	int64_t fetched_s;	  /* seconds since the epoch: when these bytes were got */
	char *note;		  /* NULL, or a line for people: why it is an older version */
	struct err fault;	  /* with a text: that is too old to judge, and only says how strict it was */
	struct policy_feed *feed; /* policy_feed.h; not NULL: it is on its way, and the rest is empty */
};

static inline bool
policy_source_is_configured(const struct options_policy *o)
{
	return !str_is_empty(o->file) || !str_is_empty(o->url);
}

/* Does not fail: what goes wrong is `fault`. `ret` is empty at the call. */
void policy_source_load(const struct options_policy *o, struct policy_source *ret);
void policy_source_free(struct policy_source *s); /* what it owns */
#define AUTO_POLICY_SOURCE __attribute__((cleanup(policy_source_free)))
