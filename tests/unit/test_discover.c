#include "stages/discover.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "stages/discover_globs.h"
#include "stages/pipeline.h"
#include "tests/unit/archive_builder.h"

struct project {
	char dir[40];
	char outside[48];
	int fd;
	struct options opt;
	struct job_facts job;
	struct log log;
	FILE *log_file;
	struct inspection i;
};

static void
project_init(struct project *p)
{
	*p = (struct project){ .dir = "/tmp/test-discover-XXXXXX" };
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->outside, sizeof(p->outside), "%s.out", p->dir);
	assert_int_equal(mkdir(p->outside, 0700), 0);
	p->fd = fs_open_dir(AT_FDCWD, p->dir, NULL);
	p->log_file = tmpfile();
	assert_non_null(p->log_file);
	p->log = (struct log){ .to = p->log_file, .level = LOG_NOTE };
	p->opt.images.declared_artifacts = true;
	p->i = (struct inspection){ .opt = &p->opt,
				    .job = &p->job,
				    .log = &p->log,
				    .project_fd = p->fd,
				    .project_dir = p->dir,
				    .work_fd = -1,
				    .out_fd = -1 };
}

static void
project_free(struct project *p)
{
	inspection_free(&p->i);
	close(p->fd);
	fclose(p->log_file);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->dir, NULL), 0);
	assert_int_equal(fs_remove_tree(AT_FDCWD, p->outside, NULL), 0);
	strv_free(&p->opt.images.archives);
	strv_free(&p->job.artifact_paths);
}

static void
glob(struct project *p, const char *glob)
{
	strv_add(&p->opt.images.archives, glob);
}

static void
artifact(struct project *p, const char *path)
{
	strv_add(&p->job.artifact_paths, path);
}

static void
put(int dirfd, const char *path, const void *bytes, size_t n)
{
	const char *slash = strrchr(path, '/');
	AUTO_FREE char *dir = mem_strndup(path, slash ? (size_t)(slash - path) : 0);
	AUTO_FD int fd = -1;

	if (slash)
		assert_int_equal(fs_mkdirs(dirfd, dir, 0755, NULL), 0);
	fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, bytes, n, NULL), 0);
}

static void
put_tar(struct project *p, const char *path)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);

	build_text(&tar, "a", "b");
	build_end(&tar);
	put(p->fd, path, tar.data, tar.len);
}

static void
put_text(struct project *p, const char *path)
{
	put(p->fd, path, "only text\n", 10);
}

/* The names found, one a line, a fault behind it: "x.tar", "y.tar: link: …". */
static char *
found(struct project *p)
{
	AUTO_BUF struct buf out = BUF_INIT(1 << 20);
	struct err e = ERR_INIT;

	assert_int_equal(stage_discover.run(&p->i, &e), 0);
	for (size_t n = 0; n < p->i.n_archives; n++) {
		const struct archive *a = &p->i.archives[n];

		assert_true((a->fd >= 0) == (a->fault.kind == ERR_NONE));
		buf_printf(&out, "%s%s%s\n", a->name, a->fault.kind ? ": " : "", a->fault.text);
	}
	return mem_strdup(buf_str(&out));
}

static void
expect_found(struct project *p, const char *expected)
{
	AUTO_FREE char *got = found(p);

	assert_string_equal(got, expected);
}

static void
globs_name_archives_below_the_project(void **state)
{
	struct project p;
	(void)state;

	project_init(&p);
	glob(&p, "tar_images/*");
	glob(&p, "*.tar");
	glob(&p, "out/**/*.tar");
	put_tar(&p, "tar_images/b.tar");
	put_tar(&p, "tar_images/a");
	put_tar(&p, "tar_images/deeper/not.tar");
	put_tar(&p, "top.tar");
	put_tar(&p, "src/not.tar");
	put_tar(&p, "out/x.tar");
	put_tar(&p, "out/1/2/3/y.tar");
	put_tar(&p, "out/1/2/3/y.zip");
	expect_found(&p, "out/1/2/3/y.tar\nout/x.tar\ntar_images/a\ntar_images/b.tar\ntop.tar\n");
	project_free(&p);
}

static void
what_is_found_is_open_and_its_identity_recorded(void **state)
{
	struct fs_identity id;
	struct project p;
	struct stat st;
	(void)state;

	project_init(&p);
	glob(&p, "*.tar");
	put_tar(&p, "a.tar");
	expect_found(&p, "a.tar\n");
	assert_int_equal(fstatat(p.fd, "a.tar", &st, 0), 0);
	fs_identity_of(&st, &id);
	assert_true(fs_identity_equal(&id, &p.i.archives[0].id));
	assert_int_equal(fcntl(p.i.archives[0].fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_true(fcntl(p.i.archives[0].fd, F_GETFD) & FD_CLOEXEC);
	project_free(&p);
}

static void
a_declared_directory_means_everything_in_it_that_may_be_an_archive(void **state)
{
	struct project p;
	(void)state;

	project_init(&p);
	artifact(&p, "dist/");
	artifact(&p, "single");
	put_text(&p, "dist/index.html");
	put_text(&p, "dist/named.tar");
	put_tar(&p, "dist/assets/really-a-tar.js");
	put(p.fd, "dist/.hidden/x", "\x1f\x8b\x08", 3);
	put(p.fd, "dist/y", "\x28\xb5\x2f\xfd", 4);
	put(p.fd, "dist/disk.img", (const char[1024]){ 0 }, 1024);
	put_tar(&p, "single");
	put_tar(&p, "other/not.tar");
	assert_int_equal(symlinkat("index.html", p.fd, "dist/link"), 0);
	expect_found(&p, "dist/.hidden/x\ndist/assets/really-a-tar.js\ndist/named.tar\ndist/y\nsingle\n");
	project_free(&p);
}

static void
declared_artifacts_can_be_left_to_the_settings(void **state)
{
	struct project p;
	(void)state;

	project_init(&p);
	p.opt.images.declared_artifacts = false;
	artifact(&p, "dist/");
	put_tar(&p, "dist/x.tar");
	expect_found(&p, "");
	project_free(&p);
}

static void
paths_with_the_project_directory_or_variables_are_understood(void **state)
{
	AUTO_FREE char *absolute = NULL;
	AUTO_FREE char *up = NULL;
	struct project p;
	(void)state;

	project_init(&p);
	absolute = mem_printf("%s/abs/*.tar", p.dir);
	artifact(&p, absolute);
	artifact(&p, "$CI_PROJECT_DIR/one");
	artifact(&p, "${CI_PROJECT_DIR}/two/");
	artifact(&p, "$UNKNOWN/x.img");
	artifact(&p, "{p,q/r}/*.oci");
	artifact(&p, "$CI_PROJECT_DIR/five/../six//./x.tar");
	up = mem_printf("../%s/seven.tar", p.dir + strlen("/tmp/"));
	artifact(&p, up);
	put_tar(&p, "six/x.tar");
	put_tar(&p, "seven.tar");
	put_tar(&p, "abs/a.tar");
	put_tar(&p, "one");
	put_tar(&p, "two/b");
	put_tar(&p, "3/4/x.img");
	put_tar(&p, "q/r/c.oci");
	expect_found(&p, "3/4/x.img\nabs/a.tar\none\nq/r/c.oci\nseven.tar\nsix/x.tar\ntwo/b\n");
	project_free(&p);
}

static void
a_path_out_of_the_project_is_said_and_not_followed(void **state)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	struct project p;
	(void)state;

	project_init(&p);
	artifact(&p, "../elsewhere/*");
	artifact(&p, "/etc");
	artifact(&p, "a/../../x");
	expect_found(&p, "");
	fflush(p.log_file);
	rewind(p.log_file);
	assert_int_equal(fs_read_fd_max(fileno(p.log_file), 10000, &text, &len, NULL), 0);
	assert_non_null(strstr(text, "../elsewhere/* is not below the project directory"));
	assert_non_null(strstr(text, "/etc is not below the project directory"));
	assert_non_null(strstr(text, "a/../../x is not below the project directory"));
	project_free(&p);
}

static void
only_regular_files_with_one_name_are_taken(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	AUTO_FD int sock = socket(AF_UNIX, SOCK_STREAM, 0);
	struct project p;
	(void)state;

	project_init(&p);
	glob(&p, "*.tar");
	put_tar(&p, "real");
	put_tar(&p, "good.tar");
	put_tar(&p, "linked.tar");
	assert_int_equal(linkat(p.fd, "linked.tar", p.fd, "other-name", 0), 0);
	assert_int_equal(symlinkat("real", p.fd, "symbolic.tar"), 0);
	assert_int_equal(symlinkat("/etc/passwd", p.fd, "out.tar"), 0);
	assert_int_equal(mkfifoat(p.fd, "fifo.tar", 0600), 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket.tar", p.dir);
	assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	expect_found(&p, "fifo.tar: type: it is a FIFO\n"
			 "good.tar\n"
			 "linked.tar: link: the file has other names (hard links) too\n"
			 "out.tar: link: it is a symbolic link, which is not followed\n"
			 "socket.tar: type: it is a socket\n"
			 "symbolic.tar: link: it is a symbolic link, which is not followed\n");
	for (size_t n = 0; n < p.i.n_archives; n++)
		assert_true(p.i.archives[n].fault.kind == ERR_NONE ||
			    p.i.archives[n].fault.kind == ERR_REFUSED);
	project_free(&p);
}

static void
a_directory_that_is_a_link_is_not_followed(void **state)
{
	AUTO_BUF struct buf tar = BUF_INIT(BUILD_MAX);
	AUTO_FD int outside = -1;
	struct project p;
	(void)state;

	project_init(&p);
	glob(&p, "tar_images/*");
	glob(&p, "*/*.tar");
	artifact(&p, "packages/*/image.tar");
	artifact(&p, "loop/x.tar");
	outside = fs_open_dir(AT_FDCWD, p.outside, NULL);
	build_text(&tar, "a", "b");
	build_end(&tar);
	put(outside, "secret.tar", tar.data, tar.len);
	assert_int_equal(symlinkat(p.outside, p.fd, "tar_images"), 0);
	assert_int_equal(symlinkat(p.outside, p.fd, "unrelated"), 0);
	put_tar(&p, "packages/real/image.tar");
	assert_int_equal(symlinkat("real", p.fd, "packages/alias"), 0);
	assert_int_equal(symlinkat("nothing", p.fd, "packages/dangling"), 0);
	assert_int_equal(symlinkat("loop", p.fd, "loop"), 0);
	expect_found(&p,
		     "loop: link: a symbolic link that leads nowhere\n"
		     "packages/alias/image.tar: link: it is reached through a symbolic link, which is not followed\n"
		     "packages/real/image.tar\n"
		     "tar_images: link: a symbolic link that leads out of the project directory\n");
	project_free(&p);
}

static void
an_image_layout_is_taken_as_a_whole(void **state)
{
	const struct archive *a;
	struct project p;
	(void)state;

	project_init(&p);
	glob(&p, "tar_images/*");
	artifact(&p, "dist");
	put(p.fd, "tar_images/oci/oci-layout", "{}", 2);
	put(p.fd, "tar_images/oci/index.json", "{}", 2);
	put(p.fd, "dist/a/b/oci/index.json", "{}", 2);
	put_tar(&p, "dist/a/b/oci/blobs/sha256/00");
	put(p.fd, "dist/dir/version", "Directory Transport Version: 1.1\n", 33);
	put(p.fd, "dist/dir/manifest.json", "{}", 2);
	put(p.fd, "dist/web/version", "1.2.3\n", 6);
	put(p.fd, "dist/web/manifest.json", "{}", 2);
	put(p.fd, "elsewhere/oci/oci-layout", "{}", 2);
	expect_found(&p, "dist/a/b/oci\ndist/dir\ntar_images/oci\n");
	a = &p.i.archives[0];
	assert_true(a->is_dir);
	assert_int_equal(a->files.n, 2);
	assert_string_equal(a->files.v[0].name, "blobs/sha256/00");
	assert_string_equal(a->files.v[1].name, "index.json");
	assert_true(a->files.v[0].fd >= 0);
	assert_int_equal(a->files.v[1].id.size, 2);
	project_free(&p);
}

static void
a_directory_that_is_itself_the_layout_is_found(void **state)
{
	struct project p;
	(void)state;

	project_init(&p);
	glob(&p, "tar_images/*");
	put(p.fd, "tar_images/oci-layout", "{}", 2);
	put(p.fd, "tar_images/index.json", "{}", 2);
	expect_found(&p, "tar_images\n");
	project_free(&p);
	project_init(&p);
	artifact(&p, ".");
	put(p.fd, "oci-layout", "{}", 2);
	expect_found(&p, "index.json: not inspected: the project directory itself is an image layout; one in a "
			 "directory of its own is read\n");
	project_free(&p);
}

static void
what_is_no_plain_file_in_a_layout_is_refused(void **state)
{
	AUTO_FREE char *got = NULL;
	struct project p;
	(void)state;

	project_init(&p);
	glob(&p, "tar_images/*");
	put(p.fd, "tar_images/a/oci-layout", "{}", 2);
	assert_int_equal(symlinkat("oci-layout", p.fd, "tar_images/a/index.json"), 0);
	put(p.fd, "tar_images/b/oci-layout", "{}", 2);
	assert_int_equal(linkat(p.fd, "tar_images/b/oci-layout", p.fd, "tar_images/b/index.json", 0), 0);
	put(p.fd, "tar_images/c/oci-layout", "{}", 2);
	assert_int_equal(mkfifoat(p.fd, "tar_images/c/index.json", 0644), 0);
	put(p.fd, "tar_images/d/oci-layout", "{}", 2);
	put(p.fd, "tar_images/d/1/2/3/4/5/6/7/8/9/x", "{}", 2);
	got = found(&p);
	assert_non_null(strstr(got, "tar_images/a: link: index.json is a symbolic link"));
	assert_non_null(strstr(got, "tar_images/b: link: "));
	assert_non_null(strstr(got, "has other names (hard links) too"));
	assert_non_null(strstr(got, "tar_images/c: type: index.json is neither"));
	assert_non_null(strstr(got, "tar_images/d: depth: 1/2/3/4/5/6/7/8/9 lies deeper"));
	project_free(&p);
}

static void
what_lies_too_deep_is_not_passed_over_in_silence(void **state)
{
	AUTO_BUF struct buf path = BUF_INIT(4096);
	struct project p;
	(void)state;

	project_init(&p);
	artifact(&p, "deep");
	buf_add_str(&path, "deep");
	for (int i = 0; i < DISCOVER_DEPTH_MAX; i++)
		buf_add_str(&path, "/d");
	buf_add_str(&path, "/x.tar");
	put_tar(&p, buf_str(&path));
	assert_int_equal(stage_discover.run(&p.i, NULL), 0);
	assert_int_equal(p.i.n_archives, 1);
	assert_int_equal(p.i.archives[0].fault.kind, ERR_NO_SPACE);
	assert_string_equal(p.i.archives[0].fault.text, "not inspected: it lies deeper than 64 directories");
	project_free(&p);
}

static void
a_variable_that_climbs_means_everything(void **state)
{
	struct project p;
	(void)state;

	project_init(&p);
	artifact(&p, "$X/../y.tar");
	put_tar(&p, "a/b/c");
	expect_found(&p, "a/b/c\n");
	project_free(&p);
}

static void
more_paths_than_can_be_looked_for_are_a_fault(void **state)
{
	struct project p;
	(void)state;

	project_init(&p);
	for (int i = 0; i < 256; i++)
		artifact(&p, "nothing");
	artifact(&p, "x.tar");
	put_tar(&p, "x.tar");
	expect_found(&p, "x.tar: not inspected: there are more artifacts: paths: than can be looked for\n");
	project_free(&p);
}

static void
files_given_by_name_are_opened_as_they_are(void **state)
{
	AUTO_FREE char *path = NULL;
	AUTO_FREE char *absent = NULL;
	struct err e = ERR_INIT;
	struct project p;
	(void)state;

	project_init(&p);
	put_tar(&p, "a.tar");
	path = mem_printf("%s/a.tar", p.dir);
	absent = mem_printf("%s/absent.tar", p.dir);
	assert_int_equal(discover_add_file(&p.i, path, &e), 0);
	assert_int_equal(discover_add_file(&p.i, p.dir, &e), 0);
	assert_int_equal(discover_add_file(&p.i, "/dev/null", &e), 0);
	assert_int_equal(discover_add_file(&p.i, absent, &e), -1);
	assert_int_equal(e.kind, ERR_USAGE);
	assert_int_equal(p.i.n_archives, 3);
	assert_true(p.i.archives[0].fd >= 0);
	assert_string_equal(p.i.archives[1].fault.text, "no image: a directory that is no image layout");
	assert_string_equal(p.i.archives[2].fault.text, "type: it is a device");
	project_free(&p);
}

static struct glob_match
match(const char *pattern, bool is_tree, const char *path)
{
	AUTO(glob_set) struct glob_set *g = glob_set_new();
	AUTO_FREE char *copy = mem_strdup(path);
	char *rest = copy, *part;
	struct glob_match m = { 0 };
	struct glob_at at;

	assert_true(glob_set_add(g, pattern, is_tree));
	glob_at_start(g, &at);
	while ((part = strsep(&rest, "/"))) {
		struct glob_at below;

		m = glob_at_step(g, &at, part, &below);
		glob_at_free(&at);
		at = below;
	}
	glob_at_free(&at);
	return m;
}

static void
a_walk_enters_only_what_can_matter(void **state)
{
	(void)state;
	assert_true(match("*/*.tar", false, "a").is_way);
	assert_false(match("*/*.tar", false, "a/b").is_way);
	assert_true(match("*/*.tar", false, "a/b.tar").is_named);
	assert_false(match("*/*.tar", false, "b.tar").is_named);
	assert_true(match("**/x", false, "x").is_named);
	assert_true(match("**/x", false, "1/2/x").is_named);
	assert_true(match("a/**", false, "a/b/c").is_named);
	assert_false(match("a/**", false, "b").is_way);
	assert_true(match("a/**/b/*.tar", false, "a/b/x.tar").is_named);
	assert_true(match("./a//b", false, "a/b").is_named);
	assert_true(match("a", true, "a/b/c").is_in_tree);
	assert_true(match(".", true, "a/b/c").is_in_tree);
	assert_true(match("[^b]/x", true, "a/x").is_in_tree);
	assert_false(match("[b]/x", false, "a").is_way);
	assert_false(match("a", false, "a/b").is_named);
	assert_true(match("a/*/c", false, "a").is_sure_way);
	assert_false(match("a*/c", false, "a").is_sure_way);
	assert_true(match("a*/c", true, "a").is_sure_way);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(globs_name_archives_below_the_project),
		cmocka_unit_test(what_is_found_is_open_and_its_identity_recorded),
		cmocka_unit_test(a_declared_directory_means_everything_in_it_that_may_be_an_archive),
		cmocka_unit_test(declared_artifacts_can_be_left_to_the_settings),
		cmocka_unit_test(paths_with_the_project_directory_or_variables_are_understood),
		cmocka_unit_test(a_path_out_of_the_project_is_said_and_not_followed),
		cmocka_unit_test(only_regular_files_with_one_name_are_taken),
		cmocka_unit_test(a_directory_that_is_a_link_is_not_followed),
		cmocka_unit_test(an_image_layout_is_taken_as_a_whole),
		cmocka_unit_test(a_directory_that_is_itself_the_layout_is_found),
		cmocka_unit_test(what_is_no_plain_file_in_a_layout_is_refused),
		cmocka_unit_test(what_lies_too_deep_is_not_passed_over_in_silence),
		cmocka_unit_test(a_variable_that_climbs_means_everything),
		cmocka_unit_test(more_paths_than_can_be_looked_for_are_a_fault),
		cmocka_unit_test(files_given_by_name_are_opened_as_they_are),
		cmocka_unit_test(a_walk_enters_only_what_can_matter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
