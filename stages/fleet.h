/*
 * What the hosts of a fleet share of their deliveries, in a Redis: defectdojo.redis, else trivy.results_redis with its files.
 *
 *   tidewaiter:texts:<64 hex>  →  a seal (seal.h) and the texts a test's findings were first sent with (keep_text.h), packed as a
 *                                 result is (result_entry.h); gone when nobody has delivered into the test for a year
 *   tidewaiter:fixes:<64 hex>  →  a seal and since when there are fixes (fix_share.h), packed likewise; one for all
 *   tidewaiter:turn:<64 hex>   →  "<host> <delivery>": who delivers into the test; it ends by itself
 *   tidewaiter:newest:<64 hex> →  a seal and when the newest whole report of a service that was delivered into the test was made
 *
 * The name stands for server, product, engagement and test, so that entries of one test are none of another's, nor of another
 * server's. Only the courier connects.
 *
 * What somebody can do who can write there and lacks the key: take texts away or put older ones back. A host puts in again what
 * the test's file below its own state_dir knows and the Redis does not. What no host knows any more is sent as it is today, which
 * is what happens without kept texts: DefectDojo closes the finding with its triage, and the gate asks again. Older texts tell
 * of less that was brought up to date, which is then looked at once more. Neither ever excuses a finding, since the gate judges its own
 * report. An older time of the newest report lets an old report go after a newer one. An invented entry makes the test's deliveries wait. A turn is a courtesy, not sealed: an invented one holds up a test's deliveries, a
 * lost one lets two hosts deliver at once, as two that share no Redis may.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "stages/delivery.h"
#include "stages/kept.h"
#include "stages/options.h"
#include "stages/seal.h"

#define FLEET_KEEP_S (365 * 24 * 3600)	   /* what nobody has delivered for so long may be forgotten */
#define FLEET_ENTRY_MAX ((size_t)16 << 20) /* bytes of a test's texts, packed */

struct fleet;

/*
 * NULL where the settings name no Redis. Connects and reads its files when first asked; then a Redis that does not serve is not
 * asked again for FLEET_PAUSE_MS. What is pointed to must live as long.
 */
#define FLEET_PAUSE_MS 30000
struct fleet *fleet_new(const struct options *opt, const struct log *log);
void fleet_free(struct fleet *f);
MEM_AUTO_DECLARE(fleet)

/* One test of one server, or since when there are fixes. */
struct fleet_place {
	struct fleet *fleet;
	const char *kind; /* "texts", "fixes" */
	char name[KEPT_NAME_SIZE];
	char newest[KEPT_NAME_SIZE]; /* of the service there: neither of two images in one test is news of the other */
	char seen[SEAL_LEN + 1]; /* the seal of what was read or written here last; "": nothing was there */
};
void fleet_place_of(struct fleet *f, const char *server, const struct delivery *d, struct fleet_place *ret);

void fleet_place_of_fixes(struct fleet *f, struct fleet_place *ret);

/*
 * Entries: 1 with what is there in *json, 0 when nothing is, -1. e->no is EHOSTDOWN where the Redis does not serve anybody. The
 * deadline is shortened to what a Redis may take.
 */
int fleet_read(struct fleet_place *p, int64_t deadline, struct buf *json, struct err *e);
/* 1 when it is there, 0 when another host has written since we read: nothing was changed. */
int fleet_write(struct fleet_place *p, int64_t deadline, const char *json, size_t len, struct err *e);

/*
 * The turn to deliver into the test, for hold_s at most; the host that has it already gets it again for the same delivery, so that what
 * may still be at work after a process died, or an answer never came, keeps the others waiting until its fate is known.
 * FLEET_TAKEN, after a short wait: *ret_holder names the host, owned by the caller. FLEET_UNKNOWN: the Redis does not serve, which is said in the log
 * once: go on without.
 */
enum fleet_turn { FLEET_OURS, FLEET_TAKEN, FLEET_UNKNOWN };
enum fleet_turn fleet_take_turn(const struct fleet_place *p, const char *delivery_id, int64_t hold_s,
				int64_t deadline, char **ret_holder);
void fleet_give_turn(const struct fleet_place *p, const char *delivery_id);

/*
 * Which reports are older than what a test shows. With the turn: when the newest that any host delivered was made, 0: none is known.
 * Notes that one was. Times are DefectDojo's, as far as they are known: those of hosts differ. now_s: the same; what lies further ahead
 * of it than FLEET_AHEAD_MAX_S is of a clock that was wrong, and is written over.
 */
#define FLEET_AHEAD_MAX_S 60
int64_t fleet_newest(const struct fleet_place *p, int64_t deadline);
void fleet_note_delivered(const struct fleet_place *p, int64_t made_s, int64_t now_s);

/* For doctor: whether it serves, with all that we ask of it, and how it keeps things. */
struct fleet_health {
	const char *setting; /* the one it comes from */
	const char *url;
	bool is_known;	  /* it told of what follows */
	bool has_limit;	  /* maxmemory */
	char policy[32];  /* maxmemory-policy */
	bool has_journal; /* appendonly */
};
int fleet_look(struct fleet *f, int64_t deadline, struct fleet_health *ret, struct err *e);
/* It may throw texts away before it throws results away. */
bool fleet_may_evict(const struct fleet_health *h);
