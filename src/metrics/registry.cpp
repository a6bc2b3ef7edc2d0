#include "metrics/registry.h"

#include <algorithm>
#include <thread>
#include <unordered_map>

namespace olly {

MetricRegistry::Series& MetricRegistry::find_or_add(std::string_view name, std::string_view help,
                                                    MetricLabels labels, std::string_view unit,
                                                    bool is_counter, double per_unit) {
  const std::lock_guard lock(mutex_);
  std::size_t same_name = 0;
  for (Series& s : series_) {
    if (s.name != name) continue;
    if (s.labels == labels) return s;
    ++same_name;
  }
  if (same_name >= kMaxSeries) {
    // The first label is the one whose values the observed programs choose. Should the others be
    // as many, they share one, too.
    for (std::size_t i = 0; i < labels.size(); ++i) {
      if (i == 0 || same_name >= 2 * kMaxSeries) labels[i].second = "other";
    }
    for (Series& s : series_) {
      if (s.name == name && s.labels == labels) return s;
    }
  }
  Series& s = series_.emplace_back();
  s.name = name;
  s.help = help;
  s.unit = unit;
  s.labels = std::move(labels);
  s.is_counter = is_counter;
  s.per_unit = per_unit;
  return s;
}

Counter& MetricRegistry::counter(std::string_view name, std::string_view help, MetricLabels labels,
                                 std::string_view unit, double per_unit) {
  return find_or_add(name, help, std::move(labels), unit, true, per_unit).counter;
}

Gauge& MetricRegistry::gauge(std::string_view name, std::string_view help, MetricLabels labels,
                             std::string_view unit) {
  return find_or_add(name, help, std::move(labels), unit, false, 1).gauge;
}

// The sequence lock of one writer. The values are atomics themselves: a reader that comes in
// between reads values that do not belong together, never a torn one, and tries again. Whoever has
// read a value that was set after the begin (release, acquire) sees the begin, too; so no fence is
// needed.
void MetricRegistry::turn() noexcept {
  turn_.store(turn_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void MetricRegistry::read_values(const std::vector<std::pair<std::size_t, const Series*>>& order,
                                 std::vector<double>& values) const {
  // A writer that lost its CPU in the middle comes back; no end is waited for that may not come.
  for (int attempts = 0; attempts < 10'000; ++attempts) {
    const std::uint64_t before = turn_.load(std::memory_order_acquire);
    values.clear();
    for (const auto& [group, s] : order) values.push_back(s->value());
    if (before % 2 == 0 && turn_.load(std::memory_order_relaxed) == before) return;
    std::this_thread::yield();
  }
}

void MetricRegistry::before_visit(std::function<void()> refresh) {
  const std::lock_guard lock(mutex_);
  refreshers_.push_back(std::move(refresh));
}

void MetricRegistry::visit(const std::function<void(const Sample&)>& fn) {
  std::vector<std::function<void()>> refreshers;
  {
    const std::lock_guard lock(mutex_);
    refreshers = refreshers_;
  }
  for (const auto& refresh : refreshers) refresh();
  const std::lock_guard lock(mutex_);
  // Samples of one name together, in the order of the first registration of each.
  std::unordered_map<std::string_view, std::size_t> groups;
  std::vector<std::pair<std::size_t, const Series*>> order;
  order.reserve(series_.size());
  for (const Series& s : series_) {
    order.emplace_back(groups.emplace(s.name, groups.size()).first->second, &s);
  }
  std::ranges::stable_sort(order, {}, [](const auto& item) { return item.first; });
  std::vector<double> values;
  values.reserve(order.size());
  read_values(order, values);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Series& s = *order[i].second;
    fn({s.name, s.help, s.unit, &s.labels, s.is_counter, s.per_unit == 1, values[i]});
  }
}

}  // namespace olly
