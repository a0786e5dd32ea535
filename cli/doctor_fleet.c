/* The Redis that the hosts of a fleet share for their deliveries (stages/fleet.h), as the courier meets it. */
#include "base/clock.h"
#include "base/str.h"
#include "cli/doctor.h"
#include "stages/fleet.h"

#define ASK_MS 5000

void
doctor_fleet(struct checkup *c, const struct settings *s)
{
	AUTO(fleet) struct fleet *f = fleet_new(&s->opt, NULL);
	bool has_texts = s->opt.defectdojo.keep_text;
	struct fleet_health h;
	struct err e = ERR_INIT;

	if (!f)
		return;
	if (fleet_look(f, clock_deadline(ASK_MS), &h, &e) < 0) {
		checkup_fail(c, "fleet",
			     "see that it is up, its files (key, auth, CA) are right, and its user may GET, SET and EVAL "
			     "on tidewaiter:*",
			     "%s: %s", e.text,
			     has_texts ? "deliveries wait in the spool (defectdojo.keep_text)"
				       : "two hosts may deliver into one test at once");
		return;
	}
	if (has_texts && fleet_may_evict(&h))
		checkup_warn(c, "fleet",
			     "set maxmemory-policy noeviction, or volatile-ttl where it holds results as well",
			     "%s (%s) evicts by %s: first texts may go, and with them what was accepted when an "
			     "advisory is reworded",
			     h.url, h.setting, h.policy);
	else if (has_texts && h.is_known && !h.has_journal)
		checkup_warn(c, "fleet", "set appendonly yes",
			     "%s (%s) writes no journal: what was put there last is lost when it dies", h.url,
			     h.setting);
	else
		checkup_ok(c, "fleet", "%s (%s) serves%s", h.url, h.setting,
			   h.is_known ? "" : "; how it keeps things it does not tell (INFO)");
}
