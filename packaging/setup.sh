# shellcheck shell=bash
# Set-up shared by ./quickstart and ./check: Debian packages, configuration, build. To be sourced
# with the tree's root as the working directory.

# What the build needs, and what ./check needs on top of it.
build_packages=(g++ meson ninja-build ccache pkg-config cmake libfmt-dev libspdlog-dev libtbb-dev
  nlohmann-json3-dev libssl-dev libxxhash-dev libeigen3-dev libdnnl-dev libcli11-dev doctest-dev
  libbenchmark-dev libgloo-dev)
check_packages=(clang-format binutils)
slow_packages=(clang libclang-rt-14-dev qemu-user)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# Installs those of the named packages that are missing; without the right to do so, says how.
install_packages() {
  local missing=() name
  if ! command -v dpkg-query >/dev/null; then
    say "no dpkg here; the build needs what these Debian packages hold: $*"
    return
  fi
  for name in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
      missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    say "packages are missing; as root, run this line, then come back:"
    echo "apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  say "installing ${missing[*]}"
  apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
      >/dev/null || { say "apt-get could not install ${missing[*]}"; exit 1; }
}

# configure FOLDER [meson options]: once; ninja itself configures again when a meson.build changes.
configure() {
  local folder=$1
  shift
  [ -f "$folder/build.ninja" ] || meson setup "$folder" "$@"
}

# build FOLDER [targets]
build() {
  local folder=$1
  shift
  ninja -C "$folder" -j "$(nproc)" "$@"
}
