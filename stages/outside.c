#include "stages/outside.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "stages/confine.h"
#include "stages/relay.h"
#include "stages/result_remote.h"
#include "stages/seal.h"

/* What the process outside works with. */
struct work {
	const struct options_trivy *opt;
	const struct log *log;
	int results_fd, listen_fd;
	const char *local_token;
	char *mac_key, *auth, *server_token;
};

static int
read_secret(const char *path, const char *setting, char **ret, struct err *e)
{
	if (str_is_empty(path))
		return 0;
	return fs_read_secret(path, ret, e) < 0 ? err_wrap(e, "%s", setting) : 0;
}

static void *
serve_results(void *arg)
{
	const struct work *w = arg;
	const struct result_remote_settings s = {
		.redis = { .url = w->opt->results_redis, .auth = w->auth, .ca_file = w->opt->results_ca_file },
		.mac_key = w->mac_key,
		.ttl_s = w->opt->results_ttl / 1000,
		.log = w->log
	};

	result_remote_serve(w->results_fd, &s);
	close(w->results_fd);
	return NULL;
}

/* Without what it needs it answers nothing, and the scanner does without. */
static bool
can_serve_results(struct work *w)
{
	struct err e = ERR_INIT;

	if (w->results_fd < 0)
		return false;
	if (read_secret(w->opt->results_key_file, "trivy.results_key_file", &w->mac_key, &e) == 0 &&
	    read_secret(w->opt->results_auth_file, "trivy.results_auth_file", &w->auth, &e) == 0) {
		if (w->mac_key && strlen(w->mac_key) >= SEAL_KEY_MIN)
			return true;
		err_set(&e, ERR_SETTINGS, "trivy.results_key_file must hold at least %d characters",
			SEAL_KEY_MIN);
	}
	log_line(w->log, LOG_WARN, "results in Redis are not used: %s", e.text);
	close(w->results_fd);
	return false;
}

static void
serve_server(struct work *w)
{
	const struct options_trivy *opt = w->opt;
	AUTO_FREE char *base = mem_strdup(opt->server);
	const struct relay_settings s = { .server = base,
					  .token = w->server_token,
					  .ca_file = opt->server_ca_file,
					  .local_token = w->local_token,
					  .answer_max = opt->report_max,
					  .timeout = opt->timeout,
					  .log = w->log };

	while (*base && base[strlen(base) - 1] == '/')
		base[strlen(base) - 1] = '\0';
	relay_serve(w->listen_fd, &s);
}

/* In the child; does not return. */
static void
child_main(struct work *w, uid_t uid, gid_t gid, pid_t parent)
{
	struct err e = ERR_INIT;
	pthread_t thread;
	bool has_thread = false;

	if (confine_beside(uid, gid, parent, &e) < 0)
		_exit(1);
	if (can_serve_results(w))
		has_thread = pthread_create(&thread, NULL, serve_results, w) == 0;
	if (w->listen_fd >= 0) {
		if (read_secret(w->opt->server_token_file, "trivy.server_token_file", &w->server_token, &e) < 0)
			log_line(w->log, LOG_WARN, "Trivy server: %s", e.text);
		serve_server(w);
	}
	if (has_thread)
		pthread_join(thread, NULL);
	_exit(0);
}

static int
make_token(char ret[65], struct err *e)
{
	unsigned char random[32];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return err_errno(e, "getrandom");
	for (size_t k = 0; k < sizeof(random); k++)
		snprintf(ret + 2 * k, 3, "%02x", random[k]);
	return 0;
}

static int
start(struct outside *o, struct work *w, uid_t uid, gid_t gid, struct err *e)
{
	pid_t parent = getpid();

	fflush(NULL);
	o->pid = confine_fork(false, e);
	if (o->pid < 0)
		return -1;
	if (o->pid == 0) {
		setpgid(0, 0);
		mem_close_at(&o->results_fd);
		mem_close_at(&o->net_fd);
		child_main(w, uid, gid, parent);
	}
	return 0;
}

int
outside_start(const struct options_trivy *opt, const struct log *log, uid_t uid, gid_t gid,
	      struct outside **ret, struct err *e)
{
	AUTO(outside) struct outside *o = NULL;
	AUTO_FD int results = -1;
	AUTO_FD int listening = -1;
	struct work w = { .opt = opt, .log = log };
	int ends[2];

	*ret = NULL;
	if (str_is_empty(opt->results_redis) && str_is_empty(opt->server))
		return 0;
	o = mem_alloc(sizeof(*o));
	*o = (struct outside){ .pid = -1, .results_fd = -1, .net_fd = -1 };
	if (!str_is_empty(opt->results_redis)) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
			return err_errno(e, "socketpair");
		o->results_fd = ends[0];
		results = ends[1];
	}
	if (!str_is_empty(opt->server)) {
		if (make_token(o->token, e) < 0)
			return -1;
		if (uid == (uid_t)-1 ? confine_listen(&listening, &o->port, e) < 0
				     : confine_make_net(&o->net_fd, &listening, &o->port, e) < 0)
			return -1;
	}
	w.results_fd = results;
	w.listen_fd = listening;
	w.local_token = o->token;
	if (start(o, &w, uid, gid, e) < 0)
		return -1;
	*ret = take_ptr(o);
	return 0;
}

void
outside_free(struct outside *o)
{
	if (!o)
		return;
	mem_close_at(&o->results_fd);
	mem_close_at(&o->net_fd);
	if (o->pid > 0)
		proc_kill(o->pid);
	mem_free_at(&o);
}
