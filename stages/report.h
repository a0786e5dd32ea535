/*
 * Trivy's JSON report, schema 2, as a struct. https://trivy.dev/docs/latest/configuration/reporting/#json
 * Parsed strictly: size, depth, types; anything but schema 2 is refused and named. What was not
 * understood is an error, never "no findings". A member that is null counts as absent.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/mem.h"
#include "stages/options.h"

struct finding {
	const char *id; /* CVE-…; strings are owned by the report's JSON, "" when absent */
	const char *package;
	const char *path; /* PkgPath of language packages */
	const char *installed;
	const char *fixed;  /* FixedVersion, "" when there is no fix */
	const char *status; /* affected, fixed, will_not_fix, end_of_life … */
	enum severity severity;
	const char *title;
	const char *description;
	const char *url;     /* PrimaryURL */
	const char *target;  /* of its result */
	const char *type;    /* debian, npm … */
	const char *class;   /* os-pkgs, lang-pkgs … */
	const char *diff_id; /* of the layer that brought it in */
	const char *purl;
	int64_t published_s; /* PublishedDate, since the epoch; 0 not known */
	size_t result;	     /* index in Results */
};

struct report {
	cJSON *json;		  /* the whole report */
	struct finding *findings; /* in the report's order */
	size_t n_findings;
	size_t n_results;
	size_t n_packages; /* of results with Packages; 0 can also mean that Trivy was not asked to list them */
	size_t n_system_packages; /* of them those of the operating system */
	size_t n_secrets, n_misconfigurations;
	size_t n_misconfigurations_of[SEVERITY_COUNT]; /* of Status FAIL; one without a severity that is known is UNKNOWN */
	size_t n_fixable;
	size_t n_of_severity[SEVERITY_COUNT];
	const char *os_family, *os_name; /* "" when Trivy saw no OS */
	bool is_os_eol;
	bool is_release_unknown; /* set by stage scan: the database has nothing of it, so that nothing of the system can be found */
	const char *artifact_name;
	const char *image_id;
	const char *architecture;  /* as the image's config has it; "" where it is not said */
	const char *trivy_version; /* Trivy.Version, "" in reports of old releases */
};

#define REPORT_SCHEMA 2

/* ERR_REFUSED: not a report of this schema; ERR_NO_SPACE: larger than max bytes. */
int report_parse(const char *text, size_t len, size_t max, struct report **ret, struct err *e);
void report_free(struct report *r);
/* None at all, or an operating system without any of its own: nothing can be said of what is not there, which the image itself may have seen to. */
bool report_lacks_packages(const struct report *r);
MEM_AUTO_DECLARE(report)

/*
 * Calls the artifact `name`: ArtifactName, and the targets that begin with what it was called before, which is a path of
 * ours. `tags` (may be empty) become Metadata.RepoTags, which Trivy leaves out for a layout directory.
 */
void report_rename(struct report *r, const char *name, const struct strv *tags);
