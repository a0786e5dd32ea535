/*
 * What makes a finding the same finding: for the upload, for the gate, and for whatever else compares findings of two
 * inspections. Its parts: project; image, which is the repository without registry, port, tag and branch; kind and name of the
 * package; its version; the flaw's id; and for packages of a language the path. DefectDojo's own identity (a hash over title,
 * severity, description, service; shared/defectdojo) stays the same as long as this one does and Trivy's texts do not change.
 */
#pragma once

#include "stages/inspection.h"

/* "app" of "docker.io/library/app", "group/app" of "group/app/feature-1" on branch feature-1; owned by the caller. */
char *identity_repository(const char *repository, const struct job_facts *job);

/*
 * What an image is called: {image} in templates, so the service of its findings. Its repository; where several images of the
 * inspection share that, with what tells them apart behind it: the archive's name, the platform, and only then the tag. Owned by
 * the caller.
 */
char *identity_image(const struct inspection *i, const struct image *m);

/* "12.5" of debian is "12": a release without what changes with a point release. Owned by the caller. */
char *identity_os_release(const char *family, const char *name);

/*
 * What Trivy's database calls a release, by which its findings are looked up: "debian 12"; of the families whose name there is known
 * (https://github.com/aquasecurity/trivy-db, pkg/vulnsrc) and whose release is what is looked up by (Alpine's repositories are). NULL of others.
 * Owned by the caller.
 */
char *identity_db_release(const char *family, const char *name);
/* A release that is made up, or newer than the database, looks as clean as one without a flaw. `known`: trivy_db_list_releases(); empty: nobody asked. */
bool identity_is_release_unknown(const struct report *r, const struct strv *known);

/* The target of a result, the same from tag to tag: "app:1.2 (debian 12.5)" is "<image> (debian 12)". Owned by the caller. */
char *identity_target(const struct report *r, const char *target, const char *image);

/* Of a package of a language, not of the system's. */
bool identity_is_of_language(const struct finding *f);
/* What DefectDojo calls the place of a finding (file_path): the path of a package of a language, else the target. Owned. */
char *identity_place(const struct report *r, const struct finding *f, const char *image);

#define IDENTITY_KEY_SIZE 33 /* 32 hex digits and a NUL: 128 bits of a SHA-256 over all parts */
struct identity {
	const char *project, *image, *type, *package, *version, *id;
	const char *place; /* "" of packages of the system: they have no path, and their target names the image once more */
};
void identity_key_of(const struct identity *x, char out[IDENTITY_KEY_SIZE]);
/* Wherever it lies, for who is not told of all places: place is "". */
void identity_key_anywhere(const char *project, const char *image, const struct finding *f,
			   char out[IDENTITY_KEY_SIZE]);
void identity_key(const char *project, const char *image, const struct report *r, const struct finding *f,
		  char out[IDENTITY_KEY_SIZE]);
