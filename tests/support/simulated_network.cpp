#include <weft/tests/support/simulated_network.hpp>

#include <algorithm>

namespace weft::test {

using namespace std::chrono_literals;

namespace {

constexpr SimulatedNetwork::Duration kGiveUp = 10s;  // as TCP_USER_TIMEOUT and keepalive say

}  // namespace

SimulatedNetwork::SimulatedNetwork(uint64_t seed, Options options)
    : options_(options), random_(seed) {}

bool SimulatedNetwork::chance(double probability) {
  return std::uniform_real_distribution<double>(0, 1)(random_) < probability;
}

SimulatedNetwork::Duration SimulatedNetwork::between(Duration low, Duration high) {
  return Duration(std::uniform_int_distribution<Duration::rep>(low.count(), high.count())(random_));
}

void SimulatedNetwork::after(Duration delay, std::function<void()> action, int host) {
  events_.push({now_ + delay, next_event_++, host, std::move(action)});
}

void SimulatedNetwork::listen(int host, std::function<void(SocketPtr)> accept) {
  listeners_[host] = std::move(accept);
}

SimulatedNetwork::Time SimulatedNetwork::open_again(int a, int b) const {
  const auto found = partitions_.find(std::minmax(a, b));
  return found == partitions_.end() ? now_ : std::max(now_, found->second);
}

void SimulatedNetwork::connect(int from, int to, std::function<void(SocketPtr)> done) {
  const Duration there = between(options_.least_delay, options_.most_delay);
  if (open_again(from, to) > now_ + 2s)
    return after(
        2s, [done] { done(nullptr); }, from);
  after(open_again(from, to) - now_ + there, [this, from, to, done] {
    const Duration back = between(options_.least_delay, options_.most_delay);
    if (crashed(to) || !listeners_.contains(to))
      return after(
          back, [done] { done(nullptr); }, from);
    auto near = std::make_shared<Socket>(), far = std::make_shared<Socket>();
    for (const auto& [own, other, host, peer_host] :
         {std::tuple(near, far, from, to), std::tuple(far, near, to, from)}) {
      own->network_ = this;
      own->peer_ = other;
      own->host_ = host;
      own->peer_host_ = peer_host;
      sockets_.push_back(own);
    }
    listeners_.at(to)(far);
    after(
        back, [near, done] { done(near); }, from);
  });
}

void SimulatedNetwork::Socket::send(std::string bytes) {
  SimulatedNetwork& net = *network_;
  if (!open_ || broken_ || bytes.empty()) return;
  const Time passable = net.open_again(host_, peer_host_);
  if (passable > net.now_ + kGiveUp) return net.break_connection(*this);
  const auto peer = peer_.lock();
  if (!peer || !peer->open_) {  // the other side answers with a reset, if it still runs
    if (!net.crashed(peer_host_)) net.tell_closed(weak_from_this(), false);
    return;
  }
  const bool tampered = net.chance(net.options_.tamper_chance);
  const bool breaks = net.chance(net.options_.break_chance);
  const Time earliest = passable + net.between(net.options_.least_delay, net.options_.most_delay);
  const Time time = std::max(last_delivery_, earliest);
  last_delivery_ = time;
  if (!tampered) {
    net.deliver(*this, std::move(bytes), time);
  } else {
    switch (net.random_() % 4) {
      case 0: break;  // left out
      case 1:         // doubled
        net.deliver(*this, bytes, time);
        net.deliver(*this, std::move(bytes), time);
        break;
      case 2:  // changed
        bytes[net.random_() % bytes.size()] ^= static_cast<char>(1u << (net.random_() % 8));
        net.deliver(*this, std::move(bytes), time);
        break;
      default:  // swapped with what comes after it
        net.deliver(*this, std::move(bytes), time + 2 * net.options_.most_delay);
        break;
    }
  }
  if (breaks) net.break_connection(*this);
}

void SimulatedNetwork::deliver(Socket& from, std::string bytes, Time time) {
  after(time - now_, [peer = from.peer_, bytes = std::move(bytes)] {
    const auto to = peer.lock();
    if (!to || !to->open_ || !to->on_bytes) return;
    const auto handler = to->on_bytes;  // it may be replaced while it runs
    handler(bytes);
  });
}

/// What is under way still arrives, what comes later does not; the ends learn of it one by one.
void SimulatedNetwork::break_connection(Socket& end) {
  end.broken_ = true;
  tell_closed(end.weak_from_this(), false);
  if (const auto peer = end.peer_.lock()) {
    peer->broken_ = true;
    tell_closed(peer, chance(options_.silent_break));
  }
}

void SimulatedNetwork::tell_closed(const std::weak_ptr<Socket>& end, bool silent) {
  const Duration delay = silent ? kGiveUp : between(options_.least_delay, 4 * options_.most_delay);
  after(delay, [end] {
    if (const auto socket = end.lock()) socket->closed_by_network();
  });
}

void SimulatedNetwork::Socket::closed_by_network() {
  if (!open_) return;
  open_ = false;
  if (!on_close || network_->crashed(host_)) return;
  const auto handler = on_close;
  handler();
}

void SimulatedNetwork::Socket::close() {
  if (!open_) return;
  open_ = false;
  const Time passable = network_->open_again(host_, peer_host_);
  // The end of the bytes comes behind them.
  const Time time = std::max({last_delivery_, passable, network_->now_});
  if (!broken_)
    network_->after(time - network_->now_ + network_->options_.most_delay, [peer = peer_] {
      if (const auto socket = peer.lock()) socket->closed_by_network();
    });
}

void SimulatedNetwork::crash(int host) {
  crashed_.insert(host);
  listeners_.erase(host);
  const bool silent = chance(options_.silent_crash);
  for (const auto& entry : sockets_) {
    const auto socket = entry.lock();
    if (!socket || socket->host_ != host || !socket->open_) continue;
    socket->open_ = false;
    if (const auto peer = socket->peer_.lock()) {
      peer->broken_ = true;
      tell_closed(peer, silent);
    }
  }
}

void SimulatedNetwork::partition(int a, int b, Duration duration) {
  Time& end = partitions_[std::minmax(a, b)];
  end = std::max(end, now_ + duration);
}

bool SimulatedNetwork::run(Duration limit, const std::function<bool()>& done) {
  const Time end = now_ + limit;
  while (!done()) {
    if (events_.empty() || events_.top().time > end) return false;
    const Event event = events_.top();
    events_.pop();
    now_ = std::max(now_, event.time);
    if (event.host < 0 || !crashed(event.host)) event.action();
  }
  return true;
}

}  // namespace weft::test
