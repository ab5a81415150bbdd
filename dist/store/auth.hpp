// Proof, in both directions, that a peer holds the job's token, without sending it.
//
// Note [Store handshake]
// All numbers are little endian, HMAC is HMAC-SHA256 keyed with the token.
//   client -> server  hello (112 B): magic u32, version u16, flags u16, rank i32, epoch i32, client
//                     id (16), job (16), nonce C (32), HMAC("hello" | the 80 bytes before it)
//   server -> client  challenge (64 B): nonce S (32), HMAC("server" | hello | S)
//   client -> server  proof (32 B): HMAC("client" | hello | S)
// The first HMAC lets the server stay silent towards whoever does not know the token; as it can be
// replayed, only the proof over the fresh S opens the connection. The challenge's HMAC over the
// fresh C tells the client that it talks to its own job's server. The client id stays the same over
// reconnections, so that the server can tell a repeated request from a new one. A client that knows
// the token but does not belong here gets, in place of the challenge, a refusal of the same size:
// code and number in the place of S, and HMAC("refused" | hello | that).
// Both sides then derive one key for each direction (as RFC 5869 does: extract from the token over
// hello and challenge, expand by the direction's name), with which frames carry their MACs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace weft::inline v0::dist::detail {

inline constexpr size_t kHelloSize = 112;
inline constexpr size_t kChallengeSize = 64;
inline constexpr size_t kProofSize = 32;
inline constexpr size_t kNonceSize = 32;
inline constexpr size_t kClientIdSize = 16;
inline constexpr size_t kHelloStart = 8;  ///< bytes of magic, version and flags

/// HMAC-SHA256 of the parts, one after the other. Throws Error where libcrypto refuses.
std::string hmac_sha256(std::string_view key, std::initializer_list<std::string_view> parts);

/// Whether both are equal, in a time that depends on their sizes alone.
bool equal_secrets(std::string_view a, std::string_view b);

/// Bytes of the system's random source. Throws IoError where it fails.
std::string random_bytes(size_t count);

/// `bytes` in lower-case hexadecimal.
std::string to_hex(std::string_view bytes);

struct Hello {
  int32_t rank = -1;
  int32_t epoch = -1;
  std::string client_id = {};
  std::string job = std::string(16, '\0');  ///< see job_digest()
  bool returning = false;                   ///< it has had a connection before
};

/// What the hello says of the job `job_id`: zeros for none.
std::string job_digest(std::string_view job_id);

std::string make_hello(std::string_view token, const Hello& hello);

/// What is wrong with the first kHelloStart bytes of a hello, or nothing.
std::string check_hello_start(std::string_view bytes);

/// The hello, or nothing where it is no hello of a peer that knows the token.
std::optional<Hello> check_hello(std::string_view token, std::string_view bytes);

/// Why a client that knows the token is not let in, with a number that says more.
enum class Refusal : uint8_t { none, other_job, old_epoch, unknown_client };
struct RefusalReason {
  Refusal code = Refusal::none;
  int32_t epoch = 0;  ///< of the server, for old_epoch
};

std::string make_refusal(std::string_view token, std::string_view hello, RefusalReason reason);

/// The reason, or nothing where `answer` is no refusal by a server that knows the token.
std::optional<RefusalReason> check_refusal(std::string_view token, std::string_view hello,
                                           std::string_view answer);

/// One key for the frames of each direction.
struct SessionKeys {
  std::string client, server;
};
SessionKeys derive_keys(std::string_view token, std::string_view hello, std::string_view challenge);

std::string make_challenge(std::string_view token, std::string_view hello);
bool check_challenge(std::string_view token, std::string_view hello, std::string_view challenge);

std::string make_proof(std::string_view token, std::string_view hello, std::string_view challenge);
bool check_proof(std::string_view token, std::string_view hello, std::string_view challenge,
                 std::string_view proof);

/// What takes the token's place on a Unix socket: no secret, as the system vouches for the peer; it
/// keeps a program that comes to another path's socket, or speaks another language, out.
std::string local_secret(std::string_view path);

/// Throws ArgumentError where the token is too short to be a secret; `origin` names where it is
/// from.
void check_token(std::string_view origin, std::string_view token);

}  // namespace weft::inline v0::dist::detail
