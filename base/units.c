#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

struct unit {
	const char *word;
	int64_t factor;
};

static const struct unit durations[] = {
	{ "ms", 1 },	  { "s", 1000 },     { "m", 60000 },	 { "min", 60000 },
	{ "h", 3600000 }, { "d", 86400000 }, { "w", 604800000 },
};
static const struct unit sizes[] = {
	{ "B", 1 },
	{ "KiB", INT64_C(1) << 10 },
	{ "MiB", INT64_C(1) << 20 },
	{ "GiB", INT64_C(1) << 30 },
	{ "TiB", INT64_C(1) << 40 },
	{ "KB", 1000 },
	{ "kB", 1000 },
	{ "MB", 1000000 },
	{ "GB", 1000000000 },
	{ "TB", INT64_C(1000000000000) },
};

/* A run of digits; the number of them, 0 on overflow too. */
static size_t
digits(const char *s, int64_t *ret)
{
	int64_t v = 0;
	size_t n = strspn(s, "0123456789");

	for (size_t i = 0; i < n; i++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, s[i] - '0', &v))
			return 0;
	*ret = v;
	return n;
}

/* "1h30m": numbers with units, added up, where is_sum; else one. */
static int
parse(const char *s, const struct unit *units, size_t n_units, bool is_sum, int64_t *ret)
{
	int64_t total = 0;

	if (strcmp(s, "0") == 0) {
		*ret = 0;
		return 0;
	}
	do {
		size_t n, len;
		int64_t v = 0;
		const struct unit *u = NULL;

		n = digits(s, &v);
		s += n;
		s += n ? strspn(s, " ") : 0;
		len = strcspn(s, "0123456789 ");
		for (size_t i = 0; i < n_units; i++)
			if (strlen(units[i].word) == len && memcmp(units[i].word, s, len) == 0)
				u = &units[i];
		if (n == 0 || !u || __builtin_mul_overflow(v, u->factor, &v) ||
		    __builtin_add_overflow(total, v, &total))
			return -1;
		s += len;
	} while (*s && is_sum);
	if (*s)
		return -1;
	*ret = total;
	return 0;
}

int
str_parse_duration(const char *s, int64_t *ret_ms, struct err *e)
{
	if (parse(s, durations, MEM_COUNT(durations), true, ret_ms) < 0)
		return err_set(e, ERR_SETTINGS, "\"%.64s\" is no duration such as 90s, 15m, 48h or 7d", s);
	return 0;
}

int
str_parse_size(const char *s, int64_t *ret_bytes, struct err *e)
{
	if (parse(s, sizes, MEM_COUNT(sizes), false, ret_bytes) < 0)
		return err_set(e, ERR_SETTINGS, "\"%.64s\" is no size such as 512MiB, 4GiB or 1GB", s);
	return 0;
}

int
str_parse_int(const char *s, int64_t min, int64_t max, int64_t *ret, struct err *e)
{
	bool is_negative = *s == '-';
	int64_t v;
	size_t n = digits(s + is_negative, &v);

	if (n == 0 || s[is_negative + n] != '\0')
		return err_set(e, ERR_SETTINGS, "\"%.64s\" is no whole number", s);
	if (is_negative)
		v = -v;
	if (v < min || v > max)
		return err_set(e, ERR_SETTINGS, "%" PRId64 " is not within %" PRId64 " and %" PRId64, v, min,
			       max);
	*ret = v;
	return 0;
}

char *
str_human_size(uint64_t bytes)
{
	static const char *const words[] = { "B", "kB", "MB", "GB", "TB", "PB" };
	double v = (double)bytes;
	size_t i = 0;

	while (v >= 999.5 && i + 1 < MEM_COUNT(words)) {
		v /= 1000;
		i++;
	}
	return mem_printf(i == 0 || v >= 99.95 ? "%.0f %s" : v >= 9.995 ? "%.1f %s" : "%.2f %s", v, words[i]);
}

/* "3 min 5 s", and of none of the smaller unit "3 min". */
static char *
two_units(int64_t large, const char *word, int64_t small, const char *small_word)
{
	return small == 0 ? mem_printf("%" PRId64 " %s", large, word)
			  : mem_printf("%" PRId64 " %s %" PRId64 " %s", large, word, small, small_word);
}

char *
str_human_duration(int64_t ms)
{
	int64_t s = ms / 1000;

	/* what is counted in seconds has no tenths */
	if (s < 60 && ms % 1000 == 0)
		return mem_printf("%" PRId64 " s", s);
	if (ms < 1000)
		return mem_printf("%" PRId64 " ms", ms);
	if (s < 60)
		return mem_printf("%.1f s", (double)ms / 1000);
	if (s < 3600)
		return two_units(s / 60, "min", s % 60, "s");
	if (s < 2 * 86400)
		return two_units(s / 3600, "h", s / 60 % 60, "min");
	return mem_printf("%" PRId64 " days", s / 86400);
}

/* The largest of the units named that divides it. */
static char *
format_exact(int64_t v, const struct unit *units, size_t n)
{
	for (size_t i = n; i-- > 0;)
		if (v != 0 && v % units[i].factor == 0)
			return mem_printf("%" PRId64 "%s", v / units[i].factor, units[i].word);
	return mem_strdup("0");
}

char *
str_format_duration(int64_t ms)
{
	static const struct unit units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };

	return format_exact(ms, units, MEM_COUNT(units));
}

char *
str_format_size(int64_t bytes)
{
	static const struct unit units[] = {
		{ "B", 1 },
		{ "KiB", INT64_C(1) << 10 },
		{ "MiB", INT64_C(1) << 20 },
		{ "GiB", INT64_C(1) << 30 },
	};

	return format_exact(bytes, units, MEM_COUNT(units));
}
