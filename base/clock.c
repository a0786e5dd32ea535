#include "base/clock.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/str.h"

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

/* Follows a form in which 0 stands for a digit and T for what may part date and time; where it ends, or NULL. */
static const char *
match_form(const char *s, const char *form)
{
	for (; *form; s++, form++) {
		bool fits = *form == '0'   ? *s >= '0' && *s <= '9'
			    : *form == 'T' ? *s == 'T' || *s == 't' || *s == ' '
					   : *s == *form;

		if (!fits)
			return NULL;
	}
	return s;
}

/* n digits that match_form() saw. */
static int
number(const char *s, int n)
{
	int v = 0;

	for (int i = 0; i < n; i++)
		v = v * 10 + (s[i] - '0');
	return v;
}

static bool
is_in_calendar(const struct tm *tm, int year)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return tm->tm_mon >= 0 && tm->tm_mon < 12 && tm->tm_mday >= 1 &&
	       tm->tm_mday <= days[tm->tm_mon] + (tm->tm_mon == 1 && is_leap) && tm->tm_hour <= 23 &&
	       tm->tm_min <= 59 && tm->tm_sec <= 60; /* 60: a leap second */
}

/* The offset behind the seconds: "Z", "+02:00". */
static int
parse_offset(const char *s, int64_t *ret_s)
{
	const char *end;

	if (*s == 'Z' || *s == 'z') {
		*ret_s = 0;
		return s[1] == '\0' ? 0 : -1;
	}
	if (*s != '+' && *s != '-')
		return -1;
	end = match_form(s + 1, "00:00");
	if (!end || *end || number(s + 1, 2) > 23 || number(s + 4, 2) > 59)
		return -1;
	*ret_s = (*s == '-' ? -60 : 60) * ((int64_t)number(s + 1, 2) * 60 + number(s + 4, 2));
	return 0;
}

static int
parse_date(const char *s, int64_t *ret_s)
{
	const char *p = match_form(s, "0000-00-00T00:00:00");
	struct tm tm = { 0 };
	int64_t offset;

	if (!p)
		return -1;
	tm.tm_year = number(s, 4) - 1900;
	tm.tm_mon = number(s + 5, 2) - 1;
	tm.tm_mday = number(s + 8, 2);
	tm.tm_hour = number(s + 11, 2);
	tm.tm_min = number(s + 14, 2);
	tm.tm_sec = number(s + 17, 2);
	if (*p == '.') {
		size_t digits = strspn(++p, "0123456789");

		if (digits == 0)
			return -1;
		p += digits;
	}
	if (!is_in_calendar(&tm, tm.tm_year + 1900) || parse_offset(p, &offset) < 0)
		return -1;
	*ret_s = (int64_t)timegm(&tm) - offset;
	return 0;
}

int
clock_parse_rfc3339(const char *s, int64_t *ret_s, struct err *e)
{
	AUTO_FREE char *safe = NULL;

	if (parse_date(s, ret_s) == 0)
		return 0;
	safe = str_safe(s, 40);
	return err_set(e, ERR_FAILED, "not a date of RFC 3339: %s", safe);
}

void
clock_format_rfc3339(int64_t s, char out[32])
{
	time_t t = (time_t)s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, 32, "1970-01-01T00:00:00Z");
}
