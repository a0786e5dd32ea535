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

/*
 * "excepted until 2026-03-01: exception in line 3 …"; owned by the caller, safe. NULL for one that blocks or is below. A date is the
 * last day that it counts, in UTC; what ends within a day has its time.
 */
char *render_policy_excuse(const struct finding_fate *f);

/*
 * What is excused, a line for each excuse: "CVE-1 in openssl 3.0.11, CVE-2 in curl 7.88: excepted until …", worst first; at most
 * `max` lines, then "and N more".
 */
void render_policy_excused(const struct image *m, size_t max, struct strv *ret);

/* In one line, of all images or of one: "Excused: 1 excepted until 2026-03-01, 2 known." Owned by the caller; NULL: nothing is. */
char *render_policy_sums(const struct inspection *i);
char *render_policy_sums_of(const struct image *m);

/* "what cannot be fixed now can be excepted: ask appsec@example.org"; owned by the caller. NULL where no policy judged. */
char *render_policy_contact(const struct inspection *i);
