// What every store does, in-process, over TCP and behind a prefix.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/store.hpp>
#include <weft/tests/dist/store_support.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

TEST_CASE("store: set and get any bytes") {
  on_each_store([](Store& store) {
    store.set("key", "value");
    CHECK(store.get("key") == "value");
    store.set("key", "");
    CHECK(store.get("key").empty());
    const std::string bytes("\0\xff\n\0", 4);
    store.set(bytes, bytes);
    CHECK(store.get(bytes) == bytes);
    const std::string longest(kMaxStoreValue, 'x');
    store.set("long", longest);
    CHECK(store.get("long") == longest);
  });
}

TEST_CASE("store: get and wait block until another thread sets the keys") {
  on_each_store([](Store& store) {
    std::thread setter([&] {
      CHECK(store.get("go") == "now");
      store.set("a", "1");
      store.add("b", 2);
      store.compare_set("c", "", "3");
    });
    store.set("go", "now");
    store.wait({"a", "b", "c"});
    CHECK(store.get("a") + store.get("b") + store.get("c") == "123");
    setter.join();
    store.wait({});
  });
}

TEST_CASE("store: check") {
  on_each_store([](Store& store) {
    CHECK(store.check({}));
    CHECK_FALSE(store.check({"a"}));
    store.set("a", "");
    CHECK(store.check({"a"}));
    CHECK_FALSE(store.check({"a", "b"}));
  });
}

TEST_CASE("store: add counts from zero, in decimal") {
  on_each_store([](Store& store) {
    CHECK(store.add("n", 3) == 3);
    CHECK(store.add("n", -5) == -2);
    CHECK(store.get("n") == "-2");
    store.set("n", "40");
    CHECK(store.add("n", 2) == 42);
    CHECK(store.add("n", 0) == 42);
  });
}

TEST_CASE("store: compare_set") {
  on_each_store([](Store& store) {
    CHECK(store.compare_set("k", "expected", "new") == "expected");  // missing: stays so
    CHECK_FALSE(store.check({"k"}));
    CHECK(store.compare_set("k", "", "first") == "first");
    CHECK(store.compare_set("k", "other", "second") == "first");
    CHECK(store.get("k") == "first");
    CHECK(store.compare_set("k", "first", "second") == "second");
    CHECK(store.get("k") == "second");
    CHECK(store.compare_set("k", "", "third") == "second");
  });
}

TEST_CASE("store: delete_key") {
  on_each_store([](Store& store) {
    CHECK_FALSE(store.delete_key("k"));
    store.set("k", "v");
    CHECK(store.delete_key("k"));
    CHECK_FALSE(store.check({"k"}));
    CHECK_FALSE(store.delete_key("k"));
  });
}

TEST_CASE("store: a deadline names the keys that are missing and the time waited") {
  on_each_store([](Store& store) {
    store.set("there", "");
    const double seconds = seconds_of([&] {
      CHECK_THROWS_WITH_AS(store.get("gone", 0.05), doctest::Contains("gone' within "),
                           TimeoutError);
      CHECK_THROWS_WITH_AS(store.wait({"there", "gone", "lost"}, 0.05),
                           doctest::Contains("lost' within "), TimeoutError);
      CHECK_THROWS_AS(store.get("gone", 0), TimeoutError);
    });
    CHECK(seconds >= 0.1);
    CHECK(seconds < 5);
    CHECK(store.get("there").empty());  // the store goes on
  });
  InProcessStore store;
  check_error<TimeoutError>("store_get_timeout", [&] { store.get("peer/3", 0.01); });
  check_error<TimeoutError>("store_wait_timeout", [&] {
    store.wait({"peer/0", "peer/1", "peer/2", "peer/3", "peer/4", "peer/5"}, 0.01);
  });
}

TEST_CASE("store: the default timeout holds where none is given") {
  InProcessStore store(0.02);
  CHECK(store.default_timeout() == 0.02);
  CHECK_THROWS_AS(store.get("k"), TimeoutError);
  CHECK(PrefixStore("p", std::make_shared<InProcessStore>(0.5)).default_timeout() == 0.5);
}

TEST_CASE("store: arguments outside the limits") {
  on_each_store([](Store& store) {
    const std::string long_key(kMaxStoreKey + 1, 'k'), long_value(kMaxStoreValue + 1, 'v');
    CHECK_THROWS_AS(store.set(long_key, ""), ArgumentError);
    CHECK_THROWS_AS(store.set("", ""), ArgumentError);
    CHECK_THROWS_AS(store.set("k", long_value), ArgumentError);
    CHECK_THROWS_AS(store.compare_set("k", long_value, ""), ArgumentError);
    CHECK_THROWS_AS(store.compare_set("k", "", long_value), ArgumentError);
    CHECK_THROWS_AS(store.wait({"k", ""}), ArgumentError);
    CHECK_THROWS_AS(store.wait(std::vector<std::string>(kMaxStoreWait + 1, "k")), ArgumentError);
    CHECK_THROWS_AS(store.get("k", std::nan("")), ArgumentError);
    store.set("text", "12 apples");
    CHECK_THROWS_AS(store.add("text", 1), ArgumentError);
    store.add("most", std::numeric_limits<int64_t>::max());
    CHECK_THROWS_AS(store.add("most", 1), ArgumentError);
    CHECK(store.add("most", 0) == std::numeric_limits<int64_t>::max());
  });
}

TEST_CASE("store: error texts") {
  InProcessStore store;
  check_error<ArgumentError>("store_key_empty", [&] { store.set("", "v"); });
  check_error<ArgumentError>("store_key_long", [&] { store.get(std::string(600, 'k')); });
  check_error<ArgumentError>("store_value_long",
                             [&] { store.set("k", std::string(kMaxStoreValue + 1, 'v')); });
  check_error<ArgumentError>("store_wait_many",
                             [&] { store.wait(std::vector<std::string>(2000, "k")); });
  check_error<ArgumentError>("store_timeout_nan", [&] { store.get("k", std::nan("")); });
  check_error<ArgumentError>("store_default_timeout", [&] { InProcessStore bad(-1); });
  store.set("text", "12 apples");
  check_error<ArgumentError>("store_add_no_number", [&] { store.add("text", 1); });
  store.add("most", std::numeric_limits<int64_t>::max());
  check_error<ArgumentError>("store_add_overflow", [&] { store.add("most", 1); });
  check_error<ArgumentError>("store_prefix_null", [&] { PrefixStore bad("p", nullptr); });
  check_error<ArgumentError>("store_prefix_empty",
                             [&] { PrefixStore bad("", std::make_shared<InProcessStore>()); });
}

TEST_CASE("store: too many keys or bytes are refused, the rest stays usable") {
  InProcessStore keys;
  for (size_t i = 0; i < kMaxStoreKeys; ++i) keys.set(std::to_string(i), "");
  check_error<CommError>("store_full_keys", [&] { keys.set("one more", ""); });
  keys.set("5", "an old key");
  CHECK(keys.delete_key("6"));
  keys.set("one more", "");

  InProcessStore bytes;
  const std::string value(kMaxStoreValue, 'v');
  constexpr size_t kFit = kMaxStoreBytes / kMaxStoreValue - 1;
  for (size_t i = 0; i < kFit; ++i) bytes.set(std::to_string(i), value);
  check_error<CommError>("store_full_bytes", [&] { bytes.set("one more", value); });
  bytes.set("0", "short");
  bytes.set("one more", value);
}

TEST_CASE("store: prefixes keep keys apart and nest") {
  const auto inner = std::make_shared<InProcessStore>(1);
  const auto a = std::make_shared<PrefixStore>("a", inner);
  PrefixStore b("b", inner), nested("n", a);
  a->set("k", "1");
  b.set("k", "2");
  nested.set("k", "3");
  CHECK(inner->get("a/k") == "1");
  CHECK(inner->get("b/k") == "2");
  CHECK(inner->get("a/n/k") == "3");
  CHECK(nested.prefix() == "n");
}
