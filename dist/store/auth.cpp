#include <weft/dist/store/auth.hpp>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <cerrno>
#include <cstring>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

namespace {

constexpr uint32_t kMagic = 0x74666577;  // "weft"
constexpr uint16_t kVersion = 2;
constexpr size_t kMacSize = 32;
constexpr uint16_t kReturning = 1;  // a flag of the hello
constexpr size_t kJobDigest = 16;
constexpr size_t kSignedHello = kHelloSize - kMacSize;

}  // namespace

std::string hmac_sha256(std::string_view key, std::initializer_list<std::string_view> parts) {
  std::string message;
  for (const std::string_view part : parts) message.append(part);
  std::string digest(kMacSize, '\0');
  unsigned size = 0;
  const unsigned char* done =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(message.data()), message.size(),
           reinterpret_cast<unsigned char*>(digest.data()), &size);
  if (done == nullptr || size != kMacSize)
    fail<Error>("store: libcrypto cannot compute HMAC-SHA256 (is SHA-256 disabled by its policy?)");
  return digest;
}

bool equal_secrets(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string random_bytes(size_t count) {
  std::string bytes(count, '\0');
  for (size_t done = 0; done < count;) {
    const ssize_t got = getrandom(bytes.data() + done, count - done, 0);
    if (got < 0 && errno != EINTR)
      fail<IoError>("getrandom: {} bytes: {}", count, std::strerror(errno));
    if (got > 0) done += static_cast<size_t>(got);
  }
  return bytes;
}

std::string to_hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string job_digest(std::string_view job_id) {
  if (job_id.empty()) return std::string(kJobDigest, '\0');
  return hmac_sha256("weft job", {job_id}).substr(0, kJobDigest);
}

std::string make_hello(std::string_view token, const Hello& hello) {
  std::string bytes;
  put<uint32_t>(bytes, kMagic);
  put<uint16_t>(bytes, kVersion);
  put<uint16_t>(bytes, hello.returning ? kReturning : 0);
  put<int32_t>(bytes, hello.rank);
  put<int32_t>(bytes, hello.epoch);
  bytes += hello.client_id;
  bytes += hello.job;
  bytes += random_bytes(kNonceSize);
  bytes += hmac_sha256(token, {"hello", bytes});
  return bytes;
}

std::string check_hello_start(std::string_view bytes) {
  Reader reader(bytes);
  const auto magic = reader.take<uint32_t>();
  const auto version = reader.take<uint16_t>();
  const auto flags = reader.take<uint16_t>();
  if (!reader.ok() || magic != kMagic) return "it speaks another language";
  if (version != kVersion)
    return fmt::format("it speaks version {} of the store's protocol, not {}", version, kVersion);
  return (flags & ~kReturning) != 0 ? "its hello is malformed" : "";
}

std::optional<Hello> check_hello(std::string_view token, std::string_view bytes) {
  if (bytes.size() != kHelloSize || !check_hello_start(bytes).empty()) return std::nullopt;
  const std::string_view content = bytes.substr(0, kSignedHello);
  if (!equal_secrets(hmac_sha256(token, {"hello", content}), bytes.substr(kSignedHello)))
    return std::nullopt;
  Reader reader(content);
  reader.take_bytes(kHelloStart - sizeof(uint16_t));
  Hello hello;
  hello.returning = reader.take<uint16_t>() == kReturning;
  hello.rank = reader.take<int32_t>();
  hello.epoch = reader.take<int32_t>();
  hello.client_id = reader.take_bytes(kClientIdSize);
  hello.job = reader.take_bytes(kJobDigest);
  return hello;
}

std::string make_refusal(std::string_view token, std::string_view hello, RefusalReason reason) {
  std::string bytes;
  put<uint8_t>(bytes, static_cast<uint8_t>(reason.code));
  put<int32_t>(bytes, reason.epoch);
  bytes.resize(kNonceSize);
  bytes += hmac_sha256(token, {"refused", hello, bytes});
  return bytes;
}

std::optional<RefusalReason> check_refusal(std::string_view token, std::string_view hello,
                                           std::string_view answer) {
  if (answer.size() != kChallengeSize) return std::nullopt;
  const std::string_view content = answer.substr(0, kNonceSize);
  if (!equal_secrets(hmac_sha256(token, {"refused", hello, content}), answer.substr(kNonceSize)))
    return std::nullopt;
  Reader reader(content);
  RefusalReason reason;
  reason.code = static_cast<Refusal>(reader.take<uint8_t>());
  reason.epoch = reader.take<int32_t>();
  return reason;
}

SessionKeys derive_keys(std::string_view token, std::string_view hello,
                        std::string_view challenge) {
  const std::string session = hmac_sha256(token, {"session", hello, challenge});
  return {.client = hmac_sha256(session, {"client\1"}),
          .server = hmac_sha256(session, {"server\1"})};
}

std::string make_challenge(std::string_view token, std::string_view hello) {
  std::string bytes = random_bytes(kNonceSize);
  bytes += hmac_sha256(token, {"server", hello, bytes});
  return bytes;
}

bool check_challenge(std::string_view token, std::string_view hello, std::string_view challenge) {
  if (challenge.size() != kChallengeSize) return false;
  const std::string_view nonce = challenge.substr(0, kNonceSize);
  return equal_secrets(hmac_sha256(token, {"server", hello, nonce}), challenge.substr(kNonceSize));
}

std::string make_proof(std::string_view token, std::string_view hello, std::string_view challenge) {
  return hmac_sha256(token, {"client", hello, challenge.substr(0, kNonceSize)});
}

bool check_proof(std::string_view token, std::string_view hello, std::string_view challenge,
                 std::string_view proof) {
  return equal_secrets(make_proof(token, hello, challenge), proof);
}

std::string local_secret(std::string_view path) {
  return std::string("weft store at ").append(path);
}

void check_token(std::string_view origin, std::string_view token) {
  if (token.size() < kMinTokenLength)
    fail<ArgumentError>(
        "store: {} has {} characters; a job's token needs at least {}, and must be "
        "random",
        origin, token.size(), kMinTokenLength);
}

}  // namespace weft::inline v0::dist::detail
