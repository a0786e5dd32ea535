#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "stages/known_hosts.h"

static void
assert_rewritten(const char *text, const char *expected)
{
	AUTO_FREE char *is = known_hosts_rewrite(text, strlen(text));

	assert_string_equal(is, expected);
}

static void
what_libssh2_stumbles_over_is_left_out(void **state)
{
	(void)state;
	assert_rewritten("", "");
	assert_rewritten("# a comment\n\n   \nhost ssh-ed25519 AAAA me@home\nbroken\nhost ssh-ed25519\nhost what AAAA\n",
			 "host ssh-ed25519 AAAA\n");
	assert_rewritten("host\tssh-ed25519  AAAA\r\nother ecdsa-sha2-nistp256 BBBB",
			 "host ssh-ed25519 AAAA\nother ecdsa-sha2-nistp256 BBBB\n");
	assert_rewritten("|1|c2FsdA==|aGFzaA== ssh-ed25519 AAAA\n", "|1|c2FsdA==|aGFzaA== ssh-ed25519 AAAA\n");
	assert_rewritten("sk ecdsa AAAA\nsk sk-ssh-ed25519@openssh.com AAAA\n", "");
}

static void
a_revoked_key_is_none_in_whatever_line_it_stands(void **state)
{
	(void)state;
	assert_rewritten("host ssh-ed25519 AAAA\n@revoked * ssh-ed25519 AAAA\nhost ssh-ed25519 BBBB\n",
			 "host ssh-ed25519 BBBB\n");
	assert_rewritten("@revoked host ssh-ed25519 AAAA\nhost ssh-ed25519 AAAA\n", "");
	assert_rewritten("@cert-authority * ssh-ed25519 CCCC\nhost ssh-ed25519 AAAA\n",
			 "host ssh-ed25519 AAAA\n");
}

static void
rsa_comes_last_and_each_host_has_a_line(void **state)
{
	(void)state;
	assert_rewritten("a,b ssh-rsa RRRR\n[a]:22,10.0.0.1 ssh-ed25519 EEEE\n",
			 "[a]:22 ssh-ed25519 EEEE\n10.0.0.1 ssh-ed25519 EEEE\na ssh-rsa RRRR\nb ssh-rsa RRRR\n");
}

static void
a_host_with_many_names_has_many_lines(void **state)
{
	AUTO_BUF struct buf text = BUF_INIT(1 << 20);
	AUTO_FREE char *is = NULL;
	size_t n = 0;

	(void)state;
	for (int k = 0; k < 600; k++)
		buf_printf(&text, "%sname-%d.example.com", k ? "," : "", k);
	buf_add_str(&text, " ssh-ed25519 AAAA\n");
	is = known_hosts_rewrite(buf_str(&text), text.len);
	for (const char *p = is; (p = strstr(p, " ssh-ed25519 AAAA\n")); p++)
		n++;
	assert_int_equal(n, 600);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_libssh2_stumbles_over_is_left_out),
		cmocka_unit_test(a_revoked_key_is_none_in_whatever_line_it_stands),
		cmocka_unit_test(rsa_comes_last_and_each_host_has_a_line),
		cmocka_unit_test(a_host_with_many_names_has_many_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
