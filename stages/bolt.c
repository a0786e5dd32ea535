#include "stages/bolt.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define MAGIC 0xED0CDAEDu
#define VERSION 2u
#define PAGE_HEADER 16	/* id 8, flags 2, count 2, overflow 4 */
#define ELEMENT_SIZE 16 /* of a branch: pos 4, ksize 4, page 8; of a leaf: flags 4, pos 4, ksize 4, vsize 4 */
#define BUCKET_HEADER 16 /* root 8, sequence 8; an inline page follows where root is 0 */
#define META_SIZE 64
#define META_CHECKED 56 /* bytes before the checksum */
#define PAGE_SIZE_MIN 1024u
#define PAGE_SIZE_MAX 65536u

enum { PAGE_BRANCH = 0x01, PAGE_LEAF = 0x02 };
enum { LEAF_IS_BUCKET = 0x01 };

static uint16_t
le16(const unsigned char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static uint32_t
le32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint64_t
le64(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static uint64_t
fnv1a(const unsigned char *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}

/* --- heads --- */

static bool
read_meta(int fd, off_t at, struct bolt *ret)
{
	unsigned char page[PAGE_HEADER + META_SIZE];
	const unsigned char *meta = page + PAGE_HEADER;

	if (pread(fd, page, sizeof(page), at) != (ssize_t)sizeof(page))
		return false;
	if (le32(meta) != MAGIC || le32(meta + 4) != VERSION ||
	    le64(meta + META_CHECKED) != fnv1a(meta, META_CHECKED))
		return false;
	ret->fd = fd;
	ret->page_size = le32(meta + 8);
	ret->root = le64(meta + 16);
	ret->n_pages = le64(meta + 40);
	ret->txid = le64(meta + 48);
	return ret->page_size >= PAGE_SIZE_MIN && ret->page_size <= PAGE_SIZE_MAX &&
	       (ret->page_size & (ret->page_size - 1)) == 0;
}

/* The newer of the two, as bbolt chooses. */
static bool
find_meta(int fd, struct bolt *ret)
{
	struct bolt first, second;
	bool has_first = read_meta(fd, 0, &first), has_second = false;

	if (has_first) {
		has_second = read_meta(fd, (off_t)first.page_size, &second);
	} else {
		for (uint32_t size = PAGE_SIZE_MIN; size <= PAGE_SIZE_MAX && !has_second; size *= 2)
			has_second = read_meta(fd, (off_t)size, &second) && second.page_size == size;
	}
	if (!has_first && !has_second)
		return false;
	*ret = !has_first || (has_second && second.txid > first.txid) ? second : first;
	return true;
}

int
bolt_open(int fd, uint64_t file_size, struct bolt *ret, struct err *e)
{
	struct bolt b;

	if (!find_meta(fd, &b))
		return err_set(e, ERR_FAILED, "no database of Trivy's (bbolt), or its head is damaged");
	if (b.n_pages > file_size / b.page_size)
		return err_set(e, ERR_FAILED, "it is cut: %ju bytes of at least %ju are there",
			       (uintmax_t)file_size, (uintmax_t)(b.n_pages * b.page_size));
	*ret = b;
	return 0;
}

/* --- the walk --- */

struct walk {
	const struct bolt *b;
	int (*visit)(void *arg, const struct bolt_item *item, struct err *e);
	void *arg;
	unsigned char *seen; /* a bit per page */
	struct buf top;
	bool is_shallow; /* what lies in buckets is not looked at */
};

/* One bucket on its way: keys rise through all its pages. */
struct bucket {
	unsigned depth;
	bool has_last;
	struct buf last;
	const unsigned char *least; /* said by the branch above, for the next key; NULL when one has come */
	size_t least_len;
};

struct page {
	uint64_t id; /* of an inline page: the one that it lies in */
	unsigned flags;
	uint32_t count;
	const unsigned char *bytes;
	size_t size;
	bool is_inline; /* in a bucket's value; bbolt puts no buckets into such */
	size_t at; /* bytes of elements may begin here: they lie in order and not in each other, or a page could hold more than its size */
};

static int walk_bucket(struct walk *w, unsigned depth, const unsigned char *value, size_t len, uint64_t from,
		       struct err *e);

static int
damaged(uint64_t id, const char *what, struct err *e)
{
	return err_set(e, ERR_FAILED, "damaged: page %ju: %s", (uintmax_t)id, what);
}

static int
read_bytes(const struct bolt *b, uint64_t id, void *p, size_t n, struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = pread(b->fd, (char *)p + done, n - done, (off_t)(id * b->page_size + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(e, "page %ju", (uintmax_t)id);
		if (got == 0)
			return damaged(id, "the file became shorter", e);
		done += (size_t)got;
	}
	return 0;
}

/* A page is part of one place of one tree. */
static int
mark(struct walk *w, uint64_t id, uint64_t n, struct err *e)
{
	for (uint64_t k = id; k < id + n; k++) {
		if (w->seen[k / 8] >> (k % 8) & 1)
			return damaged(k, "it is used twice", e);
		w->seen[k / 8] |= (unsigned char)(1U << k % 8);
	}
	return 0;
}

static int
parse_header(const unsigned char *p, size_t size, uint64_t id, struct page *ret, struct err *e)
{
	*ret = (struct page){ .id = id, .flags = le16(p + 8), .count = le16(p + 10), .bytes = p, .size = size };
	if (ret->flags != PAGE_BRANCH && ret->flags != PAGE_LEAF)
		return damaged(id, "it is of no kind that belongs here", e);
	ret->at = PAGE_HEADER + (size_t)ret->count * ELEMENT_SIZE;
	return ret->at > size ? damaged(id, "its elements do not fit into it", e) : 0;
}

/* The page with its overflow, owned by the caller. */
static int
read_page(struct walk *w, uint64_t id, unsigned char **ret_bytes, struct page *ret, struct err *e)
{
	AUTO_FREE unsigned char *bytes = NULL;
	unsigned char head[PAGE_HEADER];
	uint64_t overflow;
	size_t size;

	if (id < 2 || id >= w->b->n_pages)
		return damaged(id, "it is outside the file", e);
	if (read_bytes(w->b, id, head, sizeof(head), e) < 0)
		return -1;
	if (le64(head) != id)
		return damaged(id, "it is not what it should be", e);
	overflow = le32(head + 12);
	if (overflow >= w->b->n_pages - id || (overflow + 1) * w->b->page_size > BOLT_RUN_MAX)
		return damaged(id, "it runs out of the file", e);
	if (mark(w, id, overflow + 1, e) < 0)
		return -1;
	size = (size_t)(overflow + 1) * w->b->page_size;
	bytes = mem_alloc(size);
	if (read_bytes(w->b, id, bytes, size, e) < 0 || parse_header(bytes, size, id, ret, e) < 0)
		return -1;
	*ret_bytes = take_ptr(bytes);
	return 0;
}

/* `pos` counts from the element itself. */
static int
element_bytes(struct page *p, uint32_t i, uint32_t pos, uint64_t len, const unsigned char **ret, struct err *e)
{
	size_t at = PAGE_HEADER + (size_t)i * ELEMENT_SIZE;

	if (pos > p->size - at || len > p->size - at - pos || at + pos < p->at)
		return damaged(p->id, "an element lies outside it, or in another", e);
	p->at = at + pos + (size_t)len;
	*ret = p->bytes + at + pos;
	return 0;
}

static int
compare(const unsigned char *a, size_t a_len, const unsigned char *b, size_t b_len)
{
	int d = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return d ? d : (a_len > b_len) - (a_len < b_len);
}

static int
check_key(const struct bucket *k, const struct page *p, const unsigned char *key, size_t len, struct err *e)
{
	if (len == 0 || len > BOLT_KEY_MAX)
		return damaged(p->id, "a key without bytes, or with too many", e);
	if (k->has_last && compare((const unsigned char *)k->last.data, k->last.len, key, len) >= 0)
		return damaged(p->id, "its keys are not in order", e);
	if (k->least && compare(k->least, k->least_len, key, len) > 0)
		return damaged(p->id, "its keys belong elsewhere", e);
	return 0;
}

static int
walk_leaf(struct walk *w, struct bucket *k, struct page *p, struct err *e)
{
	for (uint32_t i = 0; i < p->count; i++) {
		const unsigned char *element = p->bytes + PAGE_HEADER + (size_t)i * ELEMENT_SIZE;
		uint32_t flags = le32(element), key_len = le32(element + 8), value_len = le32(element + 12);
		struct bolt_item item = { .depth = k->depth,
					  .top = k->depth ? buf_str(&w->top) : "",
					  .is_bucket = flags & LEAF_IS_BUCKET,
					  .key_len = key_len,
					  .value_len = value_len };

		if (flags & ~(uint32_t)LEAF_IS_BUCKET)
			return damaged(p->id, "an element of no known kind", e);
		if (item.is_bucket && p->is_inline)
			return damaged(p->id, "a bucket in an inline bucket", e);
		if (element_bytes(p, i, le32(element + 4), (uint64_t)key_len + value_len, &item.key, e) < 0 ||
		    check_key(k, p, item.key, key_len, e) < 0)
			return -1;
		item.value = item.key + key_len;
		buf_reset(&k->last);
		buf_add(&k->last, item.key, key_len);
		k->has_last = true;
		k->least = NULL;
		if (k->depth == 0) {
			buf_reset(&w->top);
			buf_add(&w->top, item.key, key_len);
		}
		if (w->visit(w->arg, &item, e) < 0)
			return -1;
		if (item.is_bucket && !w->is_shallow &&
		    walk_bucket(w, k->depth + 1, item.value, value_len, p->id, e) < 0)
			return -1;
	}
	return 0;
}

static int walk_page(struct walk *w, struct bucket *k, uint64_t id, unsigned level, struct err *e);

static int
walk_branch(struct walk *w, struct bucket *k, struct page *p, unsigned level, struct err *e)
{
	if (p->count == 0)
		return damaged(p->id, "a branch without a twig", e);
	for (uint32_t i = 0; i < p->count; i++) {
		const unsigned char *element = p->bytes + PAGE_HEADER + (size_t)i * ELEMENT_SIZE;
		uint32_t len = le32(element + 4);
		const unsigned char *key = NULL;

		if (element_bytes(p, i, le32(element), len, &key, e) < 0 || check_key(k, p, key, len, e) < 0)
			return -1;
		k->least = key;
		k->least_len = len;
		if (walk_page(w, k, le64(element + 8), level + 1, e) < 0)
			return -1;
		/* below an element there is an entry, or its key would still bind the next page */
		if (k->least)
			return damaged(p->id, "an element with nothing below it", e);
	}
	return 0;
}

static int
walk_page(struct walk *w, struct bucket *k, uint64_t id, unsigned level, struct err *e)
{
	AUTO_FREE unsigned char *bytes = NULL;
	struct page p;

	if (level >= BOLT_LEVELS_MAX)
		return damaged(id, "the tree is too deep", e);
	if (read_page(w, id, &bytes, &p, e) < 0)
		return -1;
	return p.flags == PAGE_LEAF ? walk_leaf(w, k, &p, e) : walk_branch(w, k, &p, level, e);
}

static int
walk_inline(struct walk *w, struct bucket *k, const unsigned char *value, size_t len, uint64_t from,
	    struct err *e)
{
	struct page p;

	if (len < PAGE_HEADER)
		return damaged(from, "a bucket without a page", e);
	if (parse_header(value, len, from, &p, e) < 0)
		return -1;
	if (p.flags != PAGE_LEAF)
		return damaged(from, "a bucket's inline page is no leaf", e);
	p.is_inline = true;
	return walk_leaf(w, k, &p, e);
}

/* `from`: the page that the value lies in, for messages. */
static int
walk_bucket(struct walk *w, unsigned depth, const unsigned char *value, size_t len, uint64_t from,
	    struct err *e)
{
	struct bucket k = { .depth = depth, .last = BUF_INIT(BOLT_KEY_MAX) };
	uint64_t root;
	int rc;

	if (depth >= BOLT_BUCKETS_MAX)
		return damaged(from, "buckets are too deep in each other", e);
	if (len < BUCKET_HEADER)
		return damaged(from, "a bucket without a head", e);
	root = le64(value);
	rc = root ? walk_page(w, &k, root, 0, e)
		  : walk_inline(w, &k, value + BUCKET_HEADER, len - BUCKET_HEADER, from, e);
	buf_free(&k.last);
	return rc;
}

static int
walk(const struct bolt *b, bool is_shallow,
     int (*visit)(void *arg, const struct bolt_item *item, struct err *e), void *arg, struct err *e)
{
	AUTO_FREE unsigned char *seen = mem_alloc((size_t)(b->n_pages / 8 + 1));
	struct walk w = { .b = b,
			  .visit = visit,
			  .arg = arg,
			  .seen = seen,
			  .top = BUF_INIT(BOLT_KEY_MAX),
			  .is_shallow = is_shallow };
	struct bucket k = { .last = BUF_INIT(BOLT_KEY_MAX) };
	int rc = walk_page(&w, &k, b->root, 0, e);

	buf_free(&k.last);
	buf_free(&w.top);
	return rc;
}

int
bolt_walk(const struct bolt *b, int (*visit)(void *arg, const struct bolt_item *item, struct err *e),
	  void *arg, struct err *e)
{
	return walk(b, false, visit, arg, e);
}

int
bolt_walk_top(const struct bolt *b, int (*visit)(void *arg, const struct bolt_item *item, struct err *e),
	      void *arg, struct err *e)
{
	return walk(b, true, visit, arg, e);
}
