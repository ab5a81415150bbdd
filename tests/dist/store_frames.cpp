// The bytes on the wire: frames, requests, handshake.
#include <doctest/doctest.h>

#include <random>
#include <string>

#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/frame.hpp>
#include <weft/dist/store/store.hpp>

using namespace weft::dist;
using namespace weft::dist::detail;

namespace {

std::optional<Request> round_trip(const Request& request) {
  const std::string bytes = make_request(request);
  Frame frame;
  REQUIRE(parse_frame(bytes, frame) == ParseState::complete);
  REQUIRE(frame.size == bytes.size());
  return parse_request(frame);
}

}  // namespace

TEST_CASE("store frames: a request survives the way there") {
  const Request request{.kind = FrameKind::compare_set,
                        .id = 99,
                        .acknowledged = 98,
                        .timeout_us = 1'500'000,
                        .amount = -7,
                        .strings = {"key", std::string("\0\1", 2), ""}};
  const auto back = round_trip(request);
  REQUIRE(back);
  CHECK(back->kind == request.kind);
  CHECK(back->id == 99);
  CHECK(back->acknowledged == 98);
  CHECK(back->timeout_us == 1'500'000);
  CHECK(back->amount == -7);
  CHECK(back->strings == request.strings);
}

TEST_CASE("store frames: every truncation is incomplete, never a frame") {
  const std::string bytes =
      make_request({.kind = FrameKind::set, .id = 1, .strings = {"key", "value"}});
  for (size_t size = 0; size < bytes.size(); ++size) {
    Frame frame;
    CHECK(parse_frame(std::string_view(bytes).substr(0, size), frame) == ParseState::incomplete);
  }
  // A body cut short under a header that agrees with it is refused by the second parser.
  const std::string body = bytes.substr(kFrameHeader);
  for (size_t size = 0; size < body.size(); ++size) {
    const Frame frame{
        .kind = FrameKind::set, .id = 1, .body = std::string_view(body).substr(0, size), .size = 0};
    CHECK_FALSE(parse_request(frame));
  }
}

TEST_CASE("store frames: sizes, counts and kinds out of bounds are refused") {
  std::string header;
  put<uint32_t>(header, kMaxFrameBody + 1);
  put<uint16_t>(header, 1);
  put<uint16_t>(header, 0);
  put<uint64_t>(header, 1);
  Frame frame;
  CHECK(parse_frame(header, frame) == ParseState::malformed);
  header[6] = 1;  // an unknown flag
  header.replace(0, 4, std::string(4, '\0'));
  CHECK(parse_frame(header, frame) == ParseState::malformed);

  const std::string long_key(kMaxStoreKey + 1, 'k'), long_value(kMaxStoreValue + 1, 'v');
  CHECK_FALSE(round_trip({.kind = FrameKind::get, .id = 1, .strings = {}}));
  CHECK_FALSE(round_trip({.kind = FrameKind::get, .id = 1, .strings = {""}}));
  CHECK_FALSE(round_trip({.kind = FrameKind::get, .id = 1, .strings = {"a", "b"}}));
  CHECK_FALSE(round_trip({.kind = FrameKind::get, .id = 1, .strings = {long_key}}));
  CHECK_FALSE(round_trip({.kind = FrameKind::set, .id = 1, .strings = {"a"}}));
  CHECK_FALSE(round_trip({.kind = FrameKind::set, .id = 1, .strings = {"a", long_value}}));
  CHECK_FALSE(round_trip({.kind = FrameKind::value, .id = 1, .strings = {"a"}}));
  CHECK_FALSE(round_trip({.kind = static_cast<FrameKind>(999), .id = 1, .strings = {"a"}}));
  CHECK_FALSE(round_trip({.kind = FrameKind::get, .id = 1, .acknowledged = 2, .strings = {"a"}}));
  CHECK_FALSE(round_trip({.kind = FrameKind::wait,
                          .id = 1,
                          .strings = std::vector<std::string>(kMaxStoreWait + 1, "a")}));
}

TEST_CASE("store frames: random bytes and flipped bits never crash the parsers") {
  std::mt19937_64 random(7);
  const std::string good = make_request({.kind = FrameKind::wait, .id = 5, .strings = {"a", "bc"}});
  size_t refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good;
    if (round % 2 == 0) {
      bytes.resize(random() % 200);
      for (char& c : bytes) c = static_cast<char>(random());
    } else {
      bytes[random() % bytes.size()] ^= static_cast<char>(1u << (random() % 8));
    }
    Frame frame;
    const ParseState state = parse_frame(bytes, frame);
    if (state != ParseState::complete || !parse_request(frame)) ++refused;
  }
  CHECK(refused > 10'000);
}

TEST_CASE("store handshake: HMAC-SHA256 is that of RFC 4231, test case 2") {
  CHECK(to_hex(hmac_sha256("Jefe", {"what do ya want ", "for nothing?"})) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST_CASE("store handshake: each message is bound to the token and to the ones before") {
  const std::string token = "0123456789abcdef", other = "0123456789abcdeg";
  const std::string id(kClientIdSize, 'c');
  const std::string hello =
      make_hello(token, {.rank = 3, .epoch = 2, .client_id = id, .returning = true});
  REQUIRE(hello.size() == kHelloSize);
  const auto parsed = check_hello(token, hello);
  REQUIRE(parsed);
  CHECK(parsed->rank == 3);
  CHECK(parsed->epoch == 2);
  CHECK(parsed->returning);
  CHECK(parsed->job == job_digest(""));
  CHECK(parsed->client_id == id);
  CHECK_FALSE(check_hello(other, hello));
  for (size_t i = 0; i < hello.size(); ++i) {
    std::string changed = hello;
    changed[i] ^= 1;
    CHECK_FALSE(check_hello(token, changed));
  }

  const std::string challenge = make_challenge(token, hello);
  CHECK(check_challenge(token, hello, challenge));
  CHECK_FALSE(check_challenge(other, hello, challenge));
  const std::string second_hello = make_hello(token, {.rank = 3, .client_id = id});
  CHECK(second_hello != hello);
  CHECK_FALSE(check_challenge(token, second_hello, challenge));

  const std::string proof = make_proof(token, hello, challenge);
  CHECK(check_proof(token, hello, challenge, proof));
  CHECK_FALSE(check_proof(token, hello, make_challenge(token, hello), proof));
  CHECK_FALSE(check_proof(other, hello, challenge, proof));
  CHECK_FALSE(check_proof(token, hello, challenge, proof.substr(1)));
}

TEST_CASE("store handshake: secrets are compared whole, random bytes differ") {
  CHECK(equal_secrets("abc", "abc"));
  CHECK_FALSE(equal_secrets("abc", "abd"));
  CHECK_FALSE(equal_secrets("abc", "ab"));
  CHECK(random_bytes(32) != random_bytes(32));
  CHECK(random_bytes(300).size() == 300);
}
