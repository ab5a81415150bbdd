#include <weft/nn/containers.hpp>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::nn::detail {

void fail_list_index(const std::string& path, int64_t index, size_t size) {
  weft::detail::fail<ArgumentError>("list: \"{}\" has {} modules; there is no number {}", path,
                                    size, index);
}

void fail_list_size(const At& at, int64_t size) {
  weft::detail::fail<ArgumentError>("list: \"{}\" cannot have {} modules; 0 or more", at.name(),
                                    size);
}

}  // namespace weft::inline v0::nn::detail
