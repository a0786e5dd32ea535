/*
 * A Trivy server (https://trivy.dev/docs/latest/references/modes/client-server/), asked through the relay (relay.h): what version
 * it is, and how old its database.
 */
#pragma once

#include "stages/trivy_db.h"

/* now_s and max_age_ms judge as trivy_db_judge() does; *ret_db is filled as far as known when the age alone is wrong. */
int trivy_server_ask(int port, const char *token, int64_t now_s, int64_t max_age_ms, struct trivy_db *ret_db,
		     char ret_version[32], struct err *e);
