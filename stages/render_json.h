/*
 * An inspection as JSON for programs: `tidewaiter scan --json`. Names and words stay as they are; new members may be added.
 *
 *   format           1
 *   version          of Tidewaiter
 *   verdict          "pass", "warn", "undecided", "block"
 *   reasons          [line for people]
 *   notes            [line for people]: what could not be known of triage, other branches, commit, policy
 *   mode             "off", "audit", "warn", "enforce"
 *   project, ref, commit, job_id   of the job, null (0) where there is none
 *   gate             {severity, fixable_only}: what blocks by the settings
 *   policy           {origin, fetched (RFC 3339), contact (null without)}: null where none is configured
 *   trivy            {version, database}: null where not known; database is RFC 3339
 *   archives[]       name, is_ignored, fault
 *   images[]         name (label), repository, tags[], archive (name), report (file stem), config_digest,
 *                    manifest_digest (of its OCI manifest, null without), platform ("linux/arm64/v8", null not known), os, architecture,
 *                    verdict, reasons[], mode, rule (of the policy, null: the settings), severity and
 *                    fixable_only (what blocks), waiver (name of the
 *                    break-glass entry in use, null without), waiver_until (RFC 3339, null), notes[] (announced rules, what a job may not ask for),
 *                    product_url (its page in DefectDojo, null without), fault,
 *                    layers[]: diff_id, size (bytes), step (line of the Dockerfile), is_base
 *                    and, null where the scan failed:
 *     distribution   {family, name, is_end_of_life}
 *     counts         {packages, findings, blocking, fixable, secrets, misconfigurations, severity: {CRITICAL, HIGH, MEDIUM, LOW, UNKNOWN}}
 *     advice         {text, fixes}: the one change that fixes the most blocking findings; null where nothing has a fix
 *     findings[]     id, package, installed, fixed (null without a fix), severity, status, title, url, target, class, type,
 *                    path, purl, layer (index in layers, null unknown), is_blocking, fate ("below", "blocks", "ignored",
 *                    "excepted", "accepted", "known", "grace", "waived"), by (a line for people), until (RFC 3339, null: no end
 *                    is known), lapsed (what excused it once and does no longer, null), line (of the exception in the policy, null); worst first
 *   fault            {kind: "refused", "unsupported", "timeout", "no_space", "failed", text}, null where there is none
 */
#pragma once

#include "base/json.h"
#include "stages/inspection.h"

#define RENDER_JSON_FORMAT 1

cJSON *render_json(const struct inspection *i); /* owned by the caller */
/* One of findings[]; owned by the caller. */
cJSON *render_json_finding(const struct inspection *i, const struct image *m, size_t index);
