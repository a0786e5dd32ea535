#include "stages/image_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
static const struct image_limits limits = { .layers = 8, .json_size = 1 << 20, .json_depth = 64 };

static struct image_config *
parse(const char *text)
{
	struct image_config *c = NULL;
	struct err e = ERR_INIT;

	if (image_config_parse(text, strlen(text), &limits, &c, &e) < 0)
		fail_msg("%s", e.text);
	return c;
}

static void
refuse(const char *text, enum err_kind kind, const char *words)
{
	struct image_config *c = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(image_config_parse(text, strlen(text), &limits, &c, &e), -1);
	assert_null(c);
	assert_int_equal(e.kind, kind);
	if (!strstr(e.text, words))
		fail_msg("expected \"%s\" in \"%s\"", words, e.text);
}

static void
layers_and_the_steps_that_made_them_are_read(void **state)
{
	AUTO(image_config) struct image_config *c = NULL;
	(void)state;

	c = parse(
		"{\"os\":\"linux\",\"architecture\":\"arm64\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A
		"\",\"" B "\"]},"
		"\"history\":[{\"created_by\":\"one\"},{\"created_by\":\"ENV a=b\",\"empty_layer\":true},{\"created_by\":\"two\"}]}");
	assert_string_equal(c->os, "linux");
	assert_string_equal(c->architecture, "arm64");
	assert_int_equal(c->diff_ids.n, 2);
	assert_string_equal(c->diff_ids.v[1], B);
	assert_string_equal(c->created_by[0], "one");
	assert_string_equal(c->created_by[1], "two");
	assert_int_equal(c->base_layers, 0);
}

static void
a_history_of_other_layers_tells_nothing(void **state)
{
	AUTO(image_config) struct image_config *c = NULL;
	(void)state;

	c = parse("{\"rootfs\":{\"diff_ids\":[\"" A
		  "\"]},\"history\":[{\"created_by\":\"one\"},{\"created_by\":\"two\"}]}");
	assert_null(c->created_by[0]);
	assert_int_equal(c->base_layers, 0);
	assert_string_equal(c->os, "");
}

static void
an_image_without_layers_has_null_or_an_empty_list(void **state)
{
	static const char *const texts[] = { "{\"rootfs\":{\"diff_ids\":null}}",
					     "{\"rootfs\":{\"diff_ids\":[]}}", "{\"rootfs\":{}}" };
	(void)state;

	for (size_t i = 0; i < MEM_COUNT(texts); i++) {
		AUTO(image_config) struct image_config *c = parse(texts[i]);

		assert_int_equal(c->diff_ids.n, 0);
	}
}

static void
what_is_no_config_or_read_differently_is_refused(void **state)
{
	(void)state;
	refuse("{\"os\":\"linux\"}", ERR_REFUSED, "it has no rootfs");
	refuse("{\"rootfs\":[]}", ERR_REFUSED, "it has no rootfs");
	refuse("[]", ERR_REFUSED, "it is no JSON object");
	refuse("{\"rootfs\":{\"diff_ids\":{}}}", ERR_REFUSED, "rootfs.diff_ids is no list");
	refuse("{\"rootfs\":{\"diff_ids\":[1]}}", ERR_REFUSED, "rootfs.diff_ids[0] is no digest");
	refuse("{\"rootfs\":{\"diff_ids\":[\"" A "\",\"sha256:ABC\"]}}", ERR_REFUSED,
	       "rootfs.diff_ids[1] is no digest: sha256:ABC");
	refuse("{\"rootfs\":{\"diff_ids\":[\"md5:d41d8cd98f00b204e9800998ecf8427e\"]}}", ERR_REFUSED,
	       "rootfs.diff_ids[0] is no digest");
	refuse("{\"rootfs\":{},\"RootFS\":{\"diff_ids\":[]}}", ERR_REFUSED,
	       "\"RootFS\" where some readers see \"rootfs\"");
	refuse("{\"rootfs\":{\"diff_id\xc5\xbf\":[]}}", ERR_REFUSED, "some readers see \"diff_ids\"");
	refuse("{\"rootfs\":{},\"rootfs\":{}}", ERR_REFUSED, "twice");
	refuse("{\"rootfs\":{}} {}", ERR_REFUSED, "behind");
}

static void
layers_are_bounded(void **state)
{
	(void)state;

	for (int more = 0; more <= 1; more++) {
		AUTO_BUF struct buf text = BUF_INIT(10000);

		buf_add_str(&text, "{\"rootfs\":{\"diff_ids\":[\"" A "\"");
		for (int i = 1; i < (int)limits.layers + more; i++)
			buf_add_str(&text, ",\"" A "\"");
		buf_add_str(&text, "]}}");
		if (more)
			refuse(buf_str(&text), ERR_REFUSED,
			       "layers: rootfs.diff_ids names more than the 8 that are allowed");
		else
			image_config_free(parse(buf_str(&text)));
	}
}

static void
size_and_depth_of_the_text_are_bounded(void **state)
{
	const struct image_limits small = { .layers = 8, .json_size = 60, .json_depth = 10 };
	(void)state;

	for (size_t more = 0; more <= 1; more++) {
		AUTO(image_config) struct image_config *c = NULL;
		AUTO(image_config) struct image_config *d = NULL;
		AUTO_BUF struct buf text = BUF_INIT(10000);
		struct err e = ERR_INIT;

		buf_add_str(&text, "{\"rootfs\":{}}");
		while (text.len < small.json_size + more)
			buf_add_char(&text, ' ');
		assert_int_equal(image_config_parse(buf_str(&text), text.len, &small, &c, &e), more ? -1 : 0);
		assert_int_equal(e.kind, more ? ERR_REFUSED : ERR_NONE);
		buf_reset(&text);
		buf_add_str(&text, "{\"rootfs\":{},\"x\":");
		for (size_t i = 1; i < small.json_depth + more; i++)
			buf_add_char(&text, '[');
		for (size_t i = 1; i < small.json_depth + more; i++)
			buf_add_char(&text, ']');
		buf_add_char(&text, '}');
		err_clear(&e);
		assert_int_equal(image_config_parse(buf_str(&text), text.len, &small, &d, &e), more ? -1 : 0);
		assert_true(!more || strstr(e.text, "nested too deeply"));
	}
}

/* Steps: the text of each; "-" in front: without a layer; "b:" with BuildKit's comment, "d:" with debuerreotype's. */
static size_t
base_of(const char *const *steps)
{
	AUTO_BUF struct buf text = BUF_INIT(100000);
	AUTO(image_config) struct image_config *c = NULL;
	size_t n = 0;

	buf_add_str(&text, "{\"history\":[");
	for (size_t i = 0; steps[i]; i++) {
		const char *s = steps[i], *comment = "";
		bool is_empty = *s == '-';

		s += is_empty;
		if (!strncmp(s, "b:", 2))
			comment = "buildkit.dockerfile.v0";
		else if (!strncmp(s, "d:", 2))
			comment = "debuerreotype 0.15";
		s += comment[0] ? 2 : 0;
		buf_printf(&text, "%s{\"created_by\":\"%s\",\"comment\":\"%s\",\"empty_layer\":%s}",
			   i ? "," : "", s, comment, is_empty ? "true" : "false");
		n += !is_empty;
	}
	buf_add_str(&text, "],\"rootfs\":{\"diff_ids\":[");
	for (size_t i = 0; i < n; i++)
		buf_printf(&text, "%s\"" A "\"", i ? "," : "");
	buf_add_str(&text, "]}}");
	c = parse(buf_str(&text));
	return c->base_layers;
}
#define BASE_OF(...) base_of((const char *const[]){ __VA_ARGS__, NULL })

static void
the_base_image_ends_where_its_command_stands(void **state)
{
	(void)state;
	/* Debian of the classic builder, below steps by BuildKit; node on Debian; the image's own CMD has no layers behind it. */
	assert_int_equal(BASE_OF("/bin/sh -c #(nop) ADD file:7f in / ", "-/bin/sh -c #(nop)  CMD [bash]",
				 "b:RUN npm ci"),
			 1);
	assert_int_equal(BASE_OF("b:ADD rootfs", "-b:CMD [bash]", "b:RUN apt", "-b:ENTRYPOINT [x]",
				 "-b:CMD [node]", "b:COPY . .", "b:RUN npm ci", "-b:CMD [serve]"),
			 2);
	/* Two builders, no CMD. */
	assert_int_equal(BASE_OF("d:# debian.sh", "/bin/sh -c apt", "b:RUN npm ci", "b:COPY . ."), 2);
	/* Only the first layer is known. */
	assert_int_equal(BASE_OF("d:# debian.sh", "-ENV a", "RUN x"), 1);
	assert_int_equal(BASE_OF("/bin/sh -c #(nop) ADD file:7f in / ", "-CMD [bash]"), 1);
	/* From scratch. */
	assert_int_equal(BASE_OF("b:COPY app / # buildkit", "b:COPY x /", "-b:CMD [app]"), 0);
	/* A command in words is none. */
	assert_int_equal(BASE_OF("COPY CMD /", "RUN echo CMD [x]", "COPY y /"), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layers_and_the_steps_that_made_them_are_read),
		cmocka_unit_test(a_history_of_other_layers_tells_nothing),
		cmocka_unit_test(an_image_without_layers_has_null_or_an_empty_list),
		cmocka_unit_test(what_is_no_config_or_read_differently_is_refused),
		cmocka_unit_test(layers_are_bounded),
		cmocka_unit_test(size_and_depth_of_the_text_are_bounded),
		cmocka_unit_test(the_base_image_ends_where_its_command_stands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
