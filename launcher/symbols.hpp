// Names for addresses in files of machine code.
#pragma once

#include <cstdint>
#include <string>

namespace weft::inline v0::launcher {

/// The function of the ELF file `path` that covers the byte at `file_offset`, its name demangled;
/// empty where the file cannot be read, is of another kind, or names none. Never throws: the file
/// may be anything, and everything read from it is checked.
std::string symbol_at(const std::string& path, uint64_t file_offset);

/// The mangled name of a function or a type as people write it; any other text as it is.
std::string demangled(const std::string& name);

}  // namespace weft::inline v0::launcher
