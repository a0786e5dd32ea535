#include "stages/known.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "stages/report_stage.h"

#define KEPT_WAIT_MS 5000

void
known_free(struct known *k)
{
	triage_free(k->triage);
	k->triage = NULL;
	baselines_free(&k->baselines);
	fixes_free(&k->fixes);
	strv_free(&k->notes);
}

/* One more text is whole. False: not before the deadline, or never. */
static bool
wait_told(int fd, int64_t deadline)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char byte;
	int n;

	do
		n = poll(&pfd, 1, clock_poll_timeout(deadline));
	while (n < 0 && errno == EINTR);
	return n > 0 && read(fd, &byte, 1) == 1;
}

static cJSON *
read_text(int fd, struct err *e)
{
	AUTO_FREE char *text = NULL;
	cJSON *j = NULL;
	size_t len;

	if (lseek(fd, 0, SEEK_SET) < 0) {
		err_errno(e, "lseek");
		return NULL;
	}
	if (fs_read_fd_max(fd, FETCHER_TEXT_MAX, &text, &len, e) < 0 ||
	    json_parse(text, len, FETCHER_TEXT_MAX, JSON_UNIQUE, &j, e) < 0)
		return NULL;
	return j;
}

static void
take_kept(const struct fetcher *f, struct known *k, struct triage **ret)
{
	struct err e = ERR_INIT;
	AUTO_JSON cJSON *j = read_text(f->kept_fd, &e);

	if (json_object(j, "triage") && triage_from_json(json_object(j, "triage"), ret, &e) < 0)
		strv_addf(&k->notes, "what was kept of DefectDojo's triage: %s", e.text);
	baselines_add_json(&k->baselines, json_array(j, "baselines"));
}

/* What DefectDojo has of a branch takes the place of what this host has, where another host inspected that since. */
static void
take_others(const struct fetcher *f, struct known *k)
{
	struct err e = ERR_INIT;
	AUTO_JSON cJSON *j = read_text(f->others_fd, &e);
	AUTO_STRV struct strv outdated = { 0 };
	const char *fault = json_str(j, "fault");

	k->lacks_branches = !j || !str_is_empty(fault);
	if (!str_is_empty(fault))
		strv_addf(&k->notes, "what other branches have now is not known: %s", fault);
	json_strv(j, "outdated", &outdated);
	for (size_t x = 0; x < outdated.n; x++)
		baselines_set_outdated(&k->baselines, outdated.v[x]);
	baselines_add_json(&k->baselines, json_array(j, "baselines"));
}

/* NULL, and why. */
static struct triage *
take_fresh(const struct fetcher *f, char **ret_why)
{
	struct err e = ERR_INIT;
	AUTO_JSON cJSON *j = read_text(f->fresh_fd, &e);
	struct triage *t = NULL;

	if (json_object(j, "triage") && triage_from_json(json_object(j, "triage"), &t, &e) == 0)
		return t;
	*ret_why = str_safe(e.kind != ERR_NONE ? e.text : json_str(j, "fault"), ERR_TEXT_MAX);
	return NULL;
}

static void
say_kept(struct known *k, const struct triage *t, const char *why)
{
	AUTO_FREE char *age = str_human_duration((clock_wall_s() - t->fetched_s) * 1000);

	strv_addf(&k->notes, "triage is %s old: %s", age, why);
}

/* What stands there now, else what was kept. */
static void
take_triage(const struct inspection *i, struct triage *kept, struct known *ret)
{
	AUTO(triage) struct triage *owned = kept;
	AUTO_FREE char *why = NULL;

	if (wait_told(i->fetcher->told_fd, i->fetcher->deadline))
		ret->triage = take_fresh(i->fetcher, &why);
	if (!ret->triage && !why)
		why = mem_strdup("DefectDojo did not answer in time");
	if (ret->triage && !str_is_empty(ret->triage->note))
		strv_addf(&ret->notes, "triage: %s", ret->triage->note);
	if (ret->triage)
		return;
	if (owned && triage_is_fresh(owned, clock_wall_s(), i->opt->defectdojo.triage_max_age)) {
		say_kept(ret, owned, why);
		ret->triage = take_ptr(owned);
	} else {
		strv_addf(&ret->notes, "triage excuses nothing: %s", why);
	}
}

void
known_take(const struct inspection *i, bool needs_triage, bool needs_branches, struct known *ret)
{
	const struct options_defectdojo *o = &i->opt->defectdojo;
	const struct fetcher *f = i->fetcher;
	bool has_triage = o->triage && !str_is_empty(o->url);
	struct triage *kept = NULL;

	if (!f)
		return;
	/* what lies on disk is there at once; this is for a disk that hangs */
	if (wait_told(f->told_fd, clock_deadline(KEPT_WAIT_MS)))
		take_kept(f, ret, &kept);
	if (needs_triage && has_triage)
		take_triage(i, kept, ret);
	else
		triage_free(kept);
	/* the second text is told of before the third, whether it was waited for or not */
	ret->lacks_branches = true;
	if (!needs_branches)
		return;
	if (((needs_triage && has_triage) || wait_told(f->told_fd, f->deadline)) &&
	    wait_told(f->told_fd, f->deadline))
		take_others(f, ret);
}

/* ---- one image ---- */

void
known_image_free(struct known_image *k)
{
	mem_free_at(&k->image);
	mem_free_at(&k->service);
	mem_free_at(&k->product);
	mem_free_at(&k->project);
	mem_free_at(&k->branch);
	mem_free_at(&k->fitted_branch);
	mem_free_at(&k->baselines);
}

static bool
accepted(const void *arg, const struct finding *f, size_t nth, struct policy_accepted *ret)
{
	const struct known_image *k = arg;

	return triage_match(&k->query, f, nth, ret);
}

static const struct baseline *
find_baseline(const struct known_image *k, const char *branch)
{
	const struct baselines *l = &k->known->baselines;

	for (size_t x = 0; x < k->n_baselines; x++)
		if (str_eq(l->v[k->baselines[x]].branch, branch))
			return &l->v[k->baselines[x]];
	return NULL;
}

static bool
has_baseline(const void *arg, const char *branch)
{
	return find_baseline(arg, branch) != NULL;
}

/* As the findings of one image are delivered from a branch. */
struct delivered {
	const char *branch; /* NULL: nothing yet */
	bool is_known;
	char place[KEPT_KEY_SIZE], test[KEPT_KEY_SIZE];
};

static bool
is_delivered_as(const struct inspection *i, const struct image *m, struct delivered *d,
		const struct baseline *b)
{
	/* those of one branch stand together */
	if (!d->branch || !str_eq(d->branch, b->branch)) {
		d->branch = b->branch;
		d->is_known = report_place_on(i, m, b->branch, d->place, d->test);
	}
	return d->is_known && (str_eq(b->image, d->place) || str_eq(b->image, d->test));
}

/* The last inspection of a branch counts: this host's, or where another one was there since what DefectDojo has. */
static void
take_baseline(struct known_image *k, size_t index)
{
	const struct baselines *l = &k->known->baselines;

	for (size_t x = 0; x < k->n_baselines; x++) {
		size_t *at = &k->baselines[x];

		if (!str_eq(l->v[*at].branch, l->v[index].branch))
			continue;
		if (l->v[*at].is_outdated)
			*at = index;
		return;
	}
	k->baselines[k->n_baselines++] = index;
}

/* Another host has inspected the branch since, and DefectDojo tells nothing of this image. */
static void
drop_outdated(struct known_image *k)
{
	size_t n = 0;

	for (size_t x = 0; x < k->n_baselines; x++)
		if (!k->known->baselines.v[k->baselines[x]].is_outdated)
			k->baselines[n++] = k->baselines[x];
	k->n_baselines = n;
}

/* Those that are of this image: by its name where this host has made them, by where it is delivered where DefectDojo has them. */
static void
take_baselines(const struct inspection *i, const struct image *m, struct known_image *k)
{
	const struct baselines *l = &k->known->baselines;
	struct delivered d = { 0 };

	k->baselines = mem_array(l->n + 1, sizeof(*k->baselines));
	for (size_t x = 0; x < l->n; x++) {
		const struct baseline *b = &l->v[x];

		if (!(b->has_places ? str_eq(b->image, k->image) : is_delivered_as(i, m, &d, b)))
			continue;
		take_baseline(k, x);
		if (!b->has_places && k->own && str_eq(k->own, b->branch) && b->good_s > k->good_s)
			k->good_s = b->good_s;
	}
	drop_outdated(k);
}

static bool
is_known(const void *arg, const char *branch, const struct finding *f)
{
	const struct known_image *k = arg;
	const struct baseline *b = find_baseline(k, branch);
	char key[IDENTITY_KEY_SIZE];

	if (!b)
		return false;
	if (b->has_places)
		identity_key(k->project, k->image, k->query.report, f, key);
	else
		identity_key_anywhere(k->project, b->image, f, key);
	return baseline_has(b, k->own && str_eq(k->own, branch), key);
}

static bool
fix_since(const void *arg, const struct finding *f, int64_t *ret_s)
{
	const struct known_image *k = arg;

	*ret_s = k->fix_since_s[f - k->query.report->findings];
	return *ret_s > 0;
}

void
known_of_image(const struct known *k, const struct inspection *i, const struct image *m,
	       struct known_image *storage, struct policy_known *ret)
{
	*storage = (struct known_image){ .known = k,
					 .own = baseline_branch(i->job),
					 .branch = job_facts_branch_tag(i->job),
					 .image = identity_image(i, m),
					 .service = report_service(i, m),
					 .product = report_product(i, m),
					 .project = mem_strdup(i->job->project_path ? i->job->project_path
										    : "") };
	storage->fitted_branch = report_branch(i->job);
	storage->query = (struct triage_query){ .triage = k->triage,
						.branch = storage->branch,
						.fitted_branch = storage->fitted_branch,
						.report = m->report,
						.image = storage->image,
						.service = storage->service,
						.product = storage->product };
	*ret = (struct policy_known){ .arg = storage };
	if (!m->report)
		return;
	take_baselines(i, m, storage);
	ret->has_baseline = has_baseline;
	ret->is_known = is_known;
	if (k->fixes.since_s) {
		storage->fix_since_s = k->fixes.since_s[m - i->images];
		ret->fix_since = fix_since;
	}
	if (k->triage && storage->service && storage->product)
		ret->accepted = accepted;
}
