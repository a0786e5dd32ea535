/* Lists of a container engine and their difference; exports are tested with real engines, tests/e2e/test_engine.py. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "stages/engine.h"

static struct engine_images
parsed(const char *text)
{
	struct engine_images l = { 0 };
	struct err e = ERR_INIT;

	if (engine_parse_list(text, strlen(text), &l, &e) < 0)
		fail_msg("%s", e.text);
	return l;
}

static void
a_list_of_docker_and_of_podman_is_read(void **state)
{
	AUTO_ENGINE_IMAGES struct engine_images l = parsed(
		"[{\"Id\":\"sha256:bb\",\"RepoTags\":[\"app:1\",\"app:2\"],\"Labels\":null},"
		"{\"Id\":\"sha256:aa\",\"RepoTags\":[\"<none>:<none>\"]},{\"Id\":\"sha256:cc\",\"RepoTags\":null,\"Names\":[]}]");

	(void)state;
	assert_int_equal(l.n, 3);
	assert_string_equal(l.v[0].id, "sha256:aa");
	assert_int_equal(l.v[0].tags.n, 0);
	assert_int_equal(l.v[1].tags.n, 2);
	assert_string_equal(l.v[1].tags.v[1], "app:2");
}

static void
an_image_listed_once_per_name_is_one_image(void **state)
{
	AUTO_ENGINE_IMAGES struct engine_images l =
		parsed("[{\"Id\":\"a\",\"RepoTags\":[\"x:1\"]},{\"Id\":\"a\",\"RepoTags\":[\"y:1\"]}]");

	(void)state;
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].tags.n, 2);
}

static void
what_is_no_list_is_an_error(void **state)
{
	static const char *const texts[] = { "{}", "", "[", "[{}]", "[{\"Id\":1}]", "[{\"Id\":\"\"}]", "[] x" };

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(texts); i++) {
		struct engine_images l = { 0 };
		struct err e = ERR_INIT;

		assert_int_equal(engine_parse_list(texts[i], strlen(texts[i]), &l, &e), -1);
		assert_true(e.kind != ERR_NONE && *e.text);
	}
}

static void
what_is_new_are_new_ids_new_names_and_names_that_moved(void **state)
{
	AUTO_ENGINE_IMAGES struct engine_images before =
		parsed("[{\"Id\":\"old\",\"RepoTags\":[\"base:1\",\"app:latest\"]}]");
	AUTO_ENGINE_IMAGES struct engine_images after = parsed(
		"[{\"Id\":\"old\",\"RepoTags\":[\"base:1\",\"base:copy\"]},{\"Id\":\"new\",\"RepoTags\":[\"app:latest\"]},"
		"{\"Id\":\"stage\",\"RepoTags\":[]}]");
	AUTO_ENGINE_IMAGES struct engine_images diff = { 0 };
	AUTO_STRV struct strv all = { 0 };
	size_t n_untagged = 0;

	(void)state;
	strv_add(&all, "**");
	engine_diff(&before, &after, &all, &diff, &n_untagged);
	assert_int_equal(diff.n, 2);
	assert_string_equal(diff.v[0].id, "new");
	assert_string_equal(diff.v[0].tags.v[0], "app:latest");
	assert_string_equal(diff.v[1].id, "old");
	assert_int_equal(diff.v[1].tags.n, 1);
	assert_string_equal(diff.v[1].tags.v[0], "base:copy");
	assert_int_equal(n_untagged, 1);
}

static void
globs_say_which_names_count(void **state)
{
	AUTO_ENGINE_IMAGES struct engine_images before = { 0 };
	AUTO_ENGINE_IMAGES struct engine_images after = parsed(
		"[{\"Id\":\"a\",\"RepoTags\":[\"registry.example.org/g/app:1\",\"tool:1\"]},{\"Id\":\"b\",\"RepoTags\":[\"tool:2\"]}]");
	AUTO_ENGINE_IMAGES struct engine_images diff = { 0 };
	AUTO_STRV struct strv globs = { 0 };
	size_t n_untagged = 0;

	(void)state;
	strv_add(&globs, "registry.example.org/**");
	engine_diff(&before, &after, &globs, &diff, &n_untagged);
	assert_int_equal(diff.n, 1);
	assert_int_equal(diff.v[0].tags.n, 1);
}

static void
a_name_that_moved_away_is_noticed(void **state)
{
	AUTO_ENGINE_IMAGES struct engine_images was = parsed("[{\"Id\":\"a\",\"RepoTags\":[\"app:1\"]}]");
	AUTO_ENGINE_IMAGES struct engine_images same =
		parsed("[{\"Id\":\"a\",\"RepoTags\":[\"x:1\",\"app:1\"]}]");
	AUTO_ENGINE_IMAGES struct engine_images moved =
		parsed("[{\"Id\":\"a\",\"RepoTags\":[]},{\"Id\":\"b\",\"RepoTags\":[\"app:1\"]}]");

	(void)state;
	assert_true(engine_has(&same, &was.v[0]));
	assert_false(engine_has(&moved, &was.v[0]));
	assert_false(engine_has(&(struct engine_images){ 0 }, &was.v[0]));
}

/* An engine that gives one answer to whoever connects, and a process that talks to it. */
struct stage_play {
	char dir[32], path[64];
	int listening, asking, serving;
	const char *answer;
	char asked[512];
	pthread_t engine, server;
	struct strv sockets;
};

static void *
play_engine(void *arg)
{
	struct stage_play *p = arg;
	int fd = accept(p->listening, NULL, NULL);

	/* without an answer it hangs up */
	if (*p->answer && read(fd, p->asked, sizeof(p->asked) - 1) > 0)
		(void)fs_write_all(fd, p->answer, strlen(p->answer), NULL);
	close(fd);
	return NULL;
}

static void *
play_server(void *arg)
{
	struct stage_play *p = arg;

	engine_serve(p->serving, &p->sockets, 10000);
	close(p->serving);
	return NULL;
}

static void
begin(struct stage_play *p, const char *answer)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int ends[2];

	*p = (struct stage_play){ .answer = answer, .dir = "/tmp/tw-engine-XXXXXX" };
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/sock", p->dir);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", p->path);
	p->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(p->listening, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(p->listening, 1), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	p->asking = ends[0];
	p->serving = ends[1];
	strv_add(&p->sockets, p->path);
	strv_add(&p->sockets, "/nonexistent/engine.sock");
	assert_int_equal(pthread_create(&p->engine, NULL, play_engine, p), 0);
	assert_int_equal(pthread_create(&p->server, NULL, play_server, p), 0);
}

static void
end(struct stage_play *p)
{
	close(p->asking);
	/* who still waits for a connection gets none */
	shutdown(p->listening, SHUT_RDWR);
	pthread_join(p->server, NULL);
	pthread_join(p->engine, NULL);
	close(p->listening);
	unlink(p->path);
	rmdir(p->dir);
	strv_free(&p->sockets);
}

static void
a_list_comes_through_the_process_that_talks_to_engines(void **state)
{
	AUTO_ENGINE_IMAGES struct engine_images l = { 0 };
	struct stage_play p;
	struct err e = ERR_INIT;

	(void)state;
	begin(&p, "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n[{\"Id\":\"a\",\"RepoTags\":[\"x\"]} ]");
	if (engine_list(p.asking, 0, &l, &e) < 0)
		fail_msg("%s", e.text);
	end(&p);
	assert_int_equal(l.n, 1);
	assert_non_null(strstr(p.asked, "GET /images/json HTTP/1.1\r\n"));
}

static void
what_the_engine_says_against_it_is_told(void **state)
{
	struct engine_images l = { 0 };
	struct stage_play p;
	struct err e = ERR_INIT;

	(void)state;
	begin(&p, "HTTP/1.1 500 Oops\r\nContent-Length: 16\r\n\r\n{\"message\":\"no\"}");
	assert_int_equal(engine_list(p.asking, 0, &l, &e), -1);
	end(&p);
	assert_non_null(strstr(e.text, "500"));
	assert_non_null(strstr(e.text, "{\"message\":\"no\"}"));
}

static void
an_engine_that_is_not_there_is_known_by_its_errno(void **state)
{
	struct engine_images l = { 0 };
	struct stage_play p;
	struct err e = ERR_INIT;

	(void)state;
	begin(&p, "");
	assert_int_equal(engine_list(p.asking, 1, &l, &e), -1);
	assert_int_equal(e.no, ENOENT);
	assert_int_equal(engine_list(p.asking, 2, &l, &e), -1);
	assert_non_null(strstr(e.text, "no valid request"));
	end(&p);
}

static void
a_cut_list_is_an_error(void **state)
{
	static const char *const answers[] = {
		"", "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n[{\"Id\":\"a\"}]"
	};

	(void)state;
	for (size_t i = 0; i < MEM_COUNT(answers); i++) {
		struct engine_images l = { 0 };
		struct stage_play p;
		struct err e = ERR_INIT;

		begin(&p, answers[i]);
		assert_int_equal(engine_list(p.asking, 0, &l, &e), -1);
		end(&p);
		assert_int_equal(e.kind, ERR_FAILED);
	}
}

static void
an_export_asks_by_all_names_and_a_cut_one_is_an_error_at_its_end(void **state)
{
	AUTO_ENGINE_IMAGES struct engine_images l =
		parsed("[{\"Id\":\"a\",\"RepoTags\":[\"x:1\",\"y/z:2&b\"]}]");
	struct stage_play p;
	struct err e = ERR_INIT;
	char text[16] = "";
	int from = -1;

	(void)state;
	begin(&p, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	assert_int_equal(engine_export_start(p.asking, 0, &l.v[0], &from, &e), 0);
	assert_int_equal(read(from, text, sizeof(text)), 3);
	assert_int_equal(read(from, text, sizeof(text)), 0);
	close(from);
	assert_int_equal(engine_export_end(p.asking, &e), -1);
	end(&p);
	assert_non_null(strstr(e.text, p.path));
	assert_non_null(strstr(p.asked, "GET /images/get?names=x%3A1&names=y%2Fz%3A2%26b HTTP/1.1\r\n"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_of_docker_and_of_podman_is_read),
		cmocka_unit_test(an_image_listed_once_per_name_is_one_image),
		cmocka_unit_test(what_is_no_list_is_an_error),
		cmocka_unit_test(what_is_new_are_new_ids_new_names_and_names_that_moved),
		cmocka_unit_test(globs_say_which_names_count),
		cmocka_unit_test(a_name_that_moved_away_is_noticed),
		cmocka_unit_test(a_list_comes_through_the_process_that_talks_to_engines),
		cmocka_unit_test(what_the_engine_says_against_it_is_told),
		cmocka_unit_test(a_cut_list_is_an_error),
		cmocka_unit_test(an_engine_that_is_not_there_is_known_by_its_errno),
		cmocka_unit_test(an_export_asks_by_all_names_and_a_cut_one_is_an_error_at_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
