#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/str.h"
#include "cli/doctor.h"
#include "stages/trivy.h"
#include "stages/trivy_db.h"
#include "stages/trivy_server.h"

static void
check_digest(struct checkup *c, const struct options_trivy *o)
{
	AUTO_FD int fd = open(o->path, O_RDONLY | O_CLOEXEC);
	char digest[HASH_DIGEST_MAX];
	struct err e = ERR_INIT;

	if (fd < 0 || hash_of_fd(HASH_SHA256, fd, digest, &e) < 0)
		return; /* the version's line says it */
	if (str_eq(digest + strlen("sha256:"), o->sha256))
		checkup_ok(c, "trivy", "its SHA-256 is trivy.sha256");
	else
		checkup_fail(c, "trivy", "find out who changed it; after an upgrade, set trivy.sha256 anew",
			     "%s has %s, trivy.sha256 is %s", o->path, digest, o->sha256);
}

static void
check_trivy(struct checkup *c, const struct options_trivy *o)
{
	AUTO_FREE char *version = NULL;
	struct err e = ERR_INIT;

	if (trivy_ask_version(o->path, &version, &e) < 0)
		checkup_fail(c, "trivy", "install Trivy, or set trivy.path to where it is", "%s", e.text);
	else if (trivy_check_version(version, &e) < 0)
		checkup_fail(c, "trivy", "install a version that is supported", "%s: %s", o->path, e.text);
	else
		checkup_ok(c, "trivy", "%s, version %s", o->path, version);
	if (*o->sha256)
		check_digest(c, o);
}

static void
check_db(struct checkup *c, const struct options_trivy *o)
{
	struct trivy_db db = { 0 };
	struct err e = ERR_INIT;
	AUTO_FREE char *age = NULL, *max = NULL;

	if (trivy_db_check(o->db_dir, clock_wall_s(), o->db_max_age, &db, &e) < 0) {
		checkup_fail(c, "database",
			     "sudo tidewaiter db update, db import without a network, or set trivy.db_dir to where one is kept",
			     "%s", e.text);
		return;
	}
	age = str_human_duration(db.age_ms > 0 ? db.age_ms : 0);
	max = str_human_duration(o->db_max_age);
	if (o->db_max_age > 0 && db.age_ms > o->db_max_age / 4 * 3)
		checkup_warn(c, "database", "see whether what runs tidewaiter db update still does",
			     "%s is %s old, at most %s are allowed", o->db_dir, age, max);
	else
		checkup_ok(c, "database", "%s, %s old", o->db_dir, age);
}

static void
check_server(struct checkup *c, const struct options_trivy *o)
{
	struct trivy_db db = { 0 };
	struct err e = ERR_INIT;
	AUTO_FREE char *age = NULL;
	char version[32];

	if (trivy_server_look(o, clock_wall_s(), &db, version, &e) < 0) {
		checkup_fail(c, "server", "until it answers with a young database every verdict is undecided",
			     "%s: %s", o->server, e.text);
		return;
	}
	age = str_human_duration(db.age_ms > 0 ? db.age_ms : 0);
	checkup_ok(c, "server", "%s, Trivy %s, its database %s old", o->server, version, age);
}

void
doctor_scan(struct checkup *c, const struct settings *s)
{
	const struct options_trivy *o = &s->opt.trivy;
	struct err e = ERR_INIT;

	check_trivy(c, o);
	/* the server's database is judged, then, and no other */
	if (*o->server)
		check_server(c, o);
	else
		check_db(c, o);
	if (!*o->java_db_dir)
		return;
	if (trivy_java_db_check(o->java_db_dir, &e) == 0)
		checkup_ok(c, "java index", "%s", o->java_db_dir);
	else if (access(o->java_db_dir, F_OK) < 0 && o->java_db_repositories.n == 0)
		checkup_ok(c, "java index", "none is wanted (trivy.java_db_repositories: [])");
	else if (access(o->java_db_dir, F_OK) < 0)
		checkup_warn(c, "java index",
			     "sudo tidewaiter db update; who has no Java in images needs none",
			     "%s is not there: images with Java in them are undecided", o->java_db_dir);
	else
		checkup_fail(c, "java index", "sudo tidewaiter db update", "%s", e.text);
}
