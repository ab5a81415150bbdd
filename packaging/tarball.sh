#!/usr/bin/env bash
# Makes weft-<version>-<machine>.tar.gz of a finished build: launcher, commands, library, headers,
# completions, in a tree that works wherever it is unpacked.
#   packaging/tarball.sh [BUILD-FOLDER] [OUTPUT-FOLDER]      (default: build, and the present folder)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build}
output=${2:-.}

say() { printf 'tarball.sh: %s\n' "$*" >&2; }
[ -f "$build/packaging/facts.sh" ] || { say "$build is no build folder; run ./quickstart first"; exit 2; }
[ -d "$output" ] || { say "$output is no folder"; exit 2; }

version='' prefix=''
# shellcheck source=/dev/null
. "$build/packaging/facts.sh"  # sets both

name=weft-$version-$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
meson install -C "$build" --no-rebuild --quiet --destdir "$work/installed"
mv "$work/installed$prefix" "$work/$name"
mkdir -p "$work/$name/share/doc/weft"
cp "$root/LICENSE" "$root/README.md" "$work/$name/share/doc/weft/"

# The Debian packages whose libraries are needed, where dpkg can tell.
if command -v dpkg-query >/dev/null; then
  find "$work/$name" -type f \( -name '*.so*' -o -perm -u+x \) -exec ldd {} + 2>/dev/null |
    awk '$3 ~ "^/" { print $3 }' | sort -u | while read -r library; do
      file=$(readlink -f "$library")
      # dpkg may know it by its name from before /usr was merged.
      dpkg-query -S "$file" 2>/dev/null || dpkg-query -S "${file#/usr}" 2>/dev/null || true
    done | cut -d: -f1 | sort -u >"$work/$name/share/doc/weft/needed-debian-packages"
fi

# The same bytes for the same build.
stamp=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$stamp" \
  -cf - "$name" | gzip -n >"$output/$name.tar.gz"
echo "$output/$name.tar.gz"
