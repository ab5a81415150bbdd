#include <weft/dist/comm/group.hpp>

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>
#include <weft/dist/comm/spanning.hpp>
#include <weft/dist/comm/transport.hpp>

namespace weft::inline v0::dist {

using detail::Call;
using detail::CallKind;

namespace {

// Where an empty tensor has no memory: a collective of nothing still meets the other ranks.
std::byte nothing;

/// A tensor's elements, packed, in host memory.
class Packed {
 public:
  explicit Packed(const Tensor& tensor)
      : tensor_(tensor),
        packed_(tensor.device().is_cpu() && tensor.is_contiguous()
                    ? tensor
                    : tensor.detach().cpu().contiguous()) {
    const TensorImpl* impl = packed_.impl();
    WEFT_CHECK(ArgumentError, packed_.storage().is_resident(),
               "collective: the storage of this {} tensor {} is evicted; pin it before use",
               name_of(impl->dtype), to_string(impl->shape));
    data_ = impl->numel == 0 ? &nothing
                             : packed_.storage()->data + impl->storage_offset * impl->item_size();
  }

  const Shape& shape() const { return packed_.shape(); }
  DType dtype() const { return packed_.dtype(); }
  std::byte* data() const { return data_; }

 protected:
  Tensor tensor_, packed_;
  std::byte* data_;
};

/// Said before the ranks meet: afterwards the others would have gone on without this one.
const Tensor& check_result(const char* op, const Tensor& tensor) {
  if (tensor.numel() != 0)
    for (int d = 0; d < tensor.shape().rank(); ++d)
      WEFT_CHECK(ArgumentError, tensor.shape()[d] == 1 || tensor.strides()[d] != 0,
                 "{}: the result goes to an expanded tensor of shape {}, whose elements share "
                 "memory; clone() it first",
                 op, to_string(tensor.shape()));
  return tensor;
}

/// As Packed, for a tensor that is overwritten.
class PackedResult : public Packed {
 public:
  PackedResult(const char* op, const Tensor& tensor) : Packed(check_result(op, tensor)) {
    WEFT_CHECK(ArgumentError, (tensor.storage()->flags & kReadOnly) == 0,
               "{}: the tensor's storage is read-only (a mapped file); clone() the tensor first",
               op);
  }

  void write_back() {
    if (packed_.is_same(tensor_)) {
      tensor_.storage()->version.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    const NoGrad guard;
    tensor_.detach().copy_(packed_);
  }
};

void check_op(const char* name, const Tensor& tensor, ReduceOp op) {
  WEFT_CHECK(ArgumentError, op != ReduceOp::avg || is_floating(tensor.dtype()),
             "{}: avg needs a floating dtype, not {}; sum and divide instead", name,
             name_of(tensor.dtype()));
  const bool bitwise = op == ReduceOp::band || op == ReduceOp::bor || op == ReduceOp::bxor;
  WEFT_CHECK(ArgumentError, !bitwise || !is_floating(tensor.dtype()),
             "{}: {} needs whole numbers or bool, not {}", name, detail::name_of(op),
             name_of(tensor.dtype()));
}

Shape stacked(const Shape& shape, int64_t size) {
  WEFT_CHECK(ArgumentError, shape.rank() < kMaxRank,
             "all_gather: a tensor of {} dims cannot be stacked; {} is the limit", shape.rank(),
             kMaxRank);
  Shape result = shape;
  result.insert(0, size);
  return result;
}

/// The shape of one of `size` equal pieces along the first dim.
Shape piece_of(const char* op, const Shape& shape, int64_t size) {
  WEFT_CHECK(ArgumentError, shape.rank() > 0 && shape[0] % size == 0,
             "{}: the first dim of {} does not divide by the {} ranks", op, to_string(shape), size);
  Shape piece = shape;
  piece[0] /= size;
  return piece;
}

/// An empty host tensor for a result, and its memory.
struct Result {
  Tensor tensor;
  std::byte* data;
  Result(const Shape& shape, DType dtype)
      : tensor(empty(shape, {.dtype = dtype})),
        data(tensor.numel() == 0 ? &nothing : tensor.storage()->data) {}
};

std::byte* as_bytes(std::string& text) { return reinterpret_cast<std::byte*>(text.data()); }

/// Strings of these sizes from rows that are as long as the longest.
std::vector<std::string> cut_rows(const std::string& rows, const std::vector<int64_t>& sizes) {
  const size_t row = rows.size() / sizes.size();
  std::vector<std::string> result;
  for (size_t r = 0; r < sizes.size(); ++r)
    result.push_back(rows.substr(r * row, static_cast<size_t>(sizes[r])));
  return result;
}

/// The transport, for a call that other ranks see.
detail::Transport& own(const std::shared_ptr<detail::Transport>& transport, const char* op) {
  WEFT_CHECK(CommError, transport->process().here() || transport->size() == 1,
             "{}: this process ({}) is a child by fork of rank {} of group '{}' (pid {}), and no "
             "member itself; make the call in the parent",
             op, getpid(), transport->rank(), transport->name(), transport->process().pid());
  return *transport;
}

}  // namespace

Group::Group() : transport_(detail::make_single_transport("single")) {}

// Note [Forked children]
// A child by fork inherits copies of its parent's groups. Of one that spans hosts it has not the
// threads, for whose end the destructor would wait, and shares the connections: what it said or
// took down there would be its parent's. So it leaves such copies as they are. Its calls would
// count as the rank's own, before or beside those of the parent: they are refused.
Group::Group(std::unique_ptr<detail::Transport> transport)
    : transport_(transport.release(), [owner = getpid()](detail::Transport* its) {
        std::unique_ptr<detail::Transport> own(its);
        if (own->belongs_to_process() && getpid() != owner) own.release();
      }) {}

int Group::rank() const { return transport_->rank(); }
int Group::size() const { return transport_->size(); }
const std::string& Group::name() const { return transport_->name(); }

void Group::check_rank(const char* op, int rank, bool other_than_self) const {
  WEFT_CHECK(ArgumentError, rank >= 0 && rank < size(), "{}: rank {} of a group of {}", op, rank,
             size());
  WEFT_CHECK(ArgumentError, !other_than_self || rank != this->rank(),
             "{}: rank {} is this rank itself", op, rank);
}

void Group::check_alive() const { own(transport_, "check_alive").check_alive(); }
void Group::barrier() const { own(transport_, "barrier").barrier(); }

void Group::all_reduce(const Tensor& tensor, ReduceOp op) const {
  check_op("all_reduce", tensor, op);
  PackedResult packed("all_reduce", tensor);
  own(transport_, "all_reduce")
      .all_reduce({.kind = CallKind::all_reduce,
                   .dtype = packed.dtype(),
                   .op = op,
                   .shape = packed.shape()},
                  packed.data());
  packed.write_back();
}

Tensor Group::all_gather(const Tensor& tensor) const {
  const Packed packed(tensor);
  const Result result(stacked(packed.shape(), size()), packed.dtype());
  own(transport_, "all_gather")
      .all_gather({.kind = CallKind::all_gather, .dtype = packed.dtype(), .shape = packed.shape()},
                  packed.data(), result.data);
  return result.tensor.to(tensor.device());
}

Tensor Group::reduce_scatter(const Tensor& tensor, ReduceOp op) const {
  check_op("reduce_scatter", tensor, op);
  const Packed packed(tensor);
  const Shape piece = piece_of("reduce_scatter", packed.shape(), size());
  const Result result(piece, packed.dtype());
  own(transport_, "reduce_scatter")
      .reduce_scatter(
          {.kind = CallKind::reduce_scatter, .dtype = packed.dtype(), .op = op, .shape = piece},
          packed.data(), result.data);
  return result.tensor.to(tensor.device());
}

void Group::broadcast(const Tensor& tensor, int root) const {
  check_rank("broadcast", root, false);
  PackedResult packed("broadcast", tensor);
  own(transport_, "broadcast")
      .broadcast({.kind = CallKind::broadcast,
                  .dtype = packed.dtype(),
                  .root = root,
                  .shape = packed.shape()},
                 packed.data());
  packed.write_back();
}

Tensor Group::gather(const Tensor& tensor, int root) const {
  check_rank("gather", root, false);
  const Packed packed(tensor);
  const Shape shape = stacked(packed.shape(), rank() == root ? size() : 0);
  const Result result(shape, packed.dtype());
  own(transport_, "gather")
      .gather({.kind = CallKind::gather,
               .dtype = packed.dtype(),
               .root = root,
               .shape = packed.shape()},
              packed.data(), result.data);
  return rank() == root ? result.tensor.to(tensor.device()) : Tensor();
}

void Group::scatter(const Tensor& tensor, const Tensor& rows, int root) const {
  check_rank("scatter", root, false);
  PackedResult packed("scatter", tensor);
  const bool is_root = rank() == root;
  if (is_root) {
    const Shape expected = stacked(packed.shape(), size());
    WEFT_CHECK(ArgumentError, rows.shape() == expected && rows.dtype() == packed.dtype(),
               "scatter: the root's rows are {} {}, not {} {}", name_of(rows.dtype()),
               to_string(rows.shape()), name_of(packed.dtype()), to_string(expected));
  }
  const Packed source(is_root ? rows : tensor);
  own(transport_, "scatter")
      .scatter({.kind = CallKind::scatter,
                .dtype = packed.dtype(),
                .root = root,
                .shape = packed.shape()},
               source.data(), packed.data());
  packed.write_back();
}

Tensor Group::all_to_all(const Tensor& tensor) const {
  const Packed packed(tensor);
  const Result result(packed.shape(), packed.dtype());
  own(transport_, "all_to_all")
      .all_to_all({.kind = CallKind::all_to_all,
                   .dtype = packed.dtype(),
                   .shape = piece_of("all_to_all", packed.shape(), size())},
                  packed.data(), result.data);
  return result.tensor.to(tensor.device());
}

void Group::send(const Tensor& tensor, int to) const {
  check_rank("send", to, true);
  const Packed packed(tensor);
  own(transport_, "send")
      .send({.kind = CallKind::send, .dtype = packed.dtype(), .root = to, .shape = packed.shape()},
            packed.data());
}

void Group::recv(const Tensor& tensor, int from) const {
  check_rank("recv", from, true);
  PackedResult packed("recv", tensor);
  own(transport_, "recv")
      .recv(
          {.kind = CallKind::recv, .dtype = packed.dtype(), .root = from, .shape = packed.shape()},
          packed.data());
  packed.write_back();
}

std::vector<int64_t> Group::all_sizes(const std::string& bytes) const {
  const auto mine = static_cast<int64_t>(bytes.size());
  std::vector<int64_t> sizes(static_cast<size_t>(size()));
  own(transport_, "all_gather_bytes")
      .all_gather({.kind = CallKind::all_gather, .dtype = DType::i64, .shape = {1}},
                  reinterpret_cast<const std::byte*>(&mine),
                  reinterpret_cast<std::byte*>(sizes.data()));
  return sizes;
}

std::vector<std::string> Group::all_gather_bytes(const std::string& bytes) const {
  const std::vector<int64_t> sizes = all_sizes(bytes);
  const int64_t longest = *std::max_element(sizes.begin(), sizes.end());
  std::string padded = bytes, rows(static_cast<size_t>(longest) * sizes.size(), '\0');
  padded.resize(static_cast<size_t>(longest));
  own(transport_, "all_gather_bytes")
      .all_gather({.kind = CallKind::all_gather, .dtype = DType::u8, .shape = {longest}},
                  as_bytes(padded), as_bytes(rows));
  return cut_rows(rows, sizes);
}

std::vector<std::string> Group::gather_bytes(const std::string& bytes, int root) const {
  check_rank("gather_bytes", root, false);
  const std::vector<int64_t> sizes = all_sizes(bytes);
  const int64_t longest = *std::max_element(sizes.begin(), sizes.end());
  const bool is_root = rank() == root;
  std::string padded = bytes;
  std::string rows(is_root ? static_cast<size_t>(longest) * sizes.size() : 0, '\0');
  padded.resize(static_cast<size_t>(longest));
  own(transport_, "gather_bytes")
      .gather({.kind = CallKind::gather, .dtype = DType::u8, .root = root, .shape = {longest}},
              as_bytes(padded), as_bytes(rows));
  return is_root ? cut_rows(rows, sizes) : std::vector<std::string>();
}

std::string Group::broadcast_bytes(const std::string& bytes, int root) const {
  check_rank("broadcast_bytes", root, false);
  auto count = static_cast<int64_t>(bytes.size());
  own(transport_, "broadcast_bytes")
      .broadcast({.kind = CallKind::broadcast, .dtype = DType::i64, .root = root, .shape = {1}},
                 reinterpret_cast<std::byte*>(&count));
  std::string result = rank() == root ? bytes : std::string(static_cast<size_t>(count), '\0');
  own(transport_, "broadcast_bytes")
      .broadcast({.kind = CallKind::broadcast, .dtype = DType::u8, .root = root, .shape = {count}},
                 as_bytes(result));
  return result;
}

Storage Group::allocate_shared(size_t bytes) const {
  return own(transport_, "allocate_shared").allocate_shared(bytes);
}

Group Group::split(int color, int key) const {
  const int64_t mine[2] = {color, key};
  std::vector<int64_t> all(2 * static_cast<size_t>(size()));
  own(transport_, "split")
      .all_gather({.kind = CallKind::all_gather, .dtype = DType::i64, .shape = {2}},
                  reinterpret_cast<const std::byte*>(mine),
                  reinterpret_cast<std::byte*>(all.data()));
  if (color < 0) return Group();
  std::vector<int> members;
  for (int r = 0; r < size(); ++r)
    if (all[2 * static_cast<size_t>(r)] == color) members.push_back(r);
  std::stable_sort(members.begin(), members.end(), [&](int a, int b) {
    return all[2 * static_cast<size_t>(a) + 1] < all[2 * static_cast<size_t>(b) + 1];
  });
  return Group(own(transport_, "split").split(color, members));
}

void Group::set_timeout(double seconds) const {
  WEFT_CHECK(ArgumentError, seconds > 0, "set_timeout: {} seconds; must be positive", seconds);
  transport_->set_timeout(seconds);
}

std::vector<RankStatistics> Group::statistics() const { return transport_->statistics(); }

void Group::abort(const std::string& reason) const noexcept {
  if (!transport_->process().here()) return;  // the group is not a forked child's to end
  transport_->abort(fmt::format("group '{}': aborted by rank {}{}{}", name(), rank(),
                                reason.empty() ? "" : ": ", reason));
}

namespace {

/// Runs one thread for each rank of `ranks`, which joins a group with `join(rank)` and runs `body`
/// in it, and throws the first exception again.
void run_ranks(int ranks, const std::function<std::unique_ptr<detail::Transport>(int)>& join,
               const std::function<void(const Group&)>& body) {
  std::mutex mutex;
  std::exception_ptr first;
  const auto keep_first = [&] {
    const std::lock_guard lock(mutex);
    if (first == nullptr) first = std::current_exception();
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        const Group group(join(rank));
        // Kept before the group is left: what the others throw because of that comes later.
        try {
          body(group);
        } catch (...) {
          keep_first();
        }
      } catch (...) {
        keep_first();
      }
    });
  for (std::thread& thread : threads) thread.join();
  if (first != nullptr) std::rethrow_exception(first);
}

}  // namespace

void run_fake_group(int size, const std::function<void(const Group&)>& body, double timeout) {
  WEFT_CHECK(ArgumentError, size > 0, "run_fake_group: {} ranks", size);
  auto peers = detail::join_threads(size);
  run_ranks(
      size,
      [&](int rank) {
        return detail::make_shared_transport(std::move(peers[static_cast<size_t>(rank)]), "fake",
                                             timeout);
      },
      body);
}

void run_fake_nodes(const std::vector<int>& node_of, const std::function<void(const Group&)>& body,
                    double timeout) {
  const auto size = static_cast<int>(node_of.size());
  WEFT_CHECK(ArgumentError, size > 0, "run_fake_nodes: {} ranks", size);
  std::vector<std::string> hosts;
  for (const int node : node_of) hosts.push_back(fmt::format("fake{}", node));
  detail::SpanningParts parts;
  parts.layout = detail::make_layout(node_of, hosts);
  parts.connector = detail::make_memory_connector();
  parts.store = std::make_shared<InProcessStore>(timeout);
  parts.timeout = timeout;
  detail::WatchedNodes none;
  none.nap = 0.01;
  parts.watch = detail::make_job_watch(parts.store, none);
  std::vector<std::unique_ptr<detail::Peers>> peers(node_of.size());
  for (const std::vector<int>& members : parts.layout.members) {
    auto its = detail::join_threads(static_cast<int>(members.size()));
    for (size_t i = 0; i < members.size(); ++i)
      peers[static_cast<size_t>(members[i])] = std::move(its[i]);
  }
  run_ranks(
      size,
      [&](int rank) {
        return detail::make_spanning_transport("fake", rank, parts,
                                               std::move(peers[static_cast<size_t>(rank)]),
                                               detail::deadline_after(timeout));
      },
      body);
}

}  // namespace weft::inline v0::dist
