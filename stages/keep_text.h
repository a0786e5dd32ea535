/*
 * defectdojo.keep_text: DefectDojo's hash of a finding holds its title, description, fix and severity, so an advisory that is
 * reworded closes the finding, opens another, and ends what was accepted (shared/defectdojo/FACTS.md, 1.2 and 1.10). So a finding
 * that was sent before is sent with the texts it was first sent with, which matches; then severity, mitigation and description of
 * the matched finding are brought up to date with PATCH, and nothing else of it. A severity that rises leaves a line in the
 * description (dojo_raised_line()), by which the gate knows what an older acceptance was asked about.
 *
 * The first texts lie in kept.texts_fd, "<delivery_key()>.json", written before anything is sent. Hosts of a fleet have them in their
 * Redis (fleet.h), and this file as a copy: what the Redis knows counts, and what only the file knows (of the time before the Redis, or
 * the Redis has lost it) is put in there. Whoever calls holds the lock of the test.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stages/delivery.h"
#include "stages/dojo.h"
#include "stages/fleet.h"
#include "stages/kept.h"

#define KEEP_TEXT_REPORT_MAX (32 * 1024 * 1024) /* bytes; a larger report is sent as it is */
#define KEEP_TEXT_FILE_MAX \
	(64 * 1024 * 1024)	     /* bytes of a test's texts; what is new beyond is sent as it is */
#define KEEP_TEXT_FINDINGS_MAX 50000 /* of a test; further ones are sent as they are */

struct keep_text;

/*
 * Reads the report and what is known of its findings, and puts down what is new. -1: it cannot be known what they were first sent
 * with; sent as they are they could lose their triage, so they had better wait. e->no is EHOSTDOWN where that is so for every test.
 * place: where the hosts keep this test's, NULL: each has its own; it must live as long as *ret.
 */
int keep_text_begin(const struct kept *k, struct fleet_place *place, const struct delivery *d,
		    const struct delivery_file *f, int64_t deadline, struct keep_text **ret, struct err *e);
void keep_text_free(struct keep_text *t);
MEM_AUTO_DECLARE(keep_text)

/* What is to be sent: `f` and `d` with another report, or as they were. They live as long as `t`, and as what they were made of. */
const struct delivery_file *keep_text_file(const struct keep_text *t);
size_t keep_text_len(const struct keep_text *t); /* bytes of the report in it */
/* What of it is not kept, and goes as it is, for people; NULL: nothing. */
const char *keep_text_missed(const struct keep_text *t);

/*
 * It was delivered into that test: what has changed since DefectDojo was last told is brought up to date there. *ret_n: findings that were
 * changed. -1: some were not; the next delivery tries them again. has_new: the upload made findings there, which are as they were
 * sent, whatever DefectDojo was told before.
 */
int keep_text_end(struct keep_text *t, struct dojo *dojo, int64_t test, bool has_new, int64_t deadline,
		  size_t *ret_n, struct err *e);
