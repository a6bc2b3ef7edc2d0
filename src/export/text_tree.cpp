#include "export/text_tree.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "export/utf8.h"

namespace olly {
namespace {

constexpr Nanos kQuiet = kSecond;

std::string duration_text(double seconds) {
  if (seconds >= 1) return fmt::format("{:.2f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.2f} ms", seconds * 1e3);
  return fmt::format("{:.0f} us", seconds * 1e6);
}

// Captured text must not move the cursor or recolour the terminal.
std::string printable(std::string_view text) {
  ByteBuffer scratch;
  std::string out(to_valid_utf8(text, scratch));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

std::string_view kind_text(SpanKind kind) {
  switch (kind) {
    case SpanKind::server:
      return "SERVER";
    case SpanKind::client:
      return "CLIENT";
    case SpanKind::producer:
      return "PRODUCER";
    case SpanKind::consumer:
      return "CONSUMER";
    case SpanKind::internal:
      break;
  }
  return "INTERNAL";
}

std::string span_text(const SpanBatch& batch, const BatchSpan& s, bool colour) {
  std::string detail, status = s.status == StatusCode::error ? "ERROR" : "OK";
  std::string target;
  for (const Attribute& a : batch.attributes(s)) {
    if (a.key == "http.response.status_code") {
      status = s.status == StatusCode::error ? fmt::format("ERROR {}", a.int64)
                                             : fmt::format("{}", a.int64);
    } else if (a.key == "url.path" || (a.key == "url.full" && target.empty())) {
      target = " " + printable(batch.string(s, a));
    } else if (a.key == "olly.time.cpu") {
      detail += "  cpu " + duration_text(a.float64);
    } else if (a.key == "olly.time.runqueue") {
      detail += "  runq " + duration_text(a.float64);
    } else if (a.key == "olly.time.blocked") {
      detail += "  blocked " + duration_text(a.float64);
    } else if (a.key == "olly.incomplete") {
      detail += "  incomplete: " + printable(batch.string(s, a));
    }
  }
  if (colour && s.status == StatusCode::error) status = "\x1b[31m" + status + "\x1b[0m";
  return fmt::format("{} {} {}{}  {}  {}{}", printable(batch.resources()[s.resource]->service_name),
                     kind_text(s.kind), printable(batch.text(s.name)), target, status,
                     duration_text(static_cast<double>(s.end_unix - s.start_unix) / 1e9), detail);
}

}  // namespace

TextTree::TextTree(int fd, std::shared_ptr<ExportCounters> counters)
    : fd_(fd),
      counters_(std::move(counters)),
      regular_(is_regular_file(fd)),
      colour_(::isatty(fd) == 1) {}

void TextTree::add(const SpanBatch& batch, Nanos now) {
  for (const BatchSpan& s : batch.spans()) {
    Trace& trace = traces_[s.trace_id.bytes];
    trace.touched = now;
    trace.lines.push_back({s.span_id, s.parent_id, s.start_unix, span_text(batch, s, colour_)});
    ++spans_;
  }
}

void TextTree::deliver(const ExportItem& item, const StopSignals& stop) {
  if (item.spans) add(*item.spans, monotonic_now());
  if (spans_ > kMaxSpans) print_quiet(monotonic_now(), true, stop.abort);
}

void TextTree::render(Trace& trace, std::string& out) const {
  auto& lines = trace.lines;
  std::ranges::stable_sort(lines, {}, &Line::start);
  std::map<std::array<std::uint8_t, 8>, std::size_t> by_id;
  std::map<std::array<std::uint8_t, 8>, std::vector<std::size_t>> children;
  for (std::size_t i = 0; i < lines.size(); ++i) by_id.emplace(lines[i].id.bytes, i);
  std::vector<std::pair<std::size_t, int>> stack;  // line, depth
  for (std::size_t i = lines.size(); i-- > 0;) {
    const bool has_parent = lines[i].parent.valid() && by_id.contains(lines[i].parent.bytes) &&
                            lines[i].parent != lines[i].id;
    if (has_parent) {
      children[lines[i].parent.bytes].push_back(i);
    } else {
      stack.emplace_back(i, 0);
    }
  }
  while (!stack.empty()) {
    const auto [i, depth] = stack.back();
    stack.pop_back();
    const bool orphan = depth == 0 && lines[i].parent.valid();
    out += fmt::format("{:{}}{}{}\n", "", depth * 2, lines[i].text,
                       orphan ? "  (parent not observed)" : "");
    const auto found = children.find(lines[i].id.bytes);
    if (found == children.end()) continue;
    for (std::size_t child : found->second) stack.emplace_back(child, depth + 1);
    children.erase(found);
  }
}

std::string TextTree::take_quiet(Nanos now, bool all) {
  std::string out;
  const std::size_t before = spans_;
  for (auto it = traces_.begin(); it != traces_.end();) {
    if (!all && now - it->second.touched < kQuiet) {
      ++it;
      continue;
    }
    if (!first_) out += '\n';
    first_ = false;
    spans_ -= it->second.lines.size();
    render(it->second, out);
    it = traces_.erase(it);
  }
  taken_ = before - spans_;
  return out;
}

void TextTree::print_quiet(Nanos now, bool all, const StopFlag& abort) {
  const std::string text = take_quiet(now, all);
  if (text.empty()) return;
  const int error = write_all(fd_, text, regular_, abort) == text.size() ? 0 : errno;
  account_write(*counters_, warning_, name(), taken_, 0, error);
}

}  // namespace olly
