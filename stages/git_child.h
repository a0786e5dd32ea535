/*
 * Work with libgit2 (https://libgit2.org, 1.5 and later) in a process of its own. That library reads what strangers wrote and has no deadlines
 * of its own, so it lives in a child that is killed when its time is over; what the child found comes back as bytes.
 *
 * Nothing of the host rules what it does: no configuration of the system or a user, no templates, no helpers for credentials,
 * no proxy of the environment. Every object that is read is hashed and compared with its name.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct git_limits {
	int64_t deadline;    /* CLOCK_MONOTONIC ms */
	uint64_t memory_max; /* RLIMIT_AS in bytes, 0: none */
	uint64_t file_max;   /* RLIMIT_FSIZE in bytes */
	size_t answer_max;   /* bytes */
	const int *stop_fd;  /* it is killed when this becomes readable; NULL: none */
	const char *home;    /* $HOME for it, where SSH's known_hosts are looked for; NULL: none */
};

/* In the child: 0 and what it adds to `out`, or -1. `out` is limited to answer_max. */
typedef int git_work(void *arg, struct buf *out, struct err *e);

/* ERR_TIMEOUT when it was killed at its deadline. The child dies with us. `ret` is empty at the call. */
int git_child_run(const struct git_limits *l, git_work *work, void *arg, struct buf *ret, struct err *e);

/* libgit2's last error behind the words given, fit for people. */
int git_fault(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
