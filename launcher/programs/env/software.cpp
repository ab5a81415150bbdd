// What weft is built from and runs on: the library itself, those it needs, the system, tools.
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <openssl/crypto.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <weft/core/base/check.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/program.hpp>
#include <weft/launcher/programs/env/facts.hpp>
#include <weft/launcher/programs/find_launcher.hpp>

namespace weft::inline v0::env_report {

namespace {

/// libweft, loaded beside this program; it stays until the program ends.
struct Library {
  void* handle;
  std::string problem;
};

const Library& libweft() {
  static const Library library = [] {
    void* handle = ::dlopen("libweft.so.0", RTLD_NOW | RTLD_LOCAL);
    const char* error = handle == nullptr ? ::dlerror() : nullptr;
    return Library{handle, error == nullptr ? "" : error};
  }();
  return library;
}

template <class F>
F* symbol(const char* name) {
  void* handle = libweft().handle == nullptr ? RTLD_DEFAULT : libweft().handle;
  return reinterpret_cast<F*>(::dlsym(handle, name));
}

std::string path_of(const void* address) {
  Dl_info info{};
  if (::dladdr(address, &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code error;
  const auto real = std::filesystem::canonical(info.dli_fname, error);
  return error ? info.dli_fname : real.string();
}

/// oneDNN's answer to dnnl_version().
struct DnnlVersion {
  int major, minor, patch;
};

std::string limit_text(rlim_t value, bool bytes) {
  if (value == RLIM_INFINITY) return "unlimited";
  return bytes ? bytes_text(static_cast<double>(value)) : std::to_string(value);
}

/// Where PATH has `name`; empty where it does not.
std::string on_path(const char* name) {
  try {
    return launcher::find_program(name);
  } catch (const launcher::LaunchError&) {
    return {};
  }
}

}  // namespace

Section weft_section() {
  Section section{"weft"};
  section.add("version", WEFT_VERSION);
  try {
    section.add("launcher", launcher::find_launcher());
  } catch (const Error& error) {
    section.add("launcher", error.what());
  }
  if (libweft().handle == nullptr) {
    section.add("libweft", "cannot be loaded: " + libweft().problem);
    return section;
  }
  // weft::version and weft::build_info (core/build_info.hpp), by the names that they have in the
  // library.
  auto* version = symbol<const char*()>("_ZN4weft2v07versionEv");
  auto* info = symbol<const char*()>("_ZN4weft2v010build_infoEv");
  if (version == nullptr || info == nullptr) {
    section.add("libweft", "is of another version: it does not tell how it was built");
    return section;
  }
  section.add("libweft", path_of(reinterpret_cast<const void*>(info)));
  if (std::string(version()) != WEFT_VERSION)
    section.add("mismatch", fmt::format("libweft is {}, this program {}", version(), WEFT_VERSION));
  std::istringstream lines(info());
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(": ");
    if (colon != std::string::npos && !line.starts_with("version"))
      section.add(line.substr(0, colon), line.substr(colon + 2));
  }
  return section;
}

Section library_section() {
  Section section{"libraries"};
  if (auto* dnnl = symbol<const DnnlVersion*()>("dnnl_version")) {
    const DnnlVersion* version = dnnl();
    section.add("oneDNN",
                fmt::format("{}.{}.{} ({})", version->major, version->minor, version->patch,
                            path_of(reinterpret_cast<const void*>(dnnl))));
  } else {
    section.add("oneDNN", "not loaded");
  }
  if (auto* tbb = symbol<const char*()>("TBB_runtime_version"))
    section.add("oneTBB",
                fmt::format("{} ({})", tbb(), path_of(reinterpret_cast<const void*>(tbb))));
  else
    section.add("oneTBB", "not loaded");
  section.add("OpenSSL", OpenSSL_version(OPENSSL_VERSION));
  section.add("glibc", ::gnu_get_libc_version());
  std::vector<std::string> others;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        const std::string path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
        for (const char* name : {"libfmt.", "libspdlog.", "libxxhash.", "libgloo.", "libgomp.",
                                 "libstdc++.", "libyaml-cpp."})
          if (path.find(name) != std::string::npos) {
            std::error_code error;
            const auto real = std::filesystem::canonical(path, error);
            static_cast<std::vector<std::string>*>(data)->push_back(error ? path : real.string());
          }
        return 0;
      },
      &others);
  std::sort(others.begin(), others.end());
  if (!others.empty()) section.add_list("others", others);
  return section;
}

Section system_section(const std::string& root) {
  Section section{"system"};
  std::ifstream release(root + "etc/os-release");
  std::string name = "unknown";
  for (std::string line; std::getline(release, line);)
    if (line.starts_with("PRETTY_NAME=")) {
      name = line.substr(12);
      std::erase(name, '"');
    }
  section.add("distribution", name);
  utsname facts{};
  if (::uname(&facts) == 0) {
    section.add("kernel", fmt::format("{} {}", facts.sysname, facts.release));
    section.add("machine", facts.machine);
  }
  const std::string container = std::filesystem::exists(root + ".dockerenv") ||
                                        std::filesystem::exists(root + "run/.containerenv")
                                    ? "yes"
                                    : "no sign of one";
  section.add("container", container);
  return section;
}

Section limit_section() {
  Section section{"limits"};
  const auto add = [&](const char* name, __rlimit_resource resource, bool bytes) {
    rlimit limit{};
    if (::getrlimit(resource, &limit) != 0) return;
    section.add(name, fmt::format("{}, at most {}", limit_text(limit.rlim_cur, bytes),
                                  limit_text(limit.rlim_max, bytes)));
  };
  add("open files", RLIMIT_NOFILE, false);
  add("processes", RLIMIT_NPROC, false);
  add("locked memory", RLIMIT_MEMLOCK, true);
  add("address space", RLIMIT_AS, true);
  add("stack", RLIMIT_STACK, true);
  add("core files", RLIMIT_CORE, true);
  return section;
}

Section tool_section() {
  Section section{"tools"};
  for (const char* name : {"srun", "sbatch", "mpirun", "ssh", "numactl", "gdb", "nvidia-smi"}) {
    const std::string path = on_path(name);
    section.add(name, path.empty() ? "not on PATH" : path);
  }
  return section;
}

}  // namespace weft::inline v0::env_report
