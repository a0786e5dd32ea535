/*
 * Stage report: what people and programs get to see of an inspection.
 *
 * Reads the judged inspection. Writes to the job log; into out_fd <report_name>.json (Trivy's report), <report_name>.html and, for
 * refs that defectdojo.refs names, delivery-<n> (stages/delivery.h) for each image whose scan was complete.
 */
#pragma once

#include "stages/delivery.h"
#include "stages/kept.h"
#include "stages/pipeline.h"

extern const struct stage stage_report;

/*
 * The delivery of one image. The findings are Trivy's own, members that DefectDojo trips over left out, and `Target` made the same
 * from tag to tag: "app:1.2 (debian 12.5)" is "<image> (debian 12)".
 */
int report_delivery(const struct inspection *i, const struct image *m, size_t index, struct delivery *ret,
		    struct err *e);

/* May it be sent? An empty report closes every finding there: only one that saw packages is a clean one. */
bool report_is_deliverable(const struct inspection *i, const struct image *m);

/* The service and the product that its findings have in DefectDojo. NULL where the template cannot be expanded. Owned by the caller. */
char *report_service(const struct inspection *i, const struct image *m);
char *report_product(const struct inspection *i, const struct image *m);
char *report_branch(const struct job_facts *job); /* branch_tag, as it is delivered; owned by the caller */
/* baseline_place() and baseline_delivered() of this image in jobs of a branch, whose names are not those of the job that is asked. False: there is none. */
bool report_place_on(const struct inspection *i, const struct image *m, const char *branch,
		     char out[static KEPT_KEY_SIZE], char delivered[static KEPT_KEY_SIZE]);
