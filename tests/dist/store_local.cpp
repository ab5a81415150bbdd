// The store on a Unix socket: one user's, found by its path, nothing left behind.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/local_socket.hpp>
#include <weft/tests/dist/store_support.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::dist::detail;
using namespace weft::test;
namespace fs = std::filesystem;

namespace {

/// A place for a store's folder, which the store itself makes.
struct Place {
  TempDir parent;
  fs::path folder = parent / "weft";
  std::string address(const std::string& name = "store-job") const {
    return "unix:" + (folder / name).string();
  }
  /// Error texts without the path.
  Normalise normalise() const {
    return [path = parent.path().string()](std::string text) {
      return without_digits(replaced(std::move(text), path, "DIR"));
    };
  }
};

TcpStoreOptions client_of(const std::string& address, double timeout = 10) {
  return {.host = address, .timeout = timeout};
}

fs::path path_of(const std::string& address) { return address.substr(kLocalScheme.size()); }

/// Leaves the socket of a process that was killed.
void leave_dead_socket(const std::string& address) {
  int ready[2];
  REQUIRE(::pipe2(ready, O_CLOEXEC) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    LocalListener listener(local_path(address));
    const ssize_t told = ::write(ready[1], "x", 1);
    for (;;) ::pause();
    ::_exit(static_cast<int>(told));
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  ::close(ready[0]);
  ::close(ready[1]);
  ::kill(child, SIGKILL);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  REQUIRE(fs::is_socket(path_of(address)));
}

/// Runs `action` in a thread that is another user towards sockets, but not towards files. Needs
/// root.
void as_other_user(const std::function<void()>& action) {
  std::thread([&] {
    REQUIRE(::syscall(SYS_setresuid, -1, 65534, -1) == 0);  // of this thread alone
    ::setfsuid(0);
    action();
  }).join();
}

}  // namespace

TEST_CASE("store on a Unix socket: clients meet without a token, nothing is left") {
  const Place place;
  {
    StoreServer server({.address = place.address()});
    CHECK(server.address() == place.address());
    CHECK((fs::status(place.folder).permissions() & fs::perms::all) == fs::perms::owner_all);
    TcpStore a(client_of(place.address())), b(client_of(place.address()));
    std::thread later([&] { b.set("from b", "1"); });
    CHECK(a.get("from b") == "1");
    later.join();
    CHECK(a.add("n", 2) + b.add("n", 3) == 7);
  }
  CHECK_FALSE(fs::exists(place.folder));
}

TEST_CASE("store on a Unix socket: a client waits for a server that starts later") {
  const Place place;
  std::unique_ptr<TcpStore> client;
  std::thread early([&] { client = std::make_unique<TcpStore>(client_of(place.address(), 30)); });
  StoreServer server({.address = place.address()});
  early.join();
  client->set("k", "v");
}

TEST_CASE("store on a Unix socket: jobs share the folder, the last one removes it") {
  const Place place;
  auto a = std::make_unique<StoreServer>(StoreServerOptions{.address = place.address("store-a")});
  auto b = std::make_unique<StoreServer>(StoreServerOptions{.address = place.address("store-b")});
  TcpStore(client_of(place.address("store-a"))).set("k", "a");
  CHECK_FALSE(TcpStore(client_of(place.address("store-b"))).check({"k"}));
  a.reset();
  CHECK_FALSE(fs::exists(path_of(place.address("store-a"))));
  TcpStore(client_of(place.address("store-b"))).set("k", "b");
  b.reset();
  CHECK_FALSE(fs::exists(place.folder));
}

TEST_CASE("store on a Unix socket: jobs that start and end at the same time do not meet") {
  const Place place;
  std::vector<std::thread> jobs;
  for (int job = 0; job < 8; ++job)
    jobs.emplace_back([&, job] {
      const std::string address = place.address("store-" + std::to_string(job));
      for (int round = 0; round < 20; ++round) {
        StoreServer server({.address = address});
        TcpStore client(client_of(address));
        CHECK(client.add("n", 1) == 1);
      }
    });
  for (std::thread& job : jobs) job.join();
  CHECK_FALSE(fs::exists(place.folder));
}

TEST_CASE("store on a Unix socket: what a killed process left is removed by the next one") {
  const Place place;
  leave_dead_socket(place.address("store-dead"));
  leave_dead_socket(place.address("store-same"));
  StoreServer live({.address = place.address("store-live")});
  CHECK_FALSE(fs::exists(path_of(place.address("store-dead"))));
  leave_dead_socket(place.address("store-same"));
  StoreServer same({.address = place.address("store-same")});
  TcpStore(client_of(place.address("store-same"))).set("k", "v");
  TcpStore(client_of(place.address("store-live"))).set("k", "v");
}

TEST_CASE("store on a Unix socket: a forked process leaves the name alone") {
  const Place place;
  StoreServer* server = nullptr;
  std::unique_ptr<StoreServer> owner;
  owner = std::make_unique<StoreServer>(StoreServerOptions{.address = place.address()});
  server = owner.get();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    server->~StoreServer();
    ::_exit(0);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  TcpStore(client_of(place.address())).set("k", "v");
}

TEST_CASE("store on a Unix socket: error texts") {
  const Place place;
  const StoreServer server({.address = place.address()});
  check_error<IoError>(
      "store_local_twice", [&] { StoreServer({.address = place.address()}); }, place.normalise());
  for (const char* bad : {"unix:", "unix:store", "unix:/store", "unix:/tmp/", "unix:a/b"})
    CHECK_THROWS_AS(StoreServer({.address = bad}), ArgumentError);
  check_error<ArgumentError>("store_local_path", [] { TcpStore({.host = "unix:store"}); });
  CHECK_THROWS_AS(StoreServer({.address = "unix:/" + std::string(120, 'x') + "/store"}),
                  ArgumentError);
  CHECK_THROWS_AS(StoreServer({.address = "unix:/no/such/folder/weft/store"}), IoError);
  check_error<TimeoutError>(
      "store_local_nobody", [&] { TcpStore(client_of(place.address("store-other"), 0.05)); },
      [&](std::string text) { return place.normalise()(replaced(std::move(text), "0.", "")); });
  CHECK_THROWS_WITH_AS(TcpStore(client_of("unix:/no/such/folder/store", 0.05)),
                       doctest::Contains("No such file"), TimeoutError);
}

TEST_CASE("store on a Unix socket: a folder that others can enter is refused by both sides") {
  const Place place;
  REQUIRE(::mkdir(place.folder.c_str(), 0755) == 0);
  REQUIRE(::chmod(place.folder.c_str(), 0755) == 0);
  check_error<IoError>(
      "store_local_folder", [&] { StoreServer({.address = place.address()}); }, place.normalise());
  CHECK_THROWS_WITH_AS(TcpStore(client_of(place.address())), doctest::Contains("with mode 755"),
                       CommError);
  REQUIRE(::chmod(place.folder.c_str(), 0700) == 0);
  fs::create_directory_symlink(place.folder, place.parent / "link");
  const std::string linked = "unix:" + (place.parent / "link/store").string();
  CHECK_THROWS_AS(StoreServer({.address = linked}), IoError);
  CHECK_THROWS_AS(TcpStore(client_of(linked)), CommError);
  std::ofstream(place.parent / "file") << "x";
  CHECK_THROWS_AS(StoreServer({.address = "unix:" + (place.parent / "file/store").string()}),
                  IoError);
}

TEST_CASE("store on a Unix socket: another user is refused by both sides") {
  if (::geteuid() != 0) WEFT_SKIP("becoming another user needs root");
  const Place place;
  Reports reports;
  StoreServer server({.address = place.address(), .report = reports.sink()});
  as_other_user([&] {
    const Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_of(place.address()).string().copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    std::string bytes;
    CHECK(receive_some(fd.get(), bytes, deadline_after(10)) == IoResult::closed);
  });
  CHECK(reports.wait_for("it is user 65534, not 0"));

  Fd listener;
  as_other_user([&] {
    listener = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_of(place.address("store-x")).string().copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener.get(), 1) == 0);
  });
  check_error<CommError>(
      "store_local_stranger", [&] { TcpStore(client_of(place.address("store-x"))); },
      place.normalise());
  fs::remove(path_of(place.address("store-x")));
}

TEST_CASE("store on a Unix socket: its place follows from user and job") {
  const std::string address = local_store_address("job 7");
  CHECK(address == local_store_address("job 7"));
  CHECK(address != local_store_address("job 8"));
  CHECK(address.starts_with("unix:/tmp/weft-" + std::to_string(::geteuid()) + "/store-"));
  check_error<ArgumentError>("store_local_no_job", [] { local_store_address(""); });
  const std::string own = local_store_address("test of process " + std::to_string(::getpid()));
  {
    StoreServer server({.address = own});
    TcpStore(client_of(own)).set("k", "v");
  }
  CHECK_FALSE(fs::exists(path_of(own)));
}
