#include "cli/spool_serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/courier.h"
#include "cli/sd_notify.h"
#include "cli/spool_flush.h"
#include "executor/settings.h"
#include "stages/fleet.h"

/* So often the spool is looked at without a reason: an event can be lost, a clock be set. */
#define IDLE_MS 60000
#define UNWATCHED_MS 5000 /* so often without inotify */
#define PAUSE_MS 200	  /* between two passes: what comes together is taken together */
#define STOP_MS 1000
#define RESTART_MAX_MS 60000
/* What happens to the spool's directory when somebody puts another one there. */
#define REPLACED (IN_MOVE_SELF | IN_MOVED_FROM | IN_DELETE)
#define WARN_EACH_MS ((int64_t)60 * 60 * 1000)

/* ---- a process that delivers ---- */

/* -1 where the host has no watch left: then it is looked at every few seconds. */
static int
watch_spool(const struct cli *cli, const struct spool *s)
{
	AUTO_FREE char *path = mem_printf("%s/new", s->path);
	AUTO_FD int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd >= 0 && inotify_add_watch(fd, path, IN_MOVED_TO | IN_ONLYDIR) >= 0 &&
	    inotify_add_watch(fd, s->path, REPLACED | IN_ONLYDIR) >= 0)
		return take_fd(fd);
	log_line(&cli->log, LOG_WARN,
		 "%s cannot be watched (%s; see fs.inotify.max_user_instances and max_user_watches): it is looked at every %d s",
		 path, strerror(errno), UNWATCHED_MS / 1000);
	return -1;
}

/* Whether one of the events is worth a look; states of deliveries are our own doing. */
static bool
read_events(int fd)
{
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool has_news = false;
	ssize_t n;

	while ((n = read(fd, events, sizeof(events))) > 0) {
		for (char *p = events; p < events + n;) {
			const struct inotify_event *event = (const void *)p;

			has_news = has_news || (event->mask & (IN_Q_OVERFLOW | REPLACED)) ||
				   (event->len > 0 && spool_is_id(event->name));
			p += sizeof(*event) + event->len;
		}
	}
	return has_news;
}

/* Until something came or is due. */
static void
wait_for_work(int watch, int64_t next_s)
{
	int64_t wait_ms = watch < 0 ? UNWATCHED_MS : IDLE_MS, due_ms = (next_s - clock_wall_s()) * 1000,
		deadline;

	if (next_s > 0 && due_ms < wait_ms)
		wait_ms = due_ms;
	if (wait_ms < PAUSE_MS)
		wait_ms = PAUSE_MS;
	deadline = clock_deadline(wait_ms);
	while (clock_left_ms(deadline) > 0) {
		struct pollfd p = { .fd = watch, .events = POLLIN };

		if (poll(&p, 1, clock_poll_timeout(deadline)) > 0 && read_events(watch))
			break;
	}
	poll(NULL, 0, PAUSE_MS);
}

/* In place of what *spool and *watch were, which lies elsewhere now. */
static int
open_spool(const struct cli *cli, const struct settings *s, struct spool **spool, int *watch, struct err *e)
{
	struct spool *old = take_ptr(*spool);

	if (old)
		spool_free(old);
	mem_close_at(watch);
	if (spool_open(s->state_dir, spool, e) < 0)
		return -1;
	*watch = watch_spool(cli, *spool);
	return 0;
}

static int
deliver_for_ever(const struct cli *cli, const struct settings *s, struct flush *f, int ready_fd, struct err *e)
{
	AUTO(spool) struct spool *spool = NULL;
	AUTO(fleet) struct fleet *fleet = fleet_new(&s->opt, &cli->log);
	AUTO_FREE char *said = NULL;
	AUTO_FD int watch = -1;
	int64_t warn_ms = 0;

	if (courier_become(s, e) < 0)
		return -1;
	/* After the change of user, which undoes it. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (open_spool(cli, s, &spool, &watch, e) < 0)
		return -1;
	(void)!write(ready_fd, "", 1);
	close(ready_fd);
	for (;;) {
		struct flush_pass pass = { 0 };

		f->deadline = CLOCK_DEADLINE_NEVER;
		f->fleet = fleet;
		if (spool_flush_pass(cli, s, spool, f, &pass, e) < 0) {
			mem_free_at(&pass.stop);
			return -1;
		}
		if (pass.stop && !str_eq(pass.stop, said))
			log_line(&cli->log, LOG_WARN, "%s", pass.stop);
		mem_free_at(&said);
		said = take_ptr(pass.stop);
		if (f->part == 0 && clock_left_ms(warn_ms) == 0) {
			spool_flush_warn(cli, s, spool);
			warn_ms = clock_deadline(WARN_EACH_MS);
		}
		wait_for_work(watch, pass.next_s);
		if (!spool_is_in_place(spool) && open_spool(cli, s, &spool, &watch, e) < 0)
			return -1;
	}
}

/* ---- the process that looks after them ---- */

struct worker {
	pid_t pid;	    /* 0: none */
	int64_t restart_ms; /* CLOCK_MONOTONIC, when it is none */
	int64_t delay_ms;
	int64_t started_ms;
};

struct serving {
	const struct cli *cli;
	struct settings *settings;
	char *text; /* of the settings */
	size_t text_len;
	struct worker workers[SERVE_PARTS_MAX];
	unsigned n;
	int signals;
	sigset_t mask; /* as it was */
};

static int
load(const struct cli *cli, struct settings **ret, char **ret_text, size_t *ret_len, struct err *e)
{
	AUTO(settings) struct settings *s = NULL;

	if (settings_load(cli->has_config_path ? cli->config_path : NULL, &s, e) < 0 ||
	    settings_read_text(s->path, ret_text, ret_len, e) < 0)
		return -1;
	*ret = take_ptr(s);
	return 0;
}

/* ready_fd: a byte comes when it watches the spool. */
static int
start_worker(struct serving *v, unsigned part, int ready_fd, struct err *e)
{
	struct flush f = { .settings_text = v->text,
			   .settings_len = v->text_len,
			   .part = part,
			   .n_parts = v->n,
			   .leaves_young = true };
	struct err why = ERR_INIT;
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return err_errno(e, "fork");
	if (pid > 0) {
		v->workers[part].pid = pid;
		v->workers[part].started_ms = clock_mono_ms();
		return 0;
	}
	sigprocmask(SIG_SETMASK, &v->mask, NULL);
	close(v->signals);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(CLI_UNDECIDED);
	(void)deliver_for_ever(v->cli, v->settings, &f, ready_fd, &why);
	log_line(&v->cli->log, LOG_ERROR, "%s", why.text);
	fflush(NULL);
	_exit(CLI_UNDECIDED);
}

static void
stop_workers(struct serving *v)
{
	int64_t deadline = clock_deadline(STOP_MS);

	for (unsigned i = 0; i < v->n; i++) {
		if (v->workers[i].pid > 0)
			kill(v->workers[i].pid, SIGTERM);
	}
	for (unsigned i = 0; i < v->n; i++) {
		pid_t pid = v->workers[i].pid;

		if (pid <= 0)
			continue;
		while (waitpid(pid, NULL, WNOHANG) == 0) {
			if (clock_left_ms(deadline) == 0)
				kill(pid, SIGKILL);
			poll(NULL, 0, 5);
		}
		v->workers[i].pid = 0;
	}
}

/* All of them, and waits until each is ready; one that cannot be is an error that it has told. */
static int
start_workers(struct serving *v, struct err *e)
{
	int ends[2];
	size_t n_ready = 0;
	char c;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, "pipe");
	for (unsigned i = 0; i < v->n; i++) {
		v->workers[i] = (struct worker){ 0 };
		if (start_worker(v, i, ends[1], e) < 0)
			break;
	}
	close(ends[1]);
	while (read(ends[0], &c, 1) == 1)
		n_ready++;
	close(ends[0]);
	if (n_ready == v->n)
		return 0;
	stop_workers(v);
	return err_set(e, ERR_FAILED, "the spool cannot be served");
}

/* One that ended, which none should, is started again, after longer and longer. */
static void
reap(struct serving *v)
{
	for (unsigned i = 0; i < v->n; i++) {
		struct worker *w = &v->workers[i];
		int status;

		if (w->pid <= 0 || waitpid(w->pid, &status, WNOHANG) <= 0)
			continue;
		w->pid = 0;
		if (clock_mono_ms() - w->started_ms > RESTART_MAX_MS)
			w->delay_ms = 0;
		w->delay_ms = w->delay_ms == 0			 ? 1000
			      : w->delay_ms < RESTART_MAX_MS / 2 ? w->delay_ms * 2
								 : RESTART_MAX_MS;
		w->restart_ms = clock_deadline(w->delay_ms);
		log_line(&v->cli->log, LOG_ERROR, "a process ended with %s %d; another one begins in %lld s",
			 WIFSIGNALED(status) ? "signal" : "code",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
			 (long long)(w->delay_ms / 1000));
	}
}

static void
restart_due(struct serving *v)
{
	for (unsigned i = 0; i < v->n; i++) {
		struct worker *w = &v->workers[i];
		struct err e = ERR_INIT;

		if (w->pid > 0 || clock_left_ms(w->restart_ms) > 0)
			continue;
		if (start_worker(v, i, -1, &e) < 0) {
			w->restart_ms = clock_deadline(RESTART_MAX_MS);
			log_line(&v->cli->log, LOG_ERROR, "%s", e.text);
		}
	}
}

static void
say_ready(const struct serving *v)
{
	AUTO_FREE char *state = mem_printf("READY=1\nSTATUS=Delivering from %s/spool", v->settings->state_dir);

	sd_notify_send(state);
}

/* Settings that are not understood change nothing. */
static int
reload(struct serving *v, struct err *e)
{
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *state =
		mem_printf("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)clock_mono_ms() * 1000);
	struct settings *s = NULL;
	struct err why = ERR_INIT;
	size_t len = 0;

	sd_notify_send(state);
	if (load(v->cli, &s, &text, &len, &why) < 0) {
		log_line(&v->cli->log, LOG_ERROR, "the settings stay as they were: %s", why.text);
		say_ready(v);
		return 0;
	}
	stop_workers(v);
	settings_free(v->settings);
	mem_free_at(&v->text);
	v->settings = s;
	v->text = take_ptr(text);
	v->text_len = len;
	if (start_workers(v, e) < 0)
		return -1;
	log_line(&v->cli->log, LOG_NOTE, "the settings were read again");
	say_ready(v);
	return 0;
}

static int
watchdog_ms(void)
{
	const char *text = getenv("WATCHDOG_USEC");
	int64_t us = 0;

	if (!text || str_parse_int(text, 1000, (int64_t)1 << 40, &us, NULL) < 0)
		return IDLE_MS;
	return us / 2000 < IDLE_MS ? (int)(us / 2000) : IDLE_MS;
}

/* Until the next thing to do by ourselves. */
static int
patience_ms(const struct serving *v)
{
	int64_t ms = watchdog_ms();

	for (unsigned i = 0; i < v->n; i++) {
		if (v->workers[i].pid == 0 && clock_left_ms(v->workers[i].restart_ms) < ms)
			ms = clock_left_ms(v->workers[i].restart_ms);
	}
	return (int)ms;
}

static int
look_after(struct serving *v, struct err *e)
{
	for (;;) {
		struct pollfd p = { .fd = v->signals, .events = POLLIN };
		struct signalfd_siginfo info;
		bool has_signal = poll(&p, 1, patience_ms(v)) > 0 &&
				  read(v->signals, &info, sizeof(info)) == (ssize_t)sizeof(info);

		sd_notify_send("WATCHDOG=1");
		if (has_signal && info.ssi_signo == SIGCHLD)
			reap(v);
		else if (has_signal && info.ssi_signo == SIGHUP && reload(v, e) < 0)
			return -1;
		else if (has_signal && (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT))
			return 0;
		restart_due(v);
	}
}

static int
serve(struct serving *v, struct err *e)
{
	if (start_workers(v, e) < 0)
		return -1;
	say_ready(v);
	if (look_after(v, e) < 0)
		return -1;
	sd_notify_send("STOPPING=1");
	stop_workers(v);
	return CLI_OK;
}

int
spool_serve(const struct cli *cli, unsigned n_parts, struct err *e)
{
	struct serving v = { .cli = cli, .n = n_parts };
	sigset_t ours;
	int rc = -1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGHUP);
	sigaddset(&ours, SIGCHLD);
	if (load(cli, &v.settings, &v.text, &v.text_len, e) < 0)
		return -1;
	if (sigprocmask(SIG_BLOCK, &ours, &v.mask) < 0)
		err_errno(e, "sigprocmask");
	else if ((v.signals = signalfd(-1, &ours, SFD_CLOEXEC)) < 0)
		err_errno(e, "signalfd");
	else {
		rc = serve(&v, e);
		close(v.signals);
	}
	settings_free(v.settings);
	mem_free_at(&v.text);
	return rc;
}
