#include "stages/git_fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __has_include(<git2/sys/errors.h>) /* where libgit2 1.9 has git_error_clear() */
#include <git2/sys/errors.h>
#endif

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "stages/git_child.h"

#define OURS "refs/tidewaiter/head" /* in the clone: what was fetched last */
/* In the clone, of a ref by its bare name: what it was when it was fetched; behind it comes "heads/main". */
#define KIND "refs/tidewaiter/kind/"
/* libgit2 never repacks; a clone with more is made anew, for which all of its history has to fit fetch_max and the time of one fetch. */
#define PACKS_MAX 1000
#define NAMES_SHOWN 5
#define ID_PART_MIN 7 /* digits; what Git shows of a commit */

/* As long as a git_remote lives. */
struct session {
	const struct git_fetch *f;
	char *user, *secret; /* of credentials_file, NULL: none */
	char *ssh_key;
	unsigned n_asked;
	bool is_too_large, is_untrusted, is_refused;
};

static void
wipe(char **s)
{
	if (*s)
		explicit_bzero(*s, strlen(*s));
	mem_free_at(s);
}

static void
session_end(struct session *s)
{
	mem_free_at(&s->user);
	wipe(&s->secret);
	wipe(&s->ssh_key);
}
#define AUTO_SESSION __attribute__((cleanup(session_end)))

static void
free_repository(git_repository **r)
{
	git_repository_free(*r);
}
static void
free_remote(git_remote **r)
{
	git_remote_free(*r);
}
static void
free_object(git_object **o)
{
	git_object_free(*o);
}
static void
free_tree(git_tree **t)
{
	git_tree_free(*t);
}
static void
free_entry(git_tree_entry **t)
{
	git_tree_entry_free(*t);
}
static void
free_reference(git_reference **r)
{
	git_reference_free(*r);
}
static void
free_odb(git_odb **o)
{
	git_odb_free(*o);
}
static void
free_odb_object(git_odb_object **o)
{
	git_odb_object_free(*o);
}
#define AUTO_GIT(what) __attribute__((cleanup(free_##what)))

/* ---- what libgit2 asks ---- */

/* "user:password", or a token alone, which GitLab takes with any user. */
static int
read_secrets(struct session *s, struct err *e)
{
	AUTO_FREE char *text = NULL;
	char *colon;

	if (!str_is_empty(s->f->ssh_key_file) && fs_read_secret(s->f->ssh_key_file, &s->ssh_key, e) < 0)
		return err_wrap(e, "policy.ssh_key_file");
	if (str_is_empty(s->f->credentials_file))
		return 0;
	if (fs_read_secret(s->f->credentials_file, &text, e) < 0)
		return err_wrap(e, "policy.credentials_file");
	if (!*text || strchr(text, '\n'))
		return err_set(e, ERR_SETTINGS,
			       "policy.credentials_file must hold one line, user:password or a token");
	colon = strchr(text, ':');
	s->user = colon ? mem_strndup(text, (size_t)(colon - text)) : mem_strdup("oauth2");
	s->secret = mem_strdup(colon ? colon + 1 : text);
	explicit_bzero(text, strlen(text));
	return 0;
}

static int
give_credential(git_credential **ret, const char *url, const char *user_of_url, unsigned allowed, void *arg)
{
	struct session *s = arg;
	const char *user = user_of_url ? user_of_url : "git";

	(void)url;
	if ((allowed & GIT_CREDENTIAL_USERNAME) && s->ssh_key)
		return git_credential_username_new(ret, user);
	/* asked a second time, what it got was not good enough */
	if (s->n_asked++ > 0) {
		s->is_refused = true;
		return GIT_EUSER;
	}
	if ((allowed & GIT_CREDENTIAL_USERPASS_PLAINTEXT) && s->secret)
		return git_credential_userpass_plaintext_new(ret, s->user, s->secret);
	if ((allowed & GIT_CREDENTIAL_SSH_MEMORY) && s->ssh_key)
		return git_credential_ssh_key_memory_new(ret, user, NULL, s->ssh_key, NULL);
	s->is_refused = true;
	return GIT_EUSER;
}

/* libgit2 has compared it with the authorities, or with known_hosts; its word is never overruled. */
static int
check_certificate(git_cert *cert, int is_valid, const char *host, void *arg)
{
	struct session *s = arg;

	(void)cert;
	(void)host;
	s->is_untrusted = !is_valid;
	return is_valid ? 0 : GIT_ECERTIFICATE;
}

static int
watch_size(const git_indexer_progress *p, void *arg)
{
	struct session *s = arg;

	s->is_too_large = p->received_bytes > s->f->fetch_max;
	return s->is_too_large ? GIT_EUSER : 0;
}

static int
say_why(const struct session *s, struct err *e)
{
	bool is_ssh = str_has_prefix(s->f->url, "ssh://") || !strstr(s->f->url, "://");

	if (s->is_untrusted && is_ssh)
		return err_set(e, ERR_REFUSED, "the server's key does not stand in policy.known_hosts_file");
	if (s->is_untrusted)
		return err_set(e, ERR_REFUSED, "the server's certificate is not trusted (policy.ca_file)");
	if (s->is_refused && s->n_asked > 1)
		return err_set(e, ERR_REFUSED, "the server does not accept %s",
			       is_ssh ? "policy.ssh_key_file" : "policy.credentials_file");
	if (s->is_refused)
		return err_set(e, ERR_REFUSED, "the server wants credentials and %s is not set",
			       is_ssh ? "policy.ssh_key_file" : "policy.credentials_file");
	if (s->is_too_large)
		return err_set(e, ERR_NO_SPACE, "more than %ju bytes came (policy.fetch_max)",
			       (uintmax_t)s->f->fetch_max);
	return git_fault(e, "the repository");
}

/* ---- the clone ---- */

/* What one who was killed left: unfinished packs and locks. Nobody else uses the clone. */
static void
tidy_dir(const char *path, const char *prefix, const char *suffix, size_t *ret_packs)
{
	AUTO_DIR DIR *dir = opendir(path);
	struct dirent *d;

	while (dir && fs_next(dir, &d, NULL) > 0) {
		if ((prefix && str_has_prefix(d->d_name, prefix)) ||
		    (suffix && str_has_suffix(d->d_name, suffix)))
			(void)unlinkat(dirfd(dir), d->d_name, 0);
		else
			*ret_packs += str_has_suffix(d->d_name, ".pack");
	}
}

/* True: too many packs. */
static bool
tidy(const char *clone)
{
	static const char *const with_locks[] = { "", "/refs", "/refs/tidewaiter" };
	AUTO_FREE char *packs = mem_printf("%s/objects/pack", clone);
	size_t n_packs = 0, ignored = 0;

	tidy_dir(packs, "pack_git2_", ".lock", &n_packs);
	for (size_t i = 0; i < MEM_COUNT(with_locks); i++) {
		AUTO_FREE char *path = mem_printf("%s%s", clone, with_locks[i]);

		tidy_dir(path, NULL, ".lock", &ignored);
	}
	return n_packs > PACKS_MAX;
}

static int
make_clone(const struct git_fetch *f, git_repository **ret, struct err *e)
{
	git_repository_init_options o = GIT_REPOSITORY_INIT_OPTIONS_INIT;

	if (fs_remove_tree(AT_FDCWD, f->clone, e) < 0)
		return -1;
	o.flags = GIT_REPOSITORY_INIT_BARE | GIT_REPOSITORY_INIT_MKDIR | GIT_REPOSITORY_INIT_NO_REINIT;
	o.mode = 0700;
	if (git_repository_init_ext(ret, f->clone, &o) < 0)
		return git_fault(e, "%s", f->clone);
	return 0;
}

static int
open_clone(const struct git_fetch *f, git_repository **ret, struct err *e)
{
	if (!tidy(f->clone) && git_repository_open_bare(ret, f->clone) == 0)
		return 0;
	git_error_clear();
	return make_clone(f, ret, e);
}

/* ---- which commit ---- */

static const git_remote_head *
find_name(const git_remote_head **heads, size_t n, const char *prefix, const char *name)
{
	AUTO_FREE char *whole = mem_printf("%s%s", prefix, name);

	for (size_t i = 0; i < n; i++)
		if (str_eq(heads[i]->name, whole))
			return heads[i];
	return NULL;
}

static bool
is_part_of_id(const char *ref)
{
	size_t n = strlen(ref);

	return n >= ID_PART_MIN && n < GIT_OID_HEXSZ && str_is_hex(ref, n);
}

static int
no_such_ref(const git_remote_head **heads, size_t n, const char *ref, struct err *e)
{
	AUTO_STRV struct strv names = { 0 };
	AUTO_FREE char *all = NULL;

	for (size_t i = 0; i < n && names.n < NAMES_SHOWN; i++)
		if (str_has_prefix(heads[i]->name, "refs/heads/"))
			strv_take(&names, str_safe(heads[i]->name + strlen("refs/heads/"), 60));
	all = strv_join(&names, ", ");
	return err_set(e, ERR_FAILED, "there is no branch or tag %s (policy.ref)%s%s%s", ref,
		       is_part_of_id(ref) ? "; a commit is named by all of its 40 digits" : "",
		       names.n ? "; there are the branches " : "", all);
}

static bool
was_fetched_as(git_repository *repo, const char *kind, const char *ref)
{
	AUTO_FREE char *name = mem_printf(KIND "%s/%s", kind, ref);
	AUTO_GIT(reference) git_reference *found = NULL;
	bool is_so = git_reference_lookup(&found, repo, name) == 0;

	git_error_clear();
	return is_so;
}

/* Of a branch and a tag of one name it is what it has been: whoever may push the other one neither says what the policy is nor holds it up. */
static int
choose(git_repository *repo, const char *ref, const git_remote_head *branch, const git_remote_head *tag,
       const git_remote_head **ret, struct err *e)
{
	bool was_branch = was_fetched_as(repo, "heads", ref), was_tag = was_fetched_as(repo, "tags", ref);

	if (was_branch == was_tag)
		return err_set(e, ERR_FAILED,
			       "%s is a branch and a tag (policy.ref): name refs/heads/%s or refs/tags/%s",
			       ref, ref, ref);
	*ret = was_branch ? branch : tag;
	return 0;
}

static int
find_ref(git_repository *repo, git_remote *remote, const char *ref, const git_remote_head **ret, struct err *e)
{
	const git_remote_head **heads, *branch, *tag;
	size_t n;

	if (git_remote_ls(&heads, &n, remote) < 0)
		return git_fault(e, "list of references");
	branch = find_name(heads, n, "refs/heads/", ref);
	tag = find_name(heads, n, "refs/tags/", ref);
	if (branch && tag)
		return choose(repo, ref, branch, tag, ret, e);
	*ret = branch ? branch : tag;
	if (!*ret && str_has_prefix(ref, "refs/"))
		*ret = find_name(heads, n, "", ref);
	return *ret ? 0 : no_such_ref(heads, n, ref, e);
}

static bool
is_commit_id(const char *ref)
{
	return strlen(ref) == GIT_OID_HEXSZ && str_is_hex(ref, GIT_OID_HEXSZ);
}

static bool
has_object(git_repository *repo, const git_oid *id)
{
	AUTO_GIT(odb) git_odb *odb = NULL;

	return git_repository_odb(&odb, repo) == 0 && git_odb_exists(odb, id);
}

/* ---- the network ---- */

/* Who may be talked to, and how; the same for the connection and for what comes over it. */
static void
be_careful(struct session *s, git_remote_callbacks *callbacks, git_proxy_options *proxy)
{
	callbacks->credentials = give_credential;
	callbacks->certificate_check = check_certificate;
	callbacks->payload = s;
	proxy->type = str_is_empty(s->f->proxy) ? GIT_PROXY_NONE : GIT_PROXY_SPECIFIED;
	proxy->url = str_is_empty(s->f->proxy) ? NULL : s->f->proxy;
}

static int
download(struct session *s, git_remote *remote, const char *spec, struct err *e)
{
	git_fetch_options o = GIT_FETCH_OPTIONS_INIT;
	char *specs[] = { (char *)(uintptr_t)spec };
	const git_strarray list = { specs, 1 };

	be_careful(s, &o.callbacks, &o.proxy_opts);
	o.callbacks.transfer_progress = watch_size;
	o.follow_redirects = GIT_REMOTE_REDIRECT_NONE;
	o.download_tags = GIT_REMOTE_DOWNLOAD_TAGS_NONE;
	o.update_fetchhead = 0;
	return git_remote_download(remote, &list, &o) < 0 ? say_why(s, e) : 0;
}

static int
connect_to(struct session *s, git_remote *remote, struct err *e)
{
	git_remote_connect_options o = GIT_REMOTE_CONNECT_OPTIONS_INIT;

	be_careful(s, &o.callbacks, &o.proxy_opts);
	o.follow_redirects = GIT_REMOTE_REDIRECT_NONE;
	if (!str_is_empty(s->f->ca_file) &&
	    git_libgit2_opts(GIT_OPT_SET_SSL_CERT_LOCATIONS, s->f->ca_file, NULL) < 0)
		return git_fault(e, "policy.ca_file %s", s->f->ca_file);
	return git_remote_connect_ext(remote, GIT_DIRECTION_FETCH, &o) < 0 ? say_why(s, e) : 0;
}

static int
keep_as(git_repository *repo, const char *name, const git_oid *id, struct err *e)
{
	AUTO_GIT(reference) git_reference *ref = NULL;

	return git_reference_create(&ref, repo, name, id, 1, NULL) < 0 ? git_fault(e, "%s", name) : 0;
}

/* What `name` ("refs/heads/main") was asked for as ("main"). */
static int
keep_kind(git_repository *repo, const char *asked, const char *name, const git_oid *id, struct err *e)
{
	AUTO_FREE char *kind = mem_printf(KIND "%s", name + strlen("refs/"));

	return str_eq(asked, name) ? 0 : keep_as(repo, kind, id, e);
}

/* A commit by its name alone: asked for by that where the server takes it, else with all branches. */
static int
fetch_commit(struct session *s, git_repository *repo, git_remote *remote, const git_oid *id, struct err *e)
{
	AUTO_FREE char *spec = mem_printf("%s:" OURS, s->f->ref);
	struct err first = ERR_INIT;

	if (download(s, remote, spec, &first) == 0 && has_object(repo, id))
		return 0;
	if (s->is_too_large)
		return err_set(e, first.kind, "%s", first.text);
	(void)git_remote_disconnect(remote);
	s->n_asked = 0;
	if (connect_to(s, remote, e) < 0 ||
	    download(s, remote, "+refs/heads/*:refs/tidewaiter/heads/*", e) < 0)
		return -1;
	if (!has_object(repo, id))
		return err_set(e, ERR_FAILED, "there is no commit %s on any branch (policy.ref)", s->f->ref);
	return 0;
}

static int
fetch_ref(struct session *s, git_repository *repo, git_remote *remote, git_oid *ret, struct err *e)
{
	const git_remote_head *head = NULL;
	AUTO_FREE char *spec = NULL;

	if (find_ref(repo, remote, s->f->ref, &head, e) < 0)
		return -1;
	if (!head)
		return err_set(e, ERR_FAILED, "the server announces nothing for %s", s->f->ref);
	git_oid_cpy(ret, &head->oid);
	if (has_object(repo, ret))
		return keep_kind(repo, s->f->ref, head->name, ret, e);
	spec = mem_printf("+%s:" OURS, head->name);
	if (download(s, remote, spec, e) < 0)
		return -1;
	if (!has_object(repo, ret))
		return err_set(e, ERR_FAILED, "the server did not send what it announced");
	return keep_kind(repo, s->f->ref, head->name, ret, e);
}

static int
fetch(struct session *s, git_repository *repo, git_oid *ret, struct err *e)
{
	AUTO_GIT(remote) git_remote *remote = NULL;
	bool is_commit = is_commit_id(s->f->ref);

	if (is_commit && git_oid_fromstr(ret, s->f->ref) == 0 && has_object(repo, ret))
		return 0;
	if (git_remote_create_anonymous(&remote, repo, s->f->url) < 0)
		return git_fault(e, "policy.url");
	if (connect_to(s, remote, e) < 0)
		return -1;
	if (is_commit ? fetch_commit(s, repo, remote, ret, e) < 0 : fetch_ref(s, repo, remote, ret, e) < 0)
		return -1;
	/* so that the next fetch says what is there already */
	return keep_as(repo, OURS, ret, e);
}

/* ---- the file ---- */

static int
read_blob(git_repository *repo, const git_oid *id, const struct git_fetch *f, struct buf *out, struct err *e)
{
	AUTO_GIT(odb) git_odb *odb = NULL;
	AUTO_GIT(odb_object) git_odb_object *blob = NULL;
	git_object_t type;
	size_t size;

	if (git_repository_odb(&odb, repo) < 0 || git_odb_read_header(&size, &type, odb, id) < 0)
		return git_fault(e, "%s", f->path);
	if (size > f->blob_max)
		return err_set(e, ERR_FAILED, "%s has %zu bytes, allowed are %zu", f->path, size, f->blob_max);
	if (git_odb_read(&blob, odb, id) < 0)
		return git_fault(e, "%s", f->path);
	buf_add(out, git_odb_object_data(blob), git_odb_object_size(blob));
	return 0;
}

static int
read_file(git_repository *repo, const git_oid *id, const struct git_fetch *f, struct buf *out, struct err *e)
{
	AUTO_GIT(object) git_object *any = NULL;
	AUTO_GIT(object) git_object *commit = NULL;
	AUTO_GIT(tree) git_tree *tree = NULL;
	AUTO_GIT(entry) git_tree_entry *entry = NULL;
	char hex[GIT_OID_HEXSZ + 1];

	if (git_object_lookup(&any, repo, id, GIT_OBJECT_ANY) < 0)
		return git_fault(e, "%s (policy.ref)", f->ref);
	if (git_object_peel(&commit, any, GIT_OBJECT_COMMIT) < 0) {
		git_fault(e, "%s (policy.ref)", f->ref);
		git_error_clear(); /* it is the server's, and no damage of the clone */
		return -1;
	}
	git_oid_tostr(hex, sizeof(hex), git_object_id(commit));
	if (git_commit_tree(&tree, (const git_commit *)commit) < 0)
		return git_fault(e, "commit %s", hex);
	if (git_tree_entry_bypath(&entry, tree, f->path) < 0)
		return err_set(e, ERR_FAILED, "commit %.12s has no file %s (policy.path)", hex, f->path);
	if (git_tree_entry_type(entry) != GIT_OBJECT_BLOB ||
	    git_tree_entry_filemode(entry) == GIT_FILEMODE_LINK)
		return err_set(e, ERR_FAILED, "%s of commit %.12s is no plain file (policy.path)", f->path,
			       hex);
	buf_printf(out, "%s\n", hex);
	return read_blob(repo, git_tree_entry_id(entry), f, out, e);
}

static int
check_owner(const char *path, struct err *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_errno(e, "%s", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(e, ERR_SETTINGS, "%s belongs to user %u, allowed is root", path, st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, ERR_SETTINGS, "others can write %s (mode %03o), allowed is 755", path,
			       st.st_mode & 0777);
	return 0;
}

static int
check_owner_if_there(const char *path, struct err *e)
{
	return access(path, F_OK) == 0 ? check_owner(path, e) : 0;
}

/* "refs/heads/a/b" and all that it lies in. */
static int
check_ref(const char *repository, const char *prefix, const char *ref, struct err *e)
{
	AUTO_FREE char *path = mem_printf("%s/%s%s", repository, prefix, ref);

	for (char *p = path + strlen(repository) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		if (check_owner_if_there(path, e) < 0)
			return -1;
	}
	return check_owner_if_there(path, e);
}

/*
 * A mirror on this host: whoever can write it, or what says which commit a branch is at, writes the policy. libgit2's own check takes no
 * owner but ourselves, which a mirror of root's would fail.
 */
static int
check_mirror(const struct git_fetch *f, struct err *e)
{
	static const char *const parts[] = { "",	   "HEAD",	"config",  "packed-refs", "refs",
					     "refs/heads", "refs/tags", "objects", "reftable" };
	static const char *const prefixes[] = { "refs/heads/", "refs/tags/", "" };
	AUTO_FREE char *path = NULL, *work = NULL, *common = NULL;
	struct stat st;

	if (!str_has_prefix(f->url, "file://"))
		return 0;
	path = mem_strdup(f->url + strlen("file://"));
	if (check_owner(path, e) < 0)
		return -1;
	work = mem_printf("%s/.git", path);
	if (lstat(work, &st) == 0) {
		if (!S_ISDIR(st.st_mode))
			return err_set(e, ERR_SETTINGS, "%s is no directory: name the repository itself",
				       work);
		mem_free_at(&path);
		path = take_ptr(work);
	}
	common = mem_printf("%s/commondir", path);
	if (access(common, F_OK) == 0)
		return err_set(e, ERR_SETTINGS, "%s leads elsewhere: name the repository itself", common);
	for (size_t k = 0; k < MEM_COUNT(parts); k++) {
		AUTO_FREE char *part = mem_printf("%s/%s", path, parts[k]);

		if (check_owner_if_there(part, e) < 0)
			return -1;
	}
	for (size_t k = 0; k < MEM_COUNT(prefixes); k++)
		if (check_ref(path, prefixes[k], f->ref, e) < 0)
			return -1;
	return git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0) < 0 ? git_fault(e, "libgit2") : 0;
}

static int
fetch_and_read(struct session *s, bool is_anew, struct buf *out, struct err *e)
{
	AUTO_GIT(repository) git_repository *repo = NULL;
	git_oid id;

	if (is_anew ? make_clone(s->f, &repo, e) < 0 : open_clone(s->f, &repo, e) < 0)
		return -1;
	if (fetch(s, repo, &id, e) < 0)
		return -1;
	buf_reset(out);
	return read_file(repo, &id, s->f, out, e);
}

/* Is it the clone that is at fault? Then it is made anew. */
static bool
is_damage(void)
{
	const git_error *last = git_error_last();

	return last && (last->klass == GIT_ERROR_ODB || last->klass == GIT_ERROR_ZLIB ||
			last->klass == GIT_ERROR_REPOSITORY || last->klass == GIT_ERROR_OBJECT ||
			last->klass == GIT_ERROR_REFERENCE || last->klass == GIT_ERROR_CONFIG ||
			last->klass == GIT_ERROR_INDEXER);
}

int
git_fetch_work(void *arg, struct buf *out, struct err *e)
{
	const struct git_fetch *f = arg;
	AUTO_SESSION struct session s = { .f = f };
	struct err again = ERR_INIT;

	if (read_secrets(&s, e) < 0 || check_mirror(f, e) < 0)
		return -1;
	git_error_clear();
	if (fetch_and_read(&s, false, out, e) == 0)
		return 0;
	if (s.is_refused || s.is_untrusted || s.is_too_large || !is_damage())
		return -1;
	s.n_asked = 0;
	/* what was wrong at first is told where that was no damage after all */
	if (fetch_and_read(&s, true, out, &again) == 0) {
		err_clear(e);
		return 0;
	}
	return -1;
}
