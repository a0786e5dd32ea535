/* A policy: what is understood decides a report, and no line that it makes holds a control character. */
#include <stdlib.h>
#include <string.h>

#include "stages/policy.h"
#include "tests/fuzz/fuzz.h"

static const char report[] =
	"{\"SchemaVersion\":2,\"Results\":[{\"Target\":\"t\",\"Type\":\"debian\",\"Secrets\":[{}],\"Vulnerabilities\":["
	"{\"VulnerabilityID\":\"CVE-1\",\"PkgName\":\"openssl\",\"InstalledVersion\":\"1:3.0~rc1-1\",\"Severity\":\"HIGH\","
	"\"PkgIdentifier\":{\"PURL\":\"pkg:deb/debian/openssl@3.0?arch=amd64\"},\"PublishedDate\":\"2025-12-01T00:00:00Z\"}]}]}";

static void
check_lines(const struct strv *l)
{
	for (size_t k = 0; k < l->n; k++)
		if (!conf_is_plain_text(l->v[k]))
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(policy) struct policy *p = NULL;
	AUTO(report) struct report *r = NULL;
	AUTO_DECISION struct decision d = { 0 };
	const struct policy_context c = { .project = "group/app",
					  .branch = "main",
					  .stage = "build",
					  .job = "docker_build",
					  .image = "group/app",
					  .wants_waiver = "night" };
	struct err e = ERR_INIT;

	if (policy_parse("policy.yml", (const char *)data, size, NULL, &p, &e) < 0) {
		if (e.kind != ERR_SETTINGS || strncmp(e.text, "policy.yml:", strlen("policy.yml:")) != 0)
			abort();
		return 0;
	}
	if (report_parse(report, strlen(report), sizeof(report), &r, &e) < 0)
		abort();
	policy_decide(p, r, &c, 1767225600, &d);
	check_lines(&d.reasons);
	check_lines(&d.notes);
	if (d.n_findings != 1 || !conf_is_plain_text(d.fates[0].by))
		abort();
	return 0;
}
