#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/rehearse_state.h"

struct progress {
	bool is_good; /* no stage so far has made it bad */
	bool is_script_started;
	struct failure later; /* of a stage that fails the job, but leaves the order as it is */
};

void
state_pause(struct state *s, int64_t seconds)
{
	int64_t deadline = clock_deadline(1000 * seconds);
	struct pollfd at = { .fd = s->watch.signal_fd, .events = POLLIN };
	struct signalfd_siginfo info;

	if (poll(&at, 1, clock_poll_timeout(deadline)) > 0 &&
	    read(at.fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		(void)s->watch.on_event(s->watch.arg, "signal");
}

/* "step_*" in a title or name becomes the stage's own. Owned by the caller. */
static char *
own_title(const char *title, const char *stage)
{
	const char *star = strstr(title, "step_*");

	if (!star)
		return mem_strdup(title);
	return mem_printf("%.*s%s%s", (int)(star - title), title, stage, star + strlen("step_*"));
}

static int
run_titled(struct state *s, const cJSON *rule, const char *stage, struct failure *ret, struct err *e)
{
	AUTO_FREE char *title = own_title(json_str(rule, "title"), stage);

	rehearse_log_say(s->play->log, LOG_CYAN, "%s", title);
	failure_clear(ret);
	return state_run_script(s, stage, json_str(rule, "exports"), ret, e);
}

/* The job's own value of a variable, the last of its name. */
static const char *
user_value(const struct state *s, const char *name)
{
	const cJSON *item;
	const char *value = NULL;

	cJSON_ArrayForEach(item, json_array(s->play->payload, "variables"))
	{
		if (str_eq(json_str(item, "key"), name))
			value = json_str(item, "value");
	}
	return value;
}

/* One stage with its retries. */
static int
run_stage(struct state *s, const cJSON *rule, const char *stage, struct failure *ret, struct err *e)
{
	const char *variable = json_str(rule, "attempts_variable");
	const char *text = str_is_empty(variable) ? NULL : user_value(s, variable);
	const cJSON *retry =
		rules_find(s->play->rules, "retry_stages", "name", json_str(rule, "before_retry"));
	struct err bad = ERR_INIT;
	int64_t tries = 1;

	if (text &&
	    str_parse_int(text, 1, json_int(s->play->rules, "stage_attempts_max", 1), &tries, &bad) < 0) {
		failure_set(ret, "runner_system_failure", 0, "%s: number of attempts out of the range", stage);
		return 0;
	}
	for (int64_t n = 0; n < tries; n++) {
		failure_clear(ret);
		if (n == 1 && retry && run_titled(s, retry, json_str(retry, "name"), ret, e) < 0)
			return -1;
		if (!ret->reason && run_titled(s, rule, stage, ret, e) < 0)
			return -1;
		if (!ret->reason || s->is_stopped)
			break;
		if (n + 1 < tries)
			state_pause(s, rules_seconds(s->play->rules,
						     n == 0 ? "stage_retry_first" : "stage_retry_next"));
	}
	return 0;
}

/* The stages that a rule stands for in this job. */
static void
list_stages(const struct state *s, const cJSON *rule, struct strv *ret)
{
	struct rehearse_context c = state_context(s);
	const char *needs = json_str(rule, "needs");
	AUTO_STRV struct strv steps = { 0 };

	if (str_eq(needs, "script") || str_eq(needs, "steps")) {
		rules_step_stages(s->play->payload, &steps);
		for (size_t i = 0; i < steps.n; i++)
			if (str_eq(steps.v[i], "build_script") == str_eq(needs, "script"))
				strv_add(ret, steps.v[i]);
	} else if (rules_has(&c, needs, json_str(rule, "name"))) {
		strv_add(ret, json_str(rule, "name"));
	}
}

static bool
runs_now(const cJSON *rule, const struct progress *p)
{
	const char *when = json_str(rule, "runs_if");

	if (str_eq(when, "good"))
		return p->is_good;
	if (str_eq(when, "bad"))
		return !p->is_good;
	if (str_eq(when, "script_started"))
		return p->is_script_started;
	return true;
}

/* All stages of one rule. *ret_over: nothing but cleanup follows. */
static int
run_rule(struct state *s, const cJSON *rule, struct progress *p, struct failure *ret, bool *ret_over,
	 struct err *e)
{
	const char *on_failure = json_str(rule, "on_failure");
	AUTO_STRV struct strv stages = { 0 };
	struct failure f = { 0 };
	int rc = 0;

	list_stages(s, rule, &stages);
	for (size_t i = 0; rc == 0 && i < stages.n && !*ret_over; i++) {
		rc = run_stage(s, rule, stages.v[i], &f, e);
		if (str_eq(s->phase, "script") && s->interrupted) {
			p->is_good = false;
			break;
		}
		if (rc < 0 || !f.reason || str_eq(on_failure, "ignore"))
			continue;
		if (str_eq(on_failure, "fail")) {
			if (!p->later.reason)
				failure_move(&p->later, &f);
			continue;
		}
		p->is_good = false;
		*ret_over = str_eq(on_failure, "cleanup");
		failure_move(ret, &f);
		break;
	}
	failure_clear(&f);
	return rc;
}

static void
script_begins(struct state *s, struct progress *p)
{
	const char *timeout = user_value(s, "RUNNER_SCRIPT_TIMEOUT");
	struct err bad = ERR_INIT;
	int64_t ms;

	p->is_script_started = true;
	s->phase = "script";
	if (!timeout)
		return;
	/* The runner takes "1h30m" as well; what it does not understand it passes over with a warning. */
	if (str_parse_duration(timeout, &ms, &bad) == 0 && ms > 0)
		s->watch.script_deadline = clock_deadline(ms);
	else
		rehearse_log_say(s->play->log, LOG_YELLOW, "WARNING: RUNNER_SCRIPT_TIMEOUT: %s", bad.text);
}

static void
script_is_over(struct state *s, const struct progress *p)
{
	s->phase = "after_script";
	s->watch.script_deadline = CLOCK_DEADLINE_NEVER;
	if (!p->is_script_started)
		return;
	s->job_status = p->is_good ? "success" : "failed";
	if (s->interrupted)
		s->job_status = json_str(s->interrupted, "job_status");
}

int
state_run_stages(struct state *s, struct failure *ret, struct err *e)
{
	struct progress p = { .is_good = true };
	bool is_over = false;
	const cJSON *rule;
	int rc = 0;

	cJSON_ArrayForEach(rule, json_array(s->play->rules, "stages"))
	{
		if (rc < 0 || is_over || s->is_stopped)
			break;
		if (str_eq(json_str(rule, "needs"), "script") && p.is_good)
			script_begins(s, &p);
		if (str_eq(json_str(rule, "runs_if"), "script_started"))
			script_is_over(s, &p);
		if (runs_now(rule, &p))
			rc = run_rule(s, rule, &p, ret, &is_over, e);
	}
	if (rc == 0 && !ret->reason && p.later.reason)
		failure_move(ret, &p.later);
	failure_clear(&p.later);
	return rc;
}
