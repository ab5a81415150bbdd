// The store's server and client on a simulated network: the code that the real ones run (service,
// handshake, sealed frames, calls) with simulated sockets around it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <weft/dist/store/calls.hpp>
#include <weft/dist/store/channel.hpp>
#include <weft/dist/store/handshake.hpp>
#include <weft/dist/store/service.hpp>
#include <weft/tests/support/simulated_network.hpp>

namespace weft::test {

class SimulatedServer {
 public:
  SimulatedServer(SimulatedNetwork& network, int host, dist::detail::Clock::duration grace);

  dist::detail::StoreService& service() { return service_; }
  size_t connections() const { return connections_.size(); }

 private:
  struct Connection {
    SimulatedNetwork::SocketPtr socket;
    std::unique_ptr<dist::detail::ServerHandshake> handshake;
    dist::detail::FrameChannel channel;
    std::string in;
  };

  void accept(SimulatedNetwork::SocketPtr socket);
  void receive(uint64_t id, std::string_view bytes);
  bool shake_hands(uint64_t id, Connection& connection);
  void drop(uint64_t id);
  void set_timer();

  SimulatedNetwork& network_;
  int host_;
  std::map<uint64_t, Connection> connections_;
  uint64_t next_ = 1;
  std::optional<dist::detail::TimePoint> timer_;
  dist::detail::StoreService service_;
};

/// A client as StoreClient is one, with Heartbeat's rule for a member: calls give their results to
/// callbacks.
class SimulatedClient {
 public:
  using Reply = dist::detail::StoreCalls::Reply;
  /// The reply, or nothing where the time is up or the client is lost.
  using Then = std::function<void(std::optional<Reply>)>;

  SimulatedClient(SimulatedNetwork& network, int host, int server, int rank);

  void call(dist::detail::Request request, double timeout, Then then);
  /// Joins and shows signs of life from then on.
  void join(const std::string& member, std::function<void()> then);
  void leave(std::function<void()> then);

  /// Without the store for too long, refused or given up: does nothing any more.
  bool lost() const { return lost_; }
  const std::string& why() const { return why_; }
  int connections() const { return static_cast<int>(link_); }
  int host() const { return host_; }

 private:
  enum class Stage { none, connecting, challenge, open };

  void connect();
  void connected(SimulatedNetwork::SocketPtr socket);
  void receive(std::string_view bytes);
  bool take_challenge();
  void take_frames();
  void send_pending();
  void disconnect();
  void retry();
  void settle();
  void beat();
  void lose(const std::string& why);

  SimulatedNetwork& network_;
  int host_, server_, rank_;
  std::string id_;
  Stage stage_ = Stage::none;
  SimulatedNetwork::SocketPtr socket_;
  uint64_t link_ = 0;
  bool answered_ = false;
  std::string hello_, in_;
  dist::detail::FrameChannel channel_;
  dist::detail::StoreCalls calls_;
  std::map<uint64_t, Then> pending_;
  dist::detail::TimePoint contact_;
  std::string member_;
  bool lost_ = false;
  std::string why_;
};

}  // namespace weft::test
