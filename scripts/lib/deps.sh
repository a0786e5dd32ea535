#!/usr/bin/env bash
# deps.sh [build]: installs what scripts/lib/packages names and the machine lacks; with "build" only what
# building and the demo need. Changes nothing and needs no right where nothing is missing.

. "$(dirname "$0")/common.sh"

group=${1:-all}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

is_known() {
	[ -n "$(apt-cache show --no-all-versions "$1" 2>/dev/null)" ]
}

# wanted: the names of the group, a line each, those that this release does not have left out
wanted() {
	local name of
	while read -r name of _; do
		case $name in
		'' | '#'*) continue ;;
		esac
		if [ "$group" != all ] && [ "$of" != "$group" ]; then
			continue
		fi
		case $name in
		'?'*) if is_known "${name#?}"; then echo "${name#?}"; fi ;;
		*) echo "$name" ;;
		esac
	done <"$root/scripts/lib/packages"
	if ! "$root/scripts/trivy" --have >/dev/null && ! command -v go >/dev/null; then
		echo golang-go
	fi
}

missing() {
	local name
	wanted | while read -r name; do
		if ! is_installed "$name"; then
			echo "$name"
		fi
	done
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		env DEBIAN_FRONTEND=noninteractive "$@"
	else
		sudo env DEBIAN_FRONTEND=noninteractive "$@"
	fi
}

install() {
	as_root apt-get -q update && as_root apt-get -q -y install --no-install-recommends "$@"
}

command -v dpkg-query >/dev/null || die "this is no Debian: install by hand what scripts/lib/packages names"
mapfile -t names < <(missing)
if [ ${#names[@]} -eq 0 ]; then
	exit 0
fi
if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
	die "neither root nor sudo, and these packages are missing: ${names[*]}"
fi
say "installing ${names[*]}"
if ! install "${names[@]}" >"$log" 2>&1 </dev/null; then
	say "apt-get failed, trying once more"
	sleep 5
	install "${names[@]}" >"$log" 2>&1 </dev/null || {
		tail -n 20 "$log" >&2
		die "cannot install ${names[*]}"
	}
fi
