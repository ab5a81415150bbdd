#include <cstdio>

#include <weft/weft.hpp>

using namespace weft;

int main() {
  std::printf("cpu %s\n", name_of(DType::bf16).data());
  try {
    env::get_int("HOME", 0, 1);
  } catch (const ArgumentError& error) {
    std::printf("%s\n", error.what());
    return 0;
  }
  return 1;
}
