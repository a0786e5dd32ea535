#include "stages/early_result.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "stages/image_limits.h"
#include "stages/pipeline.h"

#define RECORD_MAX (64 * 1024 * 1024) /* bytes */

/* --- leases --- */

bool
early_lease_take(int fd)
{
	return fcntl(fd, F_SETLEASE, F_RDLCK) == 0;
}

bool
early_lease_holds(int fd)
{
	/* while it is being broken, this is already what it is to become */
	return fcntl(fd, F_GETLEASE) == F_RDLCK;
}

/* --- handing over --- */

struct message {
	struct fs_identity id;
	uint64_t number;
};

bool
early_known_send(int fd, const struct early_known *k)
{
	const struct message m = { k->id, k->number };

	return fs_send_fd(fd, &m, sizeof(m), k->lease_fd, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(m);
}

static bool
receive_one(int fd, struct early_known *ret)
{
	AUTO_FD int lease_fd = -1;
	struct message m;

	if (fs_receive_fd(fd, &m, sizeof(m), MSG_DONTWAIT, &lease_fd) != (ssize_t)sizeof(m) || lease_fd < 0)
		return false;
	*ret = (struct early_known){ .id = m.id, .number = m.number, .lease_fd = take_fd(lease_fd) };
	return true;
}

size_t
early_known_receive(int fd, struct early_known *ret, size_t max)
{
	size_t n = 0;

	while (n < max && receive_one(fd, &ret[n]))
		n++;
	return n;
}

void
early_known_close(struct early_known *l, size_t n)
{
	for (size_t k = 0; k < n; k++)
		mem_close_at(&l[k].lease_fd);
}

/* --- records --- */

/* With layers by SHA-512 the config in the layout is a translation. */
static bool
is_told_by_layout(const struct archive_image *m)
{
	for (size_t i = 0; i < m->config->diff_ids.n; i++)
		if (strcmp(m->config->diff_ids.v[i], m->layers[i].scanned_digest) != 0)
			return false;
	return true;
}

static void
add_image(cJSON *list, const struct archive_image *m)
{
	cJSON *o = cJSON_CreateObject(), *sizes;

	json_add_str(o, "layout", m->layout_name);
	json_add_strv(o, "tags", &m->tags);
	json_add_strv(o, "hidden", &m->hidden);
	json_add_str(o, "platform", m->platform);
	json_add_str(o, "manifest_digest", m->manifest_digest);
	json_add_str(o, "config_digest", m->config_digest);
	json_add_str(o, "scanned_digest", m->scanned_digest);
	sizes = json_add_array(o, "layers");
	for (size_t i = 0; i < m->config->diff_ids.n; i++) {
		cJSON *layer = cJSON_CreateObject();

		json_add_int(layer, "size", (int64_t)m->layers[i].size);
		cJSON_AddItemToArray(sizes, layer);
	}
	cJSON_AddItemToArray(list, o);
}

int
early_result_write(int work_fd, const char *stem, const struct archive_images *l, struct err *e)
{
	AUTO_JSON cJSON *root = cJSON_CreateObject();
	AUTO_FREE char *name = mem_printf("%s.json", stem);
	AUTO_FREE char *text = NULL;
	cJSON *list = json_add_array(root, "images");

	for (size_t i = 0; i < l->n; i++) {
		if (!is_told_by_layout(&l->v[i]))
			return err_set(e, ERR_UNSUPPORTED, "its layout does not tell all of an image");
		add_image(list, &l->v[i]);
	}
	json_add_strv(root, "notes", &l->notes);
	text = json_print(root);
	return fs_publish(work_fd, name, text, strlen(text), 0600, 0, e);
}

static int
need_digest(const cJSON *o, const char *name, char ret[HASH_DIGEST_MAX], struct err *e)
{
	const char *text;

	if (json_need_str(o, name, &text, e) < 0)
		return -1;
	if (strlen(text) >= HASH_DIGEST_MAX)
		return err_set(e, ERR_FAILED, "%s: too long", name);
	memcpy(ret, text, strlen(text) + 1);
	return 0;
}

/* From the layout, where it stands under its digest. */
static int
read_config(int work_fd, const struct options_images *limits, struct archive_image *m, struct err *e)
{
	const char *hex = strchr(m->scanned_digest, ':');
	AUTO_FREE char *path = mem_printf("%s/blobs/sha256/%s", m->layout_name, hex ? hex + 1 : "");
	AUTO_FREE char *text = NULL;
	char digest[HASH_DIGEST_MAX];
	struct image_limits l;
	size_t len = 0;

	image_limits_of(limits, &l);
	if (fs_read_max(work_fd, path, l.json_size, &text, &len, e) < 0)
		return -1;
	hash_of(HASH_SHA256, text, len, digest);
	if (strcmp(digest, m->scanned_digest) != 0)
		return err_set(e, ERR_FAILED, "the config is not what its name says");
	return image_config_parse(text, len, &l, &m->config, e);
}

static int
read_layers(const cJSON *o, struct archive_image *m, struct err *e)
{
	const cJSON *list = json_array(o, "layers"), *layer;
	size_t n = m->config->diff_ids.n, i = 0;

	if (!list || (size_t)cJSON_GetArraySize(list) != n)
		return err_set(e, ERR_FAILED, "layers: not as many as the config has");
	m->layers = mem_array(n + 1, sizeof(*m->layers));
	cJSON_ArrayForEach(layer, list)
	{
		int64_t size;

		if (json_need_int(layer, "size", &size, e) < 0)
			return -1;
		m->layers[i].size = (uint64_t)size;
		snprintf(m->layers[i].scanned_digest, HASH_DIGEST_MAX, "%s", m->config->diff_ids.v[i]);
		i++;
	}
	return 0;
}

static int
read_image(int work_fd, const cJSON *o, const struct options_images *limits, struct archive_image *m,
	   struct err *e)
{
	const char *layout, *platform;

	if (json_need_str(o, "layout", &layout, e) < 0 || json_need_str(o, "platform", &platform, e) < 0 ||
	    need_digest(o, "manifest_digest", m->manifest_digest, e) < 0 ||
	    need_digest(o, "config_digest", m->config_digest, e) < 0 ||
	    need_digest(o, "scanned_digest", m->scanned_digest, e) < 0)
		return -1;
	m->layout_name = mem_printf(EARLY_DIR "/%s", layout);
	m->platform = mem_strdup(platform);
	json_strv(o, "tags", &m->tags);
	json_strv(o, "hidden", &m->hidden);
	return read_config(work_fd, limits, m, e) < 0 ? -1 : read_layers(o, m, e);
}

int
early_result_read(int work_fd, uint64_t number, const struct options_images *limits,
		  struct archive_images *ret, struct err *e)
{
	AUTO_FREE char *path = mem_printf(EARLY_DIR "/archive-%ju.json", (uintmax_t)number);
	AUTO_JSON cJSON *root = NULL;
	struct archive_images l = { 0 };
	const cJSON *list, *o;

	if (json_load(work_fd, path, RECORD_MAX, 0, &root, e) < 0)
		return -1;
	list = json_array(root, "images");
	l.v = mem_array((size_t)cJSON_GetArraySize(list) + 1, sizeof(*l.v));
	cJSON_ArrayForEach(o, list)
	{
		if (read_image(work_fd, o, limits, &l.v[l.n++], e) < 0) {
			archive_images_free(&l);
			return -1;
		}
	}
	json_strv(root, "notes", &l.notes);
	if (l.n == 0) {
		archive_images_free(&l);
		return err_set(e, ERR_FAILED, "a record without images");
	}
	*ret = l;
	return 0;
}

/* --- the stage --- */

static bool
is_known(const struct archive *a, const struct early_known *k)
{
	return fs_identity_equal(&a->id, &k->id) && early_lease_holds(k->lease_fd);
}

/*
 * After snapshot: a file that somebody has open for writing is read from its copy. From here on leases are of no use: nobody has
 * the file open for writing, and whoever opens it now changes its times with the first store, as with any other archive.
 */
static int
run(struct inspection *i, struct err *e)
{
	(void)e;
	for (size_t at = 0; at < i->n_archives; at++) {
		struct archive *a = &i->archives[at];

		if (a->fd < 0 || a->is_dir || a->is_ignored || a->fault.kind != ERR_NONE ||
		    a->snapshot.digest[0])
			continue;
		for (size_t n = 0; n < i->n_early && !a->early; n++)
			if (is_known(a, &i->early[n]))
				a->early = i->early[n].number + 1;
	}
	early_known_close(i->early, i->n_early);
	i->n_early = 0;
	return 0;
}

const struct stage stage_recall = { "recall", STAGE_OPENER, run };
