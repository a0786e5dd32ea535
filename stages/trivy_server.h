/*
 * A Trivy server (https://trivy.dev/docs/latest/references/modes/client-server/), asked through the relay (relay.h): what version
 * it is, and how old its database.
 */
#pragma once

#include "stages/options.h"
#include "stages/trivy_db.h"

/* now_s and max_age_ms judge as trivy_db_judge() does; *ret_db is filled as far as known when the age alone is wrong. */
int trivy_server_ask(int port, const char *token, int64_t now_s, int64_t max_age_ms, struct trivy_db *ret_db,
		     char ret_version[32], struct err *e);
/* The same without a relay, for doctor. */
int trivy_server_look(const struct options_trivy *o, int64_t now_s, struct trivy_db *ret_db,
		      char ret_version[32], struct err *e);
