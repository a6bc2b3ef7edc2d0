#include "protocol/mysql/attributes.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "protocol/common/database.h"
#include "protocol/sql/sql.h"
#include "traces/semconv.h"

namespace olly::mysql {
namespace {

// `words` and what they are said of, as a name and as a summary: at most sql::kMaxSummary bytes,
// never cut inside a word.
class Joined {
 public:
  Joined(std::string_view words, std::string_view of) noexcept {
    append(words);
    if (of.empty()) return;
    append(" ");
    append(of);
    if (size_ <= sql::kMaxSummary) return;
    const std::size_t blank = text().rfind(' ', sql::kMaxSummary);
    size_ = blank == std::string_view::npos ? words.size() : blank;
  }
  std::string_view text() const noexcept { return {text_.data(), size_}; }

 private:
  void append(std::string_view more) noexcept {
    const std::size_t n = std::min(more.size(), text_.size() - size_);
    std::copy_n(more.begin(), n, text_.begin() + static_cast<std::ptrdiff_t>(size_));
    size_ += n;
  }
  std::array<char, sql::kMaxSummary + 64> text_;
  std::size_t size_ = 0;
};

void add_text(Exchange& x, const Request& r) {
  AttributeList& out = x.attributes;
  if (!r.text.empty()) out.add(semconv::kDbQueryText, r.text);
  if (r.statements > 1) {
    out.add(semconv::kDbOperationBatchSize, static_cast<std::int64_t>(r.statements));
  }
}

}  // namespace

void add_request(Exchange& x, const Connection& c, const Request& r) {
  AttributeList& out = x.attributes;
  add_database(x, c, r.system);
  add_text(x, r);
  const bool is_text = r.command == Command::query || r.command == Command::stmt_execute ||
                       r.command == Command::stmt_bulk_execute;
  if (is_text && !r.text.empty()) {
    // What the statement does stands in its text; the conventions take no operation out of it.
    if (!r.summary.empty()) out.add(semconv::kDbQuerySummary, r.summary);
    x.name = out.add_text(r.summary.empty() ? r.system : r.summary);
    return;
  }
  const std::string_view operation = name_of(r.command);
  if (operation.empty()) {
    x.name = out.add_text(r.system);
    return;
  }
  out.add(semconv::kDbOperationName, operation);
  const Joined name(operation, r.summary.empty() ? r.target : r.summary);
  if (!r.summary.empty()) out.add(semconv::kDbQuerySummary, name.text());
  x.name = out.add_text(name.text());
}

void add_namespace(Exchange& x, std::string_view database) {
  x.attributes.add(semconv::kDbNamespace, database);
}

void add_outcome(Exchange& x, const Outcome& o) {
  if (o.error != 0) {
    char text[8];
    const auto end = std::to_chars(text, text + sizeof text, o.error).ptr;
    add_database_error(x, std::string_view(text, static_cast<std::size_t>(end - text)));
    return;
  }
  if (o.has_rows) {
    const std::uint64_t most = INT64_MAX;
    x.attributes.add(semconv::kDbResponseReturnedRows,
                     static_cast<std::int64_t>(std::min(o.rows, most)));
  }
}

}  // namespace olly::mysql
