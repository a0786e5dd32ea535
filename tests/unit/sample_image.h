/* An inspection of one image, put together by hand, for tests of what comes after the scan. */
#pragma once

#include "stages/inspection.h"

struct sample {
	struct options opt;
	struct job_facts job;
	struct log log; /* to standard output, without colours */
	struct inspection i;
};

/* A matching job in the mode enforce, without images. */
void sample_init(struct sample *s);
void sample_free(struct sample *s);

/*
 * Adds group/app:1.0 of tar_images/app.tar: two layers of a base image, then `RUN npm ci`, then `RUN apt-get install`. Its report is
 * the text, where "L0" … "L3" as DiffID name the layers; NULL: no report.
 */
struct image *sample_add_image(struct sample *s, const char *report);

/* One result of system packages and one of npm packages: 3 CRITICAL (one without a fix), 1 HIGH, 1 LOW. */
extern const char sample_report[];
