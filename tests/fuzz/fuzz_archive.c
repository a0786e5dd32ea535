/*
 * A whole image archive. What is taken for an image has left its layout and nothing else; what is refused has left
 * nothing.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "stages/archive_read.h"
#include "tests/fuzz/fuzz.h"

static size_t
count_names(int dirfd)
{
	AUTO_DIR DIR *d = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	size_t n = 0;

	if (!d)
		abort();
	for (const struct dirent *entry; (entry = readdir(d));)
		n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct options_images limits = {
		.max_size = 4 << 20,
		.max_layers = 16,
		.max_entries = 256,
		.max_images = 8,
		.max_layer_size = 16 << 20,
		.max_name = 4096,
		.max_pax = 1 << 20,
		.max_json = 2 << 20,
		.max_json_depth = 64,
		.max_index_depth = 4,
		.max_manifests = 32,
		.max_link_chain = 8,
		.max_ratio = 100,
		.threads = 1,
	};
	char work[] = "/tmp/tidewaiter-fuzz-XXXXXX";
	struct archive_images images = { 0 };
	struct err e = ERR_INIT;
	bool is_image = false;
	AUTO_FD int fd = memfd_create("archive", MFD_CLOEXEC);
	AUTO_FD int work_fd = -1;
	int rc;

	if (fd < 0 || fs_write_all(fd, data, size, &e) < 0 || !mkdtemp(work))
		abort();
	work_fd = fs_open_dir(AT_FDCWD, work, &e);
	if (work_fd < 0)
		abort();
	const struct archive_input in = {
		.fd = fd, .size = size, .work_fd = work_fd, .stem = "a", .limits = &limits
	};

	rc = archive_read(&in, &images, &is_image, &e);
	if (rc < 0 && count_names(work_fd) != 0)
		abort();
	if (rc == 0) {
		if (!is_image || images.n == 0 || count_names(work_fd) != images.n)
			abort();
		archive_images_free(&images);
	}
	if (fs_remove_tree(AT_FDCWD, work, &e) < 0)
		abort();
	return 0;
}
