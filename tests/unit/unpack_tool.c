/*
 * unpack_tool [--threads N] [--max-size SIZE] [--max-ratio N] [--platform WORD] FILE… WORK_DIR
 *
 * Runs discover's file opening and the unpack stage over the files and prints what came of it as JSON:
 * archives with their fault, images with digests, layers and layout. For tests and benchmarks.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "stages/discover.h"
#include "stages/pipeline.h"
#include "stages/unpack.h"

static void
print_image(cJSON *list, const struct inspection *i, const struct image *m)
{
	cJSON *o = cJSON_CreateObject(), *layers;

	cJSON_AddItemToArray(list, o);
	json_add_str(o, "archive", i->archives[m->archive].name);
	json_add_strv(o, "tags", &m->tags);
	json_add_strv(o, "hidden", &m->hidden);
	json_add_str(o, "config_digest", m->config_digest);
	json_add_str(o, "manifest_digest", m->manifest_digest);
	json_add_str(o, "scanned_digest", m->scanned_digest);
	json_add_str(o, "platform", m->platform);
	json_add_str(o, "os", m->os);
	json_add_str(o, "architecture", m->architecture);
	json_add_str(o, "layout", m->layout);
	json_add_str(o, "label", m->label);
	json_add_str(o, "repository", m->repository);
	json_add_str(o, "report_name", m->report_name);
	json_add_int(o, "base_layers", (int64_t)m->base_layers);
	layers = json_add_array(o, "layers");
	for (size_t n = 0; n < m->n_layers; n++) {
		cJSON *l = cJSON_CreateObject();

		cJSON_AddItemToArray(layers, l);
		json_add_str(l, "diff_id", m->layers[n].diff_id);
		json_add_str(l, "scanned_digest", m->layers[n].scanned_digest);
		json_add_int(l, "size", (int64_t)m->layers[n].size);
		json_add_str(l, "created_by", m->layers[n].created_by);
	}
}

static void
print_all(const struct inspection *i)
{
	static const char *const kinds[] = { "",	"failed",      "usage",	  "settings",
					     "refused", "unsupported", "timeout", "no space" };
	AUTO_JSON cJSON *root = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;
	cJSON *archives = json_add_array(root, "archives"), *images = json_add_array(root, "images");

	for (size_t n = 0; n < i->n_archives; n++) {
		const struct archive *a = &i->archives[n];
		cJSON *o = cJSON_CreateObject();

		cJSON_AddItemToArray(archives, o);
		json_add_str(o, "name", a->name);
		json_add_str(o, "kind", kinds[a->fault.kind]);
		json_add_str(o, "fault", a->fault.text);
		json_add_bool(o, "is_ignored", a->is_ignored);
	}
	for (size_t n = 0; n < i->n_images; n++)
		print_image(images, i, &i->images[n]);
	text = json_print_pretty(root);
	fputs(text, stdout);
}

/* "max_name: 100", of the section images. */
static int
set_any(struct options *opt, const char *value, struct err *e)
{
	AUTO_FREE char *text = mem_printf("images:\n  %s\n", value);
	struct conf_overrides none = { 0 };
	int rc = conf_read_yaml(&options_schema, "--set", text, strlen(text), opt, &none, NULL, e);

	conf_overrides_free(&none);
	return rc;
}

static int
set_option(struct options *opt, const char *name, const char *value, struct err *e)
{
	if (!strcmp(name, "--threads"))
		return str_parse_int(value, 0, 64, &opt->images.threads, e);
	if (!strcmp(name, "--max-ratio"))
		return str_parse_int(value, 1, 1000000, &opt->images.max_ratio, e);
	if (!strcmp(name, "--platform")) {
		strv_free(&opt->images.platforms);
		strv_add(&opt->images.platforms, value);
		return 0;
	}
	if (!strcmp(name, "--max-size"))
		return str_parse_size(value, &opt->images.max_size, e);
	if (!strcmp(name, "--set"))
		return set_any(opt, value, e);
	return err_set(e, ERR_USAGE, "no such option: %s", name);
}

static int
run(int argc, char **argv, struct options *opt, struct err *e)
{
	struct job_facts job = { 0 };
	struct log log;
	struct inspection i = { .opt = opt, .job = &job, .log = &log, .project_fd = -1, .out_fd = -1 };
	AUTO_FD int work_fd = -1;
	int at = 1, rc = 0;

	for (; at + 1 < argc && argv[at][0] == '-'; at += 2)
		if (set_option(opt, argv[at], argv[at + 1], e) < 0)
			return -1;
	if (argc - at < 2)
		return err_set(e, ERR_USAGE, "FILE… and WORK_DIR are needed");
	log_init(&log, stderr);
	work_fd = fs_open_dir(AT_FDCWD, argv[argc - 1], e);
	if (work_fd < 0)
		return -1;
	i.work_fd = work_fd;
	i.work_dir = argv[argc - 1];
	for (; at < argc - 1 && rc == 0; at++)
		rc = discover_add_file(&i, argv[at], e);
	if (rc == 0)
		rc = stage_unpack.run(&i, e);
	if (rc == 0)
		print_all(&i);
	inspection_free(&i);
	return rc;
}

int
main(int argc, char **argv)
{
	struct options opt = { 0 };
	struct err e = ERR_INIT;
	int rc;

	conf_set_defaults(&options_schema, &opt);
	rc = run(argc, argv, &opt, &e);
	options_free(&opt);
	if (rc < 0)
		fprintf(stderr, "unpack_tool: %s\n", e.text);
	return rc < 0 ? 2 : 0;
}
