#include "base/nearest.h"

#include <ctype.h>
#include <string.h>

#define WORD_MAX 40 /* bytes; longer ones are near to nothing */

static size_t
min3(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* Levenshtein's: letters added, left out or changed; case does not count, - is _. */
static size_t
distance(const char *a, const char *b)
{
	size_t n = strlen(b), row[WORD_MAX + 1];

	for (size_t k = 0; k <= n; k++)
		row[k] = k;
	for (size_t i = 1; a[i - 1]; i++) {
		int x = a[i - 1] == '-' ? '_' : tolower((unsigned char)a[i - 1]);
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t k = 1; k <= n; k++) {
			int y = b[k - 1] == '-' ? '_' : tolower((unsigned char)b[k - 1]);
			size_t above = row[k];

			row[k] = min3(above + 1, row[k - 1] + 1, diagonal + (x != y));
			diagonal = above;
		}
	}
	return row[n];
}

void
nearest_try(struct nearest *n, const char *candidate)
{
	size_t d;

	if (strlen(n->word) > WORD_MAX || strlen(candidate) > WORD_MAX)
		return;
	d = distance(n->word, candidate);
	if (d >= n->distance)
		return;
	n->distance = d;
	n->best = candidate;
}

const char *
nearest_best(const struct nearest *n)
{
	/* A third of a word that is wrong makes it another word. */
	return n->best && n->distance <= (strlen(n->word) + 2) / 3 && n->distance < strlen(n->best) ? n->best
												    : NULL;
}
