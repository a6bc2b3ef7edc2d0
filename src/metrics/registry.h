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
  // For counters whose truth lives elsewhere (the kernel's, say). Release and acquire: see Update.
  void set(std::uint64_t n) noexcept { value_.store(n, std::memory_order_release); }
  std::uint64_t value() const noexcept { return value_.load(std::memory_order_acquire); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class Gauge {
 public:
  void set(std::int64_t n) noexcept { value_.store(n, std::memory_order_release); }
  void add(std::int64_t n) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
  std::int64_t value() const noexcept { return value_.load(std::memory_order_acquire); }

 private:
  std::atomic<std::int64_t> value_{0};
};

// Thread safe. References stay valid for the registry's life. Asking again with the same name and
// labels gives the same counter. A name's label sets are bounded: past kMaxSeries, further sets
// have "other" as the value of their first label; past twice that, of every label.
class MetricRegistry {
 public:
  static constexpr std::size_t kMaxSeries = 512;

  // A counter of a fraction of its unit says how many make one: microseconds that are exported in
  // seconds, 1e6.
  Counter& counter(std::string_view name, std::string_view help, MetricLabels labels = {},
                   std::string_view unit = {}, double per_unit = 1);
  Gauge& gauge(std::string_view name, std::string_view help, MetricLabels labels = {},
               std::string_view unit = {});
  // Called before each visit, from the visiting thread, to refresh gauges that are computed.
  void before_visit(std::function<void()> refresh);

  // Values that belong together, set one after the other: a visit sees all of them or none. Of one
  // thread, always the same; costs it two stores, and it never waits.
  class Update {
   public:
    explicit Update(MetricRegistry& registry) noexcept : registry_(registry) { registry_.turn(); }
    ~Update() { registry_.turn(); }
    Update(const Update&) = delete;
    Update& operator=(const Update&) = delete;

   private:
    MetricRegistry& registry_;
  };

  struct Sample {
    std::string_view name;
    std::string_view help;
    std::string_view unit;
    const MetricLabels* labels;
    bool is_counter;
    bool whole;  // the value has no fraction, ever
    double value;
  };
  // Samples of one name come together, in the order of their first registration.
  void visit(const std::function<void(const Sample&)>& fn);

 private:
  struct Series {
    std::string name, help, unit;
    MetricLabels labels;
    bool is_counter;
    double per_unit;
    Counter counter;
    Gauge gauge;
    double value() const noexcept {
      return is_counter ? static_cast<double>(counter.value()) / per_unit
                        : static_cast<double>(gauge.value());
    }
  };
  Series& find_or_add(std::string_view name, std::string_view help, MetricLabels labels,
                      std::string_view unit, bool is_counter, double per_unit);
  void turn() noexcept;
  void read_values(const std::vector<std::pair<std::size_t, const Series*>>& order,
                   std::vector<double>& values) const;
  std::mutex mutex_;
  std::atomic<std::uint64_t> turn_{0};  // odd: an Update is under way
  std::deque<Series> series_;
  std::vector<std::function<void()>> refreshers_;
};

}  // namespace olly
