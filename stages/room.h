/*
 * Room on the disk that inspections of a host promise each other: before bytes are written they are announced, and what others
 * have announced and may not have written yet does not count as free. A claim is a locked file with a number in it,
 * so that whoever dies lets go.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

struct room_claim;

/*
 * `bytes` on the file system of work_fd. Where others' claims are in the way it waits for them until the deadline; where nobody's
 * are, or then, ERR_NO_SPACE. `what` stands in the message: "the layers have". claims_fd -1: others do not count.
 */
int room_claim(int claims_fd, int work_fd, uint64_t bytes, const char *what, int64_t deadline,
	       struct room_claim **ret, struct err *e);
void room_claim_free(struct room_claim *c); /* all is written, or will not be */
MEM_AUTO_DECLARE(room_claim)
