#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/str.h"
#include "stages/spool.h"

#define STATE_MAX 8192 /* bytes */

static const struct number {
	const char *name;
	size_t offset;
} numbers[] = {
	{ "attempts", offsetof(struct spool_state, attempts) },
	{ "faults", offsetof(struct spool_state, faults) },
	{ "n_500", offsetof(struct spool_state, n_500) },
	{ "last_s", offsetof(struct spool_state, last_s) },
	{ "next_s", offsetof(struct spool_state, next_s) },
	{ "sent_s", offsetof(struct spool_state, sent_s) },
	{ "revived_s", offsetof(struct spool_state, revived_s) },
	{ "status", offsetof(struct spool_state, status) },
};

void
spool_state_free(struct spool_state *s)
{
	mem_free_at(&s->answer);
}

static int
write_state(int dirfd, const char *id, const struct spool_state *st, unsigned flags, struct err *e)
{
	AUTO_JSON cJSON *j = cJSON_CreateObject();
	AUTO_FREE char *name = mem_printf("%s.state", id), *text = NULL;

	for (size_t i = 0; i < MEM_COUNT(numbers); i++)
		json_add_int(j, numbers[i].name,
			     *(const int64_t *)(const void *)((const char *)st + numbers[i].offset));
	json_add_bool(j, "is_sending", st->is_sending);
	json_add_bool(j, "may_run", st->may_run);
	json_add_str(j, "answer", st->answer ? st->answer : "");
	text = json_print(j);
	return fs_publish(dirfd, name, text, strlen(text), 0600, flags, e);
}

int
spool_state_write(int dirfd, const char *id, const struct spool_state *st, struct err *e)
{
	return write_state(dirfd, id, st, FS_DURABLE, e);
}

int
spool_state_note(int dirfd, const char *id, const struct spool_state *st, struct err *e)
{
	return write_state(dirfd, id, st, 0, e);
}

int
spool_state_read(int dirfd, const char *id, struct spool_state *ret, struct err *e)
{
	AUTO_FREE char *name = mem_printf("%s.state", id);
	AUTO_JSON cJSON *j = NULL;
	struct err why = ERR_INIT;
	const char *answer;

	*ret = (struct spool_state){ 0 };
	if (json_load(dirfd, name, STATE_MAX, 0, &j, &why) < 0) {
		if (why.no == ENOENT) {
			ret->answer = mem_strdup("");
			return 0;
		}
		if (why.kind != ERR_REFUSED) {
			if (e)
				*e = why;
			return -1;
		}
		/* It was sent, for all we know: ask before anything else. */
		ret->sent_s = 1;
		ret->attempts = 1;
	}
	for (size_t i = 0; j && i < MEM_COUNT(numbers); i++) {
		int64_t n = json_int(j, numbers[i].name, 0);

		*(int64_t *)(void *)((char *)ret + numbers[i].offset) = n < 0 ? 0 : n;
	}
	ret->is_sending = json_bool(j, "is_sending", false);
	ret->may_run = json_bool(j, "may_run", false);
	answer = json_str(j, "answer");
	ret->answer = mem_strdup(answer ? answer : "");
	return 0;
}

int
spool_remove(int dirfd, const char *id, struct err *e)
{
	AUTO_FREE char *state = mem_printf("%s.state", id), *answer = mem_printf("%s.answer", id);

	/* In this order: a delivery without its state would be sent as if for the first time. */
	if ((unlinkat(dirfd, id, 0) < 0 && errno != ENOENT) ||
	    (unlinkat(dirfd, state, 0) < 0 && errno != ENOENT) ||
	    (unlinkat(dirfd, answer, 0) < 0 && errno != ENOENT) || fsync(dirfd) < 0)
		return err_errno(e, "remove delivery %s", id);
	return 0;
}

/* For whoever wonders: a page of HTML says more than its first line. */
static int
keep_answer(const struct spool *s, const char *id, const struct dojo_answer *a, struct err *e)
{
	AUTO_FREE char *name = mem_printf("%s.answer", id);
	AUTO_BUF struct buf b = BUF_INIT(DOJO_BODY_MAX + 64);

	buf_printf(&b, "HTTP %d\n\n", a->status);
	buf_add(&b, a->body, a->body_len);
	return fs_publish(s->dead_fd, name, buf_str(&b), b.len, 0600, FS_DURABLE, e);
}

int
spool_bury(struct spool *s, const char *id, const struct spool_state *st, const struct dojo_answer *answer,
	   struct err *e)
{
	AUTO_FREE char *state = mem_printf("%s.state", id);

	if (spool_state_write(s->dead_fd, id, st, e) < 0 || (answer && keep_answer(s, id, answer, e) < 0))
		return -1;
	if (renameat(s->new_fd, id, s->dead_fd, id) < 0)
		return err_errno(e, "give up delivery %s", id);
	if ((unlinkat(s->new_fd, state, 0) < 0 && errno != ENOENT) || fsync(s->new_fd) < 0 ||
	    fsync(s->dead_fd) < 0)
		return err_errno(e, "give up delivery %s", id);
	return 0;
}
