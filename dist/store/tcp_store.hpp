// The store over TCP or, on one host, a Unix socket: the server, which the launcher or rank 0
// hosts, and the client in every rank.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <weft/core/base/api.hpp>
#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist {

inline constexpr size_t kMinTokenLength = 16;  ///< characters of a job's token, at least

struct StoreServerOptions {
  /// the one address to bind, no wildcard; or unix:/FOLDER/NAME, see local_store_address()
  std::string address = "127.0.0.1";
  int port = 0;             ///< 0: any free one; not for a Unix socket
  std::string token = {};   ///< the job's secret, at least kMinTokenLength characters; not for a
                            ///< Unix socket, where the system vouches for the user
  std::string job_id = {};  ///< (optional) clients that name another job are refused
  double handshake_timeout = 5.0;  ///< seconds a new connection has to prove the token
  /// seconds a member has to come back when its connection breaks; negative: 3, which is more than
  /// an interval of its signs of life, or 0.5 on a Unix socket, which does not break by itself
  double reconnect_grace = -1;
  /// (optional) told, on the server's thread, why a connection was dropped; must not throw
  std::function<void(std::string_view)> report = nullptr;
  /// (optional) told, on the server's thread, that a member is gone and why; must not throw
  std::function<void(std::string_view member, std::string_view reason)> on_gone = nullptr;
  /// (optional) told, on the server's thread, of each key that a client sets, with its value and
  /// the client's address; must not throw
  std::function<void(std::string_view key, std::string_view value, std::string_view peer)> on_set =
      nullptr;
};

/// The store's server: one thread, which reads and answers all connections. Both sides prove that
/// they hold the token (HMAC-SHA256 over fresh nonces, RFC 2104); a connection that cannot gets no
/// byte of answer. Every frame carries a MAC under a key of its connection (derived as in RFC
/// 5869), so that a changed, repeated or malformed one ends its connection and no other. Values are
/// not encrypted. On a Unix socket both sides check that the other one is of their user
/// (SO_PEERCRED) instead. Its folder, mode 0700, is made where it is missing; sockets that dead
/// processes left there are removed; at the end the socket goes, and the folder with the last one.
class WEFT_API StoreServer {
 public:
  /// Binds and starts. Throws ArgumentError for a wildcard address or a short token, IoError where
  /// the address cannot be bound, is in use, or the socket's folder is not this user's alone.
  explicit StoreServer(StoreServerOptions options);
  ~StoreServer();
  StoreServer(const StoreServer&) = delete;
  StoreServer& operator=(const StoreServer&) = delete;

  const std::string& address() const noexcept;
  int port() const noexcept;

  /// Sets `key` from the host's side; does not wait for the server's thread. From any thread.
  /// Throws ArgumentError for a key or a value outside the store's limits.
  void publish(std::string_view key, std::string_view value);

  /// Removes all keys that begin with `prefix`; does not wait for the server's thread either.
  void delete_prefix(std::string_view prefix);

  /// A new attempt of the job begins: clients whose TcpStoreOptions::epoch is set and lower are
  /// disconnected and refused from now on; they are not reported as gone. Does not wait either.
  void set_epoch(int epoch);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct TcpStoreOptions {
  std::string host = "127.0.0.1";  ///< or unix:/FOLDER/NAME
  int port = 0;                    ///< not for a Unix socket
  std::string token = {};          ///< not for a Unix socket
  double timeout = kStoreTimeout;  ///< seconds: to connect, and the default of every call
  int rank = -1;                   ///< (optional) named in the server's reports
  int epoch = -1;           ///< (optional) the attempt (RESTART_COUNT) that this client is of
  std::string job_id = {};  ///< (optional) the job that the server has to be of
};

/// A connection to a StoreServer. Calls from several threads share it, a waiting one holds up no
/// other. A broken connection is made again and calls under way are repeated, without effect twice;
/// CommError where the server that is found then is another one.
class WEFT_API TcpStore final : public Store {
 public:
  /// Connects, trying again until the timeout where nobody listens yet. Throws TimeoutError then,
  /// CommError where the handshake fails (another job's token) or the Unix socket is another
  /// user's, ArgumentError for a short token.
  explicit TcpStore(TcpStoreOptions options);
  ~TcpStore() override;

 private:
  struct Impl;

  void do_set(std::string_view key, std::string_view value, double timeout) override;
  std::string do_get(std::string_view key, double timeout) override;
  void do_wait(const std::vector<std::string>& keys, double timeout) override;
  bool do_check(const std::vector<std::string>& keys, double timeout) override;
  int64_t do_add(std::string_view key, int64_t amount, double timeout) override;
  std::string do_compare_set(std::string_view key, std::string_view expected,
                             std::string_view desired, double timeout) override;
  bool do_delete(std::string_view key, double timeout) override;
  size_t do_wait_any(const std::vector<std::string>& keys, double timeout) override;
  int64_t do_delete_prefix(std::string_view prefix, double timeout) override;
  void do_barrier(std::string_view name, int64_t count, double timeout) override;
  void do_join(std::string_view member, const MemberOptions& options, double timeout) override;
  void do_leave(double timeout) override;
  double do_seconds_since_contact() const override;

  std::unique_ptr<Impl> impl_;
};

/// "unix:/tmp/weft-UID/store-HASH": where the ranks of the job `job_id` meet that run on one host
/// without a launcher: rank 0 gives it to its StoreServer, all ranks to their TcpStore. The place
/// follows from user and job alone, not from the environment, as the ranks may be started from
/// different sessions. Throws ArgumentError for an empty id.
WEFT_API std::string local_store_address(std::string_view job_id);

/// The store of the job that this process belongs to, by its environment: that of the launcher
/// (WEFT_STORE, with the secret of WEFT_TOKEN). Without a launcher rank 0 hosts it: on one host at
/// a Unix socket that the job's name leads to (`local_store_address(Place::job)`); on several, or
/// where WEFT_TOKEN_FILE is set beside MASTER_ADDR and MASTER_PORT, over TCP at MASTER_ADDR, else
/// at the first host that SLURM names, and at MASTER_PORT, else at a port that follows from the
/// job's name, with the secret of the file WEFT_TOKEN_FILE. A process alone gets an InProcessStore.
/// The timeout is WEFT_JOIN_TIMEOUT. Throws ArgumentError, naming the variables, where they are
/// incomplete or contradict each other, and what StoreServer and TcpStore throw.
WEFT_API std::shared_ptr<Store> connect_store_from_environment();

/// What all keys of one attempt (RESTART_COUNT) of a launched job begin with, and a '/'.
WEFT_API std::string attempt_prefix(int attempt);

/// The key under which the launcher publishes, as one line of text, that `rank` ended before the
/// job did: "rank 2 (pid 123) killed by SIGKILL".
WEFT_API std::string rank_exit_key(int rank);

}  // namespace weft::inline v0::dist
