#include <weft/dist/store/handshake.hpp>

#include <utility>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::dist::detail {

namespace {

std::string describe(RefusalReason reason, const Hello& hello) {
  switch (reason.code) {
    case Refusal::other_job: return "it belongs to another job";
    case Refusal::old_epoch:
      return fmt::format("it belongs to attempt {} of the job, which is at attempt {}", hello.epoch,
                         reason.epoch);
    default: return "it comes back to a server that does not know it";
  }
}

}  // namespace

ServerHandshake::ServerHandshake(std::string_view secret, bool sealed,
                                 std::function<RefusalReason(const Hello&)> admit)
    : secret_(secret), sealed_(sealed), admit_(std::move(admit)) {}

ServerHandshake::State ServerHandshake::fail(std::string why) {
  problem_ = std::move(why);
  return state_ = State::failed;
}

ServerHandshake::State ServerHandshake::take_hello(std::string& in, std::string& out) {
  if (in.size() >= kHelloStart) {
    std::string problem = check_hello_start(in);
    if (!problem.empty()) return fail(std::move(problem));
  }
  if (in.size() < kHelloSize) return state_;
  hello_bytes_ = in.substr(0, kHelloSize);
  in.erase(0, kHelloSize);
  const auto hello = check_hello(secret_, hello_bytes_);
  if (!hello) return fail("it does not know the job's token");
  hello_ = *hello;
  const RefusalReason reason = admit_(hello_);
  if (reason.code != Refusal::none) {
    out += make_refusal(secret_, hello_bytes_, reason);
    return fail(describe(reason, hello_));
  }
  challenge_ = make_challenge(secret_, hello_bytes_);
  out += challenge_;
  return state_ = State::proof;
}

ServerHandshake::State ServerHandshake::advance(std::string& in, std::string& out) {
  if (state_ == State::hello) take_hello(in, out);
  if (state_ == State::proof && in.size() >= kProofSize) {
    const std::string proof = in.substr(0, kProofSize);
    in.erase(0, kProofSize);
    if (!check_proof(secret_, hello_bytes_, challenge_, proof))
      return fail("its proof of the token is wrong");
    state_ = State::open;
  }
  return state_;
}

FrameChannel ServerHandshake::make_channel() const {
  if (!sealed_) return {};
  const SessionKeys keys = derive_keys(secret_, hello_bytes_, challenge_);
  return {keys.server, keys.client};
}

}  // namespace weft::inline v0::dist::detail
