/*
 * Spool, token, DefectDojo and the clock, seen as the courier sees them: in a child that became that user. Its lines
 * come back as JSON through a pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"
#include "cli/courier.h"
#include "cli/doctor.h"
#include "stages/dojo.h"
#include "stages/dojo_read.h"
#include "stages/job_facts.h"
#include "stages/spool.h"

#define ASK_MS 20000
#define LINES_MAX (1024 * 1024) /* bytes */
#define SKEW_WARN_S 60
#define OLD_S (24 * 3600)

/* ---- the spool ---- */

static void
check_spool(struct checkup *c, const struct settings *s)
{
	const struct options_defectdojo *o = &s->opt.defectdojo;
	struct spool_bounds bounds;
	AUTO(spool) struct spool *spool = NULL;
	AUTO_SPOOL_ITEMS struct spool_items items = { 0 };
	struct spool_usage u;
	struct err e = ERR_INIT;
	AUTO_FREE char *size = NULL, *warning = NULL, *path = mem_printf("%s/spool", s->state_dir);

	/* Looking makes nothing. */
	if (access(path, F_OK) < 0 && errno == ENOENT) {
		/* below a directory of root's the courier cannot make it, and reports are lost */
		if (faccessat(AT_FDCWD, s->state_dir, W_OK, AT_EACCESS) < 0)
			checkup_fail(c, "spool", "sudo tidewaiter setup",
				     "%s is not there, and no report is kept or sent", path);
		else
			checkup_ok(c, "spool", "%s: made by the first delivery", path);
		return;
	}
	if (spool_open(s->state_dir, &spool, &e) < 0 || spool_usage(spool, &u, &e) < 0 ||
	    spool_list(spool, &items, &e) < 0) {
		checkup_fail(c, "spool", "sudo tidewaiter setup", "%s", e.text);
		return;
	}
	spool_bounds_of(o, &bounds);
	size = str_human_size(u.size);
	warning = spool_warning(spool, &u, &bounds);
	if (warning)
		checkup_fail(c, "spool",
			     "tidewaiter spool list; mend what it says, then tidewaiter spool flush", "%s",
			     warning);
	else if (u.n_dead > 0)
		checkup_warn(c, "spool",
			     "tidewaiter spool list says why; then spool retry --dead, or spool drop",
			     "%zu report%s wait%s, %zu %s given up", u.n_new, u.n_new == 1 ? "" : "s",
			     u.n_new == 1 ? "s" : "", u.n_dead, u.n_dead == 1 ? "was" : "were");
	else if (items.n > 0 && items.v[0].delivery.created_s > 0 &&
		 items.v[0].delivery.created_s < clock_wall_s() - OLD_S && *o->url)
		checkup_warn(c, "spool",
			     "tidewaiter spool list says why; put tidewaiter spool flush into a timer",
			     "%zu report%s, the oldest for more than a day", u.n_new,
			     u.n_new == 1 ? " waits" : "s wait");
	else
		checkup_ok(c, "spool", "%zu report%s waiting, %s", u.n_new, u.n_new == 1 ? "" : "s", size);
}

/* ---- the clock ---- */

static void
check_clock(struct checkup *c, int64_t server_s)
{
	int64_t skew_s = server_s - clock_wall_s();
	struct timex t = { 0 };
	int state = adjtimex(&t);

	if (server_s > 0 && (skew_s > SKEW_WARN_S || skew_s < -SKEW_WARN_S))
		checkup_warn(c, "clock", "let NTP set the clock of this host, or of the server",
			     "DefectDojo's clock is %lld s %s ours: ages of databases and reports are wrong",
			     (long long)(skew_s < 0 ? -skew_s : skew_s), skew_s < 0 ? "behind" : "ahead of");
	else if (server_s > 0)
		checkup_ok(c, "clock", "the same as DefectDojo's");
	else if (state == TIME_ERROR || (t.status & STA_UNSYNC))
		checkup_warn(c, "clock", "run systemd-timesyncd, chrony or ntpd",
			     "nothing keeps the clock in time");
	else
		checkup_ok(c, "clock", "kept in time");
}

/* ---- DefectDojo ---- */

struct names {
	struct job_facts job;
	char scratch[JOB_FACTS_SCRATCH];
};

/* What the image would say is made up: only product type, product and engagement decide about permission. */
static const char *
value_of(const char *name, void *arg)
{
	struct names *n = arg;

	if (str_eq(name, "image") || str_eq(name, "tag") || str_eq(name, "archive"))
		return "doctor";
	return job_facts_value(&n->job, name, n->scratch);
}

static int
expand_names(const struct options_defectdojo *o, const char *project, struct delivery *d, struct err *e)
{
	struct names n = { .job = { .project_path = (char *)(uintptr_t)project,
				    .ref = (char *)(uintptr_t) "doctor",
				    .name = (char *)(uintptr_t) "doctor",
				    .stage = (char *)(uintptr_t) "doctor",
				    .sha = (char *)(uintptr_t) "0000000000000000000000000000000000000000",
				    .server_url = (char *)(uintptr_t) "",
				    .project_url = (char *)(uintptr_t) "",
				    .default_branch = (char *)(uintptr_t) "" } };

	if (str_expand(o->product_type, value_of, &n, &d->product_type, e) < 0 ||
	    str_expand(o->product, value_of, &n, &d->product, e) < 0 ||
	    str_expand(o->engagement, value_of, &n, &d->engagement, e) < 0 ||
	    str_expand(o->test, value_of, &n, &d->test, e) < 0 ||
	    str_expand(o->service, value_of, &n, &d->service, e) < 0)
		return -1;
	d->build_id = mem_strdup("doctor");
	delivery_fit(d);
	return 0;
}

static void
check_permission(struct checkup *c, struct dojo *dojo, const struct options_defectdojo *o,
		 const char *project, int64_t *ret_date_s)
{
	AUTO_DELIVERY struct delivery d = { 0 };
	struct dojo_probe p;
	struct err e = ERR_INIT;

	if (expand_names(o, project ? project : "tidewaiter/doctor", &d, &e) < 0) {
		checkup_fail(c, "defectdojo", "mend the template", "%s", e.text);
		return;
	}
	if (dojo_probe(dojo, &d, clock_deadline(ASK_MS), &p, &e) < 0) {
		checkup_fail(c, "defectdojo", dojo_fix(dojo), "%s", e.text);
		return;
	}
	*ret_date_s = p.answer.date_s;
	if (p.is_accepted)
		checkup_ok(c, "permission", "the token may upload to product %s of product type %s",
			   d.product, d.product_type);
	else if (!project && p.answer.status == 403 && !p.answer.is_server_wide)
		checkup_warn(c, "permission", "tidewaiter doctor --as GROUP/PROJECT asks for a real project",
			     "not proven: %s", p.answer.reason);
	else
		checkup_fail(c, "permission", p.answer.fix, "%s", p.answer.reason);
}

static bool
check_token(struct checkup *c, struct dojo *dojo, const struct options_defectdojo *o)
{
	struct dojo_user u = { 0 };
	struct err e = ERR_INIT;
	AUTO_FREE char *version = NULL;

	if (dojo_whoami(dojo, clock_deadline(ASK_MS), &u, &e) < 0) {
		checkup_fail(c, "defectdojo", dojo_fix(dojo), "%s: %s", o->url, e.text);
		return false;
	}
	if (dojo_version(dojo, clock_deadline(ASK_MS), &version, &e) < 0)
		checkup_ok(c, "defectdojo", "%s answers; the token is that of %s", o->url, u.name);
	else
		checkup_ok(c, "defectdojo", "%s, version %s; the token is that of %s", o->url, version,
			   u.name);
	if (u.is_staff || u.is_superuser)
		checkup_warn(c, "token",
			     "give it to a user of its own that is a member of the product types alone",
			     "%s is %s: whoever reads the token has all of DefectDojo", u.name,
			     u.is_superuser ? "superuser" : "staff");
	mem_free_at(&u.name);
	return true;
}

#define HASH_SETTING \
	"DD_HASHCODE_FIELDS_PER_SCANNER='{\"Trivy Scan\":[\"title\",\"vulnerability_ids\",\"file_path\"]}'"

/* What a finding's identity there depends on: with Trivy's words in it, an advisory that is reworded ends what was accepted. */
static void
check_identity(struct checkup *c, struct dojo *dojo, const struct options_defectdojo *o)
{
	static const char *const changing[] = { "severity", "description", "mitigation", "cwe" };
	AUTO_STRV struct strv fields = { 0 };
	AUTO_FREE char *all = NULL;
	struct err e = ERR_INIT;
	bool is_changing = false;

	if (dojo_read_hash_fields(dojo, clock_deadline(ASK_MS), &fields, &e) < 0) {
		checkup_warn(c, "identity", "see the lines on the token",
			     "which fields make a finding is not known: %s", e.text);
		return;
	}
	if (fields.n == 0)
		return;
	all = strv_join(&fields, ", ");
	for (size_t k = 0; k < MEM_COUNT(changing); k++)
		is_changing = is_changing || strv_has(&fields, changing[k]);
	if (!is_changing)
		checkup_ok(c, "identity",
			   "DefectDojo knows a finding by %s: it stays itself when an advisory is reworded",
			   all);
	else if (o->keep_text)
		checkup_ok(c, "identity",
			   "DefectDojo knows a finding by %s; defectdojo.keep_text keeps these the same", all);
	else
		checkup_warn(c, "identity",
			     "set defectdojo.keep_text: true; or on the server, which then shows old severities and "
			     "texts: " HASH_SETTING " and restart it",
			     "DefectDojo knows a finding by %s: a reworded advisory, a fix or another severity ends its triage",
			     all);
}

/* Seconds of the server's clock, 0 where nobody answered. */
static int64_t
check_server(struct checkup *c, const struct settings *s, const char *project)
{
	const struct options_defectdojo *o = &s->opt.defectdojo;
	struct dojo_settings ds;
	AUTO(dojo) struct dojo *dojo = NULL;
	struct err e = ERR_INIT;
	int64_t date_s = 0;

	if (!*o->url) {
		checkup_warn(c, "defectdojo", "set defectdojo.url and token_file, if there is one",
			     "not configured: reports wait in the spool");
		return 0;
	}
	dojo_settings_of(o, &ds);
	if (dojo_new(&ds, &dojo, &e) < 0)
		checkup_fail(c, "token",
			     "do what the lines on files say; the URL is defectdojo.url. Until then reports wait",
			     "%s", e.text);
	else if (check_token(c, dojo, o)) {
		check_permission(c, dojo, o, project, &date_s);
		check_identity(c, dojo, o);
	}
	return date_s;
}

/* ---- the child ---- */

static void
look(struct checkup *c, const struct settings *s, const char *project)
{
	struct err e = ERR_INIT;

	if (courier_become(s, &e) < 0) {
		checkup_fail(c, "courier", "sudo tidewaiter setup", "%s", e.text);
		return;
	}
	doctor_files(c, s);
	check_spool(c, s);
	doctor_fleet(c, s);
	check_clock(c, check_server(c, s, project));
}

static char *
pack(const struct checkup *c)
{
	AUTO_JSON cJSON *list = cJSON_CreateArray();

	for (size_t i = 0; i < c->n; i++) {
		cJSON *line = cJSON_CreateObject();

		json_add_int(line, "level", c->v[i].level);
		json_add_str(line, "subject", c->v[i].subject);
		json_add_str(line, "text", c->v[i].text);
		json_add_str(line, "fix", c->v[i].fix);
		cJSON_AddItemToArray(list, line);
	}
	return json_print(list);
}

static void
unpack(struct checkup *c, const cJSON *list)
{
	const cJSON *line;

	cJSON_ArrayForEach(line, list)
	{
		const char *subject = json_str(line, "subject"), *text = json_str(line, "text");
		const char *fix = json_str(line, "fix");

		switch ((enum finding_level)json_int(line, "level", LEVEL_FAIL)) {
		case LEVEL_OK:
			checkup_ok(c, subject ? subject : "", "%s", text ? text : "");
			break;
		case LEVEL_WARN:
			checkup_warn(c, subject ? subject : "", fix, "%s", text ? text : "");
			break;
		case LEVEL_FAIL:
			checkup_fail(c, subject ? subject : "", fix, "%s", text ? text : "");
			break;
		}
	}
}

static void
be_child(int to, const struct settings *s, const char *project)
{
	AUTO_CHECKUP struct checkup own = { 0 };
	AUTO_FREE char *text = NULL;

	look(&own, s, project);
	text = pack(&own);
	_exit(fs_write_all(to, text, strlen(text), NULL) == 0 ? 0 : 1);
}

void
doctor_dojo(struct checkup *c, const struct settings *s, const char *project)
{
	AUTO_FREE char *text = NULL;
	AUTO_JSON cJSON *list = NULL;
	struct err e = ERR_INIT;
	size_t len = 0;
	int ends[2], status = 0, rc;
	pid_t pid;

	fflush(NULL);
	pid = pipe2(ends, O_CLOEXEC) < 0 ? -1 : fork();
	if (pid < 0) {
		checkup_fail(c, "courier", "see the limits of this user", "%s", strerror(errno));
		return;
	}
	if (pid == 0) {
		close(ends[0]);
		be_child(ends[1], s, project);
	}
	close(ends[1]);
	rc = fs_read_fd_max(ends[0], LINES_MAX, &text, &len, &e);
	close(ends[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc < 0 || status != 0 || json_parse(text, len, LINES_MAX, 0, &list, &e) < 0)
		checkup_fail(c, "courier", "this is a fault of Tidewaiter: report it",
			     "the check of DefectDojo ended early");
	else
		unpack(c, list);
}
