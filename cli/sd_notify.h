/* sd_notify(3), the protocol alone: a datagram to $NOTIFY_SOCKET (a path, or with '@' an abstract name). */
#pragma once

/* "READY=1", lines apart by newlines. Without the variable, or when nobody listens, nothing happens. */
void sd_notify_send(const char *state);
