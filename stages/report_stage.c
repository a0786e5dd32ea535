#include "stages/report_stage.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "stages/baseline.h"
#include "stages/delivery_mend.h"
#include "stages/identity.h"
#include "stages/page_link.h"
#include "stages/policy.h"
#include "stages/render_html.h"
#include "stages/render_json.h"
#include "stages/render_log.h"
#include "stages/render_policy.h"
#include "stages/render_quality.h"

#define SECTION "tidewaiter_inspection"
#define REPORT_MODE 0644
#define PAGE_SUFFIX ".html"

/* --- names --------------------------------------------------------------------------------------------------- */

/* The version of an image: what is behind the last colon of its first tag, unless that is a port; a bare tag itself. */
static char *
tag_of(const struct image *m)
{
	const char *tag = m->tags.n > 0 ? m->tags.v[0] : "";
	const char *colon = strrchr(tag, ':');

	if (!strpbrk(tag, "/:@"))
		return mem_strdup(tag);
	return mem_strdup(colon && !strchr(colon, '/') ? colon + 1 : "");
}

/* --- deliveries ------------------------------------------------------------------------------------------------ */

struct names {
	const struct inspection *i;
	const struct image *m;
	char *image, *tag;
	char scratch[JOB_FACTS_SCRATCH];
};

static void
names_free(struct names *n)
{
	mem_free_at(&n->image);
	mem_free_at(&n->tag);
}

static const char *
value_of(const char *name, void *arg)
{
	struct names *n = arg;

	if (str_eq(name, "image"))
		return n->image;
	if (str_eq(name, "tag"))
		return n->tag;
	if (str_eq(name, "archive"))
		return n->m->report_name;
	return job_facts_value(n->i->job, name, n->scratch);
}

static int
expand(const char *setting, const char *tmpl, struct names *n, char **ret, struct err *e)
{
	if (str_expand(tmpl, value_of, n, ret, e) < 0)
		return err_wrap(e, "defectdojo.%s", setting);
	return 0;
}

/* A copy of an object's members that are not null, without those named in `but`. */
static cJSON *
copy_without(const cJSON *o, const char *const *but)
{
	cJSON *copy = cJSON_CreateObject();
	const cJSON *member;

	cJSON_ArrayForEach(member, o)
	{
		bool is_out = cJSON_IsNull(member);

		for (const char *const *name = but; *name && !is_out; name++)
			is_out = str_eq(*name, member->string);
		if (!is_out)
			cJSON_AddItemToObject(copy, member->string, cJSON_Duplicate(member, true));
	}
	return copy;
}

static cJSON *
normal_result(const struct report *r, const cJSON *result, const char *image)
{
	/* Packages are most of a report and nothing to DefectDojo. */
	static const char *const but[] = { "Target",  "Packages",	   "Vulnerabilities",
					   "Secrets", "Misconfigurations", "Licenses",
					   NULL };
	cJSON *copy = copy_without(result, but);
	AUTO_FREE char *target = identity_target(r, json_str(result, "Target"), image);

	json_add_str(copy, "Target", target);
	for (const char *const *name = but + 2; *name; name++) {
		const cJSON *list = json_array(result, *name);

		if (list && cJSON_GetArraySize(list) > 0)
			cJSON_AddItemToObject(copy, *name, cJSON_Duplicate(list, true));
	}
	return copy;
}

static cJSON *
normal_report(const struct report *r, const char *image)
{
	/* The image's config holds its environment; what DefectDojo does not read stays here. */
	static const char *const but[] = { "Results", "ArtifactName", "Metadata", NULL };
	cJSON *copy = copy_without(r->json, but);
	cJSON *results;
	const cJSON *result;

	json_add_str(copy, "ArtifactName", image);
	results = json_add_array(copy, "Results");
	cJSON_ArrayForEach(result, json_array(r->json, "Results"))
		cJSON_AddItemToArray(results, normal_result(r, result, image));
	return copy;
}

static const char *
minimum_severity_word(int n)
{
	static const char *const words[] = { "", "Info", "Low", "Medium", "High", "Critical" };

	return n > 0 && (size_t)n < MEM_COUNT(words) ? words[n] : "";
}

static int
expand_names(const struct options_defectdojo *o, struct names *n, struct delivery *d, struct err *e)
{
	if (expand("product_type", o->product_type, n, &d->product_type, e) < 0 ||
	    expand("product", o->product, n, &d->product, e) < 0 ||
	    expand("engagement", o->engagement, n, &d->engagement, e) < 0 ||
	    expand("test", o->test, n, &d->test, e) < 0 ||
	    expand("service", o->service, n, &d->service, e) < 0 ||
	    expand("environment", o->environment, n, &d->environment, e) < 0)
		return -1;
	for (size_t k = 0; k < o->tags.n; k++) {
		char *tag;

		if (expand("tags", o->tags.v[k], n, &tag, e) < 0)
			return -1;
		strv_take(&d->tags, tag);
	}
	return 0;
}

/* One name as it is delivered: `member` of `d`, which is empty at the call. `image`: identity_image(). */
static char *
delivered_name(const struct inspection *i, const struct image *m, const char *image, const char *what,
	       const char *tmpl, struct delivery *d, char **member)
{
	__attribute__((cleanup(names_free))) struct names n = { .i = i, .m = m, .image = mem_strdup(image) };
	struct err ignored = ERR_INIT;

	n.tag = tag_of(m);
	if (expand(what, tmpl, &n, member, &ignored) < 0)
		return NULL;
	delivery_fit(d);
	return take_ptr(*member);
}

static char *
delivered_service(const struct inspection *i, const struct image *m, const char *image)
{
	AUTO_DELIVERY struct delivery d = { 0 };

	return delivered_name(i, m, image, "service", i->opt->defectdojo.service, &d, &d.service);
}

static char *
delivered_product(const struct inspection *i, const struct image *m, const char *image)
{
	AUTO_DELIVERY struct delivery d = { 0 };

	return delivered_name(i, m, image, "product", i->opt->defectdojo.product, &d, &d.product);
}

static char *
delivered_engagement(const struct inspection *i, const struct image *m, const char *image)
{
	AUTO_DELIVERY struct delivery d = { 0 };

	return delivered_name(i, m, image, "engagement", i->opt->defectdojo.engagement, &d, &d.engagement);
}

static char *
delivered_test(const struct inspection *i, const struct image *m, const char *image)
{
	AUTO_DELIVERY struct delivery d = { 0 };

	return delivered_name(i, m, image, "test", i->opt->defectdojo.test, &d, &d.test);
}

char *
report_service(const struct inspection *i, const struct image *m)
{
	AUTO_FREE char *image = identity_image(i, m);

	return delivered_service(i, m, image);
}

char *
report_product(const struct inspection *i, const struct image *m)
{
	AUTO_FREE char *image = identity_image(i, m);

	return delivered_product(i, m, image);
}

char *
report_branch(const struct job_facts *job)
{
	AUTO_DELIVERY struct delivery d = { .branch = job_facts_branch_tag(job) };

	delivery_fit(&d);
	return take_ptr(d.branch);
}

bool
report_place_on(const struct inspection *i, const struct image *m, const char *branch,
		char out[static KEPT_KEY_SIZE], char delivered[static KEPT_KEY_SIZE])
{
	AUTO_FREE char *ref = mem_strdup(branch), *image = identity_image(i, m);
	AUTO_FREE char *product = NULL, *engagement = NULL, *service = NULL, *test = NULL;
	struct job_facts job = *i->job;
	struct inspection there = *i;

	job.ref = ref;
	job.is_tag = false;
	there.job = &job;
	product = delivered_product(&there, m, image);
	engagement = delivered_engagement(&there, m, image);
	service = delivered_service(&there, m, image);
	test = delivered_test(&there, m, image);
	if (!product || !engagement || !service || !test)
		return false;
	baseline_place(product, engagement, service, out);
	baseline_delivered(product, engagement, test, delivered);
	return true;
}

static void
say_mended(const struct inspection *i, const struct image *m, const struct delivery_mending *d)
{
	static const char *const went[] = {
		[MEND_DROPPED_LINKS] = "links and scores", [MEND_CUT_TEXTS] = "links, scores and long descriptions"
	};
	AUTO_FREE char *label = str_safe(m->label, 100);

	if (d->n_shortened > 0 || d->n_dropped > 0)
		log_line(i->log, LOG_NOTE,
			 "%s: for DefectDojo %zu values were shortened and %zu unreadable entries left out",
			 label, d->n_shortened, d->n_dropped);
	if (d->went != MEND_KEPT_ALL)
		log_line(i->log, LOG_WARN, "%s: its report is too large for DefectDojo, it goes without %s",
			 label, went[d->went]);
}

static bool
is_empty(const struct report *r)
{
	return r->n_findings == 0 && r->n_secrets == 0 && r->n_misconfigurations == 0;
}

/* What DefectDojo has and the report does not name may still be there. */
static bool
is_partial(const struct image *m)
{
	return report_lacks_packages(m->report) || m->report->is_release_unknown || m->hidden.n > 0;
}

int
report_delivery(const struct inspection *i, const struct image *m, size_t index, struct delivery *ret,
		struct err *e)
{
	const struct options_defectdojo *o = &i->opt->defectdojo;
	__attribute__((cleanup(names_free))) struct names n = { .i = i, .m = m };
	AUTO_DELIVERY struct delivery d = { 0 };
	AUTO_JSON cJSON *report = NULL;
	struct delivery_mending mended = { 0 };

	n.image = identity_image(i, m);
	n.tag = tag_of(m);
	if (expand_names(o, &n, &d, e) < 0)
		return -1;
	if (m->decision && m->decision->waiver)
		strv_addf(&d.tags, "waiver:%s", m->decision->waiver->name);
	d.created_s = clock_wall_s();
	d.server = mem_strdup(o->url);
	d.version = *n.tag ? mem_strdup(n.tag) : mem_strndup(i->job->sha ? i->job->sha : "", 12);
	d.branch = job_facts_branch_tag(i->job);
	d.commit = mem_strdup(i->job->sha);
	/* What /test_imports/ is asked for: it must name this upload and no other. */
	if (i->job->job_id > 0)
		d.build_id = mem_printf("%jd-%zu", (intmax_t)i->job->job_id, index);
	else
		d.build_id = mem_printf("scan-%jd-%.12s-%zu", (intmax_t)d.created_s,
					strchr(m->config_digest, ':') ? strchr(m->config_digest, ':') + 1 : "",
					index);
	d.active = o->active;
	d.verified = o->verified;
	d.keeps_old = is_partial(m);
	d.minimum_severity = mem_strdup(minimum_severity_word(o->minimum_severity));
	report = normal_report(m->report, n.image);
	if (delivery_mend(report, DELIVERY_REPORT_MAX, &d.report, &mended, e) < 0)
		return err_wrap(e, "its report is not delivered");
	d.n_findings = mended.n_findings;
	d.n_distinct = mended.n_distinct;
	d.report_len = strlen(d.report);
	say_mended(i, m, &mended);
	delivery_fit(&d);
	*ret = d;
	d = (struct delivery){ 0 };
	return 0;
}

bool
report_is_deliverable(const struct inspection *i, const struct image *m)
{
	if (!m->report || m->fault.kind != ERR_NONE)
		return false;
	/* An empty report closes all that is open: only a scan that saw what there is to see may say so. */
	if (is_empty(m->report) && is_partial(m))
		return false;
	return str_glob_any(&i->opt->defectdojo.refs, i->job->ref ? i->job->ref : "");
}

static int
write_delivery(const struct inspection *i, const struct image *m, size_t index, struct err *e)
{
	AUTO_DELIVERY struct delivery d = { 0 };
	AUTO_FREE char *page = mem_printf("%s" PAGE_SUFFIX, m->report_name);
	char name[32];

	snprintf(name, sizeof(name), DELIVERY_PREFIX "%zu", index);
	if (report_delivery(i, m, index, &d, e) < 0 || baseline_write(i, m, index, e) < 0 ||
	    page_link_note(i->out_fd, index, page, e) < 0)
		return -1;
	return delivery_write(i->out_fd, name, &d, 0, e);
}

/* --- files ----------------------------------------------------------------------------------------------------- */

/* A form in which an image's report is written; the next one is a line in `formats`. */
struct format {
	const char *suffix;
	/* Owned by the caller; NULL where the image has nothing to say in this form. */
	int (*render)(const struct inspection *i, const struct image *m, char **ret, size_t *ret_len,
		      struct err *e);
};

static int
render_trivy_json(const struct inspection *i, const struct image *m, char **ret, size_t *ret_len,
		  struct err *e)
{
	(void)i;
	(void)e;
	*ret = m->report ? json_print_pretty(m->report->json) : NULL;
	*ret_len = *ret ? strlen(*ret) : 0;
	return 0;
}

static int
render_page(const struct inspection *i, const struct image *m, char **ret, size_t *ret_len, struct err *e)
{
	AUTO_BUF struct buf out = BUF_INIT(RENDER_HTML_MAX);

	render_html(i, m, &out);
	if (out.is_full)
		return err_set(e, ERR_NO_SPACE, "the page is larger than %d bytes", RENDER_HTML_MAX);
	*ret_len = out.len;
	*ret = buf_take(&out);
	return 0;
}

static const struct format formats[] = {
	{ ".json", render_trivy_json },
	{ PAGE_SUFFIX, render_page },
};

static int
write_files(const struct inspection *i, const struct image *m, struct err *e)
{
	for (size_t k = 0; k < MEM_COUNT(formats); k++) {
		AUTO_FREE char *name = mem_printf("%s%s", m->report_name, formats[k].suffix);
		AUTO_FREE char *text = NULL;
		size_t len = 0;

		if (formats[k].render(i, m, &text, &len, e) < 0)
			return err_wrap(e, "%s", name);
		if (text && fs_publish(i->out_fd, name, text, len, REPORT_MODE, 0, e) < 0)
			return err_wrap(e, "report");
	}
	return 0;
}

/* Of all images. */
static int
write_quality(const struct inspection *i, struct err *e)
{
	AUTO_JSON cJSON *j = render_quality(i);
	AUTO_FREE char *text = json_print(j);

	return fs_publish(i->out_fd, RENDER_QUALITY_FILE, text, strlen(text), REPORT_MODE, 0, e) < 0
		       ? err_wrap(e, "Code Quality report")
		       : 0;
}

/* --- the stage -------------------------------------------------------------------------------------------------- */

static void
print(const struct inspection *i, const struct buf *text)
{
	fwrite(buf_str(text), 1, text->len, i->log->to);
	fflush(i->log->to);
}

static void
print_log(const struct inspection *i)
{
	AUTO_BUF struct buf title = BUF_INIT(1024);
	AUTO_BUF struct buf details = BUF_INIT(RENDER_LOG_MAX);
	AUTO_BUF struct buf verdict = BUF_INIT(RENDER_LOG_MAX);
	bool is_by_hand = i->project_fd < 0;
	AUTO_FREE char *excused = render_policy_sums(i);

	render_log_title(i, &title);
	render_log_details(i, &details);
	render_log_verdict(i, &verdict);
	if (!is_by_hand)
		log_section_start(i->log, SECTION, buf_str(&title), i->verdict == VERDICT_PASS && !excused);
	print(i, &details);
	if (!is_by_hand)
		log_section_end(i->log, SECTION);
	print(i, &verdict);
}

static void
print_json(const struct inspection *i)
{
	AUTO_JSON cJSON *j = render_json(i);
	AUTO_FREE char *text = json_print_pretty(j);

	fputs(text, stdout);
	fflush(stdout);
}

/* A report that cannot be written or delivered changes no verdict, but nobody is left to wonder where it is. */
static void
complain(const struct inspection *i, const struct image *m, const struct err *e)
{
	AUTO_FREE char *label = str_safe(m->label, 100);
	AUTO_FREE char *text = str_safe(e->text, 400);

	log_line(i->log, LOG_WARN, "%s: %s", label, text);
}

static void
say_partial(const struct inspection *i, const struct image *m)
{
	AUTO_FREE char *label = str_safe(m->label, 100);

	if (!m->report || m->fault.kind != ERR_NONE || !is_partial(m) ||
	    !str_glob_any(&i->opt->defectdojo.refs, i->job->ref ? i->job->ref : ""))
		return;
	if (is_empty(m->report))
		log_line(i->log, LOG_NOTE,
			 "%s: nothing is delivered: Trivy found nothing and did not see all packages, which DefectDojo would take for \"all is fixed\"",
			 label);
	else
		log_line(i->log, LOG_NOTE,
			 "%s: Trivy did not see all packages: what it found is delivered, and nothing is closed in DefectDojo for not being among it",
			 label);
}

static int
report_run(struct inspection *i, struct err *e)
{
	size_t n_deliveries = 0;
	struct err of_all = ERR_INIT;

	(void)e;
	if (i->wants_json)
		print_json(i);
	else
		print_log(i);
	for (size_t k = 0; k < i->n_images; k++) {
		struct err fault = ERR_INIT;

		if (write_files(i, &i->images[k], &fault) < 0)
			complain(i, &i->images[k], &fault);
		err_clear(&fault);
		if (!i->skips_upload)
			say_partial(i, &i->images[k]);
		if (!i->skips_upload && report_is_deliverable(i, &i->images[k]) &&
		    write_delivery(i, &i->images[k], n_deliveries++, &fault) < 0)
			complain(i, &i->images[k], &fault);
	}
	if (i->opt->report.codequality && write_quality(i, &of_all) < 0)
		log_line(i->log, LOG_WARN, "%s", of_all.text);
	return 0;
}

const struct stage stage_report = {
	.name = "report",
	.place = STAGE_SCANNER,
	.run = report_run,
};
