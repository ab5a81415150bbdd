#include <weft/bench/peer.hpp>

namespace weft::bench {

std::function<void()> peer_case(const std::string&) { return nullptr; }
void set_peer_threads(int) {}

}  // namespace weft::bench
