/*
 * What texts of the options must be (struct conf_rule, base/conf.h): asked where a setting is read, so that a refusal names
 * file and line, for every entry of projects[] as well.
 */
#pragma once

#include "base/conf.h"

extern const struct conf_rule rule_archive_glob; /* below the project directory, never out of it */
extern const struct conf_rule rule_platform;	 /* "all", or what OCI calls os[/architecture[/variant]] */
extern const struct conf_rule rule_repository;	 /* registry/path:tag, as Trivy takes it */
extern const struct conf_rule rule_socket;	 /* the path of a Unix socket */
extern const struct conf_rule rule_sha256;	 /* 64 hexadecimal digits in lower case */
extern const struct conf_rule rule_report_dir;	 /* stands in job scripts */
extern const struct conf_rule rule_expiry;	 /* GitLab's words for a time, or "never" */
extern const struct conf_rule rule_server_url, rule_proxy_url; /* without user and password */
extern const struct conf_rule rule_http_proxy_url;	       /* the same; libgit2 knows no SOCKS */
extern const struct conf_rule rule_redis_url;		       /* the same */
extern const struct conf_rule rule_git_url, rule_git_ref, rule_git_path;
extern const struct conf_rule rule_template; /* only placeholders that there are */
extern const struct conf_rule rule_tag; /* one tag of DefectDojo's, which splits at blanks, commas and quotes */

/* Letters, digits and ._-/ alone: gitlab-runner's scripts use such paths unquoted in places. */
bool rule_is_script_safe(const char *path);
