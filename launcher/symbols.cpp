#include <weft/launcher/symbols.hpp>

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

#include <weft/dist/store/socket.hpp>

namespace weft::inline v0::launcher {

namespace {

/// A file in memory; every read of it is checked against its size.
class Image {
 public:
  explicit Image(const std::string& path) {
    const dist::detail::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat info {};
    if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size <= 0)
      return;
    const auto size = static_cast<size_t>(info.st_size);
    void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (at == MAP_FAILED) return;
    bytes_ = static_cast<const char*>(at);
    size_ = size;
  }
  ~Image() {
    if (bytes_ != nullptr) ::munmap(const_cast<char*>(bytes_), size_);
  }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  template <class T>
  std::optional<T> read(uint64_t at) const {
    if (at > size_ || size_ - at < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_ + at, sizeof value);
    return value;
  }

  std::string_view text(uint64_t at) const {
    if (at >= size_) return {};
    return {bytes_ + at, ::strnlen(bytes_ + at, size_ - at)};
  }

 private:
  const char* bytes_ = nullptr;
  size_t size_ = 0;
};

std::optional<uint64_t> address_of(const Image& image, const Elf64_Ehdr& header, uint64_t offset) {
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    const auto segment = image.read<Elf64_Phdr>(header.e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) break;
    if (segment->p_type == PT_LOAD && offset >= segment->p_offset &&
        offset - segment->p_offset < segment->p_filesz)
      return offset - segment->p_offset + segment->p_vaddr;
  }
  return std::nullopt;
}

/// The function of one table of symbols that covers `address`.
std::string find_in(const Image& image, const Elf64_Shdr& table, const Elf64_Shdr& names,
                    uint64_t address) {
  for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= table.sh_size; at += sizeof(Elf64_Sym)) {
    const auto symbol = image.read<Elf64_Sym>(table.sh_offset + at);
    if (!symbol) break;
    const int type = ELF64_ST_TYPE(symbol->st_info);
    if ((type == STT_FUNC || type == STT_GNU_IFUNC) && symbol->st_shndx != SHN_UNDEF &&
        address >= symbol->st_value && address - symbol->st_value < symbol->st_size)
      return std::string(image.text(names.sh_offset + symbol->st_name));
  }
  return {};
}

}  // namespace

std::string symbol_at(const std::string& path, uint64_t file_offset) {
  const Image image(path);
  const auto header = image.read<Elf64_Ehdr>(0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
      header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_phentsize != sizeof(Elf64_Phdr) ||
      header->e_shentsize != sizeof(Elf64_Shdr))
    return {};
  const auto address = address_of(image, *header, file_offset);
  if (!address) return {};
  const auto section = [&](uint64_t index) {
    return image.read<Elf64_Shdr>(header->e_shoff + index * sizeof(Elf64_Shdr));
  };
  // The full table knows a file's own functions too; a stripped file has the exported ones alone.
  for (const uint32_t wanted : {SHT_SYMTAB, SHT_DYNSYM}) {
    for (uint64_t i = 0; i < header->e_shnum; ++i) {
      const auto table = section(i);
      if (!table || table->sh_type != wanted) continue;
      const auto names = section(table->sh_link);
      if (!names) continue;
      if (std::string name = find_in(image, *table, *names, *address); !name.empty())
        return name.starts_with("_Z") ? demangled(name) : name;
    }
  }
  return {};
}

std::string demangled(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free);
  if (status != 0 || !text) return name;
  // As users write them: no inline namespace, short names of the library's types.
  std::string plain = text.get();
  const auto replace = [&](std::string_view from, std::string_view to) {
    for (size_t at = 0; (at = plain.find(from, at)) != std::string::npos; at += to.size())
      plain.replace(at, from.size(), to);
  };
  replace("weft::v0::", "weft::");
  replace("std::__cxx11::", "std::");
  replace("std::basic_string<char, std::char_traits<char>, std::allocator<char> >", "std::string");
  return plain;
}

}  // namespace weft::inline v0::launcher
