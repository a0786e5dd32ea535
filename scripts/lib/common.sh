# shellcheck shell=bash
# shellcheck disable=SC2034 # used where this is read
# Read by the other scripts: where things are, and how they say that something went wrong.

set -euo pipefail

# root: the repository; cache: what is made once and kept (Trivy, its database, a Go)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
cache=${TIDEWAITER_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/tidewaiter}

# say TEXT…: a line of progress on standard error
say() {
	printf '%s\n' "${0##*/}: $*" >&2
}

# die TEXT…: the reason in one line, and out
die() {
	say "$*"
	exit 1
}

# version_at_least HAVE WANT: dotted numbers
version_at_least() {
	[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}
