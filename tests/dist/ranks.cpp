#include <weft/tests/dist/ranks.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <system_error>

namespace weft::test {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(60);
const std::string kToken = "a token that only this test knows";

}  // namespace

void Problems::expect(bool condition, const std::string& text) {
  if (condition) return;
  const std::lock_guard lock(mutex_);
  if (text_.size() < 2000) text_ += text + "\n";
}

std::string Problems::text() const {
  const std::lock_guard lock(mutex_);
  return text_;
}

void check_on_ranks(int size, const std::function<void(const dist::Group&, Problems&)>& body) {
  CAPTURE(size);
  Problems problems;
  dist::run_fake_group(
      size, [&](const dist::Group& group) { body(group, problems); }, 60);
  const std::string text = problems.text();
  CHECK_MESSAGE(text.empty(), text);
}

void check_on_nodes(const std::vector<int>& node_of,
                    const std::function<void(const dist::Group&, Problems&)>& body) {
  CAPTURE(node_of.size());
  Problems problems;
  dist::run_fake_nodes(
      node_of, [&](const dist::Group& group) { body(group, problems); }, 60);
  const std::string text = problems.text();
  CHECK_MESSAGE(text.empty(), text);
}

RankProcesses::RankProcesses(const std::string& probe, int size,
                             const std::vector<std::string>& env)
    : RankProcesses(probe, std::vector<int>(static_cast<size_t>(size), 0), env) {}

RankProcesses::RankProcesses(const std::string& probe, const std::vector<int>& node_of,
                             const std::vector<std::string>& env)
    : server_(std::make_unique<dist::StoreServer>(dist::StoreServerOptions{.token = kToken})),
      ranks_(node_of.size()) {
  const auto count = [&](auto first, auto last, int node) {
    return std::to_string(std::count(first, last, node));
  };
  const int nodes = *std::max_element(node_of.begin(), node_of.end()) + 1;
  for (size_t r = 0; r < node_of.size(); ++r) {
    Rank& rank = ranks_[r];
    const auto begin = node_of.begin(), here = begin + static_cast<std::ptrdiff_t>(r);
    std::vector<std::string> words = {
        "env",
        "RANK=" + std::to_string(r),
        "LOCAL_RANK=" + count(begin, here, *here),
        "WORLD_SIZE=" + std::to_string(node_of.size()),
        "LOCAL_WORLD_SIZE=" + count(begin, node_of.end(), *here),
        "GROUP_RANK=" + std::to_string(*here),
        "GROUP_WORLD_SIZE=" + std::to_string(nodes),
        "WEFT_STORE=tcp://127.0.0.1:" + std::to_string(server_->port()),
        "WEFT_TOKEN=" + kToken,
        "WEFT_TEST_PROBE=" + probe};
    words.insert(words.end(), env.begin(), env.end());
    words.insert(words.end(), {"/proc/self/exe", "--test-case=comm probe", "--no-skip"});
    char self[4096];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    words[words.size() - 3] = std::string(self, static_cast<size_t>(length > 0 ? length : 0));
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    int pipe_ends[2];
    if (pipe2(pipe_ends, O_CLOEXEC) != 0)
      throw std::system_error(errno, std::generic_category(), "pipe2");
    rank.pid = fork();
    if (rank.pid == 0) {
      dup2(pipe_ends[1], STDOUT_FILENO);
      dup2(pipe_ends[1], STDERR_FILENO);
      execvp("env", argv.data());
      _exit(127);
    }
    close(pipe_ends[1]);
    rank.out = pipe_ends[0];
  }
}

int64_t RankProcesses::delete_keys(const std::string& prefix) {
  return dist::TcpStore({.port = server_->port(), .token = kToken}).delete_prefix(prefix);
}

RankProcesses::~RankProcesses() {
  for (Rank& rank : ranks_) {
    if (rank.pid > 0) {
      ::kill(rank.pid, SIGKILL);
      waitpid(rank.pid, nullptr, 0);
    }
    close(rank.out);
  }
}

void RankProcesses::kill(int rank, int signal) const { ::kill(pid(rank), signal); }

bool RankProcesses::read_more(Rank& rank, int milliseconds) {
  pollfd watched{rank.out, POLLIN, 0};
  if (!rank.open || poll(&watched, 1, milliseconds) <= 0) return rank.open;
  char block[4096];
  const ssize_t count = read(rank.out, block, sizeof block);
  if (count <= 0) rank.open = false;
  if (count > 0) rank.output.append(block, static_cast<size_t>(count));
  return rank.open;
}

bool RankProcesses::wait_for_line(int rank, const std::string& line) {
  Rank& its = ranks_[static_cast<size_t>(rank)];
  const auto end = Clock::now() + kPatience;
  while (its.output.find(line + "\n") == std::string::npos)
    if (Clock::now() > end || !read_more(its, 100)) return false;
  return true;
}

int RankProcesses::wait(int rank) {
  Rank& its = ranks_[static_cast<size_t>(rank)];
  const auto end = Clock::now() + kPatience;
  while (read_more(its, 100))
    if (Clock::now() > end) return -1;
  int status = 0;
  waitpid(its.pid, &status, 0);
  its.pid = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace weft::test
