#include <weft/core/base/error.hpp>

#include <utility>

namespace weft::inline v0 {

// The destructors are defined here so that each type has one vtable and one typeinfo, in libweft:
// a catch in a program or a plugin then compares equal addresses.
Error::Error(const std::string& text) : std::runtime_error(text) {}
Error::~Error() = default;
ArgumentError::~ArgumentError() = default;
DeviceError::~DeviceError() = default;
OutOfMemory::~OutOfMemory() = default;
IoError::~IoError() = default;
CommError::~CommError() = default;
TimeoutError::~TimeoutError() = default;
DesyncError::~DesyncError() = default;

FormatError::FormatError(std::string code, const std::string& text)
    : Error(text), code_(std::move(code)) {}
FormatError::~FormatError() = default;

PeerLost::PeerLost(int rank, const std::string& text) : CommError(text), rank_(rank) {}
PeerLost::~PeerLost() = default;

}  // namespace weft::inline v0
