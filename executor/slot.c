#include "executor/slot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"

#define RECORD_MAX 16384   /* bytes */
#define LOCK_WAIT_MS 30000 /* the list of slots is locked for microseconds */
#define LOOK_AGAIN_MS 1000 /* nobody tells us that a runner was killed */
#define SLOT_MAX 99999

/* What a slot's record says, seen from now. */
enum slot_state {
	SLOT_FREE,
	SLOT_HELD,
	SLOT_STALE, /* its runner or its TMPDIR is gone, or it cannot be read */
	SLOT_OURS,
};

/* The parent of a process, from /proc/PID/stat; 0 when it is gone. */
static pid_t
parent_of(pid_t pid)
{
	char path[64], text[512];
	AUTO_FD int fd = -1;
	const char *end;
	ssize_t n;
	int ppid;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* The name in parentheses may hold anything, parentheses too. */
	end = strrchr(text, ')');
	return end && sscanf(end, ") %*c %d", &ppid) == 1 ? ppid : 0;
}

/* The runner starts us as the leader of a process group; with a wrapper script in between, the wrapper is its leader. */
static pid_t
find_runner(void)
{
	pid_t leader = getpgrp();
	pid_t runner = leader == getpid() ? getppid() : parent_of(leader);

	return runner > 0 ? runner : getppid();
}

struct slot_owner *
slot_owner_new(const char *tmpdir, struct err *e)
{
	AUTO(slot_owner) struct slot_owner *o = mem_alloc(sizeof(*o));
	struct stat st;

	if (lstat(tmpdir, &st) < 0) {
		err_errno(e, "TMPDIR %s", tmpdir);
		return NULL;
	}
	o->tmpdir = mem_strdup(tmpdir);
	o->tmp_dev = st.st_dev;
	o->tmp_ino = st.st_ino;
	o->runner_pid = find_runner();
	if (proc_start_time(o->runner_pid, &o->runner_start, e) < 0) {
		err_wrap(e, "the runner's process");
		return NULL;
	}
	return take_ptr(o);
}

void
slot_owner_free(struct slot_owner *o)
{
	if (!o)
		return;
	mem_free_at(&o->tmpdir);
	mem_free_at(&o);
}

static void
record_name(int64_t slot, char out[32])
{
	snprintf(out, 32, "%lld.json", (long long)slot);
}

/* Inode numbers use all 64 bits, JSON's integers 53: they are written as text. */
static uint64_t
number_of(const cJSON *j, const char *name)
{
	const char *text = json_str(j, name);

	return text ? strtoull(text, NULL, 16) : 0;
}

static void
add_number(cJSON *j, const char *name, uint64_t n)
{
	char text[32];

	snprintf(text, sizeof(text), "%llx", (unsigned long long)n);
	json_add_str(j, name, text);
}

/* *ret NULL: there is no record, or none that can be understood (*ret_is_there tells). */
static int
record_read(int dirfd, int64_t slot, struct slot_owner **ret, bool *ret_is_there, struct err *e)
{
	AUTO(slot_owner) struct slot_owner *o = mem_alloc(sizeof(*o));
	AUTO_JSON cJSON *j = NULL;
	struct err why = ERR_INIT;
	const char *tmpdir;
	char name[32];
	int64_t pid;

	*ret = NULL;
	*ret_is_there = true;
	record_name(slot, name);
	if (json_load(dirfd, name, RECORD_MAX, JSON_UNIQUE, &j, &why) < 0) {
		*ret_is_there = why.no != ENOENT;
		if (why.no != 0 && why.no != ENOENT)
			return err_set(e, why.kind, "slot %lld: %s", (long long)slot, why.text);
		return 0;
	}
	tmpdir = json_str(j, "tmpdir");
	pid = json_int(j, "runner_pid", -1);
	if (!tmpdir || pid <= 0 || pid > INT32_MAX)
		return 0;
	o->tmpdir = mem_strdup(tmpdir);
	o->runner_pid = (pid_t)pid;
	o->runner_start = number_of(j, "runner_start");
	o->tmp_dev = number_of(j, "tmp_dev");
	o->tmp_ino = number_of(j, "tmp_ino");
	*ret = take_ptr(o);
	return 0;
}

static int
record_write(int dirfd, int64_t slot, const struct slot_owner *o, struct err *e)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *text = NULL;
	char name[32];

	json_add_int(j, "slot", slot);
	json_add_int(j, "runner_pid", o->runner_pid);
	add_number(j, "runner_start", o->runner_start);
	json_add_str(j, "tmpdir", o->tmpdir);
	add_number(j, "tmp_dev", o->tmp_dev);
	add_number(j, "tmp_ino", o->tmp_ino);
	text = json_print(j);
	record_name(slot, name);
	if (fs_publish(dirfd, name, text, strlen(text), 0600, 0, e) < 0)
		return err_wrap(e, "slot %lld", (long long)slot);
	return 0;
}

static bool
is_same_owner(const struct slot_owner *a, const struct slot_owner *b)
{
	return a->tmp_dev == b->tmp_dev && a->tmp_ino == b->tmp_ino && str_eq(a->tmpdir, b->tmpdir);
}

static bool
is_alive(const struct slot_owner *o)
{
	struct stat st;
	uint64_t start;

	if (lstat(o->tmpdir, &st) < 0 || st.st_dev != o->tmp_dev || st.st_ino != o->tmp_ino)
		return false;
	return proc_start_time(o->runner_pid, &start, NULL) == 0 && start == o->runner_start;
}

static int
slot_look(int dirfd, int64_t slot, const struct slot_owner *us, enum slot_state *ret,
	  struct slot_owner **ret_holder, struct err *e)
{
	AUTO(slot_owner) struct slot_owner *holder = NULL;
	bool is_there;

	if (record_read(dirfd, slot, &holder, &is_there, e) < 0)
		return -1;
	if (!holder)
		*ret = is_there ? SLOT_STALE : SLOT_FREE;
	else if (is_same_owner(holder, us))
		*ret = SLOT_OURS;
	else
		*ret = is_alive(holder) ? SLOT_HELD : SLOT_STALE;
	*ret_holder = take_ptr(holder);
	return 0;
}

static int
open_slots(const char *state_dir, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s/slots", state_dir);

	/* Jobs pass through to their own directory and see nothing of it. */
	if (fs_mkdirs(AT_FDCWD, path, 0711, e) < 0)
		return -1;
	return fs_open_dir(AT_FDCWD, path, e);
}

static int
lock_slot_file(int dirfd, int64_t slot, int64_t deadline, struct err *e)
{
	char name[32];

	snprintf(name, sizeof(name), "%lld.lock", (long long)slot);
	return fs_lock(dirfd, name, deadline, e);
}

/* What a config that was killed had written of a record and not yet given its name. The list is locked: nobody is at it now. */
static int
drop_half_records(int dirfd, struct err *e)
{
	AUTO_DIR DIR *dir = fs_list(dirfd, e);
	struct dirent *entry;
	int rc = -1;

	while (dir && (rc = fs_next(dir, &entry, e)) > 0) {
		/* fs_publish() writes N.json as .N.json.<random> */
		if (entry->d_name[0] == '.' && strstr(entry->d_name, ".json.") &&
		    unlinkat(dirfd, entry->d_name, 0) < 0 && errno != ENOENT)
			return err_errno(e, "%s", entry->d_name);
	}
	return rc < 0 ? err_wrap(e, "slots") : 0;
}

/*
 * One look over all slots, under the list's lock. ret->slot stays -1 when none can be had; then `holders` says who has
 * them. A slot that is being cleaned is passed over.
 */
static int
try_take(int dirfd, int64_t n_slots, const struct slot_owner *us, struct slot_taken *ret, struct buf *holders,
	 struct err *e)
{
	AUTO_FD int list = fs_lock(dirfd, ".lock", clock_deadline(LOCK_WAIT_MS), e);

	if (list < 0)
		return err_wrap(e, "list of slots");
	if (drop_half_records(dirfd, e) < 0)
		return -1;
	for (int64_t slot = 0; slot < n_slots; slot++) {
		AUTO(slot_owner) struct slot_owner *holder = NULL;
		AUTO_FD int lock = -1;
		struct err why = ERR_INIT;
		enum slot_state state;

		if (slot_look(dirfd, slot, us, &state, &holder, e) < 0)
			return -1;
		if (state == SLOT_HELD) {
			buf_printf(holders, "%s%lld by runner %d", holders->len ? ", " : "", (long long)slot,
				   holder->runner_pid);
			continue;
		}
		lock = lock_slot_file(dirfd, slot, clock_mono_ms(), &why);
		if (lock < 0 && why.kind == ERR_TIMEOUT) {
			buf_printf(holders, "%s%lld is being cleaned", holders->len ? ", " : "",
				   (long long)slot);
			continue;
		}
		if (lock < 0)
			return err_set(e, why.kind, "slot %lld: %s", (long long)slot, why.text);
		if (record_write(dirfd, slot, us, e) < 0)
			return -1;
		ret->slot = slot;
		ret->was_stale = state != SLOT_FREE;
		ret->former = state == SLOT_STALE ? take_ptr(holder) : NULL;
		ret->lock_fd = take_fd(lock);
		return 0;
	}
	return 0;
}

void
slot_taken_free(struct slot_taken *t)
{
	slot_owner_free(take_ptr(t->former));
	mem_close_at(&t->lock_fd);
}

/* -1 where the host has no watch left (fs.inotify.max_user_instances, max_user_watches): then it is looked at every second. */
static int
watch_slots(const char *path)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd >= 0 && inotify_add_watch(fd, path, IN_DELETE | IN_ONLYDIR) < 0)
		mem_close_at(&fd);
	return fd;
}

/* Until a record goes away, or a second has passed. */
static void
wait_for_change(int notify_fd, int64_t deadline)
{
	struct pollfd p = { .fd = notify_fd, .events = POLLIN };
	int timeout = clock_poll_timeout(deadline);
	char events[4096];

	if (timeout < 0 || timeout > LOOK_AGAIN_MS)
		timeout = LOOK_AGAIN_MS;
	if (poll(&p, 1, timeout) > 0)
		while (read(notify_fd, events, sizeof(events)) > 0)
			continue;
}

int
slot_take(const char *state_dir, int64_t n_slots, const struct slot_owner *owner, int64_t deadline,
	  struct slot_taken *ret, struct err *e)
{
	AUTO_FD int dirfd = open_slots(state_dir, e);
	AUTO_FREE char *path = mem_printf("%s/slots", state_dir);
	AUTO_FD int notify = -1;
	bool is_watched = false;

	*ret = (struct slot_taken)SLOT_TAKEN_INIT;
	if (dirfd < 0)
		return err_wrap(e, "slots");
	for (;;) {
		AUTO_BUF struct buf holders = BUF_INIT(600);

		if (try_take(dirfd, n_slots, owner, ret, &holders, e) < 0)
			return err_wrap(e, "%s", path);
		if (ret->slot >= 0)
			return 0;
		if (clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT, "no free slot of %lld: %s%s", (long long)n_slots,
				       buf_str(&holders), holders.is_full ? " …" : "");
		if (!is_watched) {
			/* From now on nothing is missed; what happened before is seen in the next look. */
			notify = watch_slots(path);
			is_watched = true;
			continue;
		}
		wait_for_change(notify, deadline);
	}
}

/* A program of ours at work in that TMPDIR? Also when the directory was removed. An admin's shell there is let alone. */
static bool
works_in(const char *pid, const struct slot_owner *o)
{
	static const char ours[] = "tidewaiter";
	char path[64], name[sizeof(ours)] = "";
	AUTO_FD int fd = -1;
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%.20s/cwd", pid);
	if (stat(path, &st) < 0 || st.st_dev != o->tmp_dev || st.st_ino != o->tmp_ino)
		return false;
	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, name, sizeof(name) - 1) > 0 && str_eq(name, ours);
}

/* 0 with *ret_was_there false: gone meanwhile, or not ours to end. */
static int
end_process(pid_t pid, const char *name, const struct slot_owner *o, int64_t deadline, bool *ret_was_there,
	    struct err *e)
{
	AUTO_FD int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	/* Looked at again, for the number may be another process's by now. */
	*ret_was_there =
		fd >= 0 && works_in(name, o) && syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0;
	if (!*ret_was_there)
		return 0;
	while (poll(&p, 1, clock_poll_timeout(deadline)) <= 0)
		if (clock_left_ms(deadline) == 0)
			return err_set(e, ERR_TIMEOUT,
				       "process %d of a job whose runner is gone does not end", pid);
	return 0;
}

static int
end_all_once(const struct slot_owner *o, int64_t deadline, size_t *ret_n, struct err *e)
{
	AUTO_DIR DIR *dir = opendir("/proc");
	struct dirent *entry;
	int rc;

	if (!dir)
		return err_errno(e, "/proc");
	*ret_n = 0;
	while ((rc = fs_next(dir, &entry, e)) > 0) {
		bool was_there;
		int64_t pid;

		if (str_parse_int(entry->d_name, 1, INT32_MAX, &pid, NULL) < 0 || pid == getpid() ||
		    !works_in(entry->d_name, o))
			continue;
		if (end_process((pid_t)pid, entry->d_name, o, deadline, &was_there, e) < 0)
			return -1;
		*ret_n += was_there;
	}
	return rc < 0 ? err_wrap(e, "/proc") : 0;
}

int
slot_end_processes(const struct slot_owner *former, int64_t deadline, struct err *e)
{
	size_t n;

	/* Again for what one of them had started while we looked. */
	do {
		if (end_all_once(former, deadline, &n, e) < 0)
			return -1;
	} while (n > 0 && clock_left_ms(deadline) > 0);
	return 0;
}

/* "12.json" → 12, anything else -1. */
static int64_t
slot_of_name(const char *name)
{
	AUTO_FREE char *digits = NULL;
	int64_t n;

	if (!str_has_suffix(name, ".json"))
		return -1;
	digits = mem_strndup(name, strlen(name) - strlen(".json"));
	return str_parse_int(digits, 0, SLOT_MAX, &n, NULL) < 0 ? -1 : n;
}

/* All records are looked at, not job.slots of them: the setting may have shrunk since. */
int
slot_find(const char *state_dir, const struct slot_owner *owner, int64_t *ret_slot, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s/slots", state_dir);
	AUTO_DIR DIR *dir = opendir(path);
	struct dirent *entry;
	int64_t found = -1;
	int rc = 0;

	if (!dir && errno != ENOENT)
		return err_errno(e, "%s", path);
	while (dir && found < 0 && (rc = fs_next(dir, &entry, e)) > 0) {
		AUTO(slot_owner) struct slot_owner *holder = NULL;
		int64_t slot = slot_of_name(entry->d_name);
		bool is_there;

		if (slot < 0)
			continue;
		if (record_read(dirfd(dir), slot, &holder, &is_there, e) < 0)
			return -1;
		if (holder && is_same_owner(holder, owner))
			found = slot;
	}
	*ret_slot = found;
	return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

int
slot_lock(const char *state_dir, const struct slot_owner *owner, int64_t slot, int64_t deadline,
	  bool *ret_is_ours, struct err *e)
{
	AUTO(slot_owner) struct slot_owner *holder = NULL;
	AUTO_FD int dirfd = open_slots(state_dir, e);
	AUTO_FD int lock = -1;
	bool is_there;

	if (dirfd < 0)
		return err_wrap(e, "slots");
	lock = lock_slot_file(dirfd, slot, deadline, e);
	if (lock < 0)
		return err_wrap(e, "slot %lld is being cleaned by another", (long long)slot);
	if (record_read(dirfd, slot, &holder, &is_there, e) < 0)
		return -1;
	*ret_is_ours = holder && is_same_owner(holder, owner);
	return take_fd(lock);
}

int
slot_release(const char *state_dir, const struct slot_owner *owner, int64_t slot, struct err *e)
{
	AUTO(slot_owner) struct slot_owner *holder = NULL;
	AUTO_FD int dirfd = open_slots(state_dir, e);
	AUTO_FD int list = -1;
	bool is_there;
	char name[32];

	if (dirfd < 0)
		return err_wrap(e, "slots");
	list = fs_lock(dirfd, ".lock", clock_deadline(LOCK_WAIT_MS), e);
	if (list < 0)
		return err_wrap(e, "list of slots");
	if (record_read(dirfd, slot, &holder, &is_there, e) < 0)
		return -1;
	if (!holder || !is_same_owner(holder, owner))
		return 0;
	record_name(slot, name);
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return err_errno(e, "slot %lld", (long long)slot);
	return 0;
}
