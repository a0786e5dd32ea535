#include "tests/unit/sample_image.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

const char sample_report[] =
	"{\"SchemaVersion\":2,\"Trivy\":{\"Version\":\"0.74.0\"},\"ArtifactName\":\"/work/x/layout\",\"ArtifactType\":\"container_image\","
	"\"Metadata\":{\"OS\":{\"Family\":\"debian\",\"Name\":\"12.5\"},\"ImageID\":\"sha256:c0\",\"ImageConfig\":{\"config\":{\"Env\":[\"SECRET=x\"]}}},"
	"\"Results\":[{\"Target\":\"/work/x/layout (debian 12.5)\",\"Class\":\"os-pkgs\",\"Type\":\"debian\","
	"\"Packages\":[{\"Name\":\"curl\"},{\"Name\":\"openssl\"}],\"Vulnerabilities\":["
	"{\"VulnerabilityID\":\"CVE-1\",\"PkgName\":\"openssl\",\"InstalledVersion\":\"3.0.1\",\"FixedVersion\":\"3.0.3\",\"Severity\":\"CRITICAL\","
	"\"Title\":\"first\",\"Layer\":{\"DiffID\":\"L0\"}},"
	"{\"VulnerabilityID\":\"CVE-2\",\"PkgName\":\"curl\",\"InstalledVersion\":\"7.88\",\"Severity\":\"CRITICAL\",\"Title\":\"second\",\"Status\":\"affected\","
	"\"Layer\":{\"DiffID\":\"L1\"}},"
	"{\"VulnerabilityID\":\"CVE-3\",\"PkgName\":\"curl\",\"InstalledVersion\":\"7.88\",\"FixedVersion\":\"7.89\",\"Severity\":\"LOW\",\"Layer\":{\"DiffID\":\"L1\"}}]},"
	"{\"Target\":\"Node.js\",\"Class\":\"lang-pkgs\",\"Type\":\"node-pkg\",\"Packages\":[{\"Name\":\"lodash\"}],\"Vulnerabilities\":["
	"{\"VulnerabilityID\":\"CVE-4\",\"PkgName\":\"lodash\",\"PkgPath\":\"app/node_modules/lodash/package.json\",\"InstalledVersion\":\"4.17.4\","
	"\"FixedVersion\":\"4.17.9\",\"Severity\":\"CRITICAL\",\"Title\":\"fourth\",\"Layer\":{\"DiffID\":\"L2\"}},"
	"{\"VulnerabilityID\":\"CVE-5\",\"PkgName\":\"lodash\",\"PkgPath\":\"app/node_modules/lodash/package.json\",\"InstalledVersion\":\"4.17.4\","
	"\"FixedVersion\":\"4.17.12\",\"Severity\":\"HIGH\",\"Title\":\"fifth\",\"Layer\":{\"DiffID\":\"L2\"}}]}]}";

void
sample_init(struct sample *s)
{
	*s = (struct sample){ 0 };
	conf_set_defaults(&options_schema, &s->opt);
	s->opt.gate.mode = GATE_ENFORCE;
	s->job.project_path = mem_strdup("group/app");
	s->job.ref = mem_strdup("main");
	s->job.sha = mem_strdup("0123456789abcdef0123456789abcdef01234567");
	s->job.name = mem_strdup("docker_build");
	s->job.job_id = 4711;
	log_init(&s->log, stdout);
	s->log.has_colour = false;
	s->i.opt = &s->opt;
	s->i.job = &s->job;
	s->i.log = &s->log;
	s->i.project_fd = 0;
	s->i.out_fd = s->i.work_fd = -1;
}

void
sample_free(struct sample *s)
{
	inspection_free(&s->i);
	job_facts_free(&s->job);
	options_free(&s->opt);
}

struct image *
sample_add_image(struct sample *s, const char *report)
{
	static const char *const steps[] = {
		"/bin/sh -c #(nop) ADD file:1 in / ", "/bin/sh -c apt-get update",
		"RUN /bin/sh -c npm ci # buildkit",
		"RUN |1 TOKEN=hidden /bin/sh -c apt-get install -y curl # buildkit"
	};
	struct archive *a = inspection_add_archive(&s->i);
	struct image *m;
	struct err e = ERR_INIT;

	a->name = mem_strdup("tar_images/app.tar");
	a->fd = -1;
	m = inspection_add_image(&s->i);
	m->archive = s->i.n_archives - 1;
	strv_add(&m->tags, "registry.example.org/group/app:1.0");
	snprintf(m->config_digest, sizeof(m->config_digest), "sha256:c0");
	m->os = mem_strdup("linux");
	m->architecture = mem_strdup("amd64");
	m->label = mem_strdup("registry.example.org/group/app:1.0");
	m->repository = mem_strdup("group/app");
	m->report_name = mem_strdup("app");
	m->n_layers = MEM_COUNT(steps);
	m->layers = mem_array(m->n_layers, sizeof(*m->layers));
	m->base_layers = 2;
	for (size_t k = 0; k < m->n_layers; k++) {
		snprintf(m->layers[k].diff_id, sizeof(m->layers[k].diff_id), "L%zu", k);
		snprintf(m->layers[k].scanned_digest, sizeof(m->layers[k].scanned_digest), "L%zu", k);
		m->layers[k].created_by = mem_strdup(steps[k]);
	}
	if (report && report_parse(report, strlen(report), 1 << 20, &m->report, &e) < 0) {
		fprintf(stderr, "sample report: %s\n", e.text);
		return NULL;
	}
	if (report)
		report_rename(m->report, m->label, &m->tags);
	return m;
}
