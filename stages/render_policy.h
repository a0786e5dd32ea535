/*
 * What a policy adds to the words on an inspection: which rule judged, what was excused, by whom and until when, what is
 * announced, and who may except a finding. For the job log and the page; pure.
 */
#pragma once

#include "base/buf.h"
#include "stages/inspection.h"
#include "stages/policy.h"

/* The inspection was judged by a policy, not by the section gate alone. */
bool render_has_policy(const struct inspection *i);

/* "rule prod of file /etc/tidewaiter/policy.yml"; owned by the caller, safe to print. NULL where no policy judged. */
char *render_policy_rule(const struct inspection *i, const struct image *m);

/* "excepted until 2026-03-01: exception in line 3 …"; owned by the caller, safe. NULL for one that blocks or is below. */
char *render_policy_excuse(const struct finding_fate *f);

/*
 * A line each: "CVE-1 in openssl 3.0.11: excepted until …", worst first; at most `max`, then "and N more". Then what is
 * announced, and what a job asked for and does not get.
 */
void render_policy_excused(const struct image *m, size_t max, struct strv *ret);

/* "what cannot be fixed now can be excepted: ask appsec@example.org"; owned by the caller. NULL where no policy judged. */
char *render_policy_contact(const struct inspection *i);
