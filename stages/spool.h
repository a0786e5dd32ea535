/*
 * The spool: deliveries on disk, from the moment they are there until DefectDojo has answered for them.
 *
 *   <state_dir>/spool/        0700, owned by the courier user
 *     new/<id>                a delivery (stages/delivery.h)
 *     new/<id>.state          how often it was tried, when, with what answer; JSON
 *     dead/<id>, dead/<id>.state   given up, with the reason
 *     dead/<id>.answer        what the server said at last, as it came (its beginning)
 *     lock/<key>              held while a delivery of that test is being sent or asked for
 *     lock/take               held while one is taken in
 *     lock/usage              what it all amounted to a moment ago
 *     server/<key>            there while a server is not to be asked (spool_breaker)
 *
 * An id is "<time of taking in, to the microsecond>-<key>"; ids grow, whatever the clock does, so that the names alone
 * say what comes first for a test. Any number of processes may use one spool.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "stages/delivery.h"
#include "stages/dojo.h"

#define SPOOL_ID_MAX 64 /* bytes with the NUL */
#define SPOOL_COUNT_DEFAULT 10000
#define SPOOL_SIZE_DEFAULT ((int64_t)4 * 1024 * 1024 * 1024)

struct spool {
	char *path; /* for people */
	char *state_dir;
	int fd, new_fd, dead_fd, lock_fd, server_fd;
};

/* Makes the directories that are missing. A spool that belongs to somebody else is an error that says so. */
int spool_open(const char *state_dir, struct spool **ret, struct err *e);
void spool_free(struct spool *s);
/* Its path still leads to it: nobody has put another directory there. */
bool spool_is_in_place(const struct spool *s);
MEM_AUTO_DECLARE(spool)

/* What is remembered of a delivery's attempts. */
struct spool_state {
	int64_t attempts;  /* times its upload was begun */
	int64_t faults;	   /* attempts and questions in a row that led nowhere */
	int64_t n_500;	   /* times the server fell over it */
	int64_t last_s;	   /* wall clock of the last attempt, 0: none */
	int64_t next_s;	   /* not before */
	int64_t sent_s;	   /* when it was last handed over whole, 0: never */
	int64_t revived_s; /* when a person last wanted it again: it is no older than that; 0: never */
	bool is_sending;   /* written before an attempt: still there means that we died in it */
	bool may_run;	   /* the server may still be at work on it */
	int64_t status;	   /* HTTP, of the last answer; 0: none */
	char *answer;	   /* the last answer, or why it is dead; "" none */
};
void spool_state_free(struct spool_state *s);

struct spool_item {
	char id[SPOOL_ID_MAX];
	bool is_dead;
	uint64_t size;	/* bytes */
	bool is_broken; /* it does not parse: fault says why, delivery is empty */
	struct err fault;
	struct delivery delivery; /* without its report */
	struct spool_state state;
};
struct spool_items {
	struct spool_item *v;
	size_t n;
};
void spool_items_free(struct spool_items *l);
#define AUTO_SPOOL_ITEMS __attribute__((cleanup(spool_items_free)))

/* All of it, oldest first, dead ones last. */
int spool_list(const struct spool *s, struct spool_items *ret, struct err *e);
/* The ids in new/ alone, oldest first; reads no file. */
int spool_ids(const struct spool *s, struct strv *ret, struct err *e);
int spool_dead_ids(const struct spool *s, struct strv *ret, struct err *e); /* the same of dead/ */
/* Those of one test (spool_key()). */
int spool_ids_of(const struct spool *s, const char *key, struct strv *ret, struct err *e);

struct spool_usage {
	size_t n_new, n_dead;
	uint64_t size;	     /* bytes of both */
	int64_t oldest_s;    /* when the oldest in new/ was taken in, 0: none */
	size_t n_superseded; /* spool_take(): removed for the newer one */
};
/* Also clears away what writers that died have left. */
int spool_usage(const struct spool *s, struct spool_usage *ret, struct err *e);

struct spool_bounds {
	int64_t count_max; /* deliveries, dead ones too; 0: SPOOL_COUNT_DEFAULT */
	int64_t size_max;  /* bytes; 0: SPOOL_SIZE_DEFAULT */
	int64_t age_max_s; /* what is older is given up when its turn comes; 0: never */
	/* An older delivery of the same test and service that was never sent goes when a newer one has been taken in. */
	bool supersedes;
};
void spool_bounds_of(const struct options_defectdojo *o, struct spool_bounds *ret);

/*
 * Takes a delivery in: `from` is copied with the head `d`, durably, under a new id (owned by the caller). *ret_usage, with it
 * counted in, is for a warning. ERR_NO_SPACE when a bound or the disk is reached: then nothing was stored.
 */
int spool_take(struct spool *s, const struct delivery *d, const struct delivery_file *from,
	       const struct spool_bounds *bounds, char **ret_id, struct spool_usage *ret_usage, struct err *e);
/* Over half of a bound: for a warning long before it bites. */
bool spool_is_nearly_full(const struct spool_usage *u, const struct spool_bounds *bounds);
bool spool_is_getting_old(const struct spool_usage *u, const struct spool_bounds *bounds);
/* One line that says so, NULL when neither is; owned by the caller. */
char *spool_warning(const struct spool *s, const struct spool_usage *u, const struct spool_bounds *bounds);

/*
 * The breaker of one server: after an answer that any delivery would get (dojo_answer.is_server_wide) nobody asks it for a
 * while, which grows with every fault up to an hour. Then one process tries; the others go on waiting until that has an
 * answer. Kept on disk, so it holds for all processes and from run to run. The key is dojo_settings_key(): a new token is
 * tried at once.
 */
struct spool_breaker {
	bool is_open;
	int64_t faults;	  /* in a row */
	int64_t until_s;  /* wall clock */
	int64_t opened_s; /* when the first of them was */
	char reason[512]; /* for people */
};
/* A breaker that cannot be read is closed. */
void spool_breaker_look(const struct spool *s, const char *key, struct spool_breaker *ret);
/*
 * The same, and where its time has passed one process tries: is_open is false for it, and true for all others until it has closed
 * the descriptor that is returned, or died. -1: nothing is to be closed.
 */
int spool_breaker_enter(const struct spool *s, const char *key, struct spool_breaker *ret);
/* retry_after_s: at least so long; *ret_until_s: until then. */
int spool_breaker_open(const struct spool *s, const char *key, const char *reason, int64_t base_s,
		       int64_t retry_after_s, int64_t *ret_until_s, struct err *e);
void spool_breaker_close(const struct spool *s, const char *key);
/* "DefectDojo is not asked for 5 min, after 3 faults: …"; owned by the caller. */
char *spool_breaker_describe(const struct spool_breaker *b);
/* Doubles from base_s up to an hour; the last fifth is dice, so that many hosts do not come back at once. */
int64_t spool_backoff_s(int64_t base_s, int64_t faults);

/* Wanted by a person. "Not there" is an error, and so is one that is just being sent. */
int spool_drop(struct spool *s, const char *id, struct err *e);
int spool_retry(struct spool *s, const char *id, struct err *e); /* due at once; a dead one is alive again */

enum spool_end {
	SPOOL_DELIVERED,
	SPOOL_LATER, /* tried; it stays */
	SPOOL_DIED,  /* tried; it went into dead/ */
	SPOOL_SKIPPED /* not tried: not due, an older one of its test is there, another process is at it, or gone */
};

struct spool_result {
	enum spool_end end;
	bool was_found;		   /* SPOOL_DELIVERED: an earlier attempt had landed, nothing was sent now */
	bool is_open;		   /* SPOOL_LATER: it was sent whole and its fate is not known yet */
	bool is_gone;		   /* SPOOL_SKIPPED: another process has dealt with it */
	bool is_server_wide;	   /* others to this server need not be tried now */
	int64_t next_s;		   /* SPOOL_LATER: wall clock of the next attempt */
	struct dojo_answer answer; /* reason: always set, for people */
	size_t n_updated;	   /* SPOOL_DELIVERED: findings that were brought up to date (keep_text.h) */
	char *shortfall; /* the line of dojo_is_short(), NULL when it adds up; owned by the caller */
};
void spool_result_free(struct spool_result *r);
#define AUTO_SPOOL_RESULT __attribute__((cleanup(spool_result_free)))
/* "delivered: 1 new, 3 known, 2 closed (test 12)", "waits in the spool until 14:02: …"; owned by the caller. */
char *spool_describe(const struct spool_result *r);

struct spool_send_options {
	int64_t timeout_ms; /* how long an upload may still be at work on the server after it was sent */
	bool is_forced; /* due or not, too old or not, breaker or not; never before the fate of an earlier attempt is known */
	int64_t age_max_s;   /* as in spool_bounds */
	bool keep_text;	     /* defectdojo.keep_text */
	struct fleet *fleet; /* what the hosts share (fleet.h); NULL: this one is alone */
	const char *server;  /* base URL: whose test it is, with a fleet */
	const char *breaker; /* dojo_settings_key() of the server; NULL: none */
};

/*
 * Tries one delivery: asks first whether an earlier attempt landed, then sends it, and puts down what came of it
 * before it returns. One per test at a time, the oldest first. -1 for faults on our side; the delivery stays.
 */
int spool_send(struct spool *s, const char *id, struct dojo *dojo, const struct spool_send_options *o,
	       int64_t deadline, struct spool_result *ret, struct err *e);

/* For spool*.c: state beside a delivery in dirfd; absent: zeros. Unreadable ones count as sent, to be safe. */
int spool_state_read(int dirfd, const char *id, struct spool_state *ret, struct err *e);
int spool_state_write(int dirfd, const char *id, const struct spool_state *st, struct err *e); /* durable */
int spool_state_note(int dirfd, const char *id, const struct spool_state *st, struct err *e);  /* not so */
const char *spool_key(const char *id); /* the part behind the time */
bool spool_is_id(const char *name);
int spool_lock(const struct spool *s, const char *key, int64_t deadline, struct err *e); /* descriptor */
/* Gives a lock back; its file goes when no delivery of its test is left. */
void spool_unlock(const struct spool *s, const char *key, int fd);
int spool_remove(int dirfd, const char *id, struct err *e); /* delivery, then what lies beside it; durable */
/* `answer` may be NULL: nothing came. */
int spool_bury(struct spool *s, const char *id, const struct spool_state *st,
	       const struct dojo_answer *answer, struct err *e);
/* Every id in a directory, in no order, until `each` gives false. */
int spool_each_id(int dirfd, bool (*each)(const char *id, void *arg), void *arg, struct err *e);
