#include <weft/dist/store/channel.hpp>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/auth.hpp>
#include <weft/dist/store/bytes.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

namespace {

struct FreeMac {
  void operator()(EVP_MAC* mac) const { EVP_MAC_free(mac); }
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};

}  // namespace

/// HMAC-SHA256 with the key's schedule kept, which halves the cost of a short frame.
struct FrameSealer::Mac {
  std::unique_ptr<EVP_MAC_CTX, FreeMac> context;

  explicit Mac(std::string_view key) {
    const std::unique_ptr<EVP_MAC, FreeMac> mac(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
    context.reset(mac ? EVP_MAC_CTX_new(mac.get()) : nullptr);
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end()};
    check(context != nullptr &&
          EVP_MAC_init(context.get(), reinterpret_cast<const unsigned char*>(key.data()),
                       key.size(), parameters) == 1);
  }

  static void check(bool done) {
    if (!done) fail<Error>("store: libcrypto cannot compute HMAC-SHA256");
  }

  void add(std::string_view bytes) {
    check(EVP_MAC_update(context.get(), reinterpret_cast<const unsigned char*>(bytes.data()),
                         bytes.size()) == 1);
  }
};

FrameSealer::FrameSealer(std::string_view key) : mac_(std::make_unique<Mac>(key)) {}
FrameSealer::~FrameSealer() = default;
FrameSealer::FrameSealer(FrameSealer&&) noexcept = default;
FrameSealer& FrameSealer::operator=(FrameSealer&&) noexcept = default;

std::string FrameSealer::next(std::string_view frame) {
  EVP_MAC_CTX* context = mac_->context.get();
  Mac::check(EVP_MAC_init(context, nullptr, 0, nullptr) == 1);
  std::string number;
  put<uint64_t>(number, count_++);
  mac_->add(number);
  mac_->add(frame);
  unsigned char digest[EVP_MAX_MD_SIZE];
  size_t size = 0;
  Mac::check(EVP_MAC_final(context, digest, &size, sizeof digest) == 1 && size >= kTagSize);
  return {reinterpret_cast<const char*>(digest), kTagSize};
}

FrameChannel::FrameChannel(std::string_view send_key, std::string_view receive_key)
    : sender_(std::make_unique<FrameSealer>(send_key)),
      receiver_(std::make_unique<FrameSealer>(receive_key)) {}

void FrameChannel::seal(std::string& out, std::string_view frame) {
  out += frame;
  if (sender_) out += sender_->next(frame);
}

ParseState FrameChannel::open(std::string_view bytes, Frame& frame, size_t& size) {
  const ParseState state = parse_frame(bytes, frame);
  if (state != ParseState::complete) return state;
  size = frame.size;
  if (!receiver_) return state;
  const std::string_view tag = bytes.substr(frame.size, kTagSize);
  if (tag.size() < kTagSize) return ParseState::incomplete;
  size += kTagSize;
  return equal_secrets(receiver_->next(bytes.substr(0, frame.size)), tag) ? ParseState::complete
                                                                          : ParseState::forged;
}

}  // namespace weft::inline v0::dist::detail
