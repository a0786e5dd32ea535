#include "stages/policy_git.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/git_child.h"
#include "stages/git_fetch.h"
#include "stages/known_hosts.h"
#include "stages/policy.h"

#define GOOD "good"
#define STATE "state"
#define LOCK "lock"
#define HEAD_MAX 8192 /* bytes of the line before the policy */
#define STATE_MAX 16384
#define KNOWN_HOSTS_MAX (1024 * 1024)
#define MEMORY_MAX ((uint64_t)512 << 20)
#define COMMIT_DIGITS 40
#define COMMIT_SHOWN 12
#define SKEW_S 300 /* a time that lies further ahead than that says nothing */
/* Where nothing that is kept may judge it is asked sooner again than every fetch_every. */
#define RETRY_MS 30000
#define NOTE_MAX 600 /* code points */

struct good {
	char commit[COMMIT_DIGITS + 1]; /* "": there is none */
	int64_t confirmed_s;		/* when the repository last had it at ref */
	char *text;
	size_t len;
};

struct state {
	int64_t tried_s; /* when the last try ended; 0: never */
	char *fault;	 /* NULL: it went well */
	bool is_asking;	 /* somebody asks now, or died of it */
};

struct store {
	const struct options *o;
	char *path; /* absolute */
	int fd;
	struct good good;
	struct state state;
};

static void
store_close(struct store *s)
{
	mem_free_at(&s->path);
	mem_close_at(&s->fd);
	mem_free_at(&s->good.text);
	mem_free_at(&s->state.fault);
}
#define AUTO_STORE __attribute__((cleanup(store_close)))

int
policy_git_make_dir(const char *state_dir, uid_t uid, gid_t gid, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s/" POLICY_GIT_DIR, state_dir);
	AUTO_FD int fd = fs_make_dir_of(AT_FDCWD, path, uid, gid, e);

	return fd < 0 ? -1 : 0;
}

static int
store_open(const struct options *o, const char *state_dir, struct store *ret, struct err *e)
{
	char digest[HASH_DIGEST_MAX];

	hash_of(HASH_SHA256, o->policy.url, strlen(o->policy.url), digest);
	ret->o = o;
	ret->path = mem_printf("%s/" POLICY_GIT_DIR "/%.32s", state_dir, digest + strlen("sha256:"));
	if (fs_mkdirs(AT_FDCWD, ret->path, 0700, e) < 0)
		return -1;
	ret->fd = fs_open_dir(AT_FDCWD, ret->path, e);
	return ret->fd < 0 ? -1 : 0;
}

/* ---- what is kept ---- */

/* What is not there, damaged, or of another ref or path is none. */
static void
read_good(struct store *s)
{
	AUTO_FREE char *all = NULL;
	AUTO_JSON cJSON *head = NULL;
	const char *end, *commit;
	size_t len;

	mem_free_at(&s->good.text);
	s->good = (struct good){ 0 };
	if (fs_read_max(s->fd, GOOD, POLICY_MAX + HEAD_MAX, &all, &len, NULL) < 0)
		return;
	end = memchr(all, '\n', len);
	if (!end || json_parse(all, (size_t)(end - all), HEAD_MAX, 0, &head, NULL) < 0)
		return;
	commit = json_str(head, "commit");
	if (!commit || strlen(commit) != COMMIT_DIGITS || !str_is_hex(commit, COMMIT_DIGITS) ||
	    !str_eq(json_str(head, "ref"), s->o->policy.ref) ||
	    !str_eq(json_str(head, "path"), s->o->policy.path) ||
	    json_int(head, "size", -1) != (int64_t)(len - (size_t)(end + 1 - all)))
		return;
	memcpy(s->good.commit, commit, COMMIT_DIGITS + 1);
	s->good.confirmed_s = json_int(head, "confirmed", 0);
	s->good.len = len - (size_t)(end + 1 - all);
	s->good.text = mem_strndup(end + 1, s->good.len);
}

static int
write_good(struct store *s, struct err *e)
{
	AUTO_BUF struct buf all = BUF_INIT(POLICY_MAX + HEAD_MAX);
	AUTO_JSON cJSON *head = cJSON_CreateObject();
	AUTO_FREE char *line = NULL;

	json_add_str(head, "commit", s->good.commit);
	json_add_str(head, "ref", s->o->policy.ref);
	json_add_str(head, "path", s->o->policy.path);
	json_add_int(head, "confirmed", s->good.confirmed_s);
	json_add_int(head, "size", (int64_t)s->good.len);
	line = json_print(head);
	buf_add_str(&all, line);
	buf_add_char(&all, '\n');
	buf_add(&all, s->good.text, s->good.len);
	return fs_publish(s->fd, GOOD, buf_str(&all), all.len, 0600, FS_DURABLE, e);
}

static void
read_state(struct store *s)
{
	AUTO_JSON cJSON *j = NULL;

	mem_free_at(&s->state.fault);
	s->state = (struct state){ 0 };
	if (json_load(s->fd, STATE, STATE_MAX, 0, &j, NULL) < 0 ||
	    !str_eq(json_str(j, "ref"), s->o->policy.ref) || !str_eq(json_str(j, "path"), s->o->policy.path))
		return;
	s->state.tried_s = json_int(j, "tried", 0);
	s->state.fault = mem_strdup(json_str(j, "fault"));
	s->state.is_asking = json_bool(j, "asking", false);
}

/* Without it the next one asks sooner: no reason to fail. */
static void
write_state(const struct store *s)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;

	json_add_str(j, "ref", s->o->policy.ref);
	json_add_str(j, "path", s->o->policy.path);
	json_add_int(j, "tried", s->state.tried_s);
	json_add_bool(j, "asking", s->state.is_asking);
	if (s->state.fault)
		json_add_str(j, "fault", s->state.fault);
	text = json_print(j);
	(void)!fs_publish(s->fd, STATE, text, strlen(text), 0600, 0, NULL);
}

/* Seconds; of a time ahead of ours nothing is known: the largest there is. */
static int64_t
age_s(int64_t then_s, int64_t now_s)
{
	if (then_s <= 0 || then_s > now_s + SKEW_S)
		return INT64_MAX / 2000;
	return then_s > now_s ? 0 : now_s - then_s;
}

/* May what is kept judge? */
static bool
is_usable(const struct store *s, int64_t now_s)
{
	return s->good.text && age_s(s->good.confirmed_s, now_s) * 1000 <= s->o->policy.max_age;
}

/* True while somebody asks: there will be a new answer, or that one died and owes us one. */
static bool
is_due(const struct store *s, unsigned flags, int64_t now_s)
{
	const struct options_policy *p = &s->o->policy;
	int64_t every_ms = p->fetch_every;

	if (flags & POLICY_GIT_NEVER)
		return false;
	if ((flags & POLICY_GIT_NOW) || s->state.is_asking)
		return true;
	if (!is_usable(s, now_s) && every_ms > RETRY_MS)
		every_ms = RETRY_MS;
	/* in time before what is kept would be too old */
	if (every_ms > p->max_age / 2)
		every_ms = p->max_age / 2;
	return age_s(s->state.tried_s, now_s) * 1000 >= every_ms;
}

/* ---- a new one ---- */

/* libgit2 looks for it in $HOME/.ssh alone. */
static int
place_known_hosts(const struct store *s, struct err *e)
{
	const char *from = s->o->policy.known_hosts_file;
	AUTO_FREE char *text = NULL, *known = NULL;
	AUTO_FD int dir = -1;
	AUTO_FD int fd = -1;
	size_t len = 0;

	if (fs_mkdirs(s->fd, "home/.ssh", 0700, e) < 0)
		return -1;
	dir = fs_open_beneath(s->fd, "home/.ssh", O_RDONLY | O_DIRECTORY, 0, e);
	if (dir < 0)
		return -1;
	if (!str_is_empty(from)) {
		fd = open(from, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			return err_errno(e, "policy.known_hosts_file %s", from);
		if (fs_read_fd_max(fd, KNOWN_HOSTS_MAX, &text, &len, e) < 0)
			return err_wrap(e, "policy.known_hosts_file %s", from);
	}
	known = known_hosts_rewrite(text ? text : "", len);
	return fs_publish(dir, "known_hosts", known, strlen(known), 0600, 0, e);
}

static int
run_fetch(const struct store *s, const int *stop_fd, struct buf *out, struct err *e)
{
	const struct options_policy *p = &s->o->policy;
	AUTO_FREE char *clone = mem_printf("%s/repo.git", s->path);
	AUTO_FREE char *home = mem_printf("%s/home", s->path);
	struct git_fetch f = { .url = p->url,
			       .ref = p->ref,
			       .path = p->path,
			       .clone = clone,
			       .credentials_file = p->credentials_file,
			       .ssh_key_file = p->ssh_key_file,
			       .ca_file = p->ca_file,
			       .proxy = p->proxy,
			       .fetch_max = (uint64_t)p->fetch_max,
			       .blob_max = POLICY_MAX };
	/* the index of a pack comes on top of what the network brought */
	const struct git_limits l = { .deadline = clock_deadline(p->fetch_timeout),
				      .memory_max = MEMORY_MAX + 2 * (uint64_t)p->fetch_max,
				      .file_max = 2 * (uint64_t)p->fetch_max,
				      .answer_max = POLICY_MAX + HEAD_MAX,
				      .stop_fd = stop_fd,
				      .home = home };

	if (place_known_hosts(s, e) < 0 || git_child_run(&l, git_fetch_work, &f, out, e) < 0)
		return -1;
	if (out->len <= COMMIT_DIGITS || out->data[COMMIT_DIGITS] != '\n' ||
	    !str_is_hex(out->data, COMMIT_DIGITS))
		return err_set(e, ERR_FAILED, "no commit came");
	return 0;
}

static char *
name_of(const struct store *s, const char *commit)
{
	return mem_printf("%s@%.*s", s->o->policy.path, COMMIT_SHOWN, commit);
}

static int
take_new(struct store *s, const struct buf *out, int64_t now_s, struct err *e)
{
	AUTO(policy) struct policy *parsed = NULL;
	AUTO_FREE char *name = name_of(s, out->data);
	const char *text = out->data + COMMIT_DIGITS + 1;
	size_t len = out->len - COMMIT_DIGITS - 1;

	if (policy_parse(name, text, len, s->o, &parsed, e) < 0)
		return err_wrap(e, "commit %.*s", COMMIT_SHOWN, out->data);
	mem_free_at(&s->good.text);
	memcpy(s->good.commit, out->data, COMMIT_DIGITS);
	s->good.commit[COMMIT_DIGITS] = '\0';
	s->good.text = mem_strndup(text, len);
	s->good.len = len;
	s->good.confirmed_s = now_s;
	return write_good(s, e);
}

static void
ask(struct store *s, const int *stop_fd)
{
	AUTO_BUF struct buf out = BUF_INIT(POLICY_MAX + HEAD_MAX);
	int64_t now_s = clock_wall_s();
	struct err e = ERR_INIT;

	s->state.is_asking = true;
	write_state(s);
	mem_free_at(&s->state.fault);
	if (run_fetch(s, stop_fd, &out, &e) < 0 || take_new(s, &out, now_s, &e) < 0)
		s->state.fault = str_safe(e.text, NOTE_MAX);
	/* from the end on: a server that hangs is not asked again as soon as its time was over */
	s->state.tried_s = clock_wall_s();
	s->state.is_asking = false;
	write_state(s);
}

/*
 * One asks; who comes meanwhile waits for that one's answer as long as an answer may take. Where there was none the last time and what is
 * kept may judge nobody waits: only one of all bears a server that hangs.
 */
static void
ask_if_due(struct store *s, unsigned flags, const int *stop_fd)
{
	int64_t now_s = clock_wall_s();
	bool is_patient = (flags & POLICY_GIT_NOW) || !s->state.fault || !is_usable(s, now_s);
	AUTO_FD int lock = -1;
	struct err e = ERR_INIT;

	if (!is_due(s, flags, now_s))
		return;
	lock = fs_lock(s->fd, LOCK, clock_deadline(is_patient ? s->o->policy.fetch_timeout : 0), &e);
	read_good(s);
	read_state(s);
	if (lock < 0) {
		if (!s->state.fault)
			s->state.fault = mem_printf("another process has not ended asking: %s", e.text);
		return;
	}
	if (is_due(s, flags, clock_wall_s()))
		ask(s, stop_fd);
}

/* ---- the answer ---- */

static char *
text_of_age(int64_t ms)
{
	if (ms > INT64_MAX / 4)
		return mem_strdup("of an unknown age");
	if (ms < 1000)
		return mem_strdup("confirmed just now");
	AUTO_FREE char *age = str_human_duration(ms);

	return mem_printf("confirmed %s ago", age);
}

static void
answer(const struct store *s, struct policy_source *ret)
{
	const struct options_policy *p = &s->o->policy;
	int64_t now_s = clock_wall_s();
	int64_t age_ms = age_s(s->good.confirmed_s, now_s) * 1000;
	const char *why = s->state.fault ? s->state.fault : "it was never fetched";
	AUTO_FREE char *age = text_of_age(age_ms);
	AUTO_FREE char *limit = str_human_duration(p->max_age);

	if (!s->good.text) {
		err_set(&ret->fault, ERR_FAILED, "no policy could be had from %s: %s", p->url, why);
		return;
	}
	ret->text = mem_strndup(s->good.text, s->good.len);
	ret->len = s->good.len;
	ret->name = name_of(s, s->good.commit);
	if (age_ms > p->max_age) {
		err_set(&ret->fault, ERR_FAILED,
			"the policy's last good version, commit %.*s, is too old: %s, allowed is %s (policy.max_age): %s",
			COMMIT_SHOWN, s->good.commit, age, limit, why);
		return;
	}
	ret->origin =
		mem_printf("commit %.*s of %s in %s, %s", COMMIT_SHOWN, s->good.commit, p->ref, p->url, age);
	ret->fetched_s = s->good.confirmed_s;
	if (s->state.fault)
		ret->note =
			mem_printf("the policy's last good version judges, commit %.*s, %s, until that is %s ago (policy.max_age): %s",
				   COMMIT_SHOWN, s->good.commit, age, limit, s->state.fault);
}

void
policy_git_load(const struct options *o, const char *state_dir, unsigned flags, const int *stop_fd,
		struct policy_source *ret)
{
	AUTO_STORE struct store s = { .fd = -1 };

	if (store_open(o, state_dir, &s, &ret->fault) < 0) {
		err_wrap(&ret->fault, "policy of %s", o->policy.url);
		return;
	}
	read_good(&s);
	read_state(&s);
	ask_if_due(&s, flags, stop_fd);
	answer(&s, ret);
}
