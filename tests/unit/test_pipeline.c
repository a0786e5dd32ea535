#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "cli/workspace.h"
#include "stages/pipeline.h"
#include "tests/unit/archive_builder.h"

/* A project directory, and all that an inspection needs but Trivy. */
struct place {
	char dir[64];
	int project_fd;
	struct options opt;
	struct job_facts job;
	struct log log;
	char *text;
	size_t text_len;
	struct workspace *work;
	struct inspection i;
};

static void
set_facts(struct job_facts *f)
{
	char **const texts[] = { &f->project_path, &f->name,	   &f->stage,	    &f->ref,
				 &f->sha,	   &f->server_url, &f->project_url, &f->default_branch };

	for (size_t k = 0; k < MEM_COUNT(texts); k++)
		*texts[k] = mem_strdup("");
}

static int
set_up(void **state)
{
	struct place *p = mem_alloc(sizeof(*p));
	AUTO_FREE char *cache = NULL;

	snprintf(p->dir, sizeof(p->dir), "/tmp/test-pipeline-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	cache = mem_printf("%s/cache", p->dir);
	p->project_fd = fs_open_dir(AT_FDCWD, p->dir, NULL);
	conf_set_defaults(&options_schema, &p->opt);
	set_facts(&p->job);
	p->log = (struct log){ .to = open_memstream(&p->text, &p->text_len), .level = LOG_NOTE };
	assert_int_equal(workspace_make(cache, &p->work, NULL), 0);
	p->i = (struct inspection){
		.opt = &p->opt,
		.job = &p->job,
		.log = &p->log,
		.project_fd = p->project_fd,
		.project_dir = p->dir,
		.work_fd = p->work->fd,
		.work_dir = p->work->path,
		.state_dir = p->dir,
		.cache_dir = cache,
		.out_fd = p->work->out_fd,
		.skips_upload = true,
	};
	p->i.cache_dir = take_ptr(cache);
	*state = p;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *p = *state;

	free((char *)(uintptr_t)p->i.cache_dir);
	inspection_free(&p->i);
	workspace_free(p->work);
	options_free(&p->opt);
	job_facts_free(&p->job);
	fclose(p->log.to);
	free(p->text);
	close(p->project_fd);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
	free(p);
	return 0;
}

static void
leave(struct place *p, const char *dir, const char *name, const void *bytes, size_t n)
{
	AUTO_FD int fd = -1;

	assert_true(mkdirat(p->project_fd, dir, 0755) == 0);
	fd = fs_open_dir(p->project_fd, dir, NULL);
	assert_int_equal(fs_publish(fd, name, bytes, n, 0644, 0, NULL), 0);
}

static int
inspect(struct place *p, struct pipeline_result *r, struct err *e)
{
	const struct pipeline_users users = { 0 };

	return pipeline_run(&p->i, &users, r, e);
}

static void
a_job_that_left_no_image_is_judged_by_its_setting(void **state)
{
	static const struct {
		enum reaction reaction;
		enum verdict verdict;
	} cases[] = { { REACT_PASS, VERDICT_PASS },
		      { REACT_WARN, VERDICT_WARN },
		      { REACT_FAIL, VERDICT_BLOCK } };
	struct place *p = *state;

	for (size_t k = 0; k < MEM_COUNT(cases); k++) {
		struct pipeline_result r = { 0 };

		p->opt.inject.on_no_image = cases[k].reaction;
		assert_int_equal(inspect(p, &r, NULL), 0);
		assert_int_equal(r.verdict, cases[k].verdict);
		assert_int_equal(r.n_images, 0);
		inspection_free(&p->i);
	}
}

static void
leave_forged_image(struct place *p)
{
	struct build_image m = { 0 };
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);

	build_image_init(&m, 2);
	m.layers[1].data[512] ^= 1; /* its digest is in the config already */
	build_docker_archive(&tar, &m);
	build_end(&tar);
	leave(p, "tar_images", "app.tar", tar.data, tar.len);
	build_image_free(&m);
}

static void
leave_other_tar(struct place *p)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);

	build_text(&tar, "notes.txt", "nothing to load");
	build_end(&tar);
	leave(p, "backup", "notes.tar", tar.data, tar.len);
}

static void
what_the_scanner_made_of_each_archive_comes_back(void **state)
{
	struct place *p = *state;
	struct pipeline_result r = { 0 };
	size_t n_unfit = 0, n_ignored = 0;

	leave_forged_image(p);
	leave_other_tar(p);
	assert_int_equal(inspect(p, &r, NULL), 0);
	assert_int_equal(r.verdict, VERDICT_BLOCK);
	assert_int_equal(r.n_archives, 1);
	for (size_t k = 0; k < p->i.n_archives; k++) {
		const struct archive *a = &p->i.archives[k];

		n_unfit += str_eq(a->name, "tar_images/app.tar") && a->is_unfit && !a->is_ignored;
		n_ignored += str_eq(a->name, "backup/notes.tar") && a->is_ignored && !a->is_unfit;
	}
	assert_int_equal(n_unfit, 1);
	assert_int_equal(n_ignored, 1);
}

static void
classifying_tells_images_from_other_tars_without_a_verdict(void **state)
{
	const struct pipeline_users users = { 0 };
	struct place *p = *state;

	leave_forged_image(p);
	leave_other_tar(p);
	assert_int_equal(pipeline_classify(&p->i, &users, NULL), 0);
	assert_int_equal(p->i.n_archives, 2);
	for (size_t k = 0; k < 2; k++)
		assert_int_equal(p->i.archives[k].is_ignored,
				 str_eq(p->i.archives[k].name, "backup/notes.tar"));
}

/* "Stopped" is an error that leaves no verdict, and nothing of ours runs on. */
static void
a_signal_ends_the_inspection_with_an_error(void **state)
{
	struct place *p = *state;
	struct pipeline_result r = { 0 };
	struct err e = ERR_INIT;
	sigset_t term, before;

	/* pending from the start, so that it is there whenever the pipeline looks */
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);
	raise(SIGTERM);
	assert_int_equal(inspect(p, &r, &e), -1);
	assert_non_null(strstr(e.text, "stopped by a signal"));
	sigprocmask(SIG_SETMASK, &before, NULL);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void
work_of_processes_that_are_gone_is_swept_and_ours_goes_with_us(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *left = mem_printf("%s/work/999999999-1", p->i.cache_dir);
	AUTO_FREE char *mine = NULL;
	struct workspace *w = NULL;

	assert_int_equal(mkdir(left, 0700), 0);
	workspace_free(take_ptr(p->work));
	assert_int_equal(workspace_make(p->i.cache_dir, &w, NULL), 0);
	assert_int_equal(access(left, F_OK), -1);
	mine = mem_strdup(w->path);
	assert_int_equal(access(mine, F_OK), 0);
	workspace_free(w);
	assert_int_equal(access(mine, F_OK), -1);
	assert_int_equal(workspace_make(p->i.cache_dir, &p->work, NULL), 0);
}

static void
as_root_the_users_must_be_there(void **state)
{
	struct pipeline_users u;
	struct err e = ERR_INIT;
	int rc = workspace_users("no-such-user-here", "nobody", &u, &e);

	(void)state;
	if (geteuid() != 0) {
		assert_int_equal(rc, 0);
		assert_false(u.is_separated);
		return;
	}
	assert_int_equal(rc, -1);
	assert_int_equal(e.kind, ERR_SETTINGS);
	assert_non_null(strstr(e.text, "tidewaiter setup"));
	assert_int_equal(workspace_users("root", "nobody", &u, &e), -1);
}

static void
of_two_verdicts_the_heavier_counts_and_block_outweighs_undecided(void **state)
{
	(void)state;
	assert_int_equal(verdict_worse(VERDICT_PASS, VERDICT_WARN), VERDICT_WARN);
	assert_int_equal(verdict_worse(VERDICT_UNDECIDED, VERDICT_WARN), VERDICT_UNDECIDED);
	assert_int_equal(verdict_worse(VERDICT_UNDECIDED, VERDICT_BLOCK), VERDICT_BLOCK);
	assert_string_equal(verdict_words[VERDICT_BLOCK], "block");
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_PLACE(a_job_that_left_no_image_is_judged_by_its_setting),
		WITH_PLACE(what_the_scanner_made_of_each_archive_comes_back),
		WITH_PLACE(classifying_tells_images_from_other_tars_without_a_verdict),
		WITH_PLACE(a_signal_ends_the_inspection_with_an_error),
		WITH_PLACE(work_of_processes_that_are_gone_is_swept_and_ours_goes_with_us),
		cmocka_unit_test(as_root_the_users_must_be_there),
		cmocka_unit_test(of_two_verdicts_the_heavier_counts_and_block_outweighs_undecided),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
