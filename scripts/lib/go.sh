# shellcheck shell=bash
# shellcheck disable=SC2154 # root, cache: common.sh
# Read after common.sh: find_go prints the path of a Go that is new enough for the modules of tests/trivy.

# go_wanted: the version that go.mod asks for
go_wanted() {
	awk '$1 == "go" { print $2 }' "$root/tests/trivy/go.mod"
}

# go_version FILE: 1.26.8 from "go version go1.26.8 linux/amd64"
go_version() {
	GOTOOLCHAIN=local "$1" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p'
}

# fetch_go OLD TARGET: an older Go fetches the wanted one, which Go's own makers publish as a module whose checksum their
# database vouches for. Go 1.21 and newer do that by themselves; older ones, as in Debian 12, need the
# last steps done for them: modules hold neither executables nor a second go.mod.
fetch_go() {
	local old=$1 target=$2 want dir new f
	want=$(go_wanted)
	say "fetching Go $want"
	new=$target.new
	rm -rf "$new"
	mkdir -p "$(dirname "$target")"
	dir=$(cd / && env -u GOFLAGS GO111MODULE=on GOTOOLCHAIN=local "$old" mod download -json \
		"golang.org/toolchain@v0.0.1-go$want.linux-$("$old" env GOARCH)" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	[ -d "$dir" ] || die "cannot fetch Go $want"
	cp -R --no-preserve=mode "$dir" "$new"
	find "$new" -name _go.mod -print | while read -r f; do
		mv "$f" "${f%/*}/go.mod"
	done
	chmod -R a+x "$new/bin" "$new/pkg/tool"
	rm -rf "$target"
	mv "$new" "$target"
}

find_go() {
	local want have go
	want=$(go_wanted)
	if go=$(command -v go); then
		have=$(go_version "$go")
		if version_at_least "${have:-0}" "$want"; then
			echo "$go"
			return
		fi
	fi
	if [ ! -x "$cache/go-$want/bin/go" ]; then
		[ -n "$go" ] || die "no Go: install golang-go, or put Go $want or newer in PATH"
		mkdir -p "$cache"
		(
			flock 8
			if [ ! -x "$cache/go-$want/bin/go" ]; then
				fetch_go "$go" "$cache/go-$want"
			fi
		) 8>"$cache/go.lock"
	fi
	echo "$cache/go-$want/bin/go"
}

# go_build PACKAGE TARGET [LDFLAGS]: builds from the pinned modules, under another name until it is whole
go_build() {
	local package=$1 target=$2 ldflags=${3:-} go
	go=$(find_go)
	mkdir -p "$(dirname "$target")"
	if ! (
		cd "$root/tests/trivy"
		env -u GOROOT GOFLAGS='' GOTOOLCHAIN=local GOEXPERIMENT=jsonv2 CGO_ENABLED=0 GO111MODULE=on GOWORK=off \
			"$go" build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w $ldflags" -o "$target.new" "$package"
	) >&2; then
		rm -f "$target.new"
		die "cannot build $package"
	fi
	mv "$target.new" "$target"
}
