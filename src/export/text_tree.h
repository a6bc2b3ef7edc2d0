// Traces for people: a tree per trace, printed when the trace has been quiet for a second. One line
// per span: indentation, service.name, kind, name, status, duration, where the time went. Bounded:
// past kMaxSpans waiting spans the oldest trace is printed as it is.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "export/destination.h"

namespace olly {

class TextTree final : public Writer {
 public:
  static constexpr std::size_t kMaxSpans = 20'000;

  TextTree(int fd, std::shared_ptr<ExportCounters> counters);
  std::string_view name() const noexcept override { return "stdout"; }
  Result<void> open() override { return {}; }
  // The agent's own metrics are no reading for people.
  bool wants(const ExportItem& item) const noexcept override { return item.spans != nullptr; }
  void deliver(const ExportItem& item, const StopSignals& stop) override;
  void tick(const StopSignals& stop, bool last) override {
    print_quiet(monotonic_now(), last, stop.abort);
  }

  // For tests: time as a parameter, text instead of a descriptor.
  void add(const SpanBatch& batch, Nanos now);
  std::string take_quiet(Nanos now, bool all);

 private:
  struct Line {
    SpanId id;
    SpanId parent;
    Nanos start = 0;
    std::string text;
  };
  struct Trace {
    std::vector<Line> lines;
    Nanos touched = 0;
  };
  void print_quiet(Nanos now, bool all, const StopFlag& abort);
  void render(Trace& trace, std::string& out) const;

  int fd_;
  std::shared_ptr<ExportCounters> counters_;
  bool regular_;
  bool colour_;
  bool first_ = true;
  std::size_t spans_ = 0;
  std::size_t taken_ = 0;  // spans in the text that take_quiet() gave last
  CalmWarning warning_;
  std::map<std::array<std::uint8_t, 16>, Trace> traces_;
};

}  // namespace olly
