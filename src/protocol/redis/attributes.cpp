#include "protocol/redis/attributes.h"

#include <array>
#include <charconv>

#include "protocol/common/database.h"
#include "traces/semconv.h"

namespace olly::redis {
namespace {

// error.type where there is no code of low cardinality (conventions, error.type).
constexpr std::string_view kOtherError = "_OTHER";

bool keeps_name(const CommandText& text, bool by_line) noexcept {
  return !text.name().empty() && (text.command() != nullptr || !by_line);
}

}  // namespace

void add_command(Exchange& x, const Connection& c, const CommandText& text, bool by_line) {
  add_database(x, c, kSystem);
  if (!keeps_name(text, by_line)) {
    x.name = x.attributes.add_text(kSystem);
    return;
  }
  x.attributes.add(semconv::kDbOperationName, text.name());
  x.name = x.attributes.add_text(text.name());
}

void add_text(Exchange& x, const CommandText& text, bool by_line) {
  std::string_view query = text.text();
  if (!keeps_name(text, by_line)) query.remove_prefix(text.name().size());
  if (query.empty() || query[0] == ' ') {
    // The word in the name's place is not kept.
    std::array<char, kMaxText + 8> masked;
    masked[0] = '?';
    const std::size_t n = query.copy(masked.data() + 1, masked.size() - 1);
    x.attributes.add(semconv::kDbQueryText, std::string_view(masked.data(), n + 1));
    return;
  }
  x.attributes.add(semconv::kDbQueryText, query);
}

void add_namespace(Exchange& x, int database) {
  std::array<char, 12> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), database).ptr;
  x.attributes.add(semconv::kDbNamespace,
                   std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data())));
}

void add_refusal(Exchange& x, std::string_view code, bool known) {
  if (code.empty()) {
    add_no_answer(x, kOtherError);
  } else {
    add_database_error(x, code);
  }
  if (!known) x.name = x.attributes.add_text(kSystem);
}

}  // namespace olly::redis
