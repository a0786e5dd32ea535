/*
 * What the injected pipeline can be told, per project: the sections inject,
 * images, trivy, gate, policy, report and defectdojo of the settings. The tables in
 * options.c hold keys, defaults, ranges and help; tidewaiter.yml.example is
 * printed from them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/str.h"

enum severity { SEVERITY_UNKNOWN, SEVERITY_LOW, SEVERITY_MEDIUM, SEVERITY_HIGH, SEVERITY_CRITICAL };
#define SEVERITY_COUNT 5
/* "UNKNOWN" … "CRITICAL", NULL at the end; Trivy's words */
extern const char *const severity_words[];
enum severity severity_of_word(const char *word); /* SEVERITY_UNKNOWN of any other, and of NULL */

enum gate_mode { GATE_OFF, GATE_AUDIT, GATE_WARN, GATE_ENFORCE };
extern const char *const gate_mode_words[]; /* "off", "audit", "warn", "enforce" */

enum reaction { REACT_PASS, REACT_WARN, REACT_FAIL };
extern const char *const reaction_words[]; /* "pass", "warn", "fail" */

enum on_error { ON_ERROR_FAIL, ON_ERROR_WARN };

enum tristate { TRI_UNSET, TRI_TRUE, TRI_FALSE };

struct options_inject {
	struct strv jobs;   /* globs on the job's name */
	struct strv stages; /* globs on the job's stage */
	int on_no_image;    /* enum reaction */
};

struct options_images {
	struct strv archives;	 /* globs below the project directory */
	bool declared_artifacts; /* the job's own artifacts:paths: too */
	struct strv platforms;	 /* of an archive that has several: "all", "linux", "linux/amd64", … */
	int64_t max_size;	 /* bytes of one archive, and of all its layers unpacked */
	int64_t max_layers;	 /* per image */
	int64_t max_entries;	 /* tar entries in one archive, layers' own entries not counted */
	int64_t max_images;	 /* archives inspected per job */
	int64_t max_layer_size;	 /* bytes of one layer, unpacked */
	int64_t max_name;	 /* bytes of a name or link of an entry in an archive */
	int64_t max_pax;	 /* bytes of one extended header */
	int64_t max_json;	 /* bytes of a manifest, an index or a config */
	int64_t max_json_depth;
	int64_t max_index_depth;    /* indexes within index.json */
	int64_t max_manifests;	    /* that indexes name, in all of one archive */
	int64_t max_link_chain;	    /* links one behind the other */
	int64_t max_ratio;	    /* unpacked : packed, for compressed archives and layers */
	int64_t max_window;	    /* bytes that a decoder may keep at once */
	int64_t store_max;	    /* bytes of layers kept for the next inspections, 0: none */
	bool early;		    /* layers go into the store while the job still runs */
	int64_t threads;	    /* 0: as many as CPUs we may use */
	int on_hidden_packages;	    /* enum reaction */
	bool from_engine;	    /* images that a container engine has since the job began, too */
	struct strv engine_sockets; /* paths of engines' sockets */
	struct strv engine_names;   /* globs on names of images in engines */
	int64_t engine_timeout;	    /* ms an engine may take to give one image */
	bool withhold;		    /* enforce: blocked or uninspected archives leave the project directory */
};

struct options_trivy {
	char *path;
	char *sha256; /* lower-case hex, empty: not checked */
	char *db_dir; /* never empty after settings_load(): a directory, or the link that `tidewaiter db` keeps */
	char *java_db_dir;  /* the same; empty or not there: Java archives are not looked up */
	int64_t db_max_age; /* ms */
	struct strv db_repositories, java_db_repositories; /* of OCI registries, in order; none: not updated */
	char *db_credentials_file;			   /* as Docker's config.json; empty: none */
	char *db_ca_file;				   /* empty: the system's */
	char *db_proxy;					   /* URL; empty: none */
	int64_t db_timeout;				   /* ms, of one download */
	struct strv scanners;				   /* vuln, secret, misconfig, license */
	int64_t timeout;				   /* ms, per image */
	int64_t memory_max;				   /* bytes, per Trivy process */
	int64_t parallel;    /* inspections, and Trivy processes, at once on this host */
	int64_t results_max; /* bytes of results kept on this host, 0: none */
	char *results_redis; /* URL, empty: results are not shared */
	char *results_key_file, *results_auth_file, *results_ca_file;
	int64_t results_ttl; /* ms */
	char *server;	     /* URL of a Trivy server, empty: Trivy has its own database */
	char *server_token_file, *server_ca_file;
	int64_t report_max; /* bytes of one report */
};

struct options_gate {
	int mode;     /* enum gate_mode */
	int severity; /* enum severity: this and worse block */
	bool fixable_only;
	int on_no_packages, on_unknown_os, on_eol_os; /* enum reaction */
	int on_error;				      /* enum on_error */
};

/* Where the policy comes from (policy.h): a file, or a file in a Git repository (policy_git.h); neither: the section gate. */
struct options_policy {
	char *file; /* on this host; empty: none */
	char *url;  /* of the repository; empty: none */
	char *ref;  /* branch, tag, full name of a reference, or commit */
	char *path; /* in the repository */
	char *credentials_file, *ssh_key_file, *known_hosts_file, *ca_file;
	char *proxy;	       /* URL; empty: none, whatever the environment says */
	int64_t fetch_every;   /* ms */
	int64_t fetch_timeout; /* ms, of one fetch */
	int64_t fetch_max;     /* bytes of one fetch */
	int64_t max_age;       /* ms; what was not confirmed for longer judges no more */
};

struct options_report {
	char *dir; /* below the project directory */
	int64_t rows_max;
	bool artifact;
	bool codequality; /* GitLab's Code Quality report, too */
	char *expire_in;  /* GitLab's words, "1 month" */
};

struct options_defectdojo {
	char *url; /* empty: reports wait in the spool */
	char *token_file;
	char *ca_file;
	char *proxy; /* URL; empty: none, whatever the environment says */
	char *client_cert_file, *client_key_file;
	char *product_type, *product, *engagement, *test, *service, *environment; /* templates */
	struct strv tags;
	struct strv refs;	 /* globs on branch or tag */
	int active, verified;	 /* enum tristate */
	int minimum_severity;	 /* 0 unset, else enum severity of Info…Critical, see options.c */
	int64_t wait;		 /* ms a job waits for delivery at most */
	int64_t timeout;	 /* ms one upload may take before its fate is asked for */
	int64_t spool_count_max; /* deliveries in the spool, dead ones too */
	int64_t spool_size_max;	 /* bytes of them */
	int64_t spool_age_max;	 /* ms; what waits for longer is given up, 0: never */
	bool triage;		 /* what was triaged there is excused */
	int64_t triage_max_age;	 /* ms; older triage excuses nothing */
	bool keep_text;		 /* findings are sent with the texts they were first sent with */
	char *redis; /* URL of what the hosts of a fleet share of deliveries (fleet.h); empty: trivy.results_redis and its files */
	char *redis_key_file, *redis_auth_file, *redis_ca_file;
	bool supersede; /* a newer report of a test replaces one that was never sent */
};

struct options {
	struct options_inject inject;
	struct options_images images;
	struct options_trivy trivy;
	struct options_gate gate;
	struct options_policy policy;
	struct options_report report;
	struct options_defectdojo defectdojo;
};

#define OPTIONS_SECTION_COUNT 7
/* Offsets are within struct options; executor/settings.c embeds the sections in its own schema. */
extern const struct conf_section options_sections[OPTIONS_SECTION_COUNT];
extern const struct conf_schema options_schema;

void options_free(struct options *o); /* what it owns */
