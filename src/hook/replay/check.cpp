#include "hook/replay/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <tuple>

namespace olly::replay {
namespace {

std::string_view kind_text(SpanKind kind) {
  constexpr std::string_view kNames[] = {"?",      "internal", "server",
                                         "client", "producer", "consumer"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::string_view status_text(StatusCode status) {
  constexpr std::string_view kNames[] = {"unset", "ok", "error"};
  return kNames[static_cast<std::size_t>(status)];
}

class Checker {
 public:
  Checker(const Recording& recording, const Outcome& outcome)
      : recording_(recording), outcome_(outcome), taken_(outcome.spans.size()) {}

  std::string run() {
    for (const Expectation& e : recording_.expectations) {
      std::string problem = one(e);
      if (!problem.empty()) {
        return fmt::format("{}:{}: expected: {}\n{}", recording_.file, e.line, e.text, problem);
      }
    }
    return {};
  }

 private:
  std::string one(const Expectation& e) {
    switch (e.kind) {
      case Expectation::Kind::span:
        return span(e);
      case Expectation::Kind::no_span:
        for (const KeptSpan& s : outcome_.spans) {
          if (difference(e, s).empty()) return "found: " + describe(s);
        }
        return {};
      case Expectation::Kind::spans:
        if (outcome_.spans.size() == e.number) return {};
        return fmt::format("found {} spans:{}", outcome_.spans.size(), list(false));
      case Expectation::Kind::bytes:
        return bytes(e);
      case Expectation::Kind::metric:
        return metric(e);
    }
    return {};
  }

  // The first one not yet taken, in order of start, to which nothing is contrary.
  std::string span(const Expectation& e) {
    std::string closest;
    std::size_t fewest = ~std::size_t{0};
    for (std::size_t i = 0; i < outcome_.spans.size(); ++i) {
      if (taken_[i]) continue;
      const std::vector<std::string> wrong = differences(e, outcome_.spans[i]);
      if (wrong.empty()) {
        taken_[i] = true;
        if (!e.as.empty()) named_[e.as] = &outcome_.spans[i];
        return {};
      }
      if (wrong.size() < fewest) {
        fewest = wrong.size();
        closest = "closest: " + describe(outcome_.spans[i]);
        for (const std::string& w : wrong) closest += "\n  differs: " + w;
      }
    }
    if (closest.empty()) return "found: no span is left";
    return closest + "\nspans not yet matched:" + list(true);
  }

  std::string list(bool open_only) const {
    std::string out;
    for (std::size_t i = 0; i < outcome_.spans.size(); ++i) {
      if (!open_only || !taken_[i]) out += "\n  " + describe(outcome_.spans[i]);
    }
    return out;
  }

  std::string difference(const Expectation& e, const KeptSpan& s) const {
    const std::vector<std::string> all = differences(e, s);
    return all.empty() ? std::string() : all.front();
  }

  std::vector<std::string> differences(const Expectation& e, const KeptSpan& s) const {
    std::vector<std::string> wrong;
    for (const auto& [key, want] : e.values) {
      const std::optional<std::string> is = value(s, key);
      if (!is) {
        wrong.push_back(fmt::format("{}: expected \"{}\", is absent", key, want));
      } else if (want != "*" && !equal(key, want, *is)) {
        wrong.push_back(fmt::format("{}: expected \"{}\", is \"{}\"", key, want, *is));
      }
    }
    for (const std::string& key : e.absent) {
      if (const auto is = value(s, key)) {
        wrong.push_back(fmt::format("{}: expected absent, is \"{}\"", key, *is));
      }
    }
    return wrong;
  }

  bool equal(const std::string& key, const std::string& want, const std::string& is) const {
    if (key == "parent" && want != "none") {
      const auto it = named_.find(want);
      return it != named_.end() && is == to_hex(it->second->span_id);
    }
    if (key == "trace") {
      const auto it = named_.find(want);
      return it != named_.end() && is == to_hex(it->second->trace_id);
    }
    if (key == "duration" || key == "start") {
      const auto d = parse_duration(want);
      return d && duration_text(*d) == is;
    }
    return want == is;
  }

  static std::optional<std::string> value(const KeptSpan& s, const std::string& key) {
    if (key == "name") return s.name;
    if (key == "kind") return std::string(kind_text(s.kind));
    if (key == "status") return std::string(status_text(s.status));
    if (key == "status_message") return s.status_message;
    if (key == "service") return s.service;
    if (key == "duration") return duration_text(s.end - s.start);
    if (key == "start") return duration_text(s.start);
    if (key == "parent") return s.parent_id.valid() ? to_hex(s.parent_id) : "none";
    if (key == "parent_id") return s.parent_id.valid() ? to_hex(s.parent_id) : "none";
    if (key == "trace" || key == "trace_id") return to_hex(s.trace_id);
    if (key == "span_id") return to_hex(s.span_id);
    if (key == "flags") return fmt::format("{:#x}", s.flags);
    if (key == "tracestate") {
      return s.trace_state.empty() ? std::nullopt : std::optional(s.trace_state);
    }
    const auto it = s.attributes.find(key);
    return it == s.attributes.end() ? std::nullopt : std::optional(it->second);
  }

  std::string bytes(const Expectation& e) const {
    for (const auto& [fate, want] : e.values) {
      const auto is =
          outcome_.bytes ? outcome_.bytes(fate, e.direction, e.connection) : std::nullopt;
      if (!is) return fmt::format("{} is not counted that finely", fate);
      if (fmt::format("{}", *is) != want) {
        return fmt::format("found: {}={}{}", fate, *is, all_bytes(e));
      }
    }
    return {};
  }

  std::string all_bytes(const Expectation& e) const {
    std::string out = "\nall:";
    for (const char* fate :
         {"seen", "parsed", "skipped", "gap", "evicted", "unparsed", "pending"}) {
      if (const auto n = outcome_.bytes(fate, e.direction, e.connection)) {
        out += fmt::format(" {}={}", fate, *n);
      }
    }
    return out;
  }

  // Series that lack none of the given labels, summed; a series that does not exist is 0.
  std::string metric(const Expectation& e) const {
    double sum = 0;
    std::string all;
    outcome_.metrics->visit([&](const MetricRegistry::Sample& s) {
      if (s.name != e.metric) return;
      bool matches = true;
      std::string labels;
      for (const auto& [name, value] : *s.labels) labels += fmt::format(" {}={}", name, value);
      for (const auto& label : e.values) {
        matches =
            matches && std::find(s.labels->begin(), s.labels->end(), label) != s.labels->end();
      }
      if (matches) sum += s.value;
      all += fmt::format("\n  {}{} {}", s.name, labels, s.value);
    });
    if (sum == static_cast<double>(e.number)) return {};
    return fmt::format("found: {}{}", sum, all);
  }

  const Recording& recording_;
  const Outcome& outcome_;
  std::vector<bool> taken_;
  std::map<std::string, const KeptSpan*> named_;
};

}  // namespace

KeptSpan keep(const Span& span, Nanos start_unix) {
  KeptSpan k;
  k.trace_id = span.trace_id;
  k.span_id = span.span_id;
  k.parent_id = span.parent_id;
  k.kind = span.kind;
  k.status = span.status;
  k.flags = span.flags;
  k.start = span.start_unix - start_unix;
  k.end = span.end_unix - start_unix;
  k.name = span.name;
  k.status_message = span.status_message;
  k.trace_state = span.trace_state;
  if (span.resource && *span.resource) k.service = (*span.resource)->service_name;
  for (const Attribute& a : span.attributes->items()) {
    std::string& text = k.attributes[std::string(a.key)];
    switch (a.type) {
      case AttributeType::string:
        text = span.attributes->string(a);
        break;
      case AttributeType::int64:
        text = fmt::format("{}", a.int64);
        break;
      case AttributeType::float64:
        text = fmt::format("{}", a.float64);
        break;
      case AttributeType::boolean:
        text = a.boolean ? "true" : "false";
        break;
    }
  }
  return k;
}

std::string describe(const KeptSpan& s) {
  std::string out = fmt::format(
      "{} {} name=\"{}\" status={} start={} duration={} trace={} id={} parent={} flags={:#x}",
      s.service, kind_text(s.kind), s.name, status_text(s.status), duration_text(s.start),
      duration_text(s.end - s.start), to_hex(s.trace_id), to_hex(s.span_id),
      s.parent_id.valid() ? to_hex(s.parent_id) : "none", s.flags);
  if (!s.trace_state.empty()) out += " tracestate=\"" + s.trace_state + '"';
  for (const auto& [key, value] : s.attributes) out += fmt::format(" {}={}", key, value);
  return out;
}

void sort_spans(std::vector<KeptSpan>& spans) {
  std::sort(spans.begin(), spans.end(), [](const KeptSpan& a, const KeptSpan& b) {
    const auto rank = [](const KeptSpan& s) {
      // What is within what, when both begin at one moment: the longer one first.
      return std::tuple(s.start, ~s.end, s.kind != SpanKind::client, s.span_id.bytes);
    };
    return rank(a) < rank(b);
  });
}

std::string check(const Recording& recording, const Outcome& outcome) {
  return Checker(recording, outcome).run();
}

}  // namespace olly::replay
