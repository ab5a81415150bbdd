// The peer's side of the rows, behind plain functions: its headers and ours never meet in one file.
#pragma once

#include <functional>
#include <string>

namespace weft::bench {

/// The peer's version of row `name`; empty where it has none, or where weft was built without it.
std::function<void()> peer_case(const std::string& name);
/// Threads of the peer.
void set_peer_threads(int count);

}  // namespace weft::bench
