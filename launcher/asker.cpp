#include <weft/launcher/asker.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/launcher/error.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr int kEscapeMilliseconds = 50;  // after which an escape byte stands for the key alone

void put(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return;  // nobody is there to read questions; the answers still count
    text.remove_prefix(static_cast<size_t>(count));
  }
}

/// Bytes of stdin. Signals arrive through a descriptor, so that no handler is needed that would
/// have to know how the terminal was.
class Input {
 public:
  Input() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&set, signal);
    ::sigprocmask(SIG_BLOCK, &set, &before_);
    signals_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals_ < 0) {
      ::sigprocmask(SIG_SETMASK, &before_, nullptr);
      throw IoError(fmt::format("launcher config: signalfd: {}", std::strerror(errno)));
    }
  }
  ~Input() {
    ::close(signals_);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  /// The next byte; nothing at the end of the input, or after `milliseconds` (-1: never).
  std::optional<char> next(int milliseconds = -1) {
    for (;;) {
      pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {signals_, POLLIN, 0}};
      const int ready = ::poll(fds, 2, milliseconds);
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) return std::nullopt;
      signalfd_siginfo info;
      if ((fds[1].revents & POLLIN) != 0 && ::read(signals_, &info, sizeof info) == sizeof info)
        throw Interrupted(static_cast<int>(info.ssi_signo));
      char byte = 0;
      const ssize_t count = ::read(STDIN_FILENO, &byte, 1);
      if (count == 1) return byte;
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      return std::nullopt;
    }
  }

  std::string line() {
    std::string text;
    for (;;) {
      const auto byte = next();
      if (!byte && text.empty())
        throw LaunchError(kExitUsage,
                          "the input ended before the questions did; nothing is written");
      if (!byte || *byte == '\n') break;
      if (*byte != '\r' && text.size() < 4096) text += *byte;
    }
    const size_t first = text.find_first_not_of(" \t");
    return first == std::string::npos
               ? ""
               : text.substr(first, text.find_last_not_of(" \t") + 1 - first);
  }

 private:
  sigset_t before_ = {};
  int signals_ = -1;
};

/// The choice that a typed answer means: its number, or its value.
std::optional<size_t> chosen_by(const std::string& answer, const std::vector<Choice>& choices) {
  for (size_t i = 0; i < choices.size(); ++i)
    if (answer == choices[i].value) return i;
  size_t number = 0;
  const auto [stop, error] = std::from_chars(answer.data(), answer.data() + answer.size(), number);
  const bool whole = error == std::errc() && stop == answer.data() + answer.size();
  if (!whole || number < 1 || number > choices.size()) return std::nullopt;
  return number - 1;
}

class LineAsker : public Asker {
 public:
  std::string choose(const std::string& question, const std::string& explanation,
                     const std::vector<Choice>& choices, size_t initial) override {
    put(fmt::format("{}\n  {}\n", question, explanation));
    for (size_t i = 0; i < choices.size(); ++i)
      put(fmt::format("  {}) {}\n", i + 1, choices[i].label));
    for (;;) {
      put(fmt::format("[{}]: ", initial + 1));
      const std::string answer = line();
      if (answer.empty()) return choices[initial].value;
      if (const auto index = chosen_by(answer, choices)) return choices[*index].value;
      put(fmt::format("  '{}' is none of them; give a number from 1 to {}\n", answer,
                      choices.size()));
    }
  }

  std::string ask(const std::string& question, const std::string& explanation,
                  const std::string& initial,
                  const std::function<std::string(const std::string&)>& problem) override {
    put(fmt::format("{}\n  {}\n", question, explanation));
    for (;;) {
      put(fmt::format("[{}]: ", initial));
      std::string answer = line();
      if (answer.empty()) answer = initial;
      const std::string wrong = problem(answer);
      if (wrong.empty()) return answer;
      put(fmt::format("  {}\n", wrong));
    }
  }

 protected:
  std::string line() {
    std::string text = input_.line();
    if (::isatty(STDIN_FILENO) == 0) put("\n");  // no echo has ended the line
    return text;
  }
  Input input_;
};

/// Keys one by one, unseen, for as long as it lives.
class RawMode {
 public:
  RawMode() {
    ::tcgetattr(STDIN_FILENO, &before_);
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    raw.c_cc[VSUSP] = _POSIX_VDISABLE;  // stopped here, it would leave the terminal as it is now
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    put("\x1b[?25l");  // the cursor is hidden
  }
  ~RawMode() {
    put("\x1b[?25h");
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;

 private:
  termios before_ = {};
};

enum class Key { up, down, first, last, enter, digit, other, end };

constexpr int kLeastColumns = 30, kLeastRows = 12;  // for a menu that can be read and drawn again

/// Of the terminal; as usual where it does not say.
winsize terminal_size() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) size = {};
  if (size.ws_col == 0) size.ws_col = 80;
  if (size.ws_row == 0) size.ws_row = 24;
  return size;
}

/// Those of a menu, should the terminal have become smaller since.
size_t columns() { return std::max<size_t>(20, terminal_size().ws_col); }

/// At most `width` bytes, so that no line of a menu wraps.
std::string cut(const std::string& text, size_t width) {
  return text.size() <= width ? text : text.substr(0, width - 3) + "...";
}

class TerminalAsker : public LineAsker {
 public:
  std::string choose(const std::string& question, const std::string& explanation,
                     const std::vector<Choice>& choices, size_t initial) override {
    size_t current = initial;
    {
      const RawMode raw;
      const size_t width = columns() - 1;
      put(fmt::format("{}\n\x1b[2m{}\x1b[0m\n", cut(question, width),
                      cut("  " + explanation, width)));
      draw(choices, current, width);
      for (bool done = false; !done;) {
        int digit = 0;
        switch (next_key(digit)) {
          case Key::up: current = (current + choices.size() - 1) % choices.size(); break;
          case Key::down: current = (current + 1) % choices.size(); break;
          case Key::first: current = 0; break;
          case Key::last: current = choices.size() - 1; break;
          case Key::enter: done = true; break;
          case Key::digit:
            if (digit < 1 || static_cast<size_t>(digit) > choices.size()) continue;
            current = static_cast<size_t>(digit) - 1;
            done = true;
            break;
          case Key::other: continue;
          case Key::end:
            throw LaunchError(kExitUsage,
                              "the input ended before the questions did; nothing is written");
        }
        put(fmt::format("\x1b[{}A", choices.size()));
        draw(choices, current, width);
      }
      // The menu gives way to the answer.
      put(fmt::format("\x1b[{}A\x1b[J{}\n\n", choices.size() + 2,
                      cut(question, width) + " \x1b[36m" + choices[current].value + "\x1b[0m"));
    }
    return choices[current].value;
  }

  std::string ask(const std::string& question, const std::string& explanation,
                  const std::string& initial,
                  const std::function<std::string(const std::string&)>& problem) override {
    const size_t width = columns() - 1;
    put(fmt::format("{}\n\x1b[2m{}\x1b[0m\n", cut(question, width),
                    cut("  " + explanation, width)));
    for (;;) {
      put(fmt::format("[{}]: ", initial));
      std::string answer = input_.line();
      if (answer.empty()) answer = initial;
      const std::string wrong = problem(answer);
      if (wrong.empty()) {
        put("\n");
        return answer;
      }
      put(fmt::format("\x1b[31m  {}\x1b[0m\n", wrong));
    }
  }

 private:
  static void draw(const std::vector<Choice>& choices, size_t current, size_t width) {
    for (size_t i = 0; i < choices.size(); ++i) {
      const std::string line =
          cut(fmt::format("{} {}) {}", i == current ? ">" : " ", i + 1, choices[i].label), width);
      put(i == current ? fmt::format("\x1b[2K\x1b[36m{}\x1b[0m\n", line)
                       : fmt::format("\x1b[2K{}\n", line));
    }
  }

  Key next_key(int& digit) {
    const auto byte = input_.next();
    if (!byte) return Key::end;
    switch (*byte) {
      case '\r':
      case '\n': return Key::enter;
      case 'k': return Key::up;
      case 'j': return Key::down;
      case 0x04: return Key::end;  // Ctrl-D
      case 0x1b: return escape_key();
      default: break;
    }
    if (*byte < '0' || *byte > '9') return Key::other;
    digit = *byte - '0';
    return Key::digit;
  }

  /// What follows an escape byte: ESC [ A or ESC O A and the like.
  Key escape_key() {
    const auto kind = input_.next(kEscapeMilliseconds);
    if (!kind || (*kind != '[' && *kind != 'O')) return Key::other;
    std::optional<char> byte;
    do {
      byte = input_.next(kEscapeMilliseconds);
    } while (byte && *byte >= 0x30 && *byte <= 0x3f);
    if (!byte) return Key::other;
    switch (*byte) {
      case 'A': return Key::up;
      case 'B': return Key::down;
      case 'H': return Key::first;
      case 'F': return Key::last;
      default: return Key::other;
    }
  }
};

}  // namespace

std::unique_ptr<Asker> make_asker() {
  const bool terminal = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1 &&
                        env::get("TERM").value_or("dumb") != "dumb";
  const winsize size = terminal_size();
  const bool room = size.ws_col >= kLeastColumns && size.ws_row >= kLeastRows;
  if (terminal && room) return std::make_unique<TerminalAsker>();
  return std::make_unique<LineAsker>();
}

}  // namespace weft::inline v0::launcher
