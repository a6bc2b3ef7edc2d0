#include <fmt/format.h>

#include "export/utf8.h"
#include "health/server.h"

namespace olly::health {
namespace {

void append_escaped(std::string& out, std::string_view text, bool is_label) {
  for (char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && is_label) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
}

}  // namespace

std::string prometheus_text(MetricRegistry& registry) {
  std::string out;
  std::string_view last;
  ByteBuffer scratch;
  registry.visit([&](const MetricRegistry::Sample& sample) {
    if (sample.name != last) {
      last = sample.name;
      out += fmt::format("# HELP {} ", sample.name);
      append_escaped(out, sample.help, false);
      out += fmt::format("\n# TYPE {} {}\n", sample.name, sample.is_counter ? "counter" : "gauge");
    }
    out += sample.name;
    bool first = true;
    for (const auto& [key, value] : *sample.labels) {
      out += fmt::format("{}{}=\"", first ? "{" : ",", key);
      scratch.clear();
      append_escaped(out, to_valid_utf8(value, scratch), true);
      out += '"';
      first = false;
    }
    if (!first) out += '}';
    out +=
        sample.whole ? fmt::format(" {:.0f}\n", sample.value) : fmt::format(" {}\n", sample.value);
  });
  return out;
}

}  // namespace olly::health
