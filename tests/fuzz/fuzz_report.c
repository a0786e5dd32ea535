/*
 * Trivy's report, and all that is made of one that was understood: what a person sees on a terminal holds no control
 * character but the newline, the page no markup but its own, and programs get valid JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stages/delivery_mend.h"
#include "stages/pipeline.h"
#include "stages/render_html.h"
#include "stages/render_json.h"
#include "stages/render_log.h"
#include "tests/fuzz/fuzz.h"

static void
check(bool is_so)
{
	if (!is_so)
		abort();
}

static void
render(const struct inspection *i)
{
	AUTO_BUF struct buf log = BUF_INIT(RENDER_LOG_MAX);
	AUTO_BUF struct buf page = BUF_INIT(RENDER_HTML_MAX);
	AUTO_JSON cJSON *j = render_json(i);
	AUTO_JSON cJSON *again = NULL;
	AUTO_FREE char *text = json_print(j);
	struct err e = ERR_INIT;

	render_log_title(i, &log);
	render_log_details(i, &log);
	render_log_verdict(i, &log);
	for (size_t k = 0; k < log.len; k++)
		check((unsigned char)log.data[k] >= 0x20 || log.data[k] == '\n');
	render_html(i, &i->images[0], &page);
	check(!strstr(strstr(buf_str(&page), "</style>"), "<style") && !strstr(buf_str(&page), "<img"));
	check(json_parse(text, strlen(text), SIZE_MAX / 2, JSON_UNIQUE, &again, &e) == 0);
}

/* What is sent is a report of ours again, with as much in it. */
static void
mend(const struct report *of)
{
	AUTO_JSON cJSON *copy = cJSON_Duplicate(of->json, true);
	AUTO_FREE char *text = NULL, *again = NULL;
	AUTO(report) struct report *r = NULL;
	struct delivery_mending m, twice;
	struct err e = ERR_INIT;

	check(delivery_mend(copy, SIZE_MAX / 2, &text, &m, &e) == 0);
	check(report_parse(text, strlen(text), SIZE_MAX / 2, &r, &e) == 0);
	check(r->n_findings == of->n_findings && m.n_findings >= (int64_t)r->n_findings);
	check(m.n_distinct <= m.n_findings);
	check(delivery_mend(r->json, SIZE_MAX / 2, &again, &twice, &e) == 0 && strcmp(text, again) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(report) struct report *r = NULL;
	struct options opt = { 0 };
	struct job_facts job = { 0 };
	struct log log = { 0 };
	struct inspection i = { .opt = &opt, .job = &job, .log = &log, .project_fd = -1 };
	struct image *m;
	struct err e = ERR_INIT;

	if (report_parse((const char *)data, size, 1 << 20, &r, &e) < 0)
		return 0;
	mend(r);
	conf_set_defaults(&options_schema, &opt);
	m = inspection_add_image(&i);
	m->label = mem_strdup("app:1");
	m->repository = mem_strdup("app");
	m->report_name = mem_strdup("app");
	m->report = take_ptr(r);
	report_rename(m->report, m->label, &m->tags);
	check(stage_gate.run(&i, &e) == 0);
	render(&i);
	inspection_free(&i);
	options_free(&opt);
	return 0;
}
