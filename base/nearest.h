/* Which of the words that are allowed somebody meant, for messages about one that is not. */
#pragma once

#include <stddef.h>

struct nearest {
	const char *word;
	const char *best; /* of those tried */
	size_t distance;
};

#define NEAREST_INIT(text)                       \
	{                                        \
		.word = (text), .distance = ~0UL \
	}

void nearest_try(struct nearest *n, const char *candidate); /* which must outlive n */
/* The candidate that a slip of the fingers or two makes of it, letter case aside, or NULL: none is near. */
const char *nearest_best(const struct nearest *n);
