/* Work that is the courier's alone: `tidewaiter spool` and what `doctor` asks of DefectDojo. */
#pragma once

#include "base/err.h"
#include "executor/settings.h"

/* As root: becomes the courier user for good, ERR_SETTINGS names `tidewaiter setup` where there is none. Else nothing. */
int courier_become(const struct settings *s, struct err *e);
