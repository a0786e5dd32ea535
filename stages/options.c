#include "stages/options.h"

#include <stddef.h>

#include "base/mem.h"
#include "stages/option_rules.h"

#define GIB (INT64_C(1) << 30)
#define MIB (INT64_C(1) << 20)
#define KIB (INT64_C(1) << 10)
#define SECOND INT64_C(1000)
#define HOUR (3600 * SECOND)

const char *const severity_words[] = { "UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL", NULL };
const char *const gate_mode_words[] = { "off", "audit", "warn", "enforce", NULL };
const char *const reaction_words[] = { "pass", "warn", "fail", NULL };
static const char *const tristate_words[] = { "unset", "true", "false", NULL };
static const char *const on_error_words[] = { "fail", "warn", NULL };
static const char *const scanner_words[] = { "vuln", "secret", "misconfig", "license", NULL };
/* DefectDojo's words; UNKNOWN is Info there */
static const char *const minimum_severity_words[] = { "unset", "Info",	   "Low", "Medium",
						      "High",  "Critical", NULL };

enum severity
severity_of_word(const char *word)
{
	for (int k = 0; k < SEVERITY_COUNT; k++)
		if (str_eq(severity_words[k], word))
			return (enum severity)k;
	return SEVERITY_UNKNOWN;
}

#define AT(member) offsetof(struct options_inject, member)
static const struct conf_field inject_fields[] = {
	{ "jobs", CONF_LIST, AT(jobs), "[\"*docker_build*\"]",
	  .help = "Globs on the job's name: which jobs are inspected", .rule = &conf_rule_glob },
	{ "stages", CONF_LIST, AT(stages), "[\"*\"]", .help = "Globs on the job's stage",
	  .rule = &conf_rule_glob },
	{ "on_no_image", CONF_ENUM, AT(on_no_image), "warn", .choices = reaction_words,
	  .help = "When a matching job left no image" },
};
#undef AT

#define AT(member) offsetof(struct options_images, member)
static const struct conf_field images_fields[] = {
	{ "archives", CONF_LIST, AT(archives),
	  "[\"tar_images/*\", \"*.tar\", \"*.tar.gz\", \"*/*.tar\", \"*/*.tar.gz\"]",
	  .help = "Globs below the project directory: where image archives are looked for",
	  .rule = &rule_archive_glob },
	{ "declared_artifacts", CONF_BOOL, AT(declared_artifacts), "true",
	  .help = "Look at what the job's own artifacts: paths: name, too" },
	{ "platforms", CONF_LIST, AT(platforms), "[\"linux\"]",
	  .help = "Which images of an archive that holds several: all, linux, linux/amd64, linux/arm64/v8 and so on; "
		  "what docker load takes and what says no platform is always looked at",
	  .rule = &rule_platform },
	{ "max_size", CONF_SIZE, AT(max_size), "20GiB", .min = MIB, .max = 1024 * GIB,
	  .help = "Largest archive, and largest image unpacked" },
	{ "max_layers", CONF_INT, AT(max_layers), "512", .min = 1, .max = 4096, .help = "Layers of one image" },
	{ "max_entries", CONF_INT, AT(max_entries), "8192", .min = 16, .max = 1000000,
	  .help = "Entries of one archive, what lies in its layers not counted" },
	{ "max_images", CONF_INT, AT(max_images), "64", .min = 1, .max = 4096, .help = "Archives of one job" },
	{ "max_layer_size", CONF_SIZE, AT(max_layer_size), "20GiB", .min = MIB, .max = 1024 * GIB,
	  .help = "Largest layer unpacked" },
	{ "max_name", CONF_SIZE, AT(max_name), "4KiB", .min = 100, .max = 64 * KIB,
	  .help = "Longest name or link of an entry of an archive" },
	{ "max_pax", CONF_SIZE, AT(max_pax), "1MiB", .min = KIB, .max = 16 * MIB,
	  .help = "Largest extended header (PAX, GNU) of an entry of an archive" },
	{ "max_json", CONF_SIZE, AT(max_json), "2MiB", .min = KIB, .max = 64 * MIB,
	  .help = "Largest manifest, index or config" },
	{ "max_json_depth", CONF_INT, AT(max_json_depth), "64", .min = 8, .max = 1000,
	  .help = "Lists and objects within each other in them" },
	{ "max_index_depth", CONF_INT, AT(max_index_depth), "4", .min = 0, .max = 32,
	  .help = "OCI indexes within index.json, one within the other" },
	{ "max_manifests", CONF_INT, AT(max_manifests), "256", .min = 1, .max = 10000,
	  .help = "Manifests that an archive's indexes name, in all" },
	{ "max_link_chain", CONF_INT, AT(max_link_chain), "8", .min = 0, .max = 40,
	  .help = "Links one behind the other to a layer or config in an archive" },
	{ "max_ratio", CONF_INT, AT(max_ratio), "1000", .min = 10, .max = 100000,
	  .help = "Unpacked bytes for one packed byte" },
	{ "max_window", CONF_SIZE, AT(max_window), "128MiB", .min = MIB, .max = 4 * GIB,
	  .help = "Window or dictionary that a zstd or xz stream may ask for; memory per thread" },
	{ "threads", CONF_INT, AT(threads), "0", .min = 0, .max = 256,
	  .help = "Threads that unpack and verify; 0: one per CPU" },
	{ "on_hidden_packages", CONF_ENUM, AT(on_hidden_packages), "fail", .choices = reaction_words,
	  .help = "A package list that engines load and Trivy does not see, such as one behind a link" },
	{ "store_max", CONF_SIZE, AT(store_max), "20GiB", .min = 0, .max = 1024 * GIB,
	  .help = "Verified layers kept in cache_dir for the next images; 0: none", .flags = CONF_NO_OVERRIDE },
	{ "early", CONF_BOOL, AT(early), "false",
	  .help = "Unpack and verify archives while the job still runs, at idle priority, so that the store has their layers when it ends" },
	{ "from_engine", CONF_BOOL, AT(from_engine), "false",
	  .help = "Look at images, too, that a container engine has and did not have before the job" },
	{ "engine_sockets", CONF_LIST, AT(engine_sockets),
	  "[\"/run/docker.sock\", \"/run/podman/podman.sock\"]",
	  .help = "Sockets of the engines that jobs may use; one that is not there is passed over",
	  .rule = &rule_socket, .flags = CONF_NO_OVERRIDE },
	{ "engine_names", CONF_LIST, AT(engine_names), "[\"**\"]",
	  .help = "Globs on names of images in engines, such as \"registry.example.com/**\": which are looked at",
	  .rule = &conf_rule_glob },
	{ "engine_timeout", CONF_DURATION, AT(engine_timeout), "10m", .min = 1000,
	  .max = 24 * 3600 * INT64_C(1000), .help = "How long an engine may take to give one image" },
	{ "withhold", CONF_BOOL, AT(withhold), "true",
	  .help = "In enforce mode, keep blocked and never inspected archives out of caches and artifacts" },
};
#undef AT

#define AT(member) offsetof(struct options_trivy, member)
static const struct conf_field trivy_fields[] = {
	{ "path", CONF_PATH, AT(path), "/usr/bin/trivy", .help = "The scanner, https://trivy.dev" },
	{ "sha256", CONF_STRING, AT(sha256), "",
	  .help = "SHA-256 of that file, 64 hexadecimal digits; empty: not checked", .rule = &rule_sha256 },
	{ "db_dir", CONF_PATH, AT(db_dir), "",
	  .help = "Holds trivy.db and metadata.json; empty: <cache_dir>/db/current, which `tidewaiter db` keeps" },
	{ "java_db_dir", CONF_PATH, AT(java_db_dir), "",
	  .help = "The same for Java (trivy-java.db); empty: <cache_dir>/java-db/current; none there: such images are undecided" },
	{ "db_max_age", CONF_DURATION, AT(db_max_age), "48h", .min = 60 * SECOND, .max = 24 * 365 * HOUR,
	  .help = "Older databases (UpdatedAt of metadata.json) leave the verdict undecided" },
	{ "db_repositories", CONF_LIST, AT(db_repositories),
	  "[\"mirror.gcr.io/aquasec/trivy-db:2\", \"ghcr.io/aquasecurity/trivy-db:2\"]",
	  .help = "Where `tidewaiter db update` gets the database, one after the other until one answers; []: nowhere",
	  .rule = &rule_repository, .flags = CONF_NO_OVERRIDE },
	{ "java_db_repositories", CONF_LIST, AT(java_db_repositories),
	  "[\"mirror.gcr.io/aquasec/trivy-java-db:1\", \"ghcr.io/aquasecurity/trivy-java-db:1\"]",
	  .help = "The same for the Java index, which is large; []: hosts without Java images need none",
	  .rule = &rule_repository, .flags = CONF_NO_OVERRIDE },
	{ "db_credentials_file", CONF_PATH, AT(db_credentials_file), "",
	  .help = "Registry credentials for that, a config.json as `docker login` writes it; the courier user's to read",
	  .flags = CONF_SECRET_FILE | CONF_NO_OVERRIDE },
	{ "db_ca_file", CONF_PATH, AT(db_ca_file), "",
	  .help = "CA certificates in PEM for that; empty: the system's", .flags = CONF_NO_OVERRIDE },
	{ "db_proxy", CONF_STRING, AT(db_proxy), "",
	  .help = "URL of a proxy for that; empty: none, whatever the environment says",
	  .rule = &rule_proxy_url, .flags = CONF_NO_OVERRIDE },
	{ "db_timeout", CONF_DURATION, AT(db_timeout), "30m", .min = SECOND, .max = 24 * HOUR,
	  .help = "Wall-clock limit of one download", .flags = CONF_NO_OVERRIDE },
	{ "scanners", CONF_LIST, AT(scanners), "[\"vuln\"]", .choices = scanner_words, .needs = "vuln",
	  .help = "What Trivy looks for; vuln has to be in it" },
	{ "timeout", CONF_DURATION, AT(timeout), "15m", .min = SECOND, .max = 24 * HOUR,
	  .help = "Wall-clock limit of one scan" },
	{ "memory_max", CONF_SIZE, AT(memory_max), "4GiB", .min = 128 * MIB, .max = 1024 * GIB,
	  .help = "Memory limit of one Trivy process" },
	{ "parallel", CONF_INT, AT(parallel), "2", .min = 1, .max = 256,
	  .help = "Inspections at once on this host; the others wait in order", .flags = CONF_NO_OVERRIDE },
	{ "results_max", CONF_SIZE, AT(results_max), "1GiB", .min = 0, .max = 1024 * GIB,
	  .help = "Results kept on this host, so that the same image needs no scan; 0: none",
	  .flags = CONF_NO_OVERRIDE },
	{ "results_redis", CONF_STRING, AT(results_redis), "", .rule = &rule_redis_url,
	  .flags = CONF_NO_OVERRIDE,
	  .help = "redis:// or rediss://host[:port][/database] where hosts share results; empty: they do not" },
	{ "results_key_file", CONF_PATH, AT(results_key_file), "", .flags = CONF_SECRET_FILE | CONF_NO_OVERRIDE,
	  .help = "File with the key, 32 characters or more, by which hosts know each other's results in the Redis" },
	{ "results_auth_file", CONF_PATH, AT(results_auth_file), "",
	  .flags = CONF_SECRET_FILE | CONF_NO_OVERRIDE,
	  .help = "File with password or user:password of the Redis; empty: none" },
	{ "results_ca_file", CONF_PATH, AT(results_ca_file), "", .flags = CONF_NO_OVERRIDE,
	  .help = "CA certificates in PEM for rediss://; empty: the system's" },
	{ "results_ttl", CONF_DURATION, AT(results_ttl), "7d", .min = 60 * SECOND, .max = 24 * 365 * HOUR,
	  .flags = CONF_NO_OVERRIDE, .help = "How long the Redis keeps a result" },
	{ "server", CONF_STRING, AT(server), "", .rule = &rule_server_url, .flags = CONF_NO_OVERRIDE,
	  .help = "URL of a Trivy server whose database is used instead of db_dir; empty: none" },
	{ "server_token_file", CONF_PATH, AT(server_token_file), "",
	  .flags = CONF_SECRET_FILE | CONF_NO_OVERRIDE,
	  .help = "File with the token of the Trivy server; empty: none" },
	{ "server_ca_file", CONF_PATH, AT(server_ca_file), "", .flags = CONF_NO_OVERRIDE,
	  .help = "CA certificates in PEM for a Trivy server behind https://; empty: the system's" },
	{ "report_max", CONF_SIZE, AT(report_max), "64MiB", .min = MIB, .max = GIB,
	  .help = "Largest report; over it the verdict is undecided" },
};
#undef AT

#define AT(member) offsetof(struct options_gate, member)
static const struct conf_field gate_fields[] = {
	{ "mode", CONF_ENUM, AT(mode), "audit", .choices = gate_mode_words,
	  .help = "off: no inspection; audit: record and report; warn: show all; enforce: fail the job" },
	{ "severity", CONF_ENUM, AT(severity), "CRITICAL", .choices = severity_words,
	  .help = "Findings of this severity and worse block" },
	{ "fixable_only", CONF_BOOL, AT(fixable_only), "false",
	  .help = "Only findings with a fixed version block" },
	{ "on_no_packages", CONF_ENUM, AT(on_no_packages), "warn", .choices = reaction_words,
	  .help = "An image in which Trivy saw no package" },
	{ "on_unknown_os", CONF_ENUM, AT(on_unknown_os), "warn", .choices = reaction_words,
	  .help = "An image whose operating system Trivy does not know" },
	{ "on_eol_os", CONF_ENUM, AT(on_eol_os), "warn", .choices = reaction_words,
	  .help = "An image whose operating system is past its end of life" },
	{ "on_error", CONF_ENUM, AT(on_error), "fail", .choices = on_error_words,
	  .help = "Undecided in enforce mode (no Trivy, database too old, timeout …)" },
};
#undef AT

#define AT(member) offsetof(struct options_policy, member)
static const struct conf_field policy_fields[] = {
	{ "file", CONF_PATH, AT(file), "", .flags = CONF_NO_OVERRIDE,
	  .help = "A policy on this host, in YAML; empty: none, or url says where" },
	{ "url", CONF_STRING, AT(url), "", .rule = &rule_git_url, .flags = CONF_NO_OVERRIDE,
	  .help = "A Git repository that holds the policy: https://, ssh://, user@host:path or file://; empty: none" },
	{ "ref", CONF_STRING, AT(ref), "main", .rule = &rule_git_ref, .flags = CONF_NO_OVERRIDE,
	  .help = "Branch, tag or commit of it; refs/heads/x and refs/tags/x where both are named x" },
	{ "path", CONF_STRING, AT(path), "policy.yml", .rule = &rule_git_path, .flags = CONF_NO_OVERRIDE,
	  .help = "The policy's file in the repository" },
	{ "credentials_file", CONF_PATH, AT(credentials_file), "", .flags = CONF_SECRET_FILE | CONF_NO_OVERRIDE,
	  .help = "File with user:password, or a token alone, for https://; readable by the courier user only" },
	{ "ssh_key_file", CONF_PATH, AT(ssh_key_file), "", .flags = CONF_SECRET_FILE | CONF_NO_OVERRIDE,
	  .help = "Private key without a passphrase for SSH; readable by the courier user only" },
	{ "known_hosts_file", CONF_PATH, AT(known_hosts_file), "", .flags = CONF_NO_OVERRIDE,
	  .help = "Keys of SSH servers as OpenSSH writes them; a server that is not in it is refused" },
	{ "ca_file", CONF_PATH, AT(ca_file), "", .flags = CONF_NO_OVERRIDE,
	  .help = "CA certificates in PEM; empty: the system's" },
	{ "proxy", CONF_STRING, AT(proxy), "", .rule = &rule_http_proxy_url, .flags = CONF_NO_OVERRIDE,
	  .help = "URL of a proxy for https://; empty: none, whatever the environment says" },
	{ "fetch_every", CONF_DURATION, AT(fetch_every), "5m", .min = 0, .max = 24 * HOUR,
	  .flags = CONF_NO_OVERRIDE, .help = "The repository is asked at most this often" },
	{ "fetch_timeout", CONF_DURATION, AT(fetch_timeout), "10s", .min = SECOND, .max = 600 * SECOND,
	  .flags = CONF_NO_OVERRIDE, .help = "How long that may take; then the last good version judges" },
	{ "fetch_max", CONF_SIZE, AT(fetch_max), "64MiB", .min = 64 * KIB, .max = 4 * GIB,
	  .flags = CONF_NO_OVERRIDE, .help = "Bytes of one fetch at most" },
	{ "max_age", CONF_DURATION, AT(max_age), "24h", .min = 60 * SECOND, .max = 365 * 24 * HOUR,
	  .flags = CONF_NO_OVERRIDE,
	  .help = "How long the last good version judges when fetching or reading a newer one fails; then: undecided" },
};
#undef AT

#define AT(member) offsetof(struct options_report, member)
static const struct conf_field report_fields[] = {
	{ "dir", CONF_STRING, AT(dir), "scan_result",
	  .help = "Reports go into this directory below the project directory", .rule = &rule_report_dir },
	{ "rows_max", CONF_INT, AT(rows_max), "30", .min = 0, .max = 1000,
	  .help = "Findings shown in the job log, shared out among images and the steps that brought them" },
	{ "artifact", CONF_BOOL, AT(artifact), "true",
	  .help = "Reports become artifacts of the job; false keeps them out of public projects" },
	{ "codequality", CONF_BOOL, AT(codequality), "false",
	  .help = "Findings become a Code Quality report of the job, unless it has one of its own: merge requests show what they add" },
	{ "expire_in", CONF_STRING, AT(expire_in), "1 month",
	  .help = "How long GitLab keeps reports that the driver uploads itself, in GitLab's words",
	  .rule = &rule_expiry },
};
#undef AT

#define AT(member) offsetof(struct options_defectdojo, member)
static const struct conf_field defectdojo_fields[] = {
	{ "url", CONF_STRING, AT(url), "",
	  .help = "Base URL, such as https://dojo.example.com; empty: reports wait in the spool",
	  .rule = &rule_server_url },
	{ "token_file", CONF_PATH, AT(token_file), "", .flags = CONF_SECRET_FILE,
	  .help = "File with the API v2 token; readable by the courier user only" },
	{ "ca_file", CONF_PATH, AT(ca_file), "", .help = "CA certificates in PEM; empty: the system's" },
	{ "proxy", CONF_STRING, AT(proxy), "",
	  .help = "URL of a proxy; empty: none, whatever the environment says", .rule = &rule_proxy_url },
	{ "client_cert_file", CONF_PATH, AT(client_cert_file), "",
	  .help = "Certificate in PEM that is shown to the server; empty: none" },
	{ "client_key_file", CONF_PATH, AT(client_key_file), "", .flags = CONF_SECRET_FILE,
	  .help = "Its key in PEM, without a passphrase; readable by the courier user only" },
	{ "product_type", CONF_STRING, AT(product_type), "{namespace}", .help = "Product type (template)",
	  .rule = &rule_template },
	{ "product", CONF_STRING, AT(product), "{project_path}", .help = "Product (template)",
	  .rule = &rule_template },
	{ "engagement", CONF_STRING, AT(engagement), "{branch}",
	  .help = "Engagement (template); {branch} of a tag is refs/tags/v1, which is no branch's, {ref} is v1",
	  .rule = &rule_template },
	{ "test", CONF_STRING, AT(test), "{image}", .help = "Title of the test (template)",
	  .rule = &rule_template },
	{ "service", CONF_STRING, AT(service), "{image}",
	  .help = "Part of a finding's identity (template); never change it for a test",
	  .rule = &rule_template },
	{ "environment", CONF_STRING, AT(environment), "",
	  .help = "Environment (template); empty: DefectDojo's default", .rule = &rule_template },
	{ "tags", CONF_LIST, AT(tags), "[\"tidewaiter\"]", .help = "Tags of the test, without blanks",
	  .rule = &rule_tag },
	{ "refs", CONF_LIST, AT(refs), "[\"**\"]",
	  .help = "Globs on branch or tag: whose findings are uploaded", .rule = &conf_rule_glob },
	{ "active", CONF_ENUM, AT(active), "unset", .choices = tristate_words,
	  .help = "Overrides whether findings are active; unset: by Trivy's status" },
	{ "verified", CONF_ENUM, AT(verified), "unset", .choices = tristate_words,
	  .help = "Overrides whether findings are verified; unset: by Trivy's status" },
	{ "minimum_severity", CONF_ENUM, AT(minimum_severity), "unset", .choices = minimum_severity_words,
	  .help = "Findings below it are not imported; one that sinks below is closed there" },
	{ "wait", CONF_DURATION, AT(wait), "5s", .min = 0, .max = 10 * 60 * SECOND,
	  .help = "How long a job waits for delivery at most; the rest stays in the spool" },
	{ "timeout", CONF_DURATION, AT(timeout), "30m", .min = SECOND, .max = 24 * HOUR,
	  .help = "How long one upload may take before DefectDojo is asked for its fate" },
	{ "spool_count_max", CONF_INT, AT(spool_count_max), "10000", .min = 1, .max = 100000,
	  .flags = CONF_NO_OVERRIDE,
	  .help = "Deliveries in the spool, dead ones too; a newcomer beyond it is not kept" },
	{ "spool_size_max", CONF_SIZE, AT(spool_size_max), "4GiB", .min = MIB, .max = 1024 * GIB,
	  .flags = CONF_NO_OVERRIDE, .help = "Their size together" },
	{ "spool_age_max", CONF_DURATION, AT(spool_age_max), "30d", .min = 0, .max = 3650 * 24 * HOUR,
	  .help = "What waits for longer is given up and kept in dead/; 0: never" },
	{ "triage", CONF_BOOL, AT(triage), "true",
	  .help = "Findings that were triaged there (risk accepted, false positive, out of scope) do not block" },
	{ "triage_max_age", CONF_DURATION, AT(triage_max_age), "24h", .min = 0, .max = 365 * 24 * HOUR,
	  .help = "Where it cannot be asked, what it said so long ago still counts; 0: never" },
	{ "keep_text", CONF_BOOL, AT(keep_text), "false",
	  .help = "A known finding is sent with its first text and then brought up to date, so that its triage stays" },
	{ "redis", CONF_STRING, AT(redis), "", .rule = &rule_redis_url, .flags = CONF_NO_OVERRIDE,
	  .help = "redis:// or rediss://host[:port][/database] where the hosts of a fleet share first texts (keep_text) and turns in a test; "
		  "it must not evict (noeviction, volatile-ttl); empty: trivy.results_redis with its files, if set" },
	{ "redis_key_file", CONF_PATH, AT(redis_key_file), "", .flags = CONF_SECRET_FILE | CONF_NO_OVERRIDE,
	  .help = "File with the key, 32 characters or more, by which hosts know each other's texts in that Redis" },
	{ "redis_auth_file", CONF_PATH, AT(redis_auth_file), "", .flags = CONF_SECRET_FILE | CONF_NO_OVERRIDE,
	  .help = "File with password or user:password of that Redis; empty: none" },
	{ "redis_ca_file", CONF_PATH, AT(redis_ca_file), "", .flags = CONF_NO_OVERRIDE,
	  .help = "CA certificates in PEM for rediss://; empty: the system's" },
	{ "supersede", CONF_BOOL, AT(supersede), "false",
	  .help = "A newer report of a test replaces an older one that was never sent" },
};
#undef AT

#define SECTION(name, text)                                                                     \
	{                                                                                       \
#name, offsetof(struct options, name), name##_fields, MEM_COUNT(name##_fields), \
			.help = (text), .is_overridable = true                                  \
	}

const struct conf_section options_sections[OPTIONS_SECTION_COUNT] = {
	SECTION(inject, "Which jobs are inspected"),
	SECTION(images, "Which images are looked at, and what is too much"),
	SECTION(trivy, "The scanner"),
	SECTION(gate, "What blocks a job"),
	SECTION(policy,
		"Rules, exceptions and break-glass as code; without file and url the section gate decides alone"),
	SECTION(report, "What a job shows and keeps"),
	SECTION(defectdojo,
		"Where findings go. Templates know {project_path} {project_name} {namespace} {branch} {ref} "
		"{commit} {commit_short} {job_id} {job_name} {pipeline_id} {image} {tag} {archive}"),
};
const struct conf_schema options_schema = { options_sections, OPTIONS_SECTION_COUNT };

void
options_free(struct options *o)
{
	conf_free(&options_schema, o);
}
