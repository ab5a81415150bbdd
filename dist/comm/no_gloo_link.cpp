// In place of gloo_link.cpp where weft is built without gloo.
#include <weft/core/base/check.hpp>
#include <weft/dist/comm/cross_link.hpp>

namespace weft::inline v0::dist::detail {

void require_gloo() {
  weft::detail::fail<CommError>(
      "init_process_group: the ranks are on several hosts, which needs gloo, and this weft was "
      "built without it; install libgloo-dev and build with -Dgloo=enabled");
}

std::shared_ptr<Connector> make_gloo_connector(std::shared_ptr<Store>, const std::string&,
                                               const std::string&) {
  require_gloo();
  return nullptr;
}

}  // namespace weft::inline v0::dist::detail
