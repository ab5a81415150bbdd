// Fuzzing the store's handshake: whatever comes, the connection opens for a peer that proved the
// secret over this challenge, and for no other.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/handshake.hpp>

namespace {

using namespace weft::dist::detail;
using State = ServerHandshake::State;

const std::string kSecret = "the secret of this target";

void require(bool holds) {
  if (!holds) std::abort();
}

/// A hello as somebody who knows the secret makes it of the input's bytes, right or wrong.
std::string sign(std::string_view content) {
  std::string hello(content.substr(0, kHelloSize - 32));
  hello.resize(kHelloSize - 32, '\0');
  hello += hmac_sha256(kSecret, {"hello", hello});
  return hello;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 2, size - 2);
  const bool signs = (data[0] & 1) != 0, proves = (data[0] & 2) != 0;
  const size_t step = 1 + data[1];
  ServerHandshake handshake(kSecret, true, [&](const Hello& hello) {
    require(hello.client_id.size() == kClientIdSize);
    return RefusalReason{.code = hello.epoch == 7 ? Refusal::old_epoch : Refusal::none, .epoch = 8};
  });
  std::string bytes = signs ? sign(input) : std::string(input);
  std::string in, out;
  State state = State::hello;
  for (size_t done = 0; done < bytes.size() && state != State::failed; done += step)
    state = handshake.advance(in += bytes.substr(done, step), out);
  require(state != State::open && in.size() <= bytes.size());
  require(out.empty() || signs);  // a stranger gets no byte
  if (state == State::proof) {
    require(signs && out.size() == kChallengeSize);
    const std::string hello = bytes.substr(0, kHelloSize);
    in += proves ? make_proof(kSecret, hello, out) : std::string(kProofSize, 'x');
    state = handshake.advance(in, out);
    require((state == State::open) == proves);
    if (state == State::open) handshake.make_channel();
  }
  if (state == State::failed) require(!handshake.problem().empty());

  // The client's side of it.
  const std::string hello = sign(input);
  check_refusal(kSecret, hello, input);
  require(!check_challenge(kSecret, hello, input));
  return 0;
}
