#include "stages/explain.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "stages/version_order.h"

#define STEP_NAME_MAX 60    /* code points */
#define STEP_READ_MAX 65536 /* bytes of the history's words that are looked at */
#define VERSION_SHOWN_MAX 60
#define PACKAGE_SHOWN_MAX 60

/* --- names of build steps ---------------------------------------------------------------------------------- */

static const char *
skip_blanks(const char *s)
{
	return s + strspn(s, " \t\r\n");
}

/* "|2 A=x B=y /bin/sh -c …" as Docker notes build arguments: what follows them. */
static const char *
skip_build_args(const char *s)
{
	unsigned n = 0;
	int used = 0;

	if (*s != '|' || sscanf(s, "|%4u %n", &n, &used) < 1 || used == 0)
		return s;
	s += used;
	/* Values may hold blanks, so the shell behind them is the mark. */
	for (const char *shell = s; n > 0 && *shell; shell++) {
		if (str_has_prefix(shell, "/bin/") && (shell == s || shell[-1] == ' '))
			return shell;
	}
	return n > 0 ? "" : s;
}

/* "/bin/sh -c ", "/bin/bash -eo pipefail -c ": what follows the shell, or NULL when there is none. */
static const char *
skip_shell(const char *s)
{
	static const char *const shells[] = { "/bin/sh ", "/bin/bash ", "/bin/ash ", "/usr/bin/bash " };

	for (size_t k = 0; k < MEM_COUNT(shells); k++) {
		const char *end;

		if (!str_has_prefix(s, shells[k]))
			continue;
		end = strstr(s, "c ");
		for (; end; end = strstr(end + 1, "c ")) {
			/* an option that ends in c: "-c", "-ec", "-xeuc" */
			const char *word = end;

			while (word > s && word[-1] != ' ')
				word--;
			if (*word == '-')
				return skip_blanks(end + 2);
		}
	}
	return NULL;
}

static char *
clean_words(const char *prefix, const char *s)
{
	AUTO_BUF struct buf out = BUF_INIT(STEP_READ_MAX + 16);
	bool is_blank = false;
	char *hash;

	buf_add_str(&out, prefix);
	for (; *s; s++) {
		if (isspace((unsigned char)*s)) {
			is_blank = true;
			continue;
		}
		if (is_blank)
			buf_add_char(&out, ' ');
		is_blank = false;
		buf_add_char(&out, *s);
	}
	AUTO_FREE char *text = mem_strdup(buf_str(&out));
	hash = strstr(text, " # buildkit");
	if (hash && hash[strlen(" # buildkit")] == '\0')
		*hash = '\0';
	return str_safe(text, STEP_NAME_MAX);
}

char *
explain_step_name(const char *created_by)
{
	AUTO_FREE char *owned = mem_strndup(created_by, strnlen(created_by, STEP_READ_MAX));
	const char *s = skip_blanks(owned);
	bool is_run = false;
	const char *command;

	if (str_has_prefix(s, "RUN ")) {
		is_run = true;
		s = skip_blanks(s + 4);
	}
	s = skip_build_args(s);
	command = skip_shell(s);
	if (command && str_has_prefix(command, "#(nop)"))
		return clean_words("", skip_blanks(command + 6));
	if (command)
		return clean_words("RUN ", command);
	return clean_words(is_run ? "RUN " : "", s);
}

size_t
explain_find_layer(const struct image *m, const char *diff_id)
{
	for (size_t k = 0; k < m->n_layers; k++) {
		if (*diff_id && str_eq(m->layers[k].scanned_digest, diff_id))
			return k;
	}
	return m->n_layers;
}

/* A layer without history, as of docker import, is no step that anybody could run again. */
static bool
has_step_name(const struct image *m, size_t layer)
{
	AUTO_FREE char *name = NULL;

	if (layer < m->base_layers)
		return true;
	if (!str_is_empty(m->layers[layer].created_by))
		name = explain_step_name(m->layers[layer].created_by);
	return !str_is_empty(name);
}

char *
explain_layer_name(const struct image *m, size_t layer)
{
	AUTO_FREE char *name = NULL;

	if (layer >= m->n_layers)
		return mem_strdup("a build step that is not known");
	if (layer < m->base_layers)
		return mem_strdup("the base image");
	if (!str_is_empty(m->layers[layer].created_by))
		name = explain_step_name(m->layers[layer].created_by);
	if (str_is_empty(name))
		return mem_printf("layer %zu of %zu", layer + 1, m->n_layers);
	return take_ptr(name);
}

/* --- versions ------------------------------------------------------------------------------------------------ */

/* Of "1.2.6, 0.2.4" the lowest that is above what is installed. */
static char *
nearest_fix(const struct finding *f)
{
	enum version_order order = version_order_of(f->type);
	AUTO_FREE char *list = mem_strdup(f->fixed);
	const char *best = NULL, *last = "";
	char *save = NULL;

	for (char *v = strtok_r(list, ", ", &save); v; v = strtok_r(NULL, ", ", &save)) {
		last = v;
		if (version_compare(order, v, f->installed) > 0 &&
		    (!best || version_compare(order, v, best) < 0))
			best = v;
	}
	return mem_strdup(best ? best : last);
}

/* --- order and groups ------------------------------------------------------------------------------------------ */

static int
compare_findings(const void *pa, const void *pb, void *arg)
{
	const struct report *r = arg;
	size_t ia = *(const size_t *)pa, ib = *(const size_t *)pb;
	const struct finding *a = &r->findings[ia], *b = &r->findings[ib];
	int diff;

	if (a->severity != b->severity)
		return a->severity > b->severity ? -1 : 1;
	if (!*a->fixed != !*b->fixed)
		return *a->fixed ? -1 : 1;
	diff = strcmp(a->package, b->package);
	if (diff == 0)
		diff = strcmp(a->id, b->id);
	if (diff != 0)
		return diff;
	return ia < ib ? -1 : ia > ib;
}

size_t *
explain_sorted(const struct image *m, bool only_blocking, size_t *ret_n)
{
	const struct report *r = m->report;
	size_t *order = mem_array(r->n_findings + 1, sizeof(*order));
	size_t n = 0;

	for (size_t k = 0; k < r->n_findings; k++) {
		if (!only_blocking || (m->is_blocking && m->is_blocking[k]))
			order[n++] = k;
	}
	qsort_r(order, n, sizeof(*order), compare_findings, (void *)r);
	*ret_n = n;
	return order;
}

/* All layers of the base image are one step; layers with no step of their own, each its own. */
static size_t
step_key(const struct image *m, const struct finding *f)
{
	size_t layer = explain_find_layer(m, f->diff_id);

	return layer < m->base_layers ? 0 : layer;
}

static void
group_by_step(const struct image *m, const size_t *order, size_t n, struct explanation *x)
{
	/* Slot per layer and one for the unknown; empty ones are left out. */
	size_t n_keys = m->n_layers + 1;
	AUTO_FREE size_t *counts = mem_array(n_keys, sizeof(*counts));
	AUTO_FREE size_t *step_of = mem_array(n_keys, sizeof(*step_of));
	AUTO_FREE size_t *keys = mem_array(n + 1, sizeof(*keys));

	for (size_t k = 0; k < n; k++) {
		keys[k] = step_key(m, &m->report->findings[order[k]]);
		counts[keys[k]]++;
	}
	x->steps = mem_array(n_keys, sizeof(*x->steps));
	for (size_t key = 0; key < n_keys; key++) {
		struct explain_step *s = &x->steps[x->n_steps];

		if (counts[key] == 0)
			continue;
		step_of[key] = x->n_steps++;
		s->name = explain_layer_name(m, key);
		s->is_base = key < m->base_layers;
		s->is_known = key < m->n_layers && has_step_name(m, key);
		s->findings = mem_array(counts[key], sizeof(*s->findings));
	}
	for (size_t k = 0; k < n; k++) {
		struct explain_step *s = &x->steps[step_of[keys[k]]];

		s->findings[s->n_findings++] = order[k];
	}
}

/* --- what would fix the most ------------------------------------------------------------------------------------- */

/* A change that somebody can make. */
struct change {
	size_t step;		       /* index in the explanation's steps, NO_STEP: a package is raised */
	const struct finding *package; /* one finding of it */
};

#define NO_STEP SIZE_MAX

static bool
is_same_package(const struct finding *a, const struct finding *b)
{
	return str_eq(a->package, b->package) && str_eq(a->type, b->type);
}

static bool
is_of_system(const struct finding *f)
{
	return str_eq(f->class, "os-pkgs");
}

/* A new base image may fix all that came with it; a step that runs again takes the system's new packages. */
static bool
is_fixed_by_step(const struct explain_step *s, const struct finding *f)
{
	return *f->fixed && (s->is_base || is_of_system(f));
}

/* Findings that are not fixed yet (is_left) and would be. Those that are, are marked when `marks`. */
static size_t
apply_change(const struct image *m, const struct explanation *x, const struct change *c, bool *is_left,
	     bool marks)
{
	size_t n = 0;

	for (size_t k = 0; k < x->n_steps; k++) {
		const struct explain_step *s = &x->steps[k];

		if (c->step != NO_STEP && c->step != k)
			continue;
		for (size_t j = 0; j < s->n_findings; j++) {
			const struct finding *f = &m->report->findings[s->findings[j]];
			bool is_fixed = c->step == NO_STEP ? *f->fixed && is_same_package(f, c->package)
							   : is_fixed_by_step(s, f);

			if (!is_fixed || !is_left[s->findings[j]])
				continue;
			n++;
			is_left[s->findings[j]] = !marks;
		}
	}
	return n;
}

static int
compare_packages(const void *pa, const void *pb, void *arg)
{
	const struct report *r = arg;
	const struct finding *a = &r->findings[*(const size_t *)pa], *b = &r->findings[*(const size_t *)pb];
	int diff = strcmp(a->package, b->package);

	return diff ? diff : strcmp(a->type, b->type);
}

/* The package that has most of what is left; NULL when none has. Packages of the system come together, with a step. */
static const struct finding *
worst_package(const struct image *m, const size_t *order, size_t n, const bool *is_left, size_t *ret_n)
{
	AUTO_FREE size_t *by_package = mem_array(n + 1, sizeof(*by_package));
	const struct finding *all = m->report->findings;
	const struct finding *worst = NULL;
	size_t n_fixable = 0;

	*ret_n = 0;
	for (size_t k = 0; k < n; k++) {
		if (is_left[order[k]] && *all[order[k]].fixed && !is_of_system(&all[order[k]]))
			by_package[n_fixable++] = order[k];
	}
	qsort_r(by_package, n_fixable, sizeof(*by_package), compare_packages, (void *)m->report);
	for (size_t start = 0, end; start < n_fixable; start = end) {
		const struct finding *first = &all[by_package[start]];

		for (end = start + 1; end < n_fixable && is_same_package(first, &all[by_package[end]]);)
			end++;
		if (end - start > *ret_n) {
			*ret_n = end - start;
			worst = first;
		}
	}
	return worst;
}

/* The highest of the versions that its findings need. */
static char *
name_raise(const struct image *m, const size_t *order, size_t n, const struct finding *package)
{
	AUTO_FREE char *version = NULL;
	AUTO_FREE char *name = str_safe(package->package, PACKAGE_SHOWN_MAX);
	AUTO_FREE char *shown = NULL;

	for (size_t k = 0; k < n; k++) {
		const struct finding *f = &m->report->findings[order[k]];
		AUTO_FREE char *other = NULL;

		if (!*f->fixed || !is_same_package(f, package))
			continue;
		other = nearest_fix(f);
		if (!version || version_compare(version_order_of(f->type), other, version) > 0) {
			mem_free_at(&version);
			version = take_ptr(other);
		}
	}
	shown = str_safe(version ? version : "", VERSION_SHOWN_MAX);
	return mem_printf("raise %s to %s", name, shown);
}

static char *
name_step(const struct explain_step *s)
{
	if (s->is_base)
		return mem_strdup("build on a newer base image");
	if (s->is_known)
		return mem_printf("run `%s` again, without the build cache", s->name);
	return mem_strdup("upgrade the packages of the system");
}

/* The change that fixes most of what is left; who is more exact wins a tie: a package, a step, the base image. */
static size_t
best_change(const struct image *m, const struct explanation *x, const size_t *order, size_t n, bool *is_left,
	    struct change *ret)
{
	size_t n_best;

	*ret = (struct change){ .step = NO_STEP };
	ret->package = worst_package(m, order, n, is_left, &n_best);
	for (int base = 0; base < 2; base++) {
		for (size_t k = 0; k < x->n_steps; k++) {
			struct change c = { .step = k };
			size_t n_fixed;

			if (x->steps[k].is_base != (base == 1))
				continue;
			n_fixed = apply_change(m, x, &c, is_left, false);
			if (n_fixed > n_best) {
				n_best = n_fixed;
				*ret = c;
			}
		}
	}
	return n_best;
}

static void
add_changes(const struct image *m, const size_t *order, size_t n, struct explanation *x)
{
	AUTO_FREE bool *is_left = mem_array(m->report->n_findings + 1, sizeof(*is_left));
	struct change c;

	for (size_t k = 0; k < n; k++)
		is_left[order[k]] = true;
	while (x->n_changes < EXPLAIN_CHANGES_MAX && best_change(m, x, order, n, is_left, &c) > 0) {
		struct explain_change *to = &x->changes[x->n_changes++];

		to->n_fixed = apply_change(m, x, &c, is_left, true);
		to->text =
			c.step == NO_STEP ? name_raise(m, order, n, c.package) : name_step(&x->steps[c.step]);
	}
}

void
explain_image(const struct image *m, struct explanation *ret)
{
	AUTO_FREE size_t *order = NULL;
	struct explanation x = { 0 };
	size_t n;

	order = explain_sorted(m, true, &n);
	group_by_step(m, order, n, &x);
	x.n_blocking = n;
	for (size_t k = 0; k < n; k++)
		x.n_fixable += *m->report->findings[order[k]].fixed != '\0';
	add_changes(m, order, n, &x);
	*ret = x;
}

void
explain_free(struct explanation *x)
{
	for (size_t k = 0; k < x->n_steps; k++) {
		mem_free_at(&x->steps[k].name);
		mem_free_at(&x->steps[k].findings);
	}
	mem_free_at(&x->steps);
	for (size_t k = 0; k < x->n_changes; k++)
		mem_free_at(&x->changes[k].text);
	*x = (struct explanation){ 0 };
}
