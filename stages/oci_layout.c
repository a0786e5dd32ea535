#include "stages/oci_layout.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"

#define MEDIA "application/vnd.oci.image."

static int
write_file(int dirfd, const char *name, const char *text, size_t len, struct err *e)
{
	AUTO_FD int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_errno(e, "open %s", name);
	if (fs_write_all(fd, text, len, e) < 0)
		return err_wrap(e, "write %s", name);
	return 0;
}

int
oci_layout_make(int dirfd, const char *name, int *ret_layout_fd, int *ret_blobs_fd, struct err *e)
{
	AUTO_FD int layout = -1;
	AUTO_FD int blobs = -1;

	if (mkdirat(dirfd, name, 0700) < 0)
		return err_errno(e, "mkdir %s", name);
	layout = fs_open_dir(dirfd, name, e);
	if (layout < 0 || fs_mkdirs(layout, "blobs/sha256", 0700, e) < 0)
		return -1;
	blobs = fs_open_beneath(layout, "blobs/sha256", O_RDONLY | O_DIRECTORY, 0, e);
	if (blobs < 0)
		return -1;
	*ret_layout_fd = take_fd(layout);
	*ret_blobs_fd = take_fd(blobs);
	return 0;
}

int
oci_layout_add_config(int blobs_fd, const char *digest, const char *text, size_t len, struct err *e)
{
	return write_file(blobs_fd, digest + strlen("sha256:"), text, len, e);
}

static void
fill_descriptor(cJSON *o, const char *media, const struct oci_blob *blob)
{
	json_add_str(o, "mediaType", media);
	json_add_str(o, "digest", blob->digest);
	json_add_int(o, "size", (int64_t)blob->size);
}

static char *
print_manifest(const struct oci_blob *config, const struct oci_blob *layers, size_t n_layers)
{
	AUTO_JSON cJSON *root = cJSON_CreateObject();
	cJSON *list;

	json_add_int(root, "schemaVersion", 2);
	json_add_str(root, "mediaType", MEDIA "manifest.v1+json");
	fill_descriptor(json_add_object(root, "config"), MEDIA "config.v1+json", config);
	list = json_add_array(root, "layers");
	for (size_t i = 0; i < n_layers; i++) {
		cJSON *item = cJSON_CreateObject();

		fill_descriptor(item, MEDIA "layer.v1.tar", &layers[i]);
		cJSON_AddItemToArray(list, item);
	}
	return json_print(root);
}

static char *
print_index(const struct oci_blob *manifest)
{
	AUTO_JSON cJSON *root = cJSON_CreateObject();
	cJSON *item = cJSON_CreateObject();

	json_add_int(root, "schemaVersion", 2);
	json_add_str(root, "mediaType", MEDIA "index.v1+json");
	fill_descriptor(item, MEDIA "manifest.v1+json", manifest);
	cJSON_AddItemToArray(json_add_array(root, "manifests"), item);
	return json_print(root);
}

int
oci_layout_finish(int layout_fd, int blobs_fd, const struct oci_blob *config, const struct oci_blob *layers,
		  size_t n_layers, struct err *e)
{
	static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	AUTO_FREE char *manifest = print_manifest(config, layers, n_layers);
	AUTO_FREE char *index = NULL;
	char digest[HASH_DIGEST_MAX];
	struct oci_blob blob = { digest, strlen(manifest) };

	hash_of(HASH_SHA256, manifest, strlen(manifest), digest);
	index = print_index(&blob);
	if (write_file(blobs_fd, digest + strlen("sha256:"), manifest, strlen(manifest), e) < 0 ||
	    write_file(layout_fd, "index.json", index, strlen(index), e) < 0 ||
	    write_file(layout_fd, "oci-layout", version, strlen(version), e) < 0)
		return -1;
	return 0;
}
