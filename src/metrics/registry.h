// The agent's own metrics. Each room asks for its counters once, at construction, and then adds to
// an atomic it holds; names and meanings are in docs/metrics.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace olly {

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

// Written by one thread, read by any.
class Counter {
 public:
  void add(std::uint64_t n = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  // For counters that several threads write.
  void add_shared(std::uint64_t n = 1) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
  // For counters whose truth lives elsewhere (the kernel's, say).
  void set(std::uint64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }
  std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class Gauge {
 public:
  void set(std::int64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }
  void add(std::int64_t n) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
  std::int64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

// Thread safe. References stay valid for the registry's life. Asking again with the same name and
// labels gives the same counter. A name's label sets are bounded: past kMaxSeries, further sets
// have "other" as the value of their first label; past twice that, of every label.
class MetricRegistry {
 public:
  static constexpr std::size_t kMaxSeries = 512;

  Counter& counter(std::string_view name, std::string_view help, MetricLabels labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, MetricLabels labels = {},
               std::string_view unit = {});
  // Called before each visit, from the visiting thread, to refresh gauges that are computed.
  void before_visit(std::function<void()> refresh);

  struct Sample {
    std::string_view name;
    std::string_view help;
    std::string_view unit;
    const MetricLabels* labels;
    bool is_counter;
    double value;
  };
  // Samples of one name come together, in the order of their first registration.
  void visit(const std::function<void(const Sample&)>& fn);

 private:
  struct Series {
    std::string name, help, unit;
    MetricLabels labels;
    bool is_counter;
    Counter counter;
    Gauge gauge;
  };
  Series& find_or_add(std::string_view name, std::string_view help, MetricLabels labels,
                      std::string_view unit, bool is_counter);
  std::mutex mutex_;
  std::deque<Series> series_;
  std::vector<std::function<void()>> refreshers_;
};

}  // namespace olly
