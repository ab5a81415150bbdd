// The main function of every test binary. Its last line of output counts the cases that ran:
//   [weft] 12 passed, 0 failed, 3 skipped
// `tests/support/counts.py` adds these lines up.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <weft/tests/support/skip.hpp>

namespace weft::test {

namespace {

// What WEFT_SKIP leaves for the listener: set within a case, taken at its end.
std::string current_skip_reason;

}  // namespace

void note_skip(const std::string& reason) { current_skip_reason = reason; }

namespace {

struct Counter : doctest::IReporter {
  explicit Counter(const doctest::ContextOptions& /*options*/) {}

  void report_query(const doctest::QueryData& /*data*/) override {}
  void test_run_start() override {}
  void test_case_start(const doctest::TestCaseData& data) override {
    name_ = data.m_name;
    current_skip_reason.clear();
  }
  void test_case_reenter(const doctest::TestCaseData& /*data*/) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (!stats.testCaseSuccess) {
      ++failed_;
    } else if (!current_skip_reason.empty()) {
      ++skipped_;
      std::printf("[weft] skipped: %s: %s\n", name_.c_str(), current_skip_reason.c_str());
    } else {
      ++passed_;
    }
  }
  void test_run_end(const doctest::TestRunStats& /*stats*/) override {
    std::printf("[weft] %d passed, %d failed, %d skipped\n", passed_, failed_, skipped_);
    std::fflush(stdout);
  }
  void test_case_exception(const doctest::TestCaseException& /*exception*/) override {}
  void subcase_start(const doctest::SubcaseSignature& /*subcase*/) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData& /*data*/) override {}
  void log_message(const doctest::MessageData& /*data*/) override {}
  void test_case_skipped(const doctest::TestCaseData& /*data*/) override {}

 private:
  std::string name_;
  int passed_ = 0;
  int failed_ = 0;
  int skipped_ = 0;
};

REGISTER_LISTENER("counter", 1, Counter);

}  // namespace

}  // namespace weft::test

int main(int argc, char** argv) {
  // No test depends on the configuration of whoever runs it.
  ::setenv("WEFT_HOME", "/no/such/folder", 0);
  doctest::Context context(argc, argv);
  return context.run();
}
