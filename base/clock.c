#include "base/clock.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int64_t
clock_mono_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
clock_deadline(int64_t timeout_ms)
{
	int64_t at;

	if (timeout_ms < 0 || __builtin_add_overflow(clock_mono_ms(), timeout_ms, &at))
		return CLOCK_DEADLINE_NEVER;
	return at;
}

int64_t
clock_left_ms(int64_t deadline)
{
	int64_t now;

	if (deadline == CLOCK_DEADLINE_NEVER)
		return INT64_MAX;
	now = clock_mono_ms();
	return deadline > now ? deadline - now : 0;
}

int
clock_poll_timeout(int64_t deadline)
{
	int64_t left = clock_left_ms(deadline);

	if (deadline == CLOCK_DEADLINE_NEVER)
		return -1;
	return left > INT_MAX ? INT_MAX : (int)left;
}

int64_t
clock_wall_s(void)
{
	return (int64_t)time(NULL);
}

/* The offset behind the seconds: "Z", "+02:00". */
static int
parse_offset(const char *s, int64_t *ret_s)
{
	int h, m, n = 0;
	char sign;

	if ((s[0] == 'Z' || s[0] == 'z') && s[1] == '\0') {
		*ret_s = 0;
		return 0;
	}
	if (sscanf(s, "%c%2d:%2d%n", &sign, &h, &m, &n) != 3 || n != 6 || s[n] != '\0' ||
	    (sign != '+' && sign != '-') || h < 0 || h > 23 || m < 0 || m > 59)
		return -1;
	*ret_s = (sign == '-' ? -1 : 1) * ((int64_t)h * 3600 + m * 60);
	return 0;
}

int
clock_parse_rfc3339(const char *s, int64_t *ret_s, struct err *e)
{
	struct tm tm = { 0 };
	int64_t offset;
	const char *p;
	int n = 0;

	if (sscanf(s, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
		   &tm.tm_min, &tm.tm_sec, &n) != 6 ||
	    n != 19)
		return err_set(e, ERR_FAILED, "not a date of RFC 3339: %.40s", s);
	p = s + n;
	if (*p == '.') {
		size_t digits = strspn(p + 1, "0123456789");

		if (digits == 0)
			return err_set(e, ERR_FAILED, "not a date of RFC 3339: %.40s", s);
		p += 1 + digits;
	}
	if (parse_offset(p, &offset) < 0 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
	    tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return err_set(e, ERR_FAILED, "not a date of RFC 3339: %.40s", s);
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	*ret_s = (int64_t)timegm(&tm) - offset;
	return 0;
}

void
clock_format_rfc3339(int64_t s, char out[32])
{
	time_t t = (time_t)s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, 32, "1970-01-01T00:00:00Z");
}
