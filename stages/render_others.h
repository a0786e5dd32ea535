/*
 * Secrets and misconfigurations that a rule looks at: which and where, never a secret itself. For the job log and the page alike.
 */
#pragma once

#include "stages/inspection.h"

/* Those that the image's rule judges, a line each, safe to print; of more than max the first, and how many more there are. */
void render_others(const struct image *m, size_t max, struct strv *lines);
/* What to do about secrets; NULL where none is judged. */
const char *render_others_advice(const struct image *m);
