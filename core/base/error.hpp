// The family of errors that weft throws. Every text names the operation, what is wrong, the values
// received and, where it is known, what to do.
#pragma once

#include <stdexcept>
#include <string>

#include <weft/core/base/api.hpp>

namespace weft::inline v0 {

/// Base of every error that weft throws on purpose.
class WEFT_API Error : public std::runtime_error {
 public:
  explicit Error(const std::string& text);
  ~Error() override;
};

/// A wrong argument: shape, dtype, flag, name, state of a tensor or a module.
class WEFT_API ArgumentError : public Error {
 public:
  using Error::Error;
  ~ArgumentError() override;
};

/// A device that is missing, or a tensor on the wrong device (host access to device memory
/// included).
class WEFT_API DeviceError : public Error {
 public:
  using Error::Error;
  ~DeviceError() override;
};

/// An allocation that does not fit; the text has the operation, the bytes asked for and the bytes
/// in use.
class WEFT_API OutOfMemory : public Error {
 public:
  using Error::Error;
  ~OutOfMemory() override;
};

/// The operating system refused to read, write, open or map something.
class WEFT_API IoError : public Error {
 public:
  using Error::Error;
  ~IoError() override;
};

/// A file or a message whose content breaks its format. `code()` is stable, for programs and tests
/// (for instance E_TRUNCATED); the text is for people.
class WEFT_API FormatError : public Error {
 public:
  FormatError(std::string code, const std::string& text);
  ~FormatError() override;
  const std::string& code() const noexcept { return code_; }

 private:
  std::string code_;
};

/// Something between ranks went wrong; the derived types say what.
class WEFT_API CommError : public Error {
 public:
  using Error::Error;
  ~CommError() override;
};

/// A deadline passed; the text names who was missing and what was waited for.
class WEFT_API TimeoutError : public CommError {
 public:
  using CommError::CommError;
  ~TimeoutError() override;
};

/// A rank of the group is gone. `rank()` is that rank, or -1 where it is not known.
class WEFT_API PeerLost : public CommError {
 public:
  PeerLost(int rank, const std::string& text);
  ~PeerLost() override;
  int rank() const noexcept { return rank_; }

 private:
  int rank_;
};

/// The ranks of a group called different collectives; the text has both descriptions.
class WEFT_API DesyncError : public CommError {
 public:
  using CommError::CommError;
  ~DesyncError() override;
};

}  // namespace weft::inline v0
